-- The first $8 due strands of the given lanes behind the cursors (schedule, id) of each, in the order in which they
-- should start. It locks nothing. A cancelled strand whose lease has run out is shown too: somebody must end it.
--
-- They are looked for in ranges of ids of each lane, in each those that could have started so long ago ($7): 0 in the slice of
-- who asks, more in what others should look after. A lane with several ranges is named once for each.
--
-- The last row is about the scan: its time in place of a schedule, in how many seconds the next strand of the slice becomes
-- due, if the limit was not reached (0 = none is deferred), and the xmin of the snapshot that it saw.
-- Carried by strand_ready, one descent for each lane and range; ids out of range are passed over in the index.
with lanes as materialized (
  select l.lane, l.priority, l.low, l.low_id, l.first, l.last, l.overdue
  from unnest($1::int[], $2::smallint[], $3::timestamptz[], $4::uuid[], $5::uuid[], $6::uuid[], $7::interval[])
    as l (lane, priority, low, low_id, first, last, overdue)
), found as materialized (
  select s.id, l.lane, s.schedule, s.since, s.label, s.bytes, s.alone, s.cancelled
  from lanes l
  cross join lateral (
    select s.id, s.schedule, greatest(s.schedule, s.lease) as since, s.label, s.cancel_at is not null as cancelled,
      pg_column_size(s.args) + coalesce(pg_column_size(s.stack), 0) as bytes,
      s.crashes >= 2 or s.rescues + (s.lease > '-infinity')::int >= 5 as alone
    from respirate.strand s
    where s.lane = l.lane and (s.schedule, s.id) > (l.low, l.low_id) and s.schedule <= now() - l.overdue
      and s.id between l.first and l.last and s.lease < now() - l.overdue
    order by s.schedule, s.id
    limit $8::int
  ) s
  order by l.priority, s.schedule, s.id
  limit $8::int
)
select f.id, f.lane, f.schedule, f.since, f.label, f.bytes, f.alone, f.cancelled, null::float8 as next, null::bigint as xmin
from found f
union all
select null, null, now(), null, null, null, null, null,
  case when (select count(*) from found) < $8::int then coalesce((
    select extract(epoch from min(n.schedule) - now())
    from lanes l
    cross join lateral (
      select s.schedule from respirate.strand s
      where s.lane = l.lane and s.schedule > now() and s.id between l.first and l.last
      order by s.schedule, s.id
      limit 1
    ) n
    where l.overdue = '0'), 0) end,
  pg_snapshot_xmin(pg_current_snapshot())::text::bigint
