-- Takes strands for $3 under the given tokens. What is not due, leased, cancelled or gone is left out. The same call
-- again, after an answer that was lost, gives the same strands again and undoes nothing that has come since, even if it
-- arrives late. A lease that had run out is counted as a rescue. mail says that inbox.sql has something about it.
-- No column here is in an index, so the update is HOT. It waits for locked rows: see lease_free.sql. The ids come in
-- order.
-- Carried by strand_pkey.
update respirate.strand s set
  token = p.token, lease = now() + $3::interval,
  seq = case when s.token = p.token then s.seq else 0 end, woken = s.woken and s.token is not distinct from p.token,
  rescues = least(s.rescues + (s.lease > '-infinity' and s.token is distinct from p.token)::int, 32767)
from unnest($1::uuid[], $2::uuid[]) as p (id, token)
where s.id = p.id and (
  s.schedule <= now() and s.lease < now() and s.cancel_at is null or s.token = p.token and s.lease > now())
returning s.id, s.token, s.lane, s.label, s.args, s.stack, s.try, s.max_tries, s.crashes, s.created_at, s.tags, s.metadata,
  s.inbox is not null or s.children_left > 0 as mail
