drop function respirate.drop_orphans(uuid);
drop function respirate.next_owner(uuid);

-- children_done tells the parents of children that finish has ended. It must be a later statement than that. (It asks for
-- ended_at and not for state, as that would let the planner take child_ended, and read all ends of a parent for each child;
-- and with offset 0, as a planner that does not like to sort would read all children for each child.)
create or replace function respirate.children_done(parents uuid[], children uuid[]) returns void language sql as $$
  select respirate.child_done(e.parent, e.n) from (
    select r.parent, count(*)::int as n
    from unnest(children_done.parents, children_done.children) r (parent, child)
    cross join lateral (select from respirate.child c
      where c.parent = r.parent and c.child = r.child and c.ended_at is not null offset 0) c
    group by r.parent
  ) e
  order by e.parent
$$;

-- step takes a step of a strand, as a broker does with a report of its worker, in the transaction of the caller: it is taken if
-- and when that commits. report is what a result of the protocol says, with JSON in place of JSON text: {"act": "hop",
-- "label": "next", "enq": [...]}; the act is exit, nap or hop. seq is that of the next result under this token.
--
-- Where the token is not the current one, or its lease has been given back, it raises SQLSTATE RS001, so that what the
-- caller has done to its own tables is undone. Where somebody has asked for the strand's end, an exit ends it as done, and
-- anything else as cancelled, and makes no children.
--
-- It locks the strand, its parent and those that it signals, in the order of ids, and waits no more than 5 s for each.
-- They stay locked until the end of the transaction, so commit at once: one that is idle for a minute is ended.
create or replace function respirate.step(strand uuid, token uuid, seq bigint, report jsonb) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set lock_timeout = '5 s' as $$
declare
  century constant numeric := 250 * 365 * 86400000.0; -- the longest delay, in ms
  act text := report->>'act';
  s record;
  state text; -- it ends in; null = it goes on
  pause interval;
  to_lane int;
  wakes uuid[];
  made int := 0;
  target uuid;
