-- Reads the last failures of one strand, oldest first. Carried by attempt_strand.
select at, try, outcome, class, message, trace, worker, host, exit, stderr
from (
  select a.at, a.try, a.outcome, a.class, a.message, a.trace, a.worker, a.host, a.exit, a.stderr
  from respirate.attempts a
  where a.strand = $1::uuid
  order by a.at desc
  limit $2
) newest
order by at
