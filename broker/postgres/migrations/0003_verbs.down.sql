drop function respirate.retry(uuid);
drop function respirate.cancel(uuid);
drop function respirate.wake(uuid);
drop function respirate.child_done(uuid, int);
drop function respirate.finish(uuid[], text[], jsonb[], jsonb[], int[], int[]);
drop function respirate.backoff(int);