begin
  perform respirate.check_step(report);
  if current_setting('idle_in_transaction_session_timeout')::interval not between '1 ms' and '1 min' then
    perform set_config('idle_in_transaction_session_timeout', '1min', true);
  end if;

  -- parent never changes, so it may be read before the lock.
  perform from respirate.strand t
  where t.id = any (array(
    select step.strand
    union select p.parent from respirate.strand p where p.id = step.strand and p.parent is not null
    union select (g->>'s')::uuid from jsonb_array_elements(nullif(report->'sig', 'null')) g where g->>'s' is not null))
  order by t.id
  for no key update;
  select t.token, t.lease > '-infinity' as held, t.seq, t.cancel_at is not null as cancelled, t.try, t.crashes, t.parent, t.lane,
    t.deadline is not null as timed, coalesce(t.deadline <= clock_timestamp(), false) as late
    into s from respirate.strand t where t.id = step.strand;
  if not found then
    raise exception 'strand %: there is no such strand any more', strand using errcode = 'RS001';
  elsif s.token is distinct from step.token or not s.held then
    raise exception 'strand %: the token is not current', strand using errcode = 'RS001';
  elsif step.seq is null or s.seq >= step.seq then
    raise exception 'strand %: step % has been taken already', strand, seq using errcode = 'RS001';
  elsif step.seq > 2147483647 then
    perform respirate.refuse('seq', format('%s is above 2147483647', step.seq));
  end if;
  insert into respirate.outcome (token, strand) values (step.token, step.strand);
  state := case when act = 'exit' then 'done' when s.cancelled then 'cancelled' end;

  if jsonb_array_length(nullif(report->'enq', 'null')) > 0 then
    select count(distinct m.id) filter (where m.fresh and m.child) into made
    from (
      select e.ids, e.kinds, e.args, e.opts, e.parents, e.children
      from (
        select array_agg((i.e->>'key')::uuid order by i.n) as ids, array_agg(i.e->>'kind' order by i.n) as kinds,
          array_agg(i.e->'args' order by i.n) as args, array_agg(nullif(i.e->'opts', 'null') order by i.n) as opts,
          array_agg(case when (i.e->>'child')::boolean then step.strand end order by i.n) as parents,
          array_agg(coalesce((i.e->>'child')::boolean, false) order by i.n) as children
        from jsonb_array_elements(report->'enq') with ordinality i (e, n)
        where state is distinct from 'cancelled' or (i.e->>'child')::boolean is not true -- it would be of the tree that is to end
        having count(*) > 0
      ) e
    ) e
    cross join lateral (
      select distinct on (r.id) r.id, r.fresh, e.children[r.n] as child -- an id that comes twice is the child of the first
      from respirate.insert_strands(e.ids, e.kinds, e.args, e.opts, e.parents) with ordinality r (id, fresh, n)
      order by r.id, r.n
    ) m;
  end if;
  if state is null and act = 'hop' and report->>'kind' is not null then
    select respirate.lane(l.tenant, l.queue, l.priority, report->>'kind') into strict to_lane
    from respirate.lane l where l.lane = s.lane;
    wakes := array[step.strand];
  end if;

  if state is not null then
    perform respirate.finish(array[step.strand], array[state],
      array[case when act = 'exit' then report->'val' end], array[nullif(report->'stack', 'null')],
      array[s.try]::int[], array[s.crashes]::int[]);
  else
    if s.timed or report->>'due' is not null then
      -- Their times count from the start of the transaction, which may be long ago.
      perform respirate.move_deadlines(array[step.strand], array[coalesce((report->>'frame')::int, 0)],
        array[case when act = 'hop' then report->>'label' end], array[case when act = 'hop' then report->>'kind' end],
        array[report->'due'->>'target'],
        array[least(coalesce((report->'due'->>'ms')::numeric, 0), century) * interval '1 ms' + (clock_timestamp() - now())],
        array[least(coalesce((report->'due'->>'most_ms')::numeric, 0), century) * interval '1 ms']);
    end if;
    pause := least(coalesce((report->>'ms')::numeric, 0), century) * interval '1 ms';
    update respirate.strand t set
      seq = step.seq,
      lease = '-infinity',
      schedule = case
        when t.woken then clock_timestamp()
        else greatest(least(clock_timestamp() + pause, t.deadline), clock_timestamp())
      end,
      try = 0,
      crashes = 0,
      rescues = 0,
      label = case when act = 'hop' then report->>'label' else t.label end,
      lane = coalesce(to_lane, t.lane),
      stack = coalesce(nullif(report->'stack', 'null'), t.stack),
      children_left = t.children_left + made
    where t.id = step.strand;
    perform respirate.settle(
      array(select step.strand from jsonb_array_elements(nullif(report->'used', 'null'))),
      array(select u::bigint from jsonb_array_elements_text(nullif(report->'used', 'null')) u),
      array(select step.strand from jsonb_array_elements(nullif(report->'reap', 'null'))),
      array(select c::uuid from jsonb_array_elements_text(nullif(report->'reap', 'null')) c));
  end if;

  -- What others are told comes in later statements than what is told: see the rules of a batch.
  perform respirate.send_signals(
    array_agg(coalesce((g.e->>'s')::uuid, step.strand) order by g.n), array_agg(g.e->>'name' order by g.n),
    array_agg(g.e->'val' order by g.n),
    array_agg(g.e->>'s' is not null and not coalesce((g.e->>'quiet')::boolean, false) order by g.n))
  from jsonb_array_elements(nullif(report->'sig', 'null')) with ordinality g (e, n)
  having count(*) > 0;
  if state is not null then
    perform respirate.children_done(array[s.parent], array[step.strand]) where s.parent is not null;
  elsif s.late then
    perform respirate.open_pages(array[step.strand]);
  end if;
  perform respirate.tell('', wakes) where wakes is not null;
end
$$;

alter table respirate.child drop column watched;

-- edit replaces the args of the frame of a strand that runs next, or would if a finished strand were retried. It tells the
-- state that the strand is in, or null when nothing is known of it, and refuses one that is leased.
create or replace function respirate.edit(id uuid, args jsonb, who text default null) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan as $$
declare
  h record;
  was jsonb;
