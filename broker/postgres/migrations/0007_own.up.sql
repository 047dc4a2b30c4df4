-- Steps that a worker takes in a transaction of its own, so that they commit with what it does to its own tables.

-- Who has asked for the COMMIT of such a step and does not know what became of it looks here: the row is there, or it will
-- never be. A token takes one such step at most.
create table respirate.outcome (
  token uuid primary key,
  strand uuid not null,
  at timestamptz not null default clock_timestamp()
) with (
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 10000,
  autovacuum_vacuum_cost_delay = 0,
  autovacuum_analyze_scale_factor = 0,
  autovacuum_analyze_threshold = 20000
);

create index outcome_at on respirate.outcome using brin (at) with (autosummarize = on);

-- check_step refuses a report that step() cannot take. The names in it are those of the protocol.
create function respirate.check_step(report jsonb) returns void language plpgsql as $$
declare
  act text := report->>'act';
  allowed text[];
  stray text;
begin
  if jsonb_typeof(report) is distinct from 'object' then
    perform respirate.refuse('report', format('%s is not a JSON object', left(coalesce(report::text, 'null'), 40)));
  end if;
  allowed := case act
    when 'exit' then '{act,val,enq,sig,used,reap}'::text[]
    when 'nap' then '{act,ms,stack,enq,sig,used,reap,due,frame}'
    when 'hop' then '{act,ms,label,kind,stack,enq,sig,used,reap,due,frame}'
  end;
  if allowed is null then
    perform respirate.refuse('act', format('%s is not exit, nap or hop', coalesce(to_json(left(act, 40))::text, 'null')));
  end if;
  select min(k) into stray from jsonb_object_keys(report) k where k <> all (allowed);
  if stray is not null then
    perform respirate.refuse(left(stray, 40), 'does not go with ' || act);
  end if;
  if act = 'hop' then
    perform respirate.check_name('label', report->>'label', 1);
  end if;
  if report->>'kind' is not null then
    perform respirate.check_name('kind', report->>'kind', 1);
  end if;
  if report->>'stack' is not null and jsonb_typeof(report->'stack') <> 'array' then
    perform respirate.refuse('stack', format('%s is not a JSON array', left(report->>'stack', 40)));
  elsif octet_length(report->>'stack') > 1048576 then
    perform respirate.refuse('stack', format('is %s bytes long, at most 1048576 are allowed', octet_length(report->>'stack')));
  elsif octet_length((report->'val')::text) > 1048576 then
    perform respirate.refuse('val', format('is %s bytes long, at most 1048576 are allowed', octet_length((report->'val')::text)));
  elsif (report->>'ms')::numeric < 0 then
    perform respirate.refuse('ms', format('%s is negative', report->>'ms'));
  elsif (report->>'frame')::numeric not between 0 and 2147483647 then
    perform respirate.refuse('frame', format('%s is not between 0 and 2147483647', report->>'frame'));
  end if;
  if report->>'due' is not null then
    perform respirate.check_name('due.target', report->'due'->>'target', 1);
    if coalesce((report->'due'->>'ms')::numeric, -1) < 0 or (report->'due'->>'most_ms')::numeric < 0 then
      perform respirate.refuse('due', format('%s needs an ms, and neither may be negative', left(report->>'due', 80)));
    end if;
  end if;
end
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
create function respirate.step(strand uuid, token uuid, seq bigint, report jsonb) returns void
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
    respirate.signal(uuid, text, jsonb, boolean), respirate.signal_many(uuid[], text[], jsonb[], boolean[]),
    respirate.step(uuid, uuid, bigint, jsonb) to %s', role);
end
$$;

-- Who may send semaphores may take steps, for which it takes a token; nobody else may call what is new.
do $$
declare
  who text;
begin
  revoke all on function respirate.step(uuid, uuid, bigint, jsonb), respirate.check_step(jsonb) from public;
  for who in
    select case a.grantee when 0 then 'public' else a.grantee::regrole::text end from pg_proc p, aclexplode(p.proacl) a
    where p.oid = 'respirate.signal(uuid, text, jsonb, boolean)'::regprocedure and a.grantee <> p.proowner
  loop
    execute format('grant execute on function respirate.step(uuid, uuid, bigint, jsonb) to %s', who);
  end loop;
end
$$;
