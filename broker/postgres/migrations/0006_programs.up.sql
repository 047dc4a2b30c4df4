-- Strands that are programs: semaphores, children's ends, deadlines and their pages.
--
-- What a strand has of these is in tables of their own, under its id. Who writes there holds the lock of the strand's row,
-- so that each of these rows changes only in the order in which its strand does. The strand itself carries two columns more,
-- null in one that has nothing, by which the plain statements know that they may go on as ever.

alter table respirate.strand
  add column inbox int, -- how many semaphores and ended children it has; null = none
  add column deadline timestamptz; -- the first of those that have no page yet; 'infinity' = all have; null = it has none

-- The semaphores that have come and are not used. ids rise in the order in which those of a strand came.
create table respirate.semaphore (
  strand uuid not null,
  id bigint not null generated always as identity,
  name text collate "C" not null,
  value jsonb,
  sent_at timestamptz not null default clock_timestamp(),
  primary key (strand, id)
) with (
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 1000,
  autovacuum_vacuum_cost_delay = 0,
  autovacuum_analyze_scale_factor = 0,
  autovacuum_analyze_threshold = 20000,
  vacuum_truncate = off
);

-- The children of live strands: those that live, and those that have ended and are not reaped.
create table respirate.child (
  parent uuid not null,
  child uuid not null,
  kind text collate "C", -- this and what follows: null while it lives
  state text collate "C",
  value jsonb,
  ended_at timestamptz,
  primary key (parent, child)
) with (
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 1000,
  autovacuum_vacuum_cost_delay = 0,
  autovacuum_analyze_scale_factor = 0,
  autovacuum_analyze_threshold = 20000,
  vacuum_truncate = off
);

-- In the order of their ends: a parent reads a part of them at a time.
create index child_ended on respirate.child (parent, ended_at, child) where state is not null;

-- The deadlines of frames that are not over. A frame is known by how many callers it has.
create table respirate.deadline (
  strand uuid not null,
  frame int not null,
  target text collate "C" not null, -- the label that it should have reached
  at timestamptz not null,
  first_at timestamptz not null, -- when one for that target was first set
  kind text collate "C" not null, -- of the frame
  paged_at timestamptz, -- when its page was opened
  primary key (strand, frame)
) with (
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 1000,
  autovacuum_vacuum_cost_delay = 0
);

create index deadline_at on respirate.deadline (at) where paged_at is null;

-- What people should know: deadlines that have passed. respirate.maintain() forgets those that are over.
create table respirate.page (
  id bigint generated always as identity primary key,
  strand uuid not null,
  frame int not null,
  kind text collate "C" not null,
  target text collate "C" not null,
  due_at timestamptz not null,
  opened_at timestamptz not null default clock_timestamp(),
  resolved_at timestamptz, -- null = it is open
  why text collate "C" -- resolved: reached, returned, replaced, or the state that its strand ended in
);

create unique index page_open on respirate.page (strand, frame) where resolved_at is null;

-- semaphores shows what waits for strands.
create view respirate.semaphores as
select m.strand, m.id, m.name, m.value, m.sent_at from respirate.semaphore m;

-- children shows the children of live strands; state is null while one lives.
create view respirate.children as
select c.parent, c.child, c.kind, c.state, c.value, c.ended_at from respirate.child c;

-- deadlines shows those that are not over.
create view respirate.deadlines as
select d.strand, d.frame, d.kind, d.target, d.at, d.first_at, d.paged_at from respirate.deadline d;

-- pages shows the deadlines that have passed.
create view respirate.pages as
select p.id, p.strand, p.frame, p.kind, p.target, p.due_at, p.opened_at, p.resolved_at, p.why from respirate.page p;

-- The children that there are.
insert into respirate.child (parent, child)
select s.parent, s.id from respirate.strand s
where s.parent is not null and exists (select from respirate.strand p where p.id = s.parent);

-- check_parents refuses children that would make a tree deeper than 100 strands, or a strand with more than 1,000,000 live
-- children. The caller holds the locks of the parents. A strand that has lost its parent is the first of its tree.
create function respirate.check_parents(parents uuid[]) returns void language plpgsql as $$
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

-- insert_strands is what all inserts end in. ids, opts and parents may have nulls. It gives the ids in order, and which
-- of them are new: an id that is or was there changes nothing. It joins what it made with what was asked for, which would take
-- the square of their number without hashing, as brokers do.
create or replace function respirate.insert_strands(ids uuid[], kinds text[], args jsonb[], opts jsonb[], parents uuid[])
returns table (id uuid, fresh boolean) language plpgsql set enable_hashjoin = on as $$
#variable_conflict use_column
declare
  made uuid[];
  news boolean[];
  chosen uuid[]; -- the new ones whose id was given
