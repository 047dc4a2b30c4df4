-- As exit.sql, where there are few lanes: what they are is looked up once, and not for each strand, which spares a third of
-- the work. With many it would compare each strand with each lane.
-- Carried by strand_pkey.
with ended as (
  delete from respirate.strand s
  using unnest($1::uuid[], $2::uuid[], $3::int[], $4::jsonb[]) as r (id, token, seq, value)
  where s.id = r.id and s.token = r.token and s.seq < r.seq and s.lease > '-infinity'
    and s.parent is null and s.children_left = 0 and s.cancel_at is null
    and s.inbox is null and s.deadline is null
  returning s.id, s.created_at, s.lane, s.try, s.max_tries, s.crashes, s.rescues, s.keep, s.label, s.key, s.args,
    s.stack, s.tags, s.metadata, r.value
), lanes as materialized (
  select l.lane, l.tenant, l.queue, l.priority, l.kind, q.retention > '0' as history
  from (select distinct e.lane from ended e) d
  join respirate.lane l on l.lane = d.lane
  join respirate.queue q on q.tenant = l.tenant and q.queue = l.queue
), kept as (
  insert into respirate.history (id, created_at, priority, try, max_tries, crashes, rescues, keep, tenant, queue, kind,
    label, state, key, args, stack, value, tags, metadata)
  select e.id, e.created_at, l.priority, e.try, e.max_tries, e.crashes, e.rescues, e.keep, l.tenant, l.queue, l.kind,
    e.label, 'done', e.key, e.args, e.stack, e.value, e.tags, e.metadata
  from ended e
  join lanes l on l.lane = e.lane
  where l.history or e.keep
)
select e.id from ended e
