-- Reads up to $3 pages with an id below $1 (null = any), newest first: those that are open, or all if $2 is not 0. Carried by
-- page_shown, or by the primary key.
select p.id, p.strand::text, p.frame, p.kind, p.target, p.due_at, p.opened_at, p.resolved_at, coalesce(p.why, '')
from respirate.pages p
where ($1::bigint is null or p.id < $1::bigint) and ($2::int <> 0 or p.resolved_at is null)
order by p.id desc
limit $3
