-- Which of these leases are still ours, although renew.sql has not extended them: their rows are locked by somebody.
-- Carried by strand_pkey.
select s.id, s.token
from unnest($1::uuid[], $2::uuid[]) as p (id, token)
join respirate.strand s on s.id = p.id
where s.token = p.token and s.lease > '-infinity'
