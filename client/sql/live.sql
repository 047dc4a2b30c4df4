-- Reads live strands by id. The columns are those of finished.sql; carried by the primary key. Times are brought into
-- the years that Go can write as JSON, since SQL may have put in more, such as infinity.
select s.id::text, coalesce(s.tenant, ''), coalesce(s.queue, ''), coalesce(s.priority, 0), coalesce(s.kind, ''), s.label, s.state,
  least(greatest(s.created_at, '0001-01-01Z'), '9999-12-31Z'), least(greatest(s.schedule, '0001-01-01Z'), '9999-12-31Z'),
  nullif(s.lease, '-infinity'), s.cancel_at, null::timestamptz as finished_at, s.try, s.max_tries, s.crashes, s.rescues,
  coalesce(s.parent::text, ''), s.children_left, s.first_args::text, coalesce(s.stack::text, ''), '' as value,
  coalesce(to_json(s.tags)::text, 'null'), coalesce(s.metadata::text, ''), s.keep
from respirate.strands s
where s.id = any ($1::uuid[])
order by s.id
