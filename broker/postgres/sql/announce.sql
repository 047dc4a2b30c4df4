-- Makes a broker known, or refreshes what is known of it.
-- Carried by broker_pkey.
insert into respirate.broker (broker, host, pid, build, lo, hi, kinds, workers, slots, busy, partition, rank, members,
  alive_until)
values ($1::uuid, $2, $3, $4, $5, $6, $7, $8, $9, $10, nullif($11::int, 0), nullif($12::int, 0), nullif($13::int, 0),
  now() + $14::interval)
on conflict (broker) do update set
  host = excluded.host, pid = excluded.pid, build = excluded.build, lo = excluded.lo, hi = excluded.hi,
  kinds = excluded.kinds, workers = excluded.workers, slots = excluded.slots, busy = excluded.busy,
  partition = excluded.partition, rank = excluded.rank, members = excluded.members, alive_until = excluded.alive_until
