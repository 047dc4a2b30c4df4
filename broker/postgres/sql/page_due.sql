-- Opens the pages of deadlines that have passed, and tells how many are open then, of those that were before up to 10,000.
-- Carried by deadline_at and strand_pkey, in respirate.page_due(), and by page_shown.
select respirate.page_due() + (select count(*) from (select from respirate.page p where p.resolved_at is null limit 10000) p)::int
