-- Ends strands that somebody wanted cancelled and whose lease has run out, so that no report will end them. Those that
-- changed meanwhile, or are locked, are left for the next scan.
-- Carried by strand_pkey.
with stale as materialized (
  select s.id from respirate.strand s
  where s.id = any ($1::uuid[]) and s.cancel_at is not null and s.lease < now()
  order by s.id
  for no key update skip locked
)
select respirate.cancel(s.id) from stale s
