-- What a host's supervisor knows of workers. Daemons for schema 8 go on working with it.

-- What a worker had used when it died of the strand, or with it: bytes of memory at most, and CPU. Null where nobody knows.
alter table respirate.attempt add column max_rss bigint, add column cpu_ms bigint;

create or replace view respirate.attempts as
select a.strand, a.at, a.try, a.outcome, a.class, a.message, a.trace, a.worker, a.host, a.exit, a.stderr, a.max_rss, a.cpu_ms
from respirate.attempt a;
