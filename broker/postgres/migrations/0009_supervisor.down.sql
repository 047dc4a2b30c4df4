-- A view loses no columns: it is made anew, and whoever could read it still can.
do $$
declare
  shown oid := 'respirate.attempts'::regclass;
  rights aclitem[] := (select c.relacl from pg_class c where c.oid = shown);
  mine regrole := (select c.relowner::regrole from pg_class c where c.oid = shown);
  reader text;
begin
  drop view respirate.attempts;
  alter table respirate.attempt drop column max_rss, drop column cpu_ms;
  create view respirate.attempts as
  select a.strand, a.at, a.try, a.outcome, a.class, a.message, a.trace, a.worker, a.host, a.exit, a.stderr
  from respirate.attempt a;
  for reader in
    select case r.grantee when 0 then 'public' else r.grantee::regrole::text end
    from aclexplode(rights) r
    where r.privilege_type = 'SELECT' and r.grantee <> mine
  loop
    execute format('grant select on respirate.attempts to %s', reader);
  end loop;
end
$$;
