-- What a host's supervisor knows of workers. Daemons for schema 8 go on working with it.

-- What a worker had used when it died of the strand, or with it: bytes of memory at most, and CPU. Null where nobody knows.
alter table respirate.attempt add column max_rss bigint, add column cpu_ms bigint;

create or replace view respirate.attempts as
select a.strand, a.at, a.try, a.outcome, a.class, a.message, a.trace, a.worker, a.host, a.exit, a.stderr, a.max_rss, a.cpu_ms
from respirate.attempt a;

-- What outlives its strand: the children of a dead one, until it is retried or forgotten; and what a broker that knew of none
-- has left behind.

-- finish takes strands, whose rows the caller has locked and judged, out of the hot table, with all that they have. Done
-- ones go to history if their queue keeps any or they are to be kept; others always do. Null stacks and counts stay as they
-- are. A parent that lives on keeps the end of its child: the caller tells it, see children_done. So does one that is dead: it
-- has all its children again if it is retried. A deadline that has passed gets its page now if it has none.
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
    where c.parent = e.parent and c.child = e.id
      and e.parent not in (select g.id from unnest(finish.ids, finish.states) g (id, state) where g.state <> 'dead')
  ), orphaned as (
    delete from respirate.child c using ended e where c.parent = e.id and e.state <> 'dead'
  ), unread as (
    delete from respirate.semaphore m using ended e where m.strand = e.id and e.inbox is not null
  ), over as (
    delete from respirate.deadline d using ended e where d.strand = e.id and e.deadline is not null
    returning d.strand, d.frame, d.kind, d.target, d.at, d.paged_at, e.state
  ), resolved as (
    update respirate.page p set resolved_at = clock_timestamp(), why = o.state
    from over o
    where p.strand = o.strand and p.frame = o.frame and p.resolved_at is null and o.paged_at is not null
  ), missed as (
    insert into respirate.page (strand, frame, kind, target, due_at, opened_at, resolved_at, why)
    select o.strand, o.frame, o.kind, o.target, o.at, n.now, n.now, o.state
    from over o cross join (select clock_timestamp() as now) n
    where o.paged_at is null and o.at <= n.now
  )
  select e.id from ended e
$$;

-- family lists a strand and its live descendants. One that is not live has none, though a dead one may have left children.
create or replace function respirate.family(id uuid) returns setof uuid language sql as $$
  with recursive tree (id) as (
    select family.id
    union
    select c.child from tree t join respirate.child c on c.parent = t.id
    where c.state is null and exists (select from respirate.strand s where s.id = t.id)
  )
  select t.id from tree t
$$;

-- cancel ends a strand that is not running at once; one that is running is asked to stop. So it does with all its live
-- descendants. It tells the state that the strand is in now: cancelled, leased, or what history says of it; null when nothing
-- is known of it.
--
-- It locks in the order of ids: the strand, its descendants, and its parent, which has to be told. If there are others when it has
-- waited, such as children that were made meanwhile, it lets all go and begins anew: who takes a step of one of those locks
-- in the order of ids, too, and may have that one already.
--
-- No compiler: where no table is to be read whole, one that has to be, as that of the brokers, looks so dear that a session with
-- jit on would compile its statement at each call, for tens to hundreds of milliseconds.
create or replace function respirate.cancel(id uuid) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
declare
  family uuid[];
  locked uuid[];
  free uuid[];
  parents uuid[]; -- of those
  asked uuid[];
begin
  loop
    begin
      locked := array(
        select s.id from respirate.strand s
        where s.id = any (array(
          select f from respirate.family(cancel.id) f
          union select p.parent from respirate.strand p where p.id = cancel.id))
        order by s.id for no key update);
      family := array(select f from respirate.family(cancel.id) f);
      perform from (
        select s.id from respirate.strand s
        where s.id = any (family || array(select p.parent from respirate.strand p where p.id = cancel.id and p.parent is not null))
        except select l from unnest(locked) l) missing;
      exit when not found;
      raise exception 'more are to be locked' using errcode = 'RS002';
    exception when sqlstate 'RS002' then -- what was locked in this block is not any more
    end;
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
        where a.n < 100 and exists (select from respirate.strand p where p.id = c.parent)
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
-- parent, which has seen it end, no longer waits for it); a deferred one need not wait. One that was dead has its children
-- again, those that live and the ends of those that do not. It tells the state that the strand is in now, or null when nothing
-- is known of it.
--
-- It locks the children that live, in the order of ids: an end is committed before they are counted, or finds their parent.
create or replace function respirate.retry(id uuid) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan as $$
declare
  mail record;
