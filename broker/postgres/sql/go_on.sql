-- The reports after which a strand lives on and nothing has failed: nap and hop (rested: its counts begin anew, a wake that
-- came meanwhile cuts the delay, and its first deadline bounds it), release, yield (disowned: the token is worth nothing any
-- more) and save (kept: the lease goes on). A nap or hop whose lease is kept is no sleep: a wake before it has been heard.
-- What is not returned failed the fence, is to be cancelled or, unless that has been seen to ($11), naps or hops with a
-- deadline, and needs a closer look. mail says that inbox.sql has something about it.
-- Carried by strand_pkey.
update respirate.strand s set
  seq = case when r.disowned then s.seq else r.seq end,
  token = case when r.disowned then null else s.token end,
  lease = case when r.kept then s.lease else '-infinity' end,
  schedule = case
    when r.kept then s.schedule
    when r.rested and s.woken then now()
    when s.deadline is null or not r.rested then now() + r.delay_us * interval '1 microsecond'
    else greatest(least(now() + r.delay_us * interval '1 microsecond', s.deadline), now())
  end,
  try = case when r.rested then 0 else s.try end,
  crashes = case when r.rested then 0 else s.crashes end,
  rescues = case when r.rested then 0 else s.rescues end,
  woken = s.woken and not (r.rested and r.kept),
  label = coalesce(r.label, s.label),
  lane = coalesce(r.lane, s.lane),
  stack = coalesce(r.stack, s.stack)
from unnest($1::uuid[], $2::uuid[], $3::int[], $4::boolean[], $5::boolean[], $6::boolean[], $7::bigint[], $8::text[],
  $9::int[], $10::jsonb[]) as r (id, token, seq, rested, disowned, kept, delay_us, label, lane, stack)
where s.id = r.id and s.token = r.token and s.lease > '-infinity'
  and (s.seq < r.seq or r.disowned) and (s.cancel_at is null or r.kept and not r.rested)
  and (s.deadline is null or not r.rested or $11::boolean)
returning s.id, s.inbox is not null or s.children_left > 0 as mail
