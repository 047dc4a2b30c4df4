drop view respirate.pages, respirate.deadlines, respirate.children, respirate.semaphores;
drop function respirate.page_due();
drop function respirate.open_pages(uuid[]);
drop function respirate.move_deadlines(uuid[], int[], text[], text[], text[], interval[], interval[]);
drop function respirate.note_deadlines(uuid[]);
drop function respirate.settle(uuid[], bigint[], uuid[], uuid[]);
drop function respirate.signal_many(uuid[], text[], jsonb[], boolean[]);
drop function respirate.signal(uuid, text, jsonb, boolean);
drop function respirate.send_signals(uuid[], text[], jsonb[], boolean[]);
drop function respirate.check_signals(text[], jsonb[]);
drop function respirate.family(uuid);
drop function respirate.children_done(uuid[], uuid[]);
drop function respirate.check_parents(uuid[]);

-- insert_strands is what all inserts end in. ids, opts and parents may have nulls. It gives the ids in order, and which
-- of them are new: an id that is or was there changes nothing.
create or replace function respirate.insert_strands(ids uuid[], kinds text[], args jsonb[], opts jsonb[], parents uuid[])
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

-- finish takes strands, whose rows the caller has locked and judged, out of the hot table. Done ones go to history if
-- their queue keeps any or they are to be kept; others always do. Null stacks and
-- counts stay as they are.
create or replace function respirate.finish(ids uuid[], states text[], "values" jsonb[], stacks jsonb[], tries int[], crashes int[])
returns setof uuid language sql as $$
  with ended as (
    delete from respirate.strand s
    using unnest(finish.ids, finish.states, finish."values", finish.stacks, finish.tries, finish.crashes)
      as r (id, state, value, stack, try, crashes)
    where s.id = r.id
    returning s.id, s.created_at, s.lane, coalesce(r.try, s.try) as try, s.max_tries,
      coalesce(r.crashes, s.crashes) as crashes, s.rescues, s.keep, s.label, s.parent, s.key, s.args,
      coalesce(r.stack, s.stack) as stack, s.tags, s.metadata, r.state, r.value
  ), kept as (
    insert into respirate.history (id, created_at, priority, try, max_tries, crashes, rescues, keep, tenant, queue, kind,
      label, state, parent, key, args, stack, value, tags, metadata)
    select e.id, e.created_at, l.priority, e.try, e.max_tries, e.crashes, e.rescues, e.keep, l.tenant, l.queue, l.kind,
      e.label, e.state, e.parent, e.key, e.args, e.stack, e.value, e.tags, e.metadata
    from ended e
    join respirate.lane l on l.lane = e.lane
    join respirate.queue q on q.tenant = l.tenant and q.queue = l.queue
    where q.retention > '0' or e.keep or e.state <> 'done'
  )
  select e.id from ended e
$$;

-- child_done takes n finished children off a parent. The last one wakes it: it is due now, or, if it is running, once
-- more after its nap. The parent may be gone.
create or replace function respirate.child_done(parent uuid, n int) returns void language plpgsql as $$
declare
  left_over int;
begin
  update respirate.strand s set
    children_left = greatest(s.children_left - child_done.n, 0),
    woken = s.woken or s.children_left <= child_done.n,
    schedule = case when s.children_left <= child_done.n and s.lease = '-infinity'
      then least(s.schedule, clock_timestamp()) else s.schedule end
  where s.id = child_done.parent and s.children_left > 0
  returning s.children_left into left_over;
  if left_over = 0 then
    perform respirate.tell('', array[child_done.parent]);
  end if;
end
$$;

-- cancel ends a strand that is not running at once; one that is running is asked to stop. It tells the state that the
-- strand is in now: cancelled, leased, or what history says of it; null when nothing is known of it.
create or replace function respirate.cancel(id uuid) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan as $$
declare
  s record;
begin
  select t.lease, t.cancel_at, t.parent into s from respirate.strand t where t.id = cancel.id for no key update;
  if not found then
    return (select h.state from respirate.history h where h.id = cancel.id order by h.finished_at desc limit 1);
  elsif s.lease < clock_timestamp() then
    perform respirate.finish(array[cancel.id], array['cancelled'], null, null, null, null);
    if s.parent is not null then
      perform respirate.child_done(s.parent, 1);
    end if;
    return 'cancelled';
  elsif s.cancel_at is null then
    update respirate.strand t set cancel_at = clock_timestamp() where t.id = cancel.id;
    perform respirate.tell('cancel', null);
  end if;
  return 'leased';
end
$$;

-- maintain makes the partitions of the next days, drops those that are older than any retention, and forgets dead
-- brokers. A second call at the same time does nothing. The broker calls it at its start and each hour.
create or replace function respirate.maintain() returns void
language plpgsql set search_path = pg_catalog, pg_temp set timezone = 'UTC' as $$
declare
  oldest timestamptz;
begin
  if not respirate.at_work() then
    return;
  end if;
  for n in 0 .. 7 loop
    perform respirate.add_partition('respirate.history', 'finished_at', current_date + n),
      respirate.add_partition('respirate.attempt', 'at', current_date + n);
  end loop;
  delete from respirate.broker b where b.alive_until < now() - interval '1 day';

  select now() - greatest(max(q.retention), '7 days') into oldest from respirate.queue q;
  delete from respirate.history_default h where h.finished_at < oldest;
  delete from respirate.attempt_default a where a.at < oldest;
  -- Last, since from here on until the commit nobody can write history.
  perform respirate.drop_partitions('respirate.history', oldest), respirate.drop_partitions('respirate.attempt', oldest);
end
$$;

-- grant_client lets a role insert strands and read what becomes of them, and no more: it can write no token, lease or
-- count. For COPY it may write the columns named here; lane() gives the lane's number, hint() tells the brokers.
create or replace function respirate.grant_client(role regrole) returns void language plpgsql as $$
begin
  execute format('grant usage on schema %s to %s',
    (select c.relnamespace::regnamespace from pg_class c where c.oid = 'respirate.strand'::regclass), role);
  execute format('grant insert (id, schedule, lane, max_tries, keep, label, args, tags, metadata)
    on respirate.strand to %s', role);
  execute format('grant select on respirate.strands, respirate.lanes, respirate.finished, respirate.attempts,
    respirate.queues, respirate.brokers to %s', role);
  execute format('grant execute on function respirate.insert(text, jsonb, jsonb),
    respirate.insert_many(text[], jsonb[], jsonb[]), respirate.lane(text, text, int, text), respirate.hint(),
    respirate.wake(uuid), respirate.cancel(uuid), respirate.retry(uuid) to %s', role);
end
$$;

drop table respirate.page, respirate.deadline, respirate.child, respirate.semaphore;
alter table respirate.strand drop column inbox, drop column deadline;
