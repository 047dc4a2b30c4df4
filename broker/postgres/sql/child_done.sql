-- Takes finished children off their parents, in the order of ids, once for each parent. The last one wakes its parent.
-- Carried by strand_pkey, in respirate.child_done().
select respirate.child_done(r.id, r.n) from unnest($1::uuid[], $2::int[]) as r (id, n) order by r.id
