-- Ends strands that lock.sql has locked and judge has judged.
-- Carried by strand_pkey, in respirate.finish().
select respirate.finish($1::uuid[], $2::text[], $3::jsonb[], $4::jsonb[], $5::int[], $6::int[])
