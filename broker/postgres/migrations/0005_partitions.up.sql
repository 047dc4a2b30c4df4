-- Many hosts: who has which partition number, and which ids a notification is about.

alter table respirate.broker
  add column partition int, -- its number; null = it has none and scans all ids
  add column rank int, -- the place of its part among those that it knows of
  add column members int; -- how many those are

-- brokers shows who is there, and who was until lately.
create or replace view respirate.brokers as
select b.broker, b.host, b.pid, b.build, b.lo, b.hi, b.kinds, b.workers, b.slots, b.busy, b.alive_until > now() as alive,
  b.alive_until, b.started_at, b.partition, b.rank, b.members
from respirate.broker b;

-- join_partition makes a broker known under a partition number: the wanted one, whoever else has it, or for 0 the lowest
-- from 1 to most that no other live broker has. It has that until it leaves or is silent for ttl; a number that it had
-- before is given up. Until it announces which ids it looks after it is told of none. The rows are itself, unless none was
-- free, and the other live brokers that have a number.
--
-- Those who join wait for each other's commit. What the one before has taken is seen only by a statement that begins after
-- the wait, so this cannot be one statement.
create function respirate.join_partition(
  broker uuid, host text, pid int, build text, wanted int, most int, ttl interval
) returns table (member uuid, number int) language plpgsql set lock_timeout = '10 s' as $$
#variable_conflict use_column
declare
  given int := nullif(wanted, 0);
begin
  perform pg_advisory_xact_lock('respirate.strand'::regclass::oid::int, 2);
  update respirate.broker b set partition = null, rank = null, members = null
    where b.broker = join_partition.broker and b.partition is not null;
  if given is null then
    given := (
      select min(n) from generate_series(1, most) n
      where not exists (select from respirate.broker b where b.partition = n and b.alive_until > clock_timestamp()));
  end if;
  if given is not null then
    insert into respirate.broker (broker, host, pid, build, lo, hi, kinds, workers, slots, busy, alive_until, partition)
    values (join_partition.broker, join_partition.host, join_partition.pid, join_partition.build, 0, 0, '{}', 0, 0, false,
      clock_timestamp() + ttl, given)
    on conflict (broker) do update set
      host = excluded.host, pid = excluded.pid, build = excluded.build, alive_until = excluded.alive_until,
      partition = excluded.partition;
  end if;
  return query
    select b.broker, b.partition from respirate.broker b
    where b.partition is not null and (b.alive_until > clock_timestamp() or b.broker = join_partition.broker)
    order by b.partition, b.broker;
end
$$;

-- tell notifies the brokers: '' (something is due), 'lane' (there is a new one), 'cancel' (a leased strand is to end).
-- Only '' is for given ids, and only for brokers that look after them and are not busy looking anyhow. The first of a
-- transaction names the first bytes of these ids, if they are few, so that brokers that look after others need not look
-- up: 'due 0a 7f'. The second says '', which is about any, so that there is no third.
--
-- A NOTIFY takes a lock of the whole database until commit, so it is sent only if somebody cares, and no more than this for
-- each transaction. Whoever clears its busy flag waits until all transactions are over that had a transaction id by then.
-- For that to be enough, this must run after the row was written (which draws the id) and with a snapshot that is newer
-- than that, and must look anew for ids of which nobody was told; where the isolation level forbids a newer snapshot, busy
-- is not believed.
create or replace function respirate.tell(payload text, ids uuid[]) returns void language plpgsql as $$
declare
  told text := coalesce(current_setting('respirated.told', true), '');
  mark text := 'respirate_wake:' || payload || ';';
  named text := 'respirate_wake:due;'; -- some were told of by their first bytes
  due text;
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
  if payload = '' and position(named in told) = 0 then
    select 'due ' || string_agg(distinct left(i.id::text, 2), ' ') into due from unnest(ids) i (id)
      having count(distinct left(i.id::text, 2)) <= 8;
  end if;
  if due is not null then
    payload := due;
    mark := named;
  end if;
  perform pg_notify('respirate_wake', payload), set_config('respirated.told', told || mark, true);
end
$$;

revoke all on function respirate.join_partition(uuid, text, int, text, int, int, interval) from public;
