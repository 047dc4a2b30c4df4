-- Making strands. insert() is the one stable entry for every language; insert_many() is the same for many at once.
--
-- The public functions run with the rights of the schema's owner, so that an application needs none on the tables; their
-- search_path is fixed, and what they call inherits it. Their plans are fixed, too: left to itself Postgres would plan the
-- insert of a single strand anew each time, which takes five times as long as the insert. Nobody may call anything here
-- until grant_client() says so.

-- lane gives the number of a lane, making it and its queue when they are missing. Two transactions that make the same
-- lane at once wait for each other; that happens once in the life of a lane.
create function respirate.lane(tenant text, queue text, priority int, kind text) returns int
language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  found_lane int;
begin
  select l.lane into found_lane from respirate.lane l
    where (l.tenant, l.queue, l.priority, l.kind) = (lane.tenant, lane.queue, lane.priority, lane.kind);
  if found then
    return found_lane;
  end if;
  perform respirate.check_name('kind', lane.kind, 1), respirate.check_name('opts.queue', lane.queue, 1),
    respirate.check_name('opts.tenant', lane.tenant, 0);
  insert into respirate.queue (tenant, queue) values (lane.tenant, lane.queue) on conflict do nothing;
  insert into respirate.lane (tenant, queue, priority, kind)
    values (lane.tenant, lane.queue, lane.priority, lane.kind)
    on conflict do nothing returning lane into found_lane;
  if not found then
    select l.lane into found_lane from respirate.lane l
      where (l.tenant, l.queue, l.priority, l.kind) = (lane.tenant, lane.queue, lane.priority, lane.kind);
  end if;
  perform respirate.tell('lane', null);
  return found_lane;
end
$$;

-- refuse raises the one form of error that insert() gives: SQLSTATE 22023, "field: why", the field as COLUMN too.
create function respirate.refuse(field text, why text) returns void language plpgsql as $$
begin
  raise exception '%: %', field, why using errcode = '22023', column = field;
end
$$;

-- check_name refuses a name that is too short, longer than 255 bytes, or has control characters.
create function respirate.check_name(field text, name text, shortest int) returns void language plpgsql as $$
begin
  if name is null or octet_length(name) < shortest then
    perform respirate.refuse(field, 'is empty');
  elsif octet_length(name) > 255 then
    perform respirate.refuse(field, format('is %s bytes long, at most 255 are allowed', octet_length(name)));
  elsif name ~ '[\u0001-\u001f\u007f-\u009f]' then
    perform respirate.refuse(field, format('%s has a control character', to_json(left(name, 40))));
  end if;
end
$$;

-- check_type refuses an option whose JSON type is not the one that is wanted.
create function respirate.check_type(name text, value jsonb, type text, what text) returns void language plpgsql as $$
begin
  if jsonb_typeof(value) <> type then
    perform respirate.refuse('opts.' || name, format('%s is not %s', left(value::text, 40), what));
  end if;
end
$$;

