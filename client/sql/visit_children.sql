-- Looks at the next $5 live children of the live strand $6 behind the id $1 (null = from the first), of the lanes $2 if given,
-- and tells which are in the states $3: the first $4, how many it saw, and the last of those. Carried by the primary keys.
with seen as materialized (
  select c.child as id, coalesce(s.state = any ($3::text[]) and ($2::int[] is null or s.lane = any ($2::int[])), false) as wanted
  from (
    select c.child from respirate.children c
    where c.parent = $6::uuid and c.state is null and ($1::uuid is null or c.child > $1::uuid)
    order by c.child
    limit $5
  ) c
  left join respirate.strands s on s.id = c.child
)
select to_json(array(select json_build_object('id', id) from seen where wanted order by id limit $4))::text,
  (select count(*) from seen), coalesce((select json_build_object('id', id) from seen order by id desc limit 1)::text, 'null')
