-- Drops what is kept of strands that are gone, among the next ids behind $1; tells how far it has come, and null at the end.
-- Carried by semaphore_pkey, child_pkey, deadline_pkey, page_open, strand_pkey and history_id, in respirate.drop_orphans().
select respirate.drop_orphans($1::uuid)
