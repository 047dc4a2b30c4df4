-- The lanes that strands of the given lanes come to when they hop to another kind.
-- Carried by lane_pkey, and lane_tenant_queue_priority_kind_key in respirate.lane().
select respirate.lane(l.tenant, l.queue, l.priority, r.kind)
from unnest($1::int[], $2::text[]) with ordinality as r (lane, kind, n)
join respirate.lane l on l.lane = r.lane
order by r.n