begin
  update respirate.strand s set schedule = least(s.schedule, clock_timestamp())
    where s.id = retry.id and s.lease < clock_timestamp();
  if not found then
    perform from respirate.strand s where s.id = retry.id;
    if found then
      return 'leased';
    end if;
    perform from respirate.strand s
      where s.id = any (array(select c.child from respirate.child c where c.parent = retry.id and c.state is null))
      order by s.id for no key update;
    select (select count(*) from respirate.child c where c.parent = retry.id and c.state is null) as lives,
      (select count(*) from respirate.child c where c.parent = retry.id and c.state is not null)
        + (select count(*) from respirate.semaphore m where m.strand = retry.id) as waits
      into mail;
    with back as (
      delete from respirate.history h where h.id = retry.id returning h.*
    )
    insert into respirate.strand (id, schedule, created_at, lane, max_tries, keep, label, key, args, stack, tags, metadata,
      children_left, inbox)
    select b.id, clock_timestamp(), b.created_at, respirate.lane(b.tenant, b.queue, b.priority, b.kind), b.max_tries,
      b.keep, b.label, b.key, b.args, b.stack, b.tags, b.metadata, mail.lives, nullif(mail.waits, 0)
    from back b order by b.finished_at desc limit 1;
    if not found then -- unless somebody else has brought it back while we waited for that
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
-- one whose target is reached, are over, and so are their pages. One of them that has passed gets its page now if it has none.
create or replace function respirate.move_deadlines(
  ids uuid[], frames int[], labels text[], kinds text[], targets text[], ins interval[], mosts interval[]
) returns void language plpgsql as $$
begin
  with over as (
    delete from respirate.deadline d
    using unnest(ids, frames, labels, targets) r (id, frame, label, target)
    where d.strand = r.id and (d.frame > r.frame or d.frame = r.frame and (d.target = r.label or d.target <> r.target))
    returning d.strand, d.frame, d.kind, d.target, d.at, d.paged_at,
      case when d.frame > r.frame then 'returned' when d.target = r.label then 'reached' else 'replaced' end as why
  ), resolved as (
    update respirate.page p set resolved_at = clock_timestamp(), why = o.why
    from over o
    where p.strand = o.strand and p.frame = o.frame and p.resolved_at is null and o.paged_at is not null
  )
  insert into respirate.page (strand, frame, kind, target, due_at, opened_at, resolved_at, why)
  select o.strand, o.frame, o.kind, o.target, o.at, n.now, n.now, o.why
  from over o cross join (select clock_timestamp() as now) n
  where o.paged_at is null and o.at <= n.now;

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

-- Children whose end is waited for by others than those who wait for all.

-- Null: its parent is woken by the end of its last child only. True: also by the end of this one, unless it is done.
alter table respirate.child add column watched boolean;

