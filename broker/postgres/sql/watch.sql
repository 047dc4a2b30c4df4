-- Has the ends of new children ($2) heard by their parents ($1), unless they are done.
-- Carried by child_pkey.
update respirate.child c set watched = true
from unnest($1::uuid[], $2::uuid[]) as r (parent, child)
where c.parent = r.parent and c.child = r.child