begin
  perform respirate.check_inserts(kinds, args, opts);
  if array_remove(parents, null) <> '{}' then
    perform respirate.check_parents(parents);
  end if;

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

  if array_remove(parents, null) <> '{}' then
    insert into respirate.child (parent, child)
    select m.parent, m.id from (
      select distinct on (m.id) m.id, m.fresh, m.parent -- an id that comes twice is the child of the first
      from unnest(made, news, parents) with ordinality m (id, fresh, parent, n)
      order by m.id, m.n
    ) m
    where m.fresh and m.parent is not null;
  end if;
  perform respirate.tell('', made); -- later than the insert: see tell
  return query select * from unnest(made, news);
end
$$;

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

-- child_done takes n finished children off a parent, which has their ends to read. The last one wakes it: it is due now, or,
-- if it is running, once more after its nap. The parent may be gone.
create or replace function respirate.child_done(parent uuid, n int) returns void language plpgsql as $$
declare
  left_over int;
begin
  update respirate.strand s set
    children_left = greatest(s.children_left - child_done.n, 0),
    inbox = coalesce(s.inbox, 0) + child_done.n,
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

-- children_done tells the parents of children that finish has ended. It must be a later statement than that. (It asks for
-- ended_at and not for state, as that would let the planner take child_ended, and read all ends of a parent for each child;
-- and with offset 0, as a planner that does not like to sort would read all children for each child.)
create function respirate.children_done(parents uuid[], children uuid[]) returns void language sql as $$
  select respirate.child_done(e.parent, e.n) from (
    select r.parent, count(*)::int as n
    from unnest(children_done.parents, children_done.children) r (parent, child)
    cross join lateral (select from respirate.child c
      where c.parent = r.parent and c.child = r.child and c.ended_at is not null offset 0) c
    group by r.parent
  ) e
  order by e.parent
$$;

-- family lists a strand, if it is there or has children, and its live descendants.
create function respirate.family(id uuid) returns setof uuid language sql as $$
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

-- check_signals refuses semaphores that cannot be stored, and tells in DETAIL which of them is bad (from 0).
create function respirate.check_signals(names text[], "values" jsonb[]) returns void language plpgsql as $$
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
create function respirate.send_signals(ids uuid[], names text[], "values" jsonb[], wakes boolean[])
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

-- signal sends a semaphore to a strand, and wakes it, unless told not to: it is due now, or, if it is running, once more
-- after its nap. It tells whether there is such a strand.
create function respirate.signal(id uuid, name text, value jsonb default null, wake boolean default true) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan as $$
begin
  return (select s from respirate.send_signals(array[id], array[name], array[value], array[wake]) s);
end
$$;

-- signal_many sends semaphores, all in one transaction, and tells for each, in order, whether there is such a strand. values
-- and wakes may be shorter than ids.
create function respirate.signal_many(ids uuid[], names text[], "values" jsonb[] default '{}', wakes boolean[] default '{}')
returns setof boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan as $$
begin
  if cardinality(names) <> cardinality(ids) or cardinality("values") > cardinality(ids) or cardinality(wakes) > cardinality(ids) then
    perform respirate.refuse('names', format('%s ids, but %s names, %s values and %s wakes',
      cardinality(ids), cardinality(names), cardinality("values"), cardinality(wakes)));
  end if;
  return query select s from respirate.send_signals(ids, names, "values", wakes) s;
end
$$;

-- settle takes used semaphores and reaped children off strands whose rows the caller has locked. What is not there is
-- passed over, and so is a child that lives.
create function respirate.settle(strands uuid[], used bigint[], parents uuid[], reaped uuid[]) returns void language sql as $$
  with gone as (
    delete from respirate.semaphore m using unnest(settle.strands, settle.used) r (strand, id)
    where m.strand = r.strand and m.id = r.id
    returning m.strand
  ), forgotten as (
    delete from respirate.child c using unnest(settle.parents, settle.reaped) r (parent, child)
    where c.parent = r.parent and c.child = r.child and c.ended_at is not null
    returning c.parent
  )
  update respirate.strand s set inbox = nullif(greatest(s.inbox - n.n, 0), 0)
  from (
    select f.strand, count(*)::int as n from (select strand from gone union all select parent from forgotten) f group by f.strand
  ) n
  where s.id = n.strand
$$;

