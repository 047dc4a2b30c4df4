-- Makes strands due now, finished ones as new. Tells the state of each; null = not known.
select respirate.retry(wanted.id) from unnest($1::uuid[]) as wanted (id)
