-- Tells the parents ($1) of children ($2) that finish.sql has ended, in the order of ids, each once. The last one wakes its
-- parent.
-- Carried by child_pkey and strand_pkey, in respirate.children_done() and respirate.child_done().
select respirate.children_done($1::uuid[], $2::uuid[])
