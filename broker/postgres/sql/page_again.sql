-- Gives a page back that could not be sent on, to be tried again after $2, with $3 as the number of tries so far.
-- Carried by page_pkey.
update respirate.page p set told_after = clock_timestamp() + $2::interval, told_tries = $3 where p.id = $1
