-- Which of these strands there are: lock.sql has not given them, so they are locked by somebody, or gone.
-- Carried by strand_pkey.
select s.id from unnest($1::uuid[]) as i (id) join respirate.strand s on s.id = i.id
