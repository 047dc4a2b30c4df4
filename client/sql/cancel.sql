-- Cancels strands: one that runs is asked to stop, any other ends at once. Tells the state of each; null = not known.
select respirate.cancel(wanted.id) from unnest($1::uuid[]) as wanted (id)
