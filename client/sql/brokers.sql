-- Reads the brokers that are there, and those that were until lately.
select b.broker::text, b.host, b.pid, b.build, b.lo, b.hi, to_json(b.kinds)::text, b.workers, b.slots, b.busy, b.alive,
  b.alive_until, b.started_at
from respirate.brokers b
order by b.host, b.started_at, b.broker
