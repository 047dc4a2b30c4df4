-- Says where the frames of strands have come to that nap or hop, and which deadlines that sets, and ends.
-- Carried by deadline_pkey, page_open and strand_pkey, in respirate.move_deadlines().
select respirate.move_deadlines($1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[], $6::interval[], $7::interval[])
