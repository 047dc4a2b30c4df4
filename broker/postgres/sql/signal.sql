-- Sends semaphores, and tells for each, in order, whether there is such a strand.
-- Carried by strand_pkey, in respirate.send_signals().
select s from respirate.send_signals($1::uuid[], $2::text[], $3::jsonb[], $4::boolean[]) s