begin
  perform respirate.check_who(who);
  if args is null then
    perform respirate.refuse('args', 'is null');
  elsif octet_length(args::text) > 1048576 then
    perform respirate.refuse('args', format('is %s bytes long, at most 1048576 are allowed', octet_length(args::text)));
  end if;
  for n in 1 .. 2 loop -- it may be brought back between two looks
    if respirate.hold(edit.id) then
      select coalesce(t.stack->0, t.args) into was from respirate.strand t where t.id = edit.id;
      update respirate.strand t set
        args = case when t.stack->0 is null then edit.args else t.args end,
        stack = case when t.stack->0 is null then t.stack else jsonb_set(t.stack, '{0}', edit.args) end
      where t.id = edit.id;
      perform respirate.note_audit(id, who, 'edit', jsonb_build_object('args', was), jsonb_build_object('args', args));
      return (select v.state from respirate.strands v where v.id = edit.id);
    end if;
    select f.finished_at, f.state, coalesce(f.stack->0, f.args) as args into h
      from respirate.history f where f.id = edit.id order by f.finished_at desc limit 1 for update;
    if found then
      update respirate.history f set
        args = case when f.stack->0 is null then edit.args else f.args end,
        stack = case when f.stack->0 is null then f.stack else jsonb_set(f.stack, '{0}', edit.args) end
      where f.id = edit.id and f.finished_at = h.finished_at;
      perform respirate.note_audit(id, who, 'edit', jsonb_build_object('args', h.args), jsonb_build_object('args', args));
      return h.state;
    end if;
  end loop;
  return null;
end
$$;

-- Before, the children of a strand that is not live were nobody's.
delete from respirate.child c where not exists (select from respirate.strand s where s.id = c.parent);

-- finish takes strands, whose rows the caller has locked and judged, out of the hot table, with all that they have. Done
-- ones go to history if their queue keeps any or they are to be kept; others always do. Null stacks and counts stay as they
-- are. A parent that lives on keeps the end of its child: the caller tells it, see children_done.
create or replace function respirate.finish(ids uuid[], states text[], "values" jsonb[], stacks jsonb[], tries int[], crashes int[])
returns setof uuid language sql as $$
  with ended as (
    delete from respirate.strand s
    using unnest(finish.ids, finish.states, finish."values", finish.stacks, finish.tries, finish.crashes)
      as r (id, state, value, stack, try, crashes)
    where s.id = r.id
    returning s.id, s.created_at, s.lane, coalesce(r.try, s.try) as try, s.max_tries,
      coalesce(r.crashes, s.crashes) as crashes, s.rescues, s.keep, s.label, s.parent, s.key, s.args,
      coalesce(r.stack, s.stack) as stack, s.tags, s.metadata, r.state, r.value, s.inbox, s.deadline
  ), kept as (
    insert into respirate.history (id, created_at, priority, try, max_tries, crashes, rescues, keep, tenant, queue, kind,
      label, state, parent, key, args, stack, value, tags, metadata)
    select e.id, e.created_at, l.priority, e.try, e.max_tries, e.crashes, e.rescues, e.keep, l.tenant, l.queue, l.kind,
      e.label, e.state, e.parent, e.key, e.args, e.stack, e.value, e.tags, e.metadata
    from ended e
    join respirate.lane l on l.lane = e.lane
    join respirate.queue q on q.tenant = l.tenant and q.queue = l.queue
    where q.retention > '0' or e.keep or e.state <> 'done'
  ), told as (
    update respirate.child c set kind = l.kind, state = e.state, value = e.value, ended_at = clock_timestamp()
    from ended e
    join respirate.lane l on l.lane = e.lane
    where c.parent = e.parent and c.child = e.id and e.parent not in (select i from unnest(finish.ids) i)
  ), orphaned as (
    delete from respirate.child c using ended e where c.parent = e.id
  ), unread as (
    delete from respirate.semaphore m using ended e where m.strand = e.id and e.inbox is not null
  ), over as (
    delete from respirate.deadline d using ended e where d.strand = e.id and e.deadline is not null
    returning d.strand, d.frame, d.paged_at, e.state
  ), resolved as (
    update respirate.page p set resolved_at = clock_timestamp(), why = o.state
    from over o
    where p.strand = o.strand and p.frame = o.frame and p.resolved_at is null and o.paged_at is not null
  )
  select e.id from ended e
