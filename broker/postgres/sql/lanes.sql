-- The lanes of the given kinds whose queue is not paused, and, if asked ($2), where the first live strand of each is: a
-- scan need not look further down. A floor is never later than a second ago, since a strand may be committed a little
-- after the time in its schedule. With a horizon that somebody pins, this is what walks over the dead entries.
-- Carried by lane_pkey or lane_tenant_queue_priority_kind_key, and strand_ready.
select l.lane, l.tenant, l.queue, l.priority, l.kind, q.retention > '0' as history,
  case when $2::boolean then least(now(), (
    select s.schedule from respirate.strand s where s.lane = l.lane order by s.schedule, s.id limit 1
  )) - interval '1 s' end as floor
from respirate.lane l
join respirate.queue q on q.tenant = l.tenant and q.queue = l.queue
where l.kind = any ($1::text[]) and q.paused_at is null
