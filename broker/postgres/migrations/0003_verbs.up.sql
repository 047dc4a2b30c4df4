-- What may be done to a strand from outside: wake, cancel, retry. And how one ends.

-- backoff is the pause after the given number of failures: 1 s, 2 s, 4 s ... a day, times 0.5 to 1.
create function respirate.backoff(try int) returns interval language sql volatile as $$
  select make_interval(secs => least(2 ^ least(greatest(try, 1) - 1, 17), 86400) * (0.5 + random() / 2))
$$;

-- finish takes strands, whose rows the caller has locked and judged, out of the hot table. Done ones go to history if
-- their queue keeps any or they are to be kept; others always do. Null stacks and
-- counts stay as they are.
create function respirate.finish(ids uuid[], states text[], "values" jsonb[], stacks jsonb[], tries int[], crashes int[])
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
create function respirate.child_done(parent uuid, n int) returns void language plpgsql as $$
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

-- wake makes a strand due now, or, if it is running, once more after its nap. It tells whether there is such a strand.
create function respirate.wake(id uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan as $$
begin
  update respirate.strand s set
    woken = true,
    schedule = case when s.lease = '-infinity' then least(s.schedule, clock_timestamp()) else s.schedule end
  where s.id = wake.id;
  if not found then
    return false;
  end if;
  perform respirate.tell('', array[wake.id]);
  return true;
end
$$;

-- cancel ends a strand that is not running at once; one that is running is asked to stop. It tells the state that the
-- strand is in now: cancelled, leased, or what history says of it; null when nothing is known of it.
create function respirate.cancel(id uuid) returns text
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

-- retry makes a strand due now: a finished one comes back from history, where it ended and with its counts anew (its
-- parent, which has seen it end, no longer waits for it); a deferred one need not wait. It tells the state that the
-- strand is in now, or null when nothing is known of it.
create function respirate.retry(id uuid) returns text
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
