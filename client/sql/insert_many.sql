-- Inserts strands in the order given, all or none, and answers with their ids in that order.
select id::text from respirate.insert_many($1::text[], $2::jsonb[], $3::jsonb[]) as id
