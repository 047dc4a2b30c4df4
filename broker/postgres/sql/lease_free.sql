-- As lease.sql, but leaves out, without waiting, what is locked by somebody. To lock a row before it is updated costs
-- half as much again, so this is for when somebody is known to hold a lock.
-- Carried by strand_pkey.
with free as materialized (
  select s.id, p.token
  from unnest($1::uuid[], $2::uuid[]) with ordinality as p (id, token, n)
  join respirate.strand s on s.id = p.id
  where s.schedule <= now() and s.lease < now() and s.cancel_at is null or s.token = p.token and s.lease > now()
  order by p.n
  for no key update of s skip locked
)
update respirate.strand s set
  token = f.token, lease = now() + $3::interval,
  seq = case when s.token = f.token then s.seq else 0 end, woken = s.woken and s.token is not distinct from f.token,
  rescues = least(s.rescues + (s.lease > '-infinity' and s.token is distinct from f.token)::int, 32767)
from free f
where s.id = f.id
returning s.id, s.token, s.lane, s.label, s.args, s.stack, s.try, s.max_tries, s.crashes, s.created_at, s.tags, s.metadata,
  s.inbox is not null or s.children_left > 0 as mail
