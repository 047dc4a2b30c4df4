-- What operators do by hand: to correct a strand, to have it go on elsewhere, to close a page; and who did it. And how far
-- pages have been sent on.

-- What was done by hand. A row that is added takes those away that are older than any history.
create table respirate.audit (
  id bigint generated always as identity primary key,
  strand uuid not null,
  at timestamptz not null default clock_timestamp(),
  who text not null, -- as they say
  role text not null, -- that they were logged in as
  what text collate "C" not null, -- edit, retry, resolve
  before jsonb not null,
  after jsonb not null
);

create index audit_strand on respirate.audit (strand, id);
create index audit_at on respirate.audit (at);

-- audits shows what was done by hand.
create view respirate.audits as
select a.id, a.strand, a.at, a.who, a.role, a.what, a.before, a.after from respirate.audit a;

alter table respirate.page
  add column told text collate "C", -- what was sent on last: opened, resolved; null = nothing was
  add column told_after timestamptz, -- not sent on before: somebody is at it, or has failed; null = at any time
  add column told_tries smallint not null default 0; -- of what is next

-- Those that may have to be sent on.
create index page_untold on respirate.page (told_after nulls first, id) where told is distinct from 'resolved';
create index page_shown on respirate.page (id) where resolved_at is null;

-- check_who refuses a name that nobody has.
create function respirate.check_who(who text) returns void language plpgsql as $$
begin
  if who is not null then
    perform respirate.check_name('who', who, 1);
  end if;
end
$$;

-- note_audit writes down what was done. who is null where nobody is named: then it is the role.
create function respirate.note_audit(strand uuid, who text, what text, before jsonb, after jsonb) returns void language plpgsql as $$
declare
  oldest timestamptz;
begin
  select now() - greatest(max(q.retention), '7 days') into oldest from respirate.queue q;
  delete from respirate.audit a where a.id = any (array(
    select o.id from respirate.audit o where o.at < oldest order by o.at limit 1000 for update skip locked));
  insert into respirate.audit (strand, who, role, what, before, after)
    values (note_audit.strand, coalesce(note_audit.who, session_user), session_user, note_audit.what, note_audit.before, note_audit.after);
end
$$;

-- hold locks a live strand that nobody runs, and tells whether there is one. It refuses one that somebody runs. Where a
-- lease has run out it takes the token away: a report that is late would undo what the caller is about to do.
create function respirate.hold(id uuid) returns boolean language plpgsql as $$
declare
  s record;
begin
  select t.lease, t.cancel_at into s from respirate.strand t where t.id = hold.id for no key update;
  if not found then
    return false;
  elsif s.lease >= clock_timestamp() then
    raise exception 'strand % is leased: a worker runs it. Do this when it naps or has ended, or cancel it', id using errcode = '55006';
  elsif s.cancel_at is not null then
    raise exception 'strand % is about to end, since somebody has cancelled it. Do this when it has ended', id using errcode = '55006';
  elsif s.lease > '-infinity' then
    update respirate.strand t set token = null, lease = '-infinity', rescues = least(t.rescues + 1, 32767) where t.id = hold.id;
  end if;
  return true;
end
$$;

-- edit replaces the args of the frame of a strand that runs next, or would if a finished strand were retried. It tells the
-- state that the strand is in, or null when nothing is known of it, and refuses one that is leased.
create function respirate.edit(id uuid, args jsonb, who text default null) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan as $$
declare
  h record;
  was jsonb;
begin
  perform respirate.check_who(who);
  if args is null then
    perform respirate.refuse('args', 'is null');
  elsif octet_length(args::text) > 1048576 then
    perform respirate.refuse('args', format('is %s bytes long, at most 1048576 are allowed', octet_length(args::text)));
  end if;
  for n in 1 .. 2 loop -- it may be brought back between two looks
    if respirate.hold(edit.id) then
      select coalesce(t.stack->0, t.args) into was from respirate.strand t where t.id = edit.id;
      update respirate.strand t set
        args = case when t.stack->0 is null then edit.args else t.args end,
        stack = case when t.stack->0 is null then t.stack else jsonb_set(t.stack, '{0}', edit.args) end
      where t.id = edit.id;
      perform respirate.note_audit(id, who, 'edit', jsonb_build_object('args', was), jsonb_build_object('args', args));
      return (select v.state from respirate.strands v where v.id = edit.id);
    end if;
    select f.finished_at, f.state, coalesce(f.stack->0, f.args) as args into h
      from respirate.history f where f.id = edit.id order by f.finished_at desc limit 1 for update;
    if found then
      update respirate.history f set
        args = case when f.stack->0 is null then edit.args else f.args end,
        stack = case when f.stack->0 is null then f.stack else jsonb_set(f.stack, '{0}', edit.args) end
      where f.id = edit.id and f.finished_at = h.finished_at;
      perform respirate.note_audit(id, who, 'edit', jsonb_build_object('args', h.args), jsonb_build_object('args', args));
      return h.state;
    end if;
  end loop;
  return null;
end
$$;

-- retry has a strand go on at a label, now and with its counts anew: one that waits, or one that has finished, which comes
-- back. Its frames stay as they are, and what waits for it waits on. It tells the state that the strand is in now, or null
-- when nothing is known of it, and refuses one that is leased. That there is such a label is for the caller to know.
create function respirate.retry(id uuid, label text, who text default null) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan as $$
declare
  was jsonb;
  s record;
