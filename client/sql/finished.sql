-- Reads finished strands by id, newest first. The columns are those of live.sql; carried by history_id.
select f.id::text, f.tenant, f.queue, f.priority, f.kind, f.label, f.state,
  least(greatest(f.created_at, '0001-01-01Z'), '9999-12-31Z'), null::timestamptz as schedule,
  null::timestamptz as lease, null::timestamptz as cancel_at, f.finished_at, f.try, f.max_tries, f.crashes, f.rescues,
  coalesce(f.parent::text, ''), 0 as children_left, f.args::text, coalesce(f.stack::text, ''), coalesce(f.value::text, ''),
  coalesce(to_json(f.tags)::text, 'null'), coalesce(f.metadata::text, ''), f.keep
from respirate.finished f
where f.id = any ($1::uuid[])
order by f.finished_at desc, f.id desc
