-- What waits for strands, in parts: a row for each (0) with the number of its living children, its semaphores (1) in the order
-- sent, its ended children (2) in the order of their ends. Of a part there are up to $2 rows; those behind the first $3 bytes
-- of values are cut, and have none.
-- Carried by strand_pkey, semaphore_pkey and child_ended.
select s.id, 0 as part, s.children_left::bigint as number, null::uuid as child, null::text as name, null::text as state,
  null::timestamptz as at, false as cut, null::jsonb as value
from unnest($1::uuid[]) as i (id)
join respirate.strand s on s.id = i.id
union all
select i.id, 1, m.id, null, m.name, null, m.sent_at, m.before >= $3::bigint, case when m.before < $3::bigint then m.value end
from unnest($1::uuid[]) as i (id)
cross join lateral (
  select f.*, coalesce(sum(octet_length(f.value::text)) over (order by f.id rows between unbounded preceding and 1 preceding), 0) as before
  from (
    select m.id, m.name, m.value, m.sent_at from respirate.semaphore m where m.strand = i.id order by m.id limit $2::int
  ) f
) m
union all
select i.id, 2, null, c.child, c.kind, c.state, c.ended_at, c.before >= $3::bigint, case when c.before < $3::bigint then c.value end
from unnest($1::uuid[]) as i (id)
cross join lateral (
  select f.*, coalesce(sum(octet_length(f.value::text)) over (
    order by f.ended_at, f.child rows between unbounded preceding and 1 preceding), 0) as before
  from (
    select c.child, c.kind, c.state, c.value, c.ended_at from respirate.child c
    where c.parent = i.id and c.state is not null
    order by c.ended_at, c.child
    limit $2::int
  ) f
) c
