-- Tells whether a strand has not finished yet. Carried by the primary key.
select exists (select from respirate.strands s where s.id = $1::uuid)
