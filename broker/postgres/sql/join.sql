-- Makes a broker known under a partition number, and lists it and the other live brokers that have one.
-- Carried by broker_pkey, in respirate.join_partition().
select j.member, j.number from respirate.join_partition($1::uuid, $2, $3, $4, $5, $6, $7) j
