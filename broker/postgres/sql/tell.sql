-- Tells idle brokers that these strands are due.
-- Carried by strand_pkey, in respirate.tell().
select respirate.tell('', $1::uuid[])
