-- Opens the pages of deadlines that have passed; tells how many.
-- Carried by deadline_at and strand_pkey, in respirate.page_due().
select respirate.page_due()
