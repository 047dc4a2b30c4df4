-- Closes a page by hand. Tells why it is over; null = there is none.
select respirate.resolve_page($1::bigint, nullif($2, ''))
