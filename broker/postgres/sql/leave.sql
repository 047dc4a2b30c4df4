-- Withdraws a broker's announcement.
-- Carried by broker_pkey.
delete from respirate.broker b where b.broker = $1::uuid