begin
  perform respirate.check_who(who), respirate.check_name('label', label, 1);
  if respirate.hold(retry.id) then
    select jsonb_build_object('label', v.label, 'state', v.state) into was from respirate.strands v where v.id = retry.id;
  else
    select jsonb_build_object('label', h.label, 'state', h.state) into was
      from respirate.history h where h.id = retry.id order by h.finished_at desc limit 1;
    if respirate.retry(retry.id) is null or not respirate.hold(retry.id) then
      return null;
    end if;
  end if;
  select t.label, t.stack, t.deadline into s from respirate.strand t where t.id = retry.id;
  update respirate.strand t set
    label = retry.label, schedule = least(t.schedule, clock_timestamp()), try = 0, crashes = 0, rescues = 0
  where t.id = retry.id;
  if s.deadline is not null then -- it may have reached what a deadline asks for
    perform respirate.move_deadlines(array[retry.id], array[respirate.callers(s.stack)], array[retry.label], array[null]::text[],
      array[null]::text[], array[null]::interval[], array[null]::interval[]);
  end if;
  perform respirate.note_audit(id, who, 'retry', coalesce(was, jsonb_build_object('label', s.label)), jsonb_build_object('label', label)),
    respirate.tell('', array[retry.id]);
  return 'ready';
end
$$;

-- callers counts the callers in a stack: all behind the args but for what the frame above has returned.
create function respirate.callers(stack jsonb) returns int language sql immutable as $$
  select case
    when jsonb_typeof(stack) is distinct from 'array' or jsonb_array_length(stack) = 0 then 0
    when jsonb_typeof(stack->1) = 'object' and stack->1 ? 'ret' and stack->1 = jsonb_build_object('ret', stack->1->'ret')
      then jsonb_array_length(stack) - 2
    else jsonb_array_length(stack) - 1
  end
$$;

-- resolve_page closes a page whose deadline has not been met: it has been looked after. It tells why the page is over, which
-- it may have been already, or null when there is no such page.
create function respirate.resolve_page(id bigint, who text default null) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan as $$
declare
  p record;
begin
  perform respirate.check_who(who);
  update respirate.page o set resolved_at = clock_timestamp(), why = 'by hand'
    where o.id = resolve_page.id and o.resolved_at is null
    returning o.strand, o.target, o.due_at into p;
  if found then
    perform respirate.note_audit(p.strand, who, 'resolve',
      jsonb_build_object('page', id, 'target', p.target, 'due_at', p.due_at), jsonb_build_object('why', 'by hand'));
  end if;
  return (select o.why from respirate.page o where o.id = resolve_page.id);
end
$$;

-- grant_client lets a role insert strands and read what becomes of them, and no more: it can write no token, lease or
-- count. For COPY it may write the columns named here; lane() gives the lane's number, hint() tells the brokers.
create or replace function respirate.grant_client(role regrole) returns void language plpgsql as $$
begin
  execute format('grant usage on schema %s to %s',
    (select c.relnamespace::regnamespace from pg_class c where c.oid = 'respirate.strand'::regclass), role);
  execute format('grant insert (id, schedule, lane, max_tries, keep, label, args, tags, metadata)
    on respirate.strand to %s', role);
  execute format('grant select on respirate.strands, respirate.lanes, respirate.finished, respirate.attempts,
    respirate.queues, respirate.brokers, respirate.semaphores, respirate.children, respirate.deadlines, respirate.pages,
    respirate.audits to %s', role);
  execute format('grant execute on function respirate.insert(text, jsonb, jsonb),
    respirate.insert_many(text[], jsonb[], jsonb[]), respirate.lane(text, text, int, text), respirate.hint(),
    respirate.wake(uuid), respirate.cancel(uuid), respirate.retry(uuid),
    respirate.signal(uuid, text, jsonb, boolean), respirate.signal_many(uuid[], text[], jsonb[], boolean[]),
    respirate.step(uuid, uuid, bigint, jsonb) to %s', role);
end
$$;

-- grant_operator lets a role do all that a client's may, and change strands by hand.
create function respirate.grant_operator(role regrole) returns void language plpgsql as $$
begin
  perform respirate.grant_client(role);
  execute format('grant execute on function respirate.edit(uuid, jsonb, text), respirate.retry(uuid, text, text),
    respirate.resolve_page(bigint, text) to %s', role);
end
$$;

-- Who may read pages may read this, and nobody else may call what is new.
do $$
declare
  who text;
begin
  revoke all on function respirate.check_who(text), respirate.note_audit(uuid, text, text, jsonb, jsonb), respirate.hold(uuid),
    respirate.edit(uuid, jsonb, text), respirate.retry(uuid, text, text), respirate.callers(jsonb),
    respirate.resolve_page(bigint, text), respirate.grant_operator(regrole) from public;
  for who in
    select case a.grantee when 0 then 'public' else a.grantee::regrole::text end from pg_class c, aclexplode(c.relacl) a
    where c.oid = 'respirate.pages'::regclass and a.privilege_type = 'SELECT' and a.grantee <> c.relowner
  loop
    execute format('grant select on respirate.audits to %s', who);
  end loop;
end
$$;
