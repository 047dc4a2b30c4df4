-- Notes that it was sent on ($2) what has become of a page.
-- Carried by page_pkey.
update respirate.page p set told = $2, told_after = null, told_tries = 0 where p.id = $1
