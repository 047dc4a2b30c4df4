-- Takes used semaphores and reaped children off strands that lock.sql has locked.
-- Carried by semaphore_pkey, child_pkey and strand_pkey, in respirate.settle().
select respirate.settle($1::uuid[], $2::bigint[], $3::uuid[], $4::uuid[])
