-- Extends the leases whose token is still current, run out or not, for $3, and tells of whom somebody wants the end.
-- What is locked is left out: locked.sql tells it from what is lost.
--
-- The schedule moves to the end of the lease, so that long runs do not stay at the head of the index, where every scan
-- would step over them. It moves early enough never to be passed before the renewal after next; in between the update
-- is HOT.
-- Carried by strand_pkey.
with mine as materialized (
  select s.id
  from unnest($1::uuid[], $2::uuid[]) with ordinality as p (id, token, n)
  join respirate.strand s on s.id = p.id
  where s.token = p.token and s.lease > '-infinity'
  order by p.n
  for no key update of s skip locked
)
update respirate.strand s set
  lease = now() + $3::interval,
  schedule = case when s.schedule < now() + $3::interval / 2 then now() + $3::interval else s.schedule end
from mine m
where s.id = m.id
returning s.id, s.token, s.cancel_at is not null
