-- Finds the lanes that a listing asks for. A null filter lets all through.
select l.lane
from respirate.lanes l
where ($1::text[] is null or l.kind = any ($1::text[]))
  and ($2::text[] is null or l.queue = any ($2::text[]))
  and ($3::text[] is null or l.tenant = any ($3::text[]))
order by l.lane