-- note_deadlines writes into strands, whose rows the caller has locked, which of their deadlines is first.
create function respirate.note_deadlines(ids uuid[]) returns void language sql as $$
  update respirate.strand s set deadline = d.first
  from unnest(note_deadlines.ids) i (id)
  cross join lateral (
    select case when count(*) > 0 then coalesce(min(d.at) filter (where d.paged_at is null), 'infinity') end as first
    from respirate.deadline d where d.strand = i.id
  ) d
  where s.id = i.id and s.deadline is distinct from d.first
$$;

-- move_deadlines says where frames have come to, of strands whose rows the caller has locked and that nap or hop: how many
-- callers the frame that goes on has, the label it hopped to (null = none), and the deadline that it sets (target null =
-- none): in how long, and how long after the first for that target it may be put off to. Deadlines of frames above it, and
-- one whose target is reached, are over, and so are their pages.
create function respirate.move_deadlines(
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

-- open_pages opens the pages of deadlines that have passed, of strands whose rows the caller has locked. Each deadline gets
-- one, and cuts no nap any more.
create function respirate.open_pages(ids uuid[]) returns int language plpgsql as $$
declare
  n int;
begin
  with passed as (
    update respirate.deadline d set paged_at = clock_timestamp()
    from unnest(ids) i (id)
    where d.strand = i.id and d.paged_at is null and d.at <= clock_timestamp()
    returning d.strand, d.frame, d.kind, d.target, d.at
  )
  insert into respirate.page (strand, frame, kind, target, due_at)
  select p.strand, p.frame, p.kind, p.target, p.at from passed p
  on conflict do nothing;
  get diagnostics n = row_count;
  perform respirate.note_deadlines(ids);
  return n;
end
$$;

-- page_due opens the pages of up to 1,000 strands whose deadlines have passed, and tells of how many. It waits for nobody.
-- Brokers call it every now and then; what is locked, or too much, is for the next call.
create function respirate.page_due() returns int
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  due uuid[];
  lost uuid[];
begin
  due := array(
    select distinct d.strand
    from (
      select d.strand from respirate.deadline d where d.paged_at is null and d.at <= clock_timestamp() order by d.at limit 1000
    ) d);
  if due = '{}' then
    return 0;
  end if;
  lost := array(
    select i.id from unnest(due) i (id) where not exists (select from respirate.strand s where s.id = i.id));
  delete from respirate.deadline d using unnest(lost) i (id) where d.strand = i.id; -- ended by a broker that knew of none
  due := array(select s.id from respirate.strand s where s.id = any (due) order by s.id for no key update skip locked);
  return respirate.open_pages(due);
end
$$;

-- maintain makes the partitions of the next days, drops those that are older than any retention, and forgets dead
-- brokers and the pages that are over. A second call at the same time does nothing. The broker calls it at its start and each hour.
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
  delete from respirate.page p where p.resolved_at < oldest;
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
    respirate.queues, respirate.brokers, respirate.semaphores, respirate.children, respirate.deadlines, respirate.pages
    to %s', role);
  execute format('grant execute on function respirate.insert(text, jsonb, jsonb),
    respirate.insert_many(text[], jsonb[], jsonb[]), respirate.lane(text, text, int, text), respirate.hint(),
    respirate.wake(uuid), respirate.cancel(uuid), respirate.retry(uuid),
    respirate.signal(uuid, text, jsonb, boolean), respirate.signal_many(uuid[], text[], jsonb[], boolean[]) to %s', role);
end
$$;

-- Who may wake strands may send them semaphores, and who may read them may read these; nobody else may call what is new.
do $$
declare
  f regprocedure;
  who text;
begin
  for f in
    select p.oid from pg_proc p
    where p.pronamespace = (select c.relnamespace from pg_class c where c.oid = 'respirate.strand'::regclass)
      and p.proacl is null
  loop
    execute format('revoke all on function %s from public', f);
  end loop;
  for who in
    select case a.grantee when 0 then 'public' else a.grantee::regrole::text end from pg_proc p, aclexplode(p.proacl) a
    where p.oid = 'respirate.wake(uuid)'::regprocedure and a.grantee <> p.proowner
  loop
    execute format('grant execute on function respirate.signal(uuid, text, jsonb, boolean),
      respirate.signal_many(uuid[], text[], jsonb[], boolean[]) to %s', who);
  end loop;
  for who in
    select case a.grantee when 0 then 'public' else a.grantee::regrole::text end from pg_class c, aclexplode(c.relacl) a
    where c.oid = 'respirate.strands'::regclass and a.privilege_type = 'SELECT' and a.grantee <> c.relowner
  loop
    execute format('grant select on respirate.semaphores, respirate.children, respirate.deadlines, respirate.pages to %s', who);
  end loop;
end
$$;
