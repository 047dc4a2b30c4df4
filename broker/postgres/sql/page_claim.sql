-- Takes the next page that is to be sent on, for $1: that it was opened, or, once that was sent, that it is resolved. $2 is
-- how long ago a page may have been resolved of which nothing was sent. Two who ask at once get different ones.
-- Carried by page_untold and page_pkey.
with past as (
  update respirate.page p set told = 'resolved'
  where p.told is distinct from 'resolved' and p.told is null and p.resolved_at < clock_timestamp() - $2::interval
), next as materialized (
  select p.id from respirate.page p
  where p.told is distinct from 'resolved' and (p.told is null or p.resolved_at is not null)
    and (p.resolved_at is null or p.told is not null or p.resolved_at >= clock_timestamp() - $2::interval)
    and (p.told_after is null or p.told_after < clock_timestamp())
  order by p.told_after nulls first, p.id
  limit 1
  for update skip locked
)
update respirate.page p set told_after = clock_timestamp() + $1::interval, told_tries = p.told_tries + 1
from next n
where p.id = n.id
returning p.id, case when p.told is null then 'opened' else 'resolved' end, p.told_tries, p.strand::text, p.frame, p.kind, p.target,
  p.due_at, p.opened_at, p.resolved_at, coalesce(p.why, '')