$$;

-- family lists a strand, if it is there or has children, and its live descendants.
create or replace function respirate.family(id uuid) returns setof uuid language sql as $$
  with recursive tree (id) as (
    select family.id
    union
    select c.child from tree t join respirate.child c on c.parent = t.id where c.state is null
  )
  select t.id from tree t
$$;

-- cancel ends a strand that is not running at once; one that is running is asked to stop. So it does with all its live
-- descendants. It tells the state that the strand is in now: cancelled, leased, or what history says of it; null when nothing
-- is known of it.
--
-- It locks in the order of ids: the strand, its descendants, and its parent, which has to be told. Children that were
-- inserted while it waited are locked after that; no more can come then, since their parents are.
create or replace function respirate.cancel(id uuid) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  family uuid[];
  locked uuid[] := '{}';
  missing uuid[];
  free uuid[];
  parents uuid[]; -- of those
  asked uuid[];
begin
  loop
    family := array(select f from respirate.family(cancel.id) f);
    missing := array(
      (select f from unnest(family) f
        union select s.parent from respirate.strand s where s.id = cancel.id and s.parent is not null)
      except select l from unnest(locked) l);
    exit when missing = '{}';
    perform from respirate.strand s where s.id = any (missing) order by s.id for no key update;
    locked := locked || missing;
  end loop;
  select array_agg(s.id order by s.id) filter (where s.lease < clock_timestamp()),
    array_agg(s.parent order by s.id) filter (where s.lease < clock_timestamp()),
    array_agg(s.id order by s.id) filter (where s.lease >= clock_timestamp() and s.cancel_at is null)
    into free, parents, asked
    from unnest(family) f join respirate.strand s on s.id = f;
  if free is not null then
    perform respirate.finish(free, array_fill('cancelled'::text, array[cardinality(free)]), null, null, null, null);
    perform respirate.children_done(parents, free);
  end if;
  if asked is not null then
    update respirate.strand s set cancel_at = clock_timestamp() from unnest(asked) a where s.id = a;
    perform respirate.tell('cancel', null);
  end if;
  if cancel.id = any (free) then
    return 'cancelled';
  end if;
  perform from respirate.strand s where s.id = cancel.id;
  if found then
    return 'leased';
  end if;
  return (select h.state from respirate.history h where h.id = cancel.id order by h.finished_at desc limit 1);
end
$$;

-- check_parents refuses children that would make a tree deeper than 100 strands, or a strand with more than 1,000,000 live
-- children. The caller holds the locks of the parents. A strand that has lost its parent is the first of its tree.
create or replace function respirate.check_parents(parents uuid[]) returns void language plpgsql as $$
declare
  i record;
begin
  for i in
    select min(p.n) - 1 as n, p.parent, count(*) as more, max(s.children_left) as live
    from unnest(check_parents.parents) with ordinality p (parent, n)
    left join respirate.strand s on s.id = p.parent
    where p.parent is not null
    group by p.parent order by 1
  loop
    if i.live + i.more > 1000000 then
      raise exception 'child: strand % has % live children, at most 1000000 are allowed', i.parent, i.live
        using errcode = '22023', column = 'child', detail = format('insert %s', i.n);
    end if;
    perform from (
      with recursive above (id, n) as (
        select i.parent, 1
        union all
        select c.parent, a.n + 1
        from above a
        join respirate.strand s on s.id = a.id
        join respirate.child c on c.parent = s.parent and c.child = s.id
        where a.n < 100
      )
      select from above a where a.n = 100
    ) deep;
    if found then
      raise exception 'child: strand % is the 100th from the top of its tree, deeper ones are not allowed', i.parent
        using errcode = '22023', column = 'child', detail = format('insert %s', i.n);
    end if;
  end loop;
end
$$;

