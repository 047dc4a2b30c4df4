-- Ends strands that somebody wanted cancelled and whose lease has run out, so that no report will end them. Those that
-- changed meanwhile, or are locked, are left for the next scan. The ids come in order.
-- Carried by strand_pkey.
with stale as materialized (
  select s.id
  from unnest($1::uuid[]) with ordinality as i (id, n)
  join respirate.strand s on s.id = i.id
  where s.cancel_at is not null and s.lease < now()
  order by i.n
  for no key update of s skip locked
)
select respirate.cancel(s.id) from stale s