-- children_done tells the parents of children that finish has ended, and wakes those of watched ones that are not done, which is
-- what wake() does. It must be a later statement than that. (It asks for
-- ended_at and not for state, as that would let the planner take child_ended, and read all ends of a parent for each child;
-- and with offset 0, as a planner that does not like to sort would read all children for each child.)
create or replace function respirate.children_done(parents uuid[], children uuid[]) returns void language sql as $$
  select respirate.child_done(e.parent, e.n), case when e.failed then respirate.wake(e.parent) end from (
    select r.parent, count(*)::int as n, bool_or(c.failed) as failed
    from unnest(children_done.parents, children_done.children) r (parent, child)
    cross join lateral (select c.watched and c.state <> 'done' as failed from respirate.child c
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
-- It locks the strand, its parent and those that it signals, in the order of ids, and waits no more than 5 s for each. Where one of
-- them has come back meanwhile, as a dead parent that is retried, it raises 40001: it could be locked only out of order.
-- They stay locked until the end of the transaction, so commit at once: one that is idle for a minute is ended.
create or replace function respirate.step(strand uuid, token uuid, seq bigint, report jsonb) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off set lock_timeout = '5 s' as $$
declare
  century constant numeric := 250 * 365 * 86400000.0; -- the longest delay, in ms
  act text := report->>'act';
  s record;
  state text; -- it ends in; null = it goes on
  pause interval;
  to_lane int;
  wakes uuid[];
  made int := 0;
  observed uuid[]; -- its new children that are watched
  wanted uuid[];
  locked uuid[];
  target uuid;
begin
  perform respirate.check_step(report);
  if current_setting('idle_in_transaction_session_timeout')::interval not between '1 ms' and '1 min' then
    perform set_config('idle_in_transaction_session_timeout', '1min', true);
  end if;

  -- parent never changes, so it may be read before the lock.
  wanted := array(
    select step.strand
    union select p.parent from respirate.strand p where p.id = step.strand and p.parent is not null
    union select (g->>'s')::uuid from jsonb_array_elements(nullif(report->'sig', 'null')) g where g->>'s' is not null);
  locked := array(select t.id from respirate.strand t where t.id = any (wanted) order by t.id for no key update);
  if cardinality(locked) < cardinality(wanted) then
    perform from (select t.id from respirate.strand t where t.id = any (wanted) except select l from unnest(locked) l) missing;
    if found then
      raise exception 'strand %: its parent, or one that it signals, has just come back', strand using errcode = '40001';
    end if;
  end if;
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
    select count(distinct m.id) filter (where m.fresh and m.child), array_agg(m.id) filter (where m.fresh and m.child and m.watch)
      into made, observed
    from (
      select e.ids, e.kinds, e.args, e.opts, e.parents, e.children, e.watches
      from (
        select array_agg((i.e->>'key')::uuid order by i.n) as ids, array_agg(i.e->>'kind' order by i.n) as kinds,
          array_agg(i.e->'args' order by i.n) as args, array_agg(nullif(i.e->'opts', 'null') order by i.n) as opts,
          array_agg(case when (i.e->>'child')::boolean then step.strand end order by i.n) as parents,
          array_agg(coalesce((i.e->>'child')::boolean, false) order by i.n) as children,
          array_agg(coalesce((i.e->>'watch')::boolean, false) order by i.n) as watches
        from jsonb_array_elements(report->'enq') with ordinality i (e, n)
        where state is distinct from 'cancelled' or (i.e->>'child')::boolean is not true -- it would be of the tree that is to end
        having count(*) > 0
      ) e
    ) e
    cross join lateral (
      select distinct on (r.id) r.id, r.fresh, e.children[r.n] as child, e.watches[r.n] as watch -- an id that comes twice is the child of the first
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
    if observed is not null then
      update respirate.child c set watched = true from unnest(observed) w (id) where c.parent = step.strand and c.child = w.id;
    end if;
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

-- check_signals refuses semaphores that cannot be stored, and tells in DETAIL which of them is bad (from 0). Their values may
-- not be longer than what fits into a frame beside the largest strand and the largest value of a child: no signal ends a strand.
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
    where octet_length(value::text) > 262144 limit 1
  loop
    perform respirate.refuse('value', format('is %s bytes long, at most 262144 are allowed', i.size));
  end loop;
exception when invalid_parameter_value then
  get stacked diagnostics why = message_text, field = column_name;
  raise exception '%', why using errcode = '22023', column = field, detail = format('signal %s', i.n - 1);
end
$$;

-- send_signals stores semaphores, and wakes their strands where it is asked to, as wake() does. It tells for each whether
-- there is such a strand; where there is none nothing is stored. It locks the strands in the order of their ids, each before
-- its semaphores are stored, so that its end cannot come in between. It refuses those to a strand for which 2,000,000 things
-- wait: who takes none of them could not even end any more, as that deletes them in one statement.
create or replace function respirate.send_signals(ids uuid[], names text[], "values" jsonb[], wakes boolean[])
returns setof boolean language plpgsql as $$
declare
  i record;
  there boolean[] := array_fill(true, array[cardinality(ids)]);
  place int;
  due uuid[] := '{}';
  waits int;
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
    where s.id = i.id
    returning s.inbox into waits;
    if waits > 2000000 then
      raise exception 'id: for strand % % semaphores and ended children wait, at most 2000000 are allowed', i.id, waits - i.n
        using errcode = '22023', column = 'id', detail = format('signal %s', i.places[1] - 1);
    elsif not found then
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
create or replace function respirate.note_audit(strand uuid, who text, what text, before jsonb, after jsonb) returns void language sql as $$
  insert into respirate.audit (strand, who, role, what, before, after)
    values (note_audit.strand, coalesce(note_audit.who, session_user), session_user, note_audit.what, note_audit.before, note_audit.after)
$$;

-- edit replaces the args of the frame of a strand that runs next, or would if a finished strand were retried. It tells the
-- state that the strand is in, or null when nothing is known of it, and refuses one that is leased, and one that is done: what it was
-- done with stands.
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
    if found and h.state = 'done' then
      raise exception 'strand % is done: nothing would run with other args. Insert another strand, or retry this one as it is', id
        using errcode = '55000';
    elsif found then
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

-- maintain makes the partitions of the next days, drops those that are older than any retention, and forgets dead
-- brokers, the pages that are over, audits, and outcomes after a day. A second call at the same time does nothing. The broker calls it
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
  delete from respirate.audit a where a.at < oldest;
  delete from respirate.history_default h where h.finished_at < oldest;
  delete from respirate.attempt_default a where a.at < oldest;
  -- Last, since from here on until the commit nobody can write history.
  perform respirate.drop_partitions('respirate.history', oldest), respirate.drop_partitions('respirate.attempt', oldest);
end
$$;

-- next_owner is the first id above one for which something is kept outside of its row; null: there is none. Null asks for the
-- very first.
create function respirate.next_owner(after uuid) returns uuid language sql stable as $$
  select least(
    (select m.strand from respirate.semaphore m where m.strand > b.after order by m.strand limit 1),
    (select c.parent from respirate.child c where c.parent > b.after order by c.parent limit 1),
    (select d.strand from respirate.deadline d where d.strand > b.after order by d.strand limit 1),
    (select p.strand from respirate.page p where p.resolved_at is null and p.strand > b.after order by p.strand limit 1))
  from (select coalesce(next_owner.after, '00000000-0000-0000-0000-000000000000') as after) b
$$;

-- drop_orphans looks at the next 1,000 ids above one that own semaphores, children, deadlines or open pages. Where there is no
-- such strand it drops up to 10,000 rows of each, and resolves the pages; a dead one in history keeps its children. It tells how
-- far it has come; null: to the end, or somebody else is at it. Brokers of a time before there was any of that leave such rows,
-- and so does history that is forgotten. Each statement looks anew whether there is a strand, as one may be made meanwhile.
create function respirate.drop_orphans(after uuid) returns uuid
language plpgsql set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
declare
  bound constant int := 10000;
  seen uuid[];
  gone uuid[];
  n int;
  more boolean := false;
begin
  if not respirate.at_work() then
    return null;
  end if;
  seen := array(
    with recursive owner (id) as (
      select respirate.next_owner(drop_orphans.after)
      union all
      select respirate.next_owner(o.id) from owner o where o.id is not null
    )
    select o.id from owner o where o.id is not null limit 1000);
  gone := array(select i.id from unnest(seen) i (id) where not exists (select from respirate.strand s where s.id = i.id));
  if gone <> '{}' then
    delete from respirate.semaphore where ctid = any (array(
      select m.ctid from respirate.semaphore m
      where m.strand = any (gone) and not exists (select from respirate.strand s where s.id = m.strand)
      limit bound for update skip locked));
    get diagnostics n = row_count;
    more := more or n = bound;
    delete from respirate.child where ctid = any (array(
      select c.ctid from respirate.child c
      where c.parent = any (gone) and not exists (select from respirate.strand s where s.id = c.parent)
        and not exists (select from respirate.history h where h.id = c.parent and h.state = 'dead')
      limit bound for update skip locked));
    get diagnostics n = row_count;
    more := more or n = bound;
    delete from respirate.deadline where ctid = any (array(
      select d.ctid from respirate.deadline d
      where d.strand = any (gone) and not exists (select from respirate.strand s where s.id = d.strand)
      limit bound for update skip locked));
    get diagnostics n = row_count;
    more := more or n = bound;
    update respirate.page p set resolved_at = clock_timestamp(),
      why = coalesce((select h.state from respirate.history h where h.id = p.strand order by h.finished_at desc limit 1), 'gone')
    where p.resolved_at is null and p.strand = any (gone) and not exists (select from respirate.strand s where s.id = p.strand);
  end if;
  return case when more then coalesce(drop_orphans.after, '00000000-0000-0000-0000-000000000000') else seen[cardinality(seen)] end;
end
$$;

revoke all on function respirate.next_owner(uuid), respirate.drop_orphans(uuid) from public;
