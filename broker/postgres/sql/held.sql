-- What is leased under tokens ($3) of a take that failed $4 ago, in the lanes of some kinds ($1) and among those that could be
-- found then: a lease moves no strand in the index, and it is not renewed by anybody. It is asked after an answer was lost,
-- and not in a hurry: it begins at the very bottom of each lane, since floors may have moved.
-- Carried by strand_ready.
select s.id, s.token
from respirate.lane l
cross join lateral (
  select s.id, s.token
  from respirate.strand s
  where s.lane = l.lane and s.schedule <= now() - $4::interval + interval '1 s'
    and s.token = any ($3::uuid[]) and s.lease > '-infinity'
) s
where l.lane = any ($2::int[]) and l.kind = any ($1::text[])
