-- The failures that a strand survives, each with the record of its attempt: those of its own (try rises; a null delay
-- means the back-off), and the deaths of its worker (crashed: crashes rises, try only if it was guilty; the token is
-- worth nothing any more). What is not returned failed the fence, is to be cancelled, or dies of it.
-- Carried by strand_pkey.
with r as materialized (
  select *
  from unnest($1::uuid[], $2::uuid[], $3::int[], $4::boolean[], $5::boolean[], $6::bigint[], $7::jsonb[], $8::text[],
    $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::bigint[], $15::bigint[])
    as r (id, token, seq, crashed, guilty, delay_us, stack, class, message, trace, worker, exit, stderr, max_rss, cpu_ms)
), hurt as (
  update respirate.strand s set
    seq = case when r.crashed then s.seq else r.seq end,
    token = case when r.crashed then null else s.token end,
    lease = '-infinity',
    schedule = now() + case
      when r.crashed then greatest(respirate.backoff(s.crashes + 1), '1 s')
      else coalesce(r.delay_us * interval '1 microsecond', respirate.backoff(s.try + 1))
    end,
    try = s.try + r.guilty::int,
    crashes = s.crashes + r.crashed::int,
    stack = coalesce(r.stack, s.stack)
  from r
  where s.id = r.id and s.token = r.token and s.lease > '-infinity' and s.cancel_at is null
    and (s.seq < r.seq or r.crashed)
    and s.try + r.guilty::int < s.max_tries and s.crashes + r.crashed::int < 3
  returning s.id, s.try - r.guilty::int as try, r.crashed, r.class, r.message, r.trace, r.worker, r.exit, r.stderr,
    r.max_rss, r.cpu_ms
), noted as (
  insert into respirate.attempt (strand, try, outcome, class, message, trace, worker, host, exit, stderr, max_rss, cpu_ms)
  select h.id, h.try, case when h.crashed then 'crashed' else 'failed' end, h.class, h.message, h.trace, h.worker,
    $16::text, h.exit, h.stderr, h.max_rss, h.cpu_ms
  from hurt h
  where h.class is not null
)
select h.id from hurt h
