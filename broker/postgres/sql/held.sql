-- What is leased under tokens ($2) of a take that failed $3 ago, in the lanes of some kinds ($1): a lease moves no strand in
-- the index, so they are among those that were due then. It is asked after an answer was lost, and not in a hurry: it begins
-- at the very bottom of each lane, since floors may have moved.
-- Carried by strand_ready.
select s.id, s.token
from respirate.lane l
cross join lateral (
  select s.id, s.token
  from respirate.strand s
  where s.lane = l.lane and s.schedule <= now() - $3::interval + interval '1 s'
    and s.token = any ($2::uuid[]) and s.lease > '-infinity'
) s
where l.kind = any ($1::text[])
