-- Reads what a strand has as a program, as one JSON object: the first $2 semaphores and children, and the last $2 things
-- that were done to it by hand. Carried by the primary keys, child_ended, page_open and audit_strand.
select json_build_object(
  'semaphores', array(
    select json_build_object('id', m.id, 'name', m.name, 'value', m.value, 'sent_at', m.sent_at)
    from respirate.semaphores m where m.strand = $1::uuid order by m.id limit $2::int),
  'waiting', (select count(*) from respirate.semaphores m where m.strand = $1::uuid),
  'ended', (select count(*) from respirate.children c where c.parent = $1::uuid and c.state is not null),
  'children', array(
    select json_build_object('id', c.child, 'kind', coalesce(c.kind, s.kind), 'state', coalesce(c.state, s.state),
      'value', c.value, 'ended_at', c.ended_at)
    from (
      (select c.child, c.kind, c.state, c.value, c.ended_at from respirate.children c
        where c.parent = $1::uuid and c.state is not null order by c.ended_at, c.child limit $2::int)
      union all
      (select c.child, c.kind, c.state, c.value, c.ended_at from respirate.children c
        where c.parent = $1::uuid and c.state is null order by c.child limit $2::int)
    ) c
    left join respirate.strands s on s.id = c.child and c.state is null
    order by c.ended_at, c.child limit $2::int),
  'deadlines', array(
    select json_build_object('frame', d.frame, 'kind', d.kind, 'target', d.target, 'at', d.at, 'paged_at', d.paged_at)
    from respirate.deadlines d where d.strand = $1::uuid order by d.frame),
  'pages', array(
    select json_build_object('id', p.id, 'strand', p.strand, 'frame', p.frame, 'kind', p.kind, 'target', p.target,
      'due_at', p.due_at, 'opened_at', p.opened_at)
    from respirate.pages p where p.strand = $1::uuid and p.resolved_at is null order by p.frame),
  'audits', array(
    select json_build_object('at', a.at, 'who', a.who, 'role', a.role, 'what', a.what, 'before', a.before, 'after', a.after)
    from (select * from respirate.audits a where a.strand = $1::uuid order by a.id desc limit $2::int) a order by a.id)
)::text
