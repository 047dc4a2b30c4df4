-- Reads the last failures of one strand, oldest first. Schemas before 9 do not know what a worker had used.
-- Carried by attempt_strand.
select at, try, outcome, class, message, trace, worker, host, exit, stderr,
  coalesce((row ->> 'max_rss')::bigint, 0), coalesce((row ->> 'cpu_ms')::bigint, 0)
from (
  select a.at, a.try, a.outcome, a.class, a.message, a.trace, a.worker, a.host, a.exit, a.stderr,
    to_jsonb(a) - array['message', 'trace', 'stderr'] as row
  from respirate.attempts a
  where a.strand = $1::uuid
  order by a.at desc
  limit $2
) newest
order by at
