-- What is leased under tokens of some ranges ($1 to $2), which are those of brokers that are gone. A first lease leaves its strand
-- among those of its lane that are due first, and a renewal moves it to where the lease ends, $3 from now at the latest. So each lane
-- is looked at from both of these places on, 200 rows at a time, for as long as some of them are leased, by whomever, and no
-- further than $4 rows. What is behind waits for its lease to end.
-- It is asked once after a daemon was killed.
-- Carried by strand_ready.
with recursive walk (lane, until, schedule, id, seen, on_from_here, ids, tokens) as (
  select l.lane, p.until, p.schedule, p.id, 0::bigint, true, null::uuid[], null::uuid[]
  from respirate.lane l
  cross join (values
    ('-infinity'::timestamptz, '00000000-0000-0000-0000-000000000000'::uuid, now()),
    (now(), 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid, now() + $3::interval)
  ) p (schedule, id, until)
  union all
  select w.lane, w.until, look.schedule, look.id, w.seen + look.seen, look.leased > 0 and look.seen = 200, look.ids, look.tokens
  from walk w
  cross join lateral (
    select
      count(*) as seen,
      count(*) filter (where s.lease > '-infinity') as leased,
      max(s.schedule) as schedule,
      (array_agg(s.id order by s.schedule desc, s.id desc))[1] as id,
      array_agg(s.id) filter (where s.former) as ids,
      array_agg(s.token) filter (where s.former) as tokens
    from (
      select
        s.schedule, s.id, s.token, s.lease,
        s.lease > '-infinity'
          and exists (select from unnest($1::uuid[], $2::uuid[]) m (low, high) where s.token between m.low and m.high) as former
      from respirate.strand s
      where s.lane = w.lane and (s.schedule, s.id) > (w.schedule, w.id) and s.schedule <= w.until
      order by s.schedule, s.id
      limit 200
    ) s
  ) look
  where w.on_from_here and w.seen < $4::bigint
)
select found.id, found.token
from walk w
cross join lateral unnest(w.ids, w.tokens) found (id, token)
