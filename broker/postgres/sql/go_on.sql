-- The reports after which a strand lives on and nothing has failed: nap and hop (rested: its counts begin anew, and a
-- wake that came meanwhile cuts the delay), release, yield (disowned: the token is worth nothing any more) and save
-- (saved: the lease goes on). What is not returned failed the fence or is to be cancelled, and needs a closer look.
-- Carried by strand_pkey.
update respirate.strand s set
  seq = case when r.disowned then s.seq else r.seq end,
  token = case when r.disowned then null else s.token end,
  lease = case when r.saved then s.lease else '-infinity' end,
  schedule = case
    when r.saved then s.schedule
    when r.rested and s.woken then now()
    else now() + r.delay_us * interval '1 microsecond'
  end,
  try = case when r.rested then 0 else s.try end,
  crashes = case when r.rested then 0 else s.crashes end,
  rescues = case when r.rested then 0 else s.rescues end,
  label = coalesce(r.label, s.label),
  lane = coalesce(r.lane, s.lane),
  stack = coalesce(r.stack, s.stack)
from unnest($1::uuid[], $2::uuid[], $3::int[], $4::boolean[], $5::boolean[], $6::boolean[], $7::bigint[], $8::text[],
  $9::int[], $10::jsonb[]) as r (id, token, seq, rested, disowned, saved, delay_us, label, lane, stack)
where s.id = r.id and s.token = r.token and s.lease > '-infinity'
  and (s.seq < r.seq or r.disowned) and (s.cancel_at is null or r.saved)
returning s.id
