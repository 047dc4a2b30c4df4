-- Opens the pages of strands that lock.sql has locked and whose deadlines have passed.
-- Carried by deadline_pkey and strand_pkey, in respirate.open_pages().
select respirate.open_pages($1::uuid[])