-- retry makes a strand due now: a finished one comes back from history, where it ended and with its counts anew (its
-- parent, which has seen it end, no longer waits for it); a deferred one need not wait. It tells the state that the
-- strand is in now, or null when nothing is known of it.
create or replace function respirate.retry(id uuid) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan as $$
begin
  update respirate.strand s set schedule = least(s.schedule, clock_timestamp())
    where s.id = retry.id and s.lease < clock_timestamp();
  if not found then
    perform from respirate.strand s where s.id = retry.id;
    if found then
      return 'leased';
    end if;
    with back as (
      delete from respirate.history h where h.id = retry.id returning h.*
    )
    insert into respirate.strand (id, schedule, created_at, lane, max_tries, keep, label, key, args, stack, tags, metadata)
    select b.id, clock_timestamp(), b.created_at, respirate.lane(b.tenant, b.queue, b.priority, b.kind), b.max_tries,
      b.keep, b.label, b.key, b.args, b.stack, b.tags, b.metadata
    from back b order by b.finished_at desc limit 1;
    if not found then -- unless somebody else has brought it back while the deletion waited for that
      return (select case when s.lease < clock_timestamp() then 'ready' else 'leased' end
        from respirate.strand s where s.id = retry.id);
    end if;
  end if;
  perform respirate.tell('', array[retry.id]);
  return 'ready';
end
$$;

-- move_deadlines says where frames have come to, of strands whose rows the caller has locked and that nap or hop: how many
-- callers the frame that goes on has, the label it hopped to (null = none), and the deadline that it sets (target null =
-- none): in how long, and how long after the first for that target it may be put off to. Deadlines of frames above it, and
-- one whose target is reached, are over, and so are their pages.
create or replace function respirate.move_deadlines(
  ids uuid[], frames int[], labels text[], kinds text[], targets text[], ins interval[], mosts interval[]
) returns void language plpgsql as $$
begin
  with over as (
    delete from respirate.deadline d
    using unnest(ids, frames, labels, targets) r (id, frame, label, target)
    where d.strand = r.id and (d.frame > r.frame or d.frame = r.frame and (d.target = r.label or d.target <> r.target))
    returning d.strand, d.frame, d.paged_at,
      case when d.frame > r.frame then 'returned' when d.target = r.label then 'reached' else 'replaced' end as why
  )
  update respirate.page p set resolved_at = clock_timestamp(), why = o.why
  from over o
  where p.strand = o.strand and p.frame = o.frame and p.resolved_at is null and o.paged_at is not null;

  insert into respirate.deadline as d (strand, frame, target, at, first_at, kind)
  select r.id, r.frame, r.target, now() + r."in", now(), coalesce(r.kind, l.kind)
  from unnest(ids, frames, labels, kinds, targets, ins) r (id, frame, label, kind, target, "in")
  cross join lateral (select s.lane from respirate.strand s where s.id = r.id limit 1) s
  join respirate.lane l on l.lane = s.lane
  where r.target is not null and r.target is distinct from r.label
    and not exists (select from respirate.deadline d where d.strand = r.id and d.frame = r.frame);

  update respirate.deadline d set
    at = least(now() + r."in", greatest(d.at, d.first_at + r.most))
  from unnest(ids, frames, labels, targets, ins, mosts) r (id, frame, label, target, "in", most)
  where d.strand = r.id and d.frame = r.frame and r.target = d.target;

  perform respirate.note_deadlines(ids);
end
$$;

-- check_signals refuses semaphores that cannot be stored, and tells in DETAIL which of them is bad (from 0).
create or replace function respirate.check_signals(names text[], "values" jsonb[]) returns void language plpgsql as $$
declare
  i record;
  why text;
  field text;
begin
  for i in select min(n) as n, name from unnest(names) with ordinality u (name, n) group by name order by 1 loop
    perform respirate.check_name('name', i.name, 1);
  end loop;
  for i in
    select n, octet_length(value::text) as size from unnest("values") with ordinality u (value, n)
    where octet_length(value::text) > 1048576 limit 1
  loop
    perform respirate.refuse('value', format('is %s bytes long, at most 1048576 are allowed', i.size));
  end loop;
exception when invalid_parameter_value then
  get stacked diagnostics why = message_text, field = column_name;
  raise exception '%', why using errcode = '22023', column = field, detail = format('signal %s', i.n - 1);
