-- Replaces the args of the frame of a strand that runs next. Tells the state of the strand; null = not known.
select respirate.edit($1::uuid, $2::jsonb, nullif($3, ''))
