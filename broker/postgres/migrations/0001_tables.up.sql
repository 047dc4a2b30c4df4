-- The tables: what is to be done (strand), in which line it waits (lane, queue), what became of it (history, attempt),
-- and who is there to do it (broker). respirate. stands for the configured schema.

do $$
begin
  if current_setting('server_encoding') <> 'UTF8' then
    raise exception 'the database must have the encoding UTF8, not %', current_setting('server_encoding');
  end if;
end
$$;

-- A queue is a named line of one tenant. It is made together with its first lane.
create table respirate.queue (
  tenant text collate "C" not null,
  queue text collate "C" not null,
  paused_at timestamptz, -- its strands are not looked for
  retention interval not null default '7 days' check (retention >= '0'), -- of done strands; 0 = none is kept
  primary key (tenant, queue)
);

-- A lane is what strands that start in order have in common. The hot row carries only its number, and a scan asks only
-- for the lanes that somebody serves: unserved kinds and paused queues cost nothing.
create table respirate.lane (
  lane int generated always as identity primary key,
  tenant text collate "C" not null,
  queue text collate "C" not null,
  priority smallint not null check (priority between 1 and 9),
  kind text collate "C" not null,
  unique (tenant, queue, priority, kind),
  foreign key (tenant, queue) references respirate.queue (tenant, queue)
);

-- The live strands. A row is leased, renewed and freed in place: with a good half of every page free (a row grows by its
-- token) and none of the changing columns in an index, these updates stay on the page (HOT). A strand that ends leaves
-- the table.
--
-- What a lease changes stands side by side, since the log of an update holds everything from the first to the last byte
-- that differs.
create table respirate.strand (
  id uuid not null,
  created_at timestamptz not null default now(),
  lane int not null,
  max_tries smallint not null default 25,
  bucket smallint not null generated always as (get_byte(uuid_send(id), 0)) stored,
  schedule timestamptz not null default now(), -- due from then on; once a lease is renewed, about its end
  lease timestamptz not null default '-infinity', -- runs out then; '-infinity' = free
  token uuid, -- of the current lease, or of the last
  seq int not null default 0, -- of the last report applied under the token
  children_left int not null default 0,
  try smallint not null default 0, -- failures so far
  crashes smallint not null default 0, -- deaths of workers that held it, since its last progress
  rescues smallint not null default 0, -- leases that ran out, since its last progress
  woken boolean not null default false, -- since it was leased
  keep boolean not null default false, -- in history, even if its queue keeps none
  cancel_at timestamptz, -- when somebody asked for its end while it was leased
  parent uuid,
  label text collate "C" not null default 'start',
  key text collate "C",
  args jsonb not null,
  stack jsonb, -- an array of frames, once a run has stored one
  tags text[],
  metadata jsonb,
  constraint strand_max_tries check (max_tries > 0),
  -- insert() checks all this and more. These keep out what a COPY could write and no lease could read; since each update
  -- asks them again, they are cheap for what is usual. That a lane is there is not asked: a strand in none is never found.
  constraint strand_lane check (lane > 0),
  constraint strand_times check (isfinite(schedule) and isfinite(created_at)),
  constraint strand_label check (
    label = 'start' or octet_length(label) between 1 and 255 and label !~ '[\u0001-\u001f\u007f-\u009f]'),
  constraint strand_tags check (
    tags is null or tags = '{}'
    or array_ndims(tags) = 1 and cardinality(tags) <= 100 and array_position(tags, null) is null and pg_column_size(tags) <= 27000),
  constraint strand_args check (pg_column_size(args) <= 4200000), -- insert() is exact; this bounds COPY: jsonb takes 4 times its text at most
  constraint strand_metadata check (pg_column_size(metadata) <= 270000)
) with (
  fillfactor = 45,
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 1000,
  autovacuum_vacuum_cost_delay = 0,
  autovacuum_analyze_scale_factor = 0,
  autovacuum_analyze_threshold = 20000,
  vacuum_truncate = off,
  toast.autovacuum_vacuum_scale_factor = 0,
  toast.autovacuum_vacuum_threshold = 1000,
  toast.autovacuum_vacuum_cost_delay = 0,
  toast.vacuum_truncate = off
);

-- Payloads are not compressed while they wait: a scan sees how large they are, for flow control, and an insert of 64 KiB
-- takes a fifth of the time. History compresses them.
alter table respirate.strand alter column args set storage external, alter column stack set storage external;

-- The only index besides the key. It carries the scan.
create index strand_ready on respirate.strand (lane, schedule, id);

-- The key comes after it: of two indexes that promise to cost the same, as they do while the table is empty, the planner
-- takes the later one, and a plan made then would look up ids in strand_ready.
alter table respirate.strand add constraint strand_pkey primary key (id);

-- The strands that are over, by day. What no partition takes goes to the default one: a commit never fails for want of
-- a partition. respirate.maintain() makes and drops them.
create table respirate.history (
  id uuid not null,
  finished_at timestamptz not null default now(),
  created_at timestamptz not null,
  priority smallint not null,
  try smallint not null,
  max_tries smallint not null,
  crashes smallint not null,
  rescues smallint not null,
  keep boolean not null,
  tenant text collate "C" not null,
  queue text collate "C" not null,
  kind text collate "C" not null,
  label text collate "C" not null,
  state text collate "C" not null check (state in ('done', 'cancelled', 'dead')),
  parent uuid,
  key text collate "C",
  args jsonb not null,
  stack jsonb,
  value jsonb,
  tags text[],
  metadata jsonb
) partition by range (finished_at);

create index history_id on respirate.history (id);
create index history_finished on respirate.history (finished_at); -- most of a batch have the same: small when deduplicated
create table respirate.history_default partition of respirate.history default;

-- The failures, by day, of live and finished strands. Rows are only ever added.
create table respirate.attempt (
  strand uuid not null,
  at timestamptz not null default now(),
  try smallint not null, -- failures before this one
  outcome text collate "C" not null check (outcome in ('failed', 'crashed', 'cancelled')),
  class text not null,
  message text not null,
  trace text not null,
  worker text not null,
  host text not null,
  exit text not null,
  stderr text not null
) partition by range (at);

create index attempt_strand on respirate.attempt (strand, at);
create table respirate.attempt_default partition of respirate.attempt default;

-- The brokers. Each refreshes its row; inserters read them to decide whether anybody needs to be told.
create table respirate.broker (
  broker uuid primary key, -- drawn at its start
  host text not null,
  pid int not null,
  build text not null,
  lo bigint not null, -- it looks after the ids whose first 32 bits are in [lo, hi)
  hi bigint not null,
  kinds text[] not null,
  workers int not null,
  slots int not null,
  busy boolean not null, -- it looks so often that nobody needs to tell it
  alive_until timestamptz not null,
  started_at timestamptz not null default now()
) with (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_cost_delay = 0);

-- The oldest schema version whose binaries can still work with this schema. A binary that knows fewer migrations than
-- were applied refuses to start unless this says that it may.
create function respirate.oldest_binary() returns int language sql immutable as 'select 1';
