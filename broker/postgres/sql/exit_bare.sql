-- As exit.sql, for lanes ($4) whose queues keep no history: one deletion and nothing else. (The + 0 keeps the planner from
-- starting with the lanes.)
-- Carried by strand_pkey.
delete from respirate.strand s
using unnest($1::uuid[], $2::uuid[], $3::int[]) as r (id, token, seq)
where s.id = r.id and s.token = r.token and s.seq < r.seq and s.lease > '-infinity'
  and s.parent is null and s.children_left = 0 and s.cancel_at is null
  and s.inbox is null and s.deadline is null
  and not s.keep and s.lane + 0 = any ($4::int[])
returning s.id
