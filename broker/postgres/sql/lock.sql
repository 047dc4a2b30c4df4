-- Locks strands, their parents, and others that the reports are about ($2), in the order of their ids, as far as that needs no
-- waiting, and shows what decides about a report. parent never changes, so it may be read before the lock.
-- Carried by strand_pkey.
with wanted as materialized (
  select u.id, row_number() over (order by u.id) as n
  from (
    select i.id from unnest($1::uuid[]) as i (id)
    union
    select s.parent from unnest($1::uuid[]) as i (id) join respirate.strand s on s.id = i.id where s.parent is not null
    union
    select i.id from unnest($2::uuid[]) as i (id)
  ) u
)
select s.id, s.token, s.lease > '-infinity' as held, s.seq, s.cancel_at is not null as cancelled, s.try, s.max_tries,
  s.crashes, s.parent, s.lane, s.deadline is not null as timed, coalesce(s.deadline <= now(), false) as late
from wanted w
join respirate.strand s on s.id = w.id
order by w.n
for no key update of s skip locked