-- check_number refuses an option that is not a number between lowest and highest; whole ones only where those are.
create function respirate.check_number(name text, value jsonb, lowest numeric, highest numeric, whole boolean) returns void
language plpgsql as $$
begin
  perform respirate.check_type(name, value, 'number', 'a number');
  if whole and (value #>> '{}')::numeric % 1 <> 0 then
    perform respirate.refuse('opts.' || name, format('%s is not a whole number', left(value::text, 40)));
  elsif (value #>> '{}')::numeric not between lowest and highest then
    perform respirate.refuse('opts.' || name, format('%s is not between %s and %s', left(value::text, 40), lowest, highest));
  end if;
end
$$;

-- check_time refuses an option `at` that is not a time.
create function respirate.check_time(value text) returns void language plpgsql stable as $$
begin
  if not isfinite(value::timestamptz) then
    raise data_exception;
  end if;
exception when data_exception then
  perform respirate.refuse('opts.at', format('%s is not a time such as 2026-11-22T15:04:05Z', to_json(left(value, 40))));
end
$$;

-- served tells whether some live broker has workers for a kind.
create function respirate.served(kind text) returns boolean language sql volatile as $$
  select exists (select from respirate.broker b where b.alive_until > clock_timestamp() and served.kind = any (b.kinds))
$$;

-- check_tags refuses tags that are not an array of names.
create function respirate.check_tags(tags jsonb) returns void language plpgsql as $$
declare
  tag jsonb;
begin
  perform respirate.check_type('tags', tags, 'array', 'an array of texts');
  if jsonb_array_length(tags) > 100 then
    perform respirate.refuse('opts.tags', format('has %s entries, at most 100 are allowed', jsonb_array_length(tags)));
  end if;
  for tag in select jsonb_array_elements(tags) loop
    perform respirate.check_type('tags', tag, 'string', 'a text'), respirate.check_name('opts.tags', tag #>> '{}', 1);
  end loop;
end
$$;

-- check_option refuses one option whose name or value is no good. A null value is as good as none.
create function respirate.check_option(name text, value jsonb) returns void language plpgsql as $$
begin
  if value = 'null' then
    value := null;
  end if;
  case name
    when 'id' then
      perform respirate.check_type(name, value, 'string', 'a UUID');
      if value #>> '{}' !~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
        perform respirate.refuse('opts.id', format('%s is not a UUID', left(value::text, 40)));
      end if;
    when 'queue', 'label' then
      perform respirate.check_type(name, value, 'string', 'a text'),
        respirate.check_name('opts.' || name, value #>> '{}', 1) where value is not null;
    when 'tenant' then
      perform respirate.check_type(name, value, 'string', 'a text'),
        respirate.check_name('opts.' || name, value #>> '{}', 0) where value is not null;
    when 'priority' then
      perform respirate.check_number(name, value, 1, 9, true);
    when 'max_tries' then
      perform respirate.check_number(name, value, 1, 32767, true);
    when 'in' then
      perform respirate.check_number(name, value, -3155760000, 3155760000, false); -- a hundred years
    when 'at' then
      perform respirate.check_type(name, value, 'string', 'a time'), respirate.check_time(value #>> '{}');
    when 'keep', 'require_kind' then
      perform respirate.check_type(name, value, 'boolean', 'true or false');
    when 'tags' then
      perform respirate.check_tags(value) where value is not null;
    when 'metadata' then
      perform respirate.check_type(name, value, 'object', 'a JSON object');
      if octet_length(value::text) > 65536 then
        perform respirate.refuse('opts.metadata', 'is larger than 64 KiB');
      end if;
    else
      perform respirate.refuse('opts.' || left(name, 40), 'unknown option; known: '
        'at, id, in, keep, label, max_tries, metadata, priority, queue, require_kind, tags, tenant');
  end case;
end
$$;

-- check_opts refuses options that insert() cannot take. They are looked at by name, so that of several bad ones always
-- the same is told.
create function respirate.check_opts(kind text, opts jsonb) returns void language plpgsql as $$
begin
  if jsonb_typeof(opts) <> 'object' then
    perform respirate.refuse('opts', format('%s is not a JSON object', left(opts::text, 40)));
  end if;
  perform respirate.check_option(o.key, o.value) from jsonb_each(opts) o order by o.key;
  if opts->>'at' is not null and opts->>'in' is not null then
    perform respirate.refuse('opts.in', 'goes without opts.at');
  elsif (opts->>'require_kind')::boolean and not respirate.served(kind) then
    perform respirate.refuse('kind', format('no worker serves %s now', to_json(left(kind, 40))));
  end if;
end
$$;

-- check_inserts refuses strands that cannot be made, and tells in DETAIL which of them is bad (from 0). What many have
-- in common is looked at once.
create function respirate.check_inserts(kinds text[], args jsonb[], opts jsonb[]) returns void language plpgsql as $$
declare
  i record;
  why text;
  field text;
begin
  for i in select min(n) as n, kind from unnest(kinds) with ordinality u (kind, n) group by kind order by 1 loop
    perform respirate.check_name('kind', i.kind, 1);
  end loop;
  for i in
    select n, octet_length(arg::text) as size from unnest(kinds, args) with ordinality u (kind, arg, n)
    where arg is null or octet_length(arg::text) > 1048576 limit 1
  loop
    perform respirate.refuse('args',
      case when i.size is null then 'is missing' else format('is %s bytes long, at most 1048576 are allowed', i.size) end);
  end loop;
  for i in
    select min(n) as n, kind, opt from unnest(kinds, opts) with ordinality u (kind, opt, n)
    where opt <> '{}' group by kind, opt order by 1
  loop
    perform respirate.check_opts(i.kind, i.opt);
  end loop;
exception when invalid_parameter_value then
  get stacked diagnostics why = message_text, field = column_name;
  raise exception '%', why using errcode = '22023', column = field, detail = format('insert %s', i.n - 1);
end
$$;

-- insert_strands is what all inserts end in. ids, opts and parents may have nulls. It gives the ids in order, and which
-- of them are new: an id that is or was there changes nothing.
create function respirate.insert_strands(ids uuid[], kinds text[], args jsonb[], opts jsonb[], parents uuid[])
returns table (id uuid, fresh boolean) language plpgsql as $$
#variable_conflict use_column
declare
  made uuid[];
  news boolean[];
  chosen uuid[]; -- the new ones whose id was given
begin
  perform respirate.check_inserts(kinds, args, opts);

  -- Missing lanes first, in order, so that two who make several do not wait for each other crosswise.
  perform respirate.lane(m.tenant, m.queue, m.priority, m.kind)
  from (
    select distinct coalesce(opt->>'tenant', '') as tenant, coalesce(opt->>'queue', 'default') as queue,
      coalesce((opt->>'priority')::numeric::int, 5) as priority, kind
    from unnest(kinds, opts) i (kind, opt)
    order by 1, 2, 3, 4
  ) m
  where not exists (
    select from respirate.lane l
    where l.tenant = m.tenant and l.queue = m.queue and l.priority = m.priority and l.kind = m.kind);

  with wanted as materialized (
    select n, kind, arg, coalesce(opt, '{}') as opt, parent,
      coalesce(given, (opt->>'id')::uuid) as given,
      coalesce(given, (opt->>'id')::uuid, gen_random_uuid()) as id
    from unnest(ids, kinds, args, opts, parents) with ordinality i (given, kind, arg, opt, parent, n)
  ), inserted as (
    insert into respirate.strand (id, schedule, lane, max_tries, keep, parent, label, args, tags, metadata)
    select w.id,
      greatest((w.opt->>'at')::timestamptz, clock_timestamp() + make_interval(secs => (w.opt->>'in')::float8),
        clock_timestamp()),
      l.lane, coalesce((w.opt->>'max_tries')::numeric::smallint, 25), coalesce((w.opt->>'keep')::boolean, false), w.parent,
      coalesce(w.opt->>'label', 'start'), w.arg,
      case when jsonb_typeof(w.opt->'tags') = 'array' then array(select jsonb_array_elements_text(w.opt->'tags')) end,
      nullif(w.opt->'metadata', 'null')
    from wanted w
    join respirate.lane l on l.tenant = coalesce(w.opt->>'tenant', '') and l.queue = coalesce(w.opt->>'queue', 'default')
      and l.priority = coalesce((w.opt->>'priority')::numeric::smallint, 5) and l.kind = w.kind
    where w.given is null or not exists (select from respirate.history h where h.id = w.given)
    order by w.n
    on conflict (id) do nothing
    returning id
  )
  select array_agg(w.id order by w.n), array_agg(i.id is not null order by w.n),
    array_agg(i.id) filter (where w.given = i.id) into made, news, chosen
  from wanted w left join inserted i on i.id = w.id;

  -- A chosen id may have been free only since its end, for which the insert waited, was committed. This statement sees what
  -- the insert could not. (Not so above READ COMMITTED: there one snapshot serves the whole transaction.)
  if chosen is not null then
    with late as (
      delete from respirate.strand s
      where s.id = any (chosen) and exists (select from respirate.history h where h.id = s.id)
      returning s.id
    )
    select array_agg(m.fresh and l.id is null order by m.n) into news
    from unnest(made, news) with ordinality m (id, fresh, n) left join late l on l.id = m.id;
  end if;

  perform respirate.tell('', made); -- later than the insert: see tell
  return query select * from unnest(made, news);
end
$$;

-- tell notifies the brokers: '' (something is due), 'lane' (there is a new one), 'cancel' (a leased strand is to end).
-- Only '' is for given ids, and only for brokers that look after them and are not busy looking anyhow.
--
-- A NOTIFY takes a lock of the whole database until commit, so it is sent only if somebody cares, and once for each
-- transaction. Whoever clears its busy flag waits until all transactions are over that had a transaction id by then.
-- For that to be enough, this must run after the row was written (which draws the id) and with a snapshot that is
-- newer than that; where the isolation level forbids the latter, busy is not believed.
create function respirate.tell(payload text, ids uuid[]) returns void language plpgsql as $$
declare
  told text := coalesce(current_setting('respirated.told', true), '');
  mark text := 'respirate_wake:' || payload || ';';
begin
  if position(mark in told) > 0 then
    return;
  end if;
  perform from respirate.broker b
    where b.alive_until > clock_timestamp() and (
      payload <> ''
      or not (b.busy and current_setting('transaction_isolation') = 'read committed') and exists (
        select from unnest(ids) i (id)
        cross join lateral (select s.schedule, s.bucket from respirate.strand s where s.id = i.id limit 1) s
        where s.schedule < clock_timestamp() + interval '5 s' and s.bucket between b.lo >> 24 and (b.hi - 1) >> 24))
    limit 1;
  if not found or pg_notification_queue_usage() > 0.9 then -- a full queue would fail the commit
    return;
  end if;
  perform pg_notify('respirate_wake', payload), set_config('respirated.told', told || mark, true);
end
$$;

-- hint is for those who COPY into the table: it tells the brokers, in the same transaction, that something is due.
create function respirate.hint() returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan as $$
begin
  perform from respirate.broker b
    where b.alive_until > clock_timestamp()
      and not (b.busy and current_setting('transaction_isolation') = 'read committed');
  if found and pg_notification_queue_usage() < 0.9 then
    perform pg_notify('respirate_wake', '');
  end if;
end
$$;

-- insert makes one strand and returns its id.
create function respirate.insert(kind text, args jsonb default '{}', opts jsonb default '{}') returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan as $$
begin
  return (select i.id from respirate.insert_strands(null, array[kind], array[args], array[opts], null) i);
end
$$;

-- insert_many makes strands, all or none, and returns their ids in order. opts may be shorter than kinds.
create function respirate.insert_many(kinds text[], args jsonb[], opts jsonb[] default '{}') returns setof uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan as $$
begin
  if cardinality(args) <> cardinality(kinds) or cardinality(opts) > cardinality(kinds) then
    perform respirate.refuse('args', format('%s kinds, but %s args and %s opts',
      cardinality(kinds), cardinality(args), cardinality(opts)));
  end if;
  return query select i.id from respirate.insert_strands(null, kinds, args, opts, null) i;
end
$$;
