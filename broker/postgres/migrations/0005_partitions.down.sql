drop function respirate.join_partition(uuid, text, int, text, int, int, interval);

create or replace function respirate.tell(payload text, ids uuid[]) returns void language plpgsql as $$
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

-- A view loses columns only by being made anew; those who may read it are to keep that right.
do $$
declare
  readers text[] := array(
    select case a.grantee when 0 then 'public' else a.grantee::regrole::text end from pg_class c, aclexplode(c.relacl) a
    where c.oid = 'respirate.brokers'::regclass and a.privilege_type = 'SELECT' and a.grantee <> c.relowner);
  reader text;
begin
  drop view respirate.brokers;
  create view respirate.brokers as
  select b.broker, b.host, b.pid, b.build, b.lo, b.hi, b.kinds, b.workers, b.slots, b.busy, b.alive_until > now() as alive,
    b.alive_until, b.started_at
  from respirate.broker b;
  foreach reader in array readers loop
    execute format('grant select on respirate.brokers to %s', reader);
  end loop;
end
$$;

alter table respirate.broker drop column partition, drop column rank, drop column members;
