-- Ends strands as done, the plain case: no parent, no children, nothing in the inbox, no deadline, nobody wants them
-- cancelled. The fence is in the deletion itself; what is not returned needs a closer look. They go to history in the same
-- statement, as far as their queue keeps any.
-- Carried by strand_pkey.
with ended as (
  delete from respirate.strand s
  using unnest($1::uuid[], $2::uuid[], $3::int[], $4::jsonb[]) as r (id, token, seq, value)
  where s.id = r.id and s.token = r.token and s.seq < r.seq and s.lease > '-infinity'
    and s.parent is null and s.children_left = 0 and s.cancel_at is null
    and s.inbox is null and s.deadline is null
  returning s.id, s.created_at, s.lane, s.try, s.max_tries, s.crashes, s.rescues, s.keep, s.label, s.key, s.args,
    s.stack, s.tags, s.metadata, r.value
), kept as (
  insert into respirate.history (id, created_at, priority, try, max_tries, crashes, rescues, keep, tenant, queue, kind,
    label, state, key, args, stack, value, tags, metadata)
  select e.id, e.created_at, l.priority, e.try, e.max_tries, e.crashes, e.rescues, e.keep, l.tenant, l.queue, l.kind,
    e.label, 'done', e.key, e.args, e.stack, e.value, e.tags, e.metadata
  from ended e
  join respirate.lane l on l.lane = e.lane
  join respirate.queue q on q.tenant = l.tenant and q.queue = l.queue
  where q.retention > '0' or e.keep
)
select e.id from ended e
