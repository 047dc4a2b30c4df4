-- As take.sql, for a single range of a single lane ($1 to $5). It takes three quarters of the time, which is what a strand that has just
-- come waits for.
-- Carried by strand_ready and strand_pkey.
with due as materialized (
  select f.id, ($6::uuid[])[row_number() over ()] as token
  from (
    select s.id
    from respirate.strand s
    where s.lane = $1::int and (s.schedule, s.id) > ($2::timestamptz, $3::uuid) and s.schedule <= now()
      and s.id between $4::uuid and $5::uuid and s.lease < now() and s.cancel_at is null
      and s.crashes < 2 and s.rescues + (s.lease > '-infinity')::int < 5
    order by s.schedule, s.id
    limit cardinality($6::uuid[])
    for no key update skip locked
  ) f
)
update respirate.strand s set
  token = d.token, lease = now() + $7::interval, seq = 0, woken = false,
  rescues = least(s.rescues + (s.lease > '-infinity')::int, 32767)
from due d
where s.id = d.id
returning s.id, s.token, s.lane, s.label, s.args, s.stack, s.try, s.max_tries, s.crashes, s.created_at, s.tags, s.metadata,
  s.inbox is not null or s.children_left > 0 as mail
