-- Reading, keeping and forgetting: views, partitions, rights.

-- strands shows every live strand. args are those of the frame that runs next; first_args those it was inserted with.
create view respirate.strands as
select s.id, l.tenant, l.queue, l.priority, l.kind, s.label,
  case
    when s.lease > now() then 'leased'
    when q.paused_at is not null then 'paused'
    when s.schedule > now() then 'deferred'
    else 'ready'
  end as state,
  s.schedule, s.lease, s.created_at, s.cancel_at, s.try, s.max_tries, s.crashes, s.rescues, s.parent, s.children_left,
  s.key, coalesce(s.stack->0, s.args) as args, s.args as first_args, s.stack, s.tags, s.metadata, s.keep, s.lane
from respirate.strand s
left join respirate.lane l on l.lane = s.lane
left join respirate.queue q on q.tenant = l.tenant and q.queue = l.queue;

-- lanes shows what the numbers of lanes stand for. A listing that asks for strands by these numbers lets the planner know
-- how many there are.
create view respirate.lanes as
select l.lane, l.tenant, l.queue, l.priority, l.kind from respirate.lane l;

-- finished shows the strands that are over, as far as they were kept.
create view respirate.finished as
select h.id, h.tenant, h.queue, h.priority, h.kind, h.label, h.state, h.created_at, h.finished_at, h.try, h.max_tries,
  h.crashes, h.rescues, h.parent, h.key, h.args, h.stack, h.value, h.tags, h.metadata, h.keep
from respirate.history h;

-- attempts shows the failures of strands, live or finished.
create view respirate.attempts as
select a.strand, a.at, a.try, a.outcome, a.class, a.message, a.trace, a.worker, a.host, a.exit, a.stderr
from respirate.attempt a;

-- queues shows the queues and their settings.
create view respirate.queues as
select q.tenant, q.queue, q.paused_at, q.retention from respirate.queue q;

-- brokers shows who is there, and who was until lately.
create view respirate.brokers as
select b.broker, b.host, b.pid, b.build, b.lo, b.hi, b.kinds, b.workers, b.slots, b.busy, b.alive_until > now() as alive,
  b.alive_until, b.started_at
from respirate.broker b;

-- add_partition makes the partition of a day, and moves there what the default partition has taken in its place.
create function respirate.add_partition(parent regclass, "column" text, day date) returns boolean language plpgsql as $$
declare
  space text;
  base text;
  name text;
  bounds text := format('%I >= %L and %1$I < %3$L', "column", day::timestamptz, (day + 1)::timestamptz);
begin
  select n.nspname, c.relname into space, base
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = parent;
  name := format('%I.%I', space, base || to_char(day, '_YYYYMMDD'));
  if to_regclass(name) is not null then
    return false;
  end if;
  execute format('create table %s (like %s including defaults including constraints including generated)', name, parent);
  execute format('with moved as (delete from %I.%I where %s returning *) insert into %s select * from moved',
    space, base || '_default', bounds, name);
  execute format('alter table %s attach partition %s for values from (%L) to (%L)',
    parent, name, day::timestamptz, (day + 1)::timestamptz);
  return true;
end
$$;

-- drop_partitions drops the partitions whose last day ended before the given time.
create function respirate.drop_partitions(parent regclass, before timestamptz) returns int language plpgsql as $$
declare
  old regclass;
  dropped int := 0;
begin
  for old in
    select c.oid from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = parent and c.relname ~ '_[0-9]{8}$'
      and (to_date(right(c.relname, 8), 'YYYYMMDD') + 1)::timestamptz <= before
    order by c.relname
  loop
    execute format('drop table %s', old);
    dropped := dropped + 1;
  end loop;
  return dropped;
end
$$;

-- at_work takes the right to maintain until the transaction ends, unless somebody else has it.
create function respirate.at_work() returns boolean language sql volatile as $$
  select pg_try_advisory_xact_lock('respirate.strand'::regclass::oid::int, 1)
$$;

-- maintain makes the partitions of the next days, drops those that are older than any retention, and forgets dead
-- brokers. A second call at the same time does nothing. The broker calls it at its start and each hour.
create function respirate.maintain() returns void
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

-- mixed_partitions lists the partitions that may hold strands whose queue keeps them for a shorter time than others do.
create function respirate.mixed_partitions() returns setof regclass language sql stable as $$
  select i.inhrelid::regclass
  from pg_inherits i
  where i.inhparent = 'respirate.history'::regclass
    and (select min(q.retention) < greatest(max(q.retention), '7 days') from respirate.queue q)
    and exists (
      select from pg_class c
      where c.oid = i.inhrelid and (c.relname ~ '_default$' or to_date(right(c.relname, 8), 'YYYYMMDD') <= current_date))
$$;

-- forget deletes up to 10,000 done strands from a partition of history that their queue keeps no longer, and tells
-- whether there may be more. It reads the whole partition: call it when little else is going on, one after the other.
create function respirate.forget(partition regclass) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  bound constant int := 10000;
  n int;
begin
  if not respirate.at_work() then
    return false;
  end if;
  execute format('
    delete from %s where ctid = any (array(
      select h.ctid from %1$s h join respirate.queue q on q.tenant = h.tenant and q.queue = h.queue
      where h.state = %L and not h.keep and h.finished_at < now() - q.retention limit %s))', partition, 'done', bound);
  get diagnostics n = row_count;
  return n = bound;
end
$$;

-- grant_client lets a role insert strands and read what becomes of them, and no more: it can write no token, lease or
-- count. For COPY it may write the columns named here; lane() gives the lane's number, hint() tells the brokers.
create function respirate.grant_client(role regrole) returns void language plpgsql as $$
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

select respirate.maintain();

-- From here on only the owner may call a function; grant_client() opens the public ones.
do $$
declare
  f regprocedure;
begin
  for f in
    select p.oid from pg_proc p
    where p.pronamespace = (select c.relnamespace from pg_class c where c.oid = 'respirate.strand'::regclass)
  loop
    execute format('revoke all on function %s from public', f);
  end loop;
end
$$;
