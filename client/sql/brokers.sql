-- Reads the brokers that are there, and those that were until lately. Schemas before version 5 know no partitions: the
-- columns are asked for by name.
select b.broker::text, b.host, b.pid, b.build, b.lo, b.hi, coalesce((to_jsonb(b)->>'partition')::int, 0),
  coalesce((to_jsonb(b)->>'rank')::int, 0), coalesce((to_jsonb(b)->>'members')::int, 0), to_json(b.kinds)::text, b.workers,
  b.slots, b.busy, b.alive, b.alive_until, b.started_at
from respirate.brokers b
order by b.host, b.started_at, b.broker
