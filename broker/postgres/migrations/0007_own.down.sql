drop function respirate.step(uuid, uuid, bigint, jsonb);
drop function respirate.check_step(jsonb);

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

drop table respirate.outcome;
