-- Makes strands, all or none, and gives their ids in order and which of them are new.
-- Carried by strand_pkey, history_id and child_pkey, in respirate.insert_strands().
select i.id, i.fresh from respirate.insert_strands($1::uuid[], $2::text[], $3::jsonb[], $4::jsonb[], $5::uuid[]) i