end
$$;

-- send_signals stores semaphores, and wakes their strands where it is asked to, as wake() does. It tells for each whether
-- there is such a strand; where there is none nothing is stored. It locks the strands in the order of their ids, each before
-- its semaphores are stored, so that its end cannot come in between.
create or replace function respirate.send_signals(ids uuid[], names text[], "values" jsonb[], wakes boolean[])
returns setof boolean language plpgsql as $$
declare
  i record;
  there boolean[] := array_fill(true, array[cardinality(ids)]);
  place int;
  due uuid[] := '{}';
begin
  perform respirate.check_signals(names, "values");
  for i in
    select g.id, count(*)::int as n, bool_or(g.wake is not false) as wake,
      array_agg(g.n order by g.n) as places, array_agg(g.name order by g.n) as names,
      array_agg(g.value order by g.n) as "values"
    from unnest(ids, names, "values", wakes) with ordinality g (id, name, value, wake, n)
    group by g.id order by g.id
  loop
    update respirate.strand s set
      inbox = coalesce(s.inbox, 0) + i.n,
      woken = s.woken or i.wake,
      schedule = case when i.wake and s.lease = '-infinity' then least(s.schedule, clock_timestamp()) else s.schedule end
    where s.id = i.id;
    if not found then
      foreach place in array i.places loop
        there[place] := false;
      end loop;
      continue;
    end if;
    insert into respirate.semaphore (strand, name, value)
      select i.id, g.name, g.value from unnest(i.names, i."values") with ordinality g (name, value, n) order by g.n;
    if i.wake then
      due := due || i.id;
    end if;
  end loop;
  if due <> '{}' then
    perform respirate.tell('', due);
  end if;
  return query select unnest(there);
end
$$;

-- note_audit writes down what was done. who is null where nobody is named: then it is the role.
create or replace function respirate.note_audit(strand uuid, who text, what text, before jsonb, after jsonb) returns void language plpgsql as $$
declare
  oldest timestamptz;
begin
  select now() - greatest(max(q.retention), '7 days') into oldest from respirate.queue q;
  delete from respirate.audit a where a.id = any (array(
    select o.id from respirate.audit o where o.at < oldest order by o.at limit 1000 for update skip locked));
  insert into respirate.audit (strand, who, role, what, before, after)
    values (note_audit.strand, coalesce(note_audit.who, session_user), session_user, note_audit.what, note_audit.before, note_audit.after);
end
$$;

-- maintain makes the partitions of the next days, drops those that are older than any retention, and forgets dead
-- brokers, the pages that are over, and outcomes after a day. A second call at the same time does nothing. The broker calls it
-- at its start and each hour.
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
  delete from respirate.outcome o where o.at < now() - interval '1 day';

  select now() - greatest(max(q.retention), '7 days') into oldest from respirate.queue q;
  delete from respirate.page p where p.resolved_at < oldest;
  delete from respirate.history_default h where h.finished_at < oldest;
  delete from respirate.attempt_default a where a.at < oldest;
  -- Last, since from here on until the commit nobody can write history.
  perform respirate.drop_partitions('respirate.history', oldest), respirate.drop_partitions('respirate.attempt', oldest);
end
$$;

-- A view loses no columns: it is made anew, and whoever could read it still can.
do $$
declare
  shown oid := 'respirate.attempts'::regclass;
  rights aclitem[] := (select c.relacl from pg_class c where c.oid = shown);
  mine regrole := (select c.relowner::regrole from pg_class c where c.oid = shown);
  reader text;
begin
  drop view respirate.attempts;
  alter table respirate.attempt drop column max_rss, drop column cpu_ms;
  create view respirate.attempts as
  select a.strand, a.at, a.try, a.outcome, a.class, a.message, a.trace, a.worker, a.host, a.exit, a.stderr
  from respirate.attempt a;
  for reader in
    select case r.grantee when 0 then 'public' else r.grantee::regrole::text end
    from aclexplode(rights) r
    where r.privilege_type = 'SELECT' and r.grantee <> mine
  loop
    execute format('grant select on respirate.attempts to %s', reader);
  end loop;
end
$$;
