-- What a schema ($1) holds, one line each, with @ in place of its name. The partitions of days come and go and are not
-- named. Carried by the catalogs.
with relation as (
  select c.oid, c.relname, c.relkind, c.reloptions
  from pg_class c
  where c.relnamespace = $1::text::regnamespace and c.relname !~ '_[0-9]{8}(_|$)' and c.relname <> 'schema_version'
), line (text) as (
  select format('column %s on %s: %s', a.attname, r.relname, concat_ws(' ', format_type(a.atttypid, a.atttypmod),
    case when a.attnotnull then 'not null' end, nullif(a.attidentity::text, ''), nullif(a.attgenerated::text, ''),
    pg_get_expr(d.adbin, d.adrelid)))
  from relation r
  join pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
  left join pg_attrdef d on d.adrelid = r.oid and d.adnum = a.attnum
  where r.relkind in ('r', 'p')
  union all
  select format('options on %s: %s', r.relname, r.reloptions) from relation r where r.relkind = 'r'
  union all
  select format('index on %s: %s', t.relname, pg_get_indexdef(i.indexrelid))
  from relation t join pg_index i on i.indrelid = t.oid
  union all
  select format('constraint %s on %s: %s', c.conname, r.relname, pg_get_constraintdef(c.oid))
  from relation r join pg_constraint c on c.conrelid = r.oid
  union all
  select format('view %s: %s', r.relname, md5(regexp_replace(pg_get_viewdef(r.oid), '"?' || $1 || '("?\.|_wake)', '@\1', 'g')))
  from relation r where r.relkind = 'v'
  union all
  select format('trigger %s on %s', t.tgname, r.relname)
  from relation r join pg_trigger t on t.tgrelid = r.oid where not t.tgisinternal
  union all
  select format('function %s(%s): %s', p.proname, pg_get_function_identity_arguments(p.oid),
    md5(regexp_replace(pg_get_functiondef(p.oid), '"?' || $1 || '("?\.|_wake)', '@\1', 'g')))
  from pg_proc p where p.pronamespace = $1::text::regnamespace
)
select regexp_replace(l.text, '"?' || $1 || '"?\.', '@.', 'g') from line l order by 1
