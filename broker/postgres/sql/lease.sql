-- Takes strands for $3 under the given tokens. What is not due, leased, cancelled, gone or locked is left out without
-- waiting; the ids come in order. The same call again, after an answer that was lost, gives the same strands again. A lease that had run out
-- is counted as a rescue. No column here is in an index, so the update is HOT.
-- Carried by strand_pkey.
with free as materialized (
  select s.id, p.token, s.lease > '-infinity' and s.token is distinct from p.token as rescued
  from unnest($1::uuid[], $2::uuid[]) with ordinality as p (id, token, n)
  join respirate.strand s on s.id = p.id
  where s.schedule <= now() and s.lease < now() and s.cancel_at is null or s.token = p.token and s.lease > now()
  order by p.n
  for no key update of s skip locked
)
update respirate.strand s set
  token = f.token, lease = now() + $3::interval, seq = 0, woken = false, rescues = s.rescues + f.rescued::int
from free f
where s.id = f.id
returning s.id, s.token, s.lane, s.label, s.args, s.stack, s.try, s.max_tries, s.crashes, s.created_at, s.tags, s.metadata
