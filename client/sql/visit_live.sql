-- Looks at the next $5 live strands behind the id $1 (null = from the first), of the lanes $2 if given, and tells which are in the states $3 and
-- children of $6 if given: the first $4, how many it saw, and the last of those. Carried by the primary key, or by strand_ready where the lanes hold few
-- strands: the numbers of the lanes let the planner know which.
with seen as materialized (
  select s.id, s.state = any ($3::text[]) and ($6::uuid is null or s.parent = $6::uuid) as wanted
  from respirate.strands s
  where ($1::uuid is null or s.id > $1::uuid) and ($2::int[] is null or s.lane = any ($2::int[]))
  order by s.id
  limit $5
)
select to_json(array(select json_build_object('id', id) from seen where wanted order by id limit $4))::text,
  (select count(*) from seen), coalesce((select json_build_object('id', id) from seen order by id desc limit 1)::text, 'null')
