drop function respirate.grant_operator(regrole);

-- grant_client lets a role insert strands and read what becomes of them, and no more: it can write no token, lease or
-- count. For COPY it may write the columns named here; lane() gives the lane's number, hint() tells the brokers.
create or replace function respirate.grant_client(role regrole) returns void language plpgsql as $$
begin
  execute format('grant usage on schema %s to %s',
    (select c.relnamespace::regnamespace from pg_class c where c.oid = 'respirate.strand'::regclass), role);
  execute format('grant insert (id, schedule, lane, max_tries, keep, label, args, tags, metadata)
    on respirate.strand to %s', role);
  execute format('grant select on respirate.strands, respirate.lanes, respirate.finished, respirate.attempts,
    respirate.queues, respirate.brokers, respirate.semaphores, respirate.children, respirate.deadlines, respirate.pages
    to %s', role);
  execute format('grant execute on function respirate.insert(text, jsonb, jsonb),
    respirate.insert_many(text[], jsonb[], jsonb[]), respirate.lane(text, text, int, text), respirate.hint(),
    respirate.wake(uuid), respirate.cancel(uuid), respirate.retry(uuid),
    respirate.signal(uuid, text, jsonb, boolean), respirate.signal_many(uuid[], text[], jsonb[], boolean[]),
    respirate.step(uuid, uuid, bigint, jsonb) to %s', role);
end
$$;

drop function respirate.resolve_page(bigint, text);
drop function respirate.retry(uuid, text, text);
drop function respirate.callers(jsonb);
drop function respirate.edit(uuid, jsonb, text);
drop function respirate.hold(uuid);
drop function respirate.note_audit(uuid, text, text, jsonb, jsonb);
drop function respirate.check_who(text);
drop index respirate.page_shown, respirate.page_untold;
alter table respirate.page drop column told, drop column told_after, drop column told_tries;
drop view respirate.audits;
drop table respirate.audit;
