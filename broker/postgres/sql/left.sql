-- What is leased under tokens of some ranges ($1 to $2), which are those of brokers that are gone: in each lane, of what was
-- due first up to $3 from now, which is when a renewed lease ends at the latest. Leases that were not renewed yet are the
-- first of their lanes, unless those are full of what others hold; what is not among $4 rows waits for its lease to end.
-- It is asked once after a daemon was killed.
-- Carried by strand_ready.
select s.id, s.token
from respirate.lane l
cross join lateral (
  select s.id, s.token, s.lease
  from respirate.strand s
  where s.lane = l.lane and s.schedule <= now() + $3::interval
  order by s.schedule, s.id
  limit $4
) s
where s.lease > '-infinity'
  and exists (select from unnest($1::uuid[], $2::uuid[]) m (low, high) where s.token between m.low and m.high)
