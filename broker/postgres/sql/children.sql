-- Counts new children to their parents, which lock.sql has locked.
-- Carried by strand_pkey.
update respirate.strand s set children_left = s.children_left + r.n
from unnest($1::uuid[], $2::int[]) as r (id, n)
where s.id = r.id
