-- Sends semaphores, all or none, and tells for each, in order, whether there is such a strand. '' stands for no value.
select s from respirate.signal_many($1::uuid[], $2::text[],
  array(select nullif(v.value, '')::jsonb from unnest($3::text[]) with ordinality as v (value, n) order by v.n), $4::boolean[]) as s
