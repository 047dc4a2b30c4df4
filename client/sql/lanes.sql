-- Gives the numbers of lanes in the order asked, making those that are missing, and the time of the database.
select respirate.lane(wanted.tenant, wanted.queue, wanted.priority, wanted.kind), clock_timestamp()
from unnest($1::text[], $2::text[], $3::int[], $4::text[]) with ordinality as wanted (tenant, queue, priority, kind, n)
order by wanted.n
