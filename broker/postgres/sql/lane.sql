-- Lanes by number, paused or not, for strands that were found before we knew their lane.
-- Carried by lane_pkey.
select l.lane, l.tenant, l.queue, l.priority, l.kind, q.retention > '0' as history, null::timestamptz as floor
from respirate.lane l
join respirate.queue q on q.tenant = l.tenant and q.queue = l.queue
where l.lane = any ($1::int[])
