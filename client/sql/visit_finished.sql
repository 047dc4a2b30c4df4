-- Looks at the next $8 finished strands, newest first, that are older than $1 or as old with an id below $2, and tells
-- which match: the first $7, how many it saw, and the last of those. Carried by history_finished.
with seen as materialized (
  select f.id, f.finished_at, f.state = any ($3::text[])
      and ($4::text[] is null or f.kind = any ($4::text[]))
      and ($5::text[] is null or f.queue = any ($5::text[]))
      and ($6::text[] is null or f.tenant = any ($6::text[]))
      and ($9::uuid is null or f.parent = $9::uuid) as wanted
  from respirate.finished f
  where f.finished_at <= $1::timestamptz and (f.finished_at, f.id) < ($1::timestamptz, $2::uuid)
  order by f.finished_at desc, f.id desc
  limit $8
)
select to_json(array(
    select json_build_object('id', id, 'at', finished_at) from seen where wanted order by finished_at desc, id desc limit $7
  ))::text, (select count(*) from seen),
  coalesce((select json_build_object('id', id, 'at', finished_at) from seen order by finished_at, id limit 1)::text, 'null')
