-- Has a strand go on at a label. Tells its state; null = not known.
select respirate.retry($1::uuid, $2, nullif($3, ''))
