-- What waits for strands, in parts: a row for each (0) with the number of its living children, its semaphores (1) in the order
-- sent, its ended children (2) in the order of their ends. Of a part there are up to $2 rows; those that do not fit in $3
-- bytes of values are cut, and have none. The first always fits. Where there are too many semaphores, the first 8 of each name
-- come before others, so that no name hides another for ever; and so far as they are among the first 10,000.
-- Carried by strand_pkey, semaphore_pkey and child_ended.
select s.id, 0 as part, s.children_left::bigint as number, null::uuid as child, null::text as name, null::text as state,
  null::timestamptz as at, false as cut, null::jsonb as value
from unnest($1::uuid[]) as i (id)
join respirate.strand s on s.id = i.id
union all
select i.id, 1, m.id, null, m.name, null, m.sent_at, m.cut, case when not m.cut then m.value end
from unnest($1::uuid[]) as i (id)
cross join lateral (
  select f.id, f.name, f.value, f.sent_at,
    f.pick >= $2::int or coalesce(sum(octet_length(f.value::text)) over w > $3::bigint, false) and f.pick > 1 as cut
  from (
    select p.id, p.name, p.value, p.sent_at, row_number() over (order by p.nth > 8, p.id) as pick
    from (
      select m.id, m.name, m.value, m.sent_at, row_number() over (partition by m.name order by m.id) as nth
      from (
        select m.id, m.name, m.value, m.sent_at from respirate.semaphore m where m.strand = i.id order by m.id limit 10000
      ) m
    ) p
    order by p.nth > 8, p.id
    limit $2::int
  ) f
  window w as (order by f.pick rows unbounded preceding)
  order by f.id
) m
union all
select i.id, 2, null, c.child, c.kind, c.state, c.ended_at, c.cut, case when not c.cut then c.value end
from unnest($1::uuid[]) as i (id)
cross join lateral (
  select f.child, f.kind, f.state, f.value, f.ended_at,
    coalesce(sum(octet_length(f.value::text)) over w > $3::bigint, false) and row_number() over w > 1 as cut
  from (
    select c.child, c.kind, c.state, c.value, c.ended_at from respirate.child c
    where c.parent = i.id and c.state is not null
    order by c.ended_at, c.child
    limit $2::int
  ) f
  window w as (order by f.ended_at, f.child rows unbounded preceding)
) c
