-- Records the failures that ended strands.
insert into respirate.attempt (strand, try, outcome, class, message, trace, worker, host, exit, stderr, max_rss, cpu_ms)
select r.strand, r.try, r.outcome, r.class, r.message, r.trace, r.worker, $12::text, r.exit, r.stderr, r.max_rss, r.cpu_ms
from unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
    $10::bigint[], $11::bigint[])
  as r (strand, try, outcome, class, message, trace, worker, exit, stderr, max_rss, cpu_ms)
