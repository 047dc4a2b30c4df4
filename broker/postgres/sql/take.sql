-- Takes for $9 the first strands that scan.sql would find, at most one under each token ($8), each as lease.sql does, and
-- returns the same. What must run alone, is to be ended, or is locked is passed over.
-- Carried by strand_ready and strand_pkey.
with due as materialized (
  select f.id, ($8::uuid[])[row_number() over ()] as token
  from (
    select s.id
    from unnest($1::int[], $2::smallint[], $3::timestamptz[], $4::uuid[], $5::uuid[], $6::uuid[], $7::interval[])
      as l (lane, priority, low, low_id, first, last, overdue)
    cross join lateral (
      select s.id, s.schedule
      from respirate.strand s
      where s.lane = l.lane and (s.schedule, s.id) > (l.low, l.low_id) and s.schedule <= now() - l.overdue
        and s.id between l.first and l.last and s.lease < now() - l.overdue and s.cancel_at is null
        and s.crashes < 2 and s.rescues + (s.lease > '-infinity')::int < 5
      order by s.schedule, s.id
      limit cardinality($8::uuid[])
      for no key update skip locked
    ) s
    order by l.priority, s.schedule, s.id
    limit cardinality($8::uuid[])
  ) f
)
update respirate.strand s set
  token = d.token, lease = now() + $9::interval, seq = 0, woken = false,
  rescues = least(s.rescues + (s.lease > '-infinity')::int, 32767)
from due d
where s.id = d.id
returning s.id, s.token, s.lane, s.label, s.args, s.stack, s.try, s.max_tries, s.crashes, s.created_at, s.tags, s.metadata,
  s.inbox is not null or s.children_left > 0 as mail
