package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker/postgres"
)

// oldestServer is PostgreSQL 13.
const oldestServer = 130000

// checkDatabase asks what kind of server there is.
func (d *doctor) checkDatabase(ctx context.Context) ([]finding, error) {
	var number int
	var version, user, name string
	var standby, readOnly bool
	err := d.db.conn.QueryRow(ctx, `select current_setting('server_version_num')::int, current_setting('server_version'), current_user,
		current_database(), pg_is_in_recovery(), current_setting('transaction_read_only')::bool`).
		Scan(&number, &version, &user, &name, &standby, &readOnly)
	if err != nil {
		return nil, err
	}
	seen := fmt.Sprintf("PostgreSQL %s, database %s, as %s", version, name, user)
	switch {
	case number < oldestServer:
		return []finding{bad(failing, "upgrade it to 13 or newer", "%s", seen)}, nil
	case standby:
		return []finding{bad(failing, "give the URL of the primary", "%s: a standby, which takes no writes", seen)}, nil
	case readOnly:
		return []finding{bad(failing, "alter role or alter database reset default_transaction_read_only", "%s: transactions are read-only", seen)}, nil
	}
	return fine("%s", seen), nil
}

// checkClocks compares this host's clock with the database's, which is the one that schedules.
func (d *doctor) checkClocks(ctx context.Context) ([]finding, error) {
	var nearest, wide time.Duration
	for n := range 3 { // the quickest answer says most
		sent := time.Now()
		there, err := d.db.now(ctx)
		took := time.Since(sent)
		if err != nil {
			return nil, err
		}
		if n == 0 || took < wide {
			nearest, wide = there.Sub(sent.Add(took/2)), took
		}
	}
	return d.judgeClocks(nearest, wide), nil
}

// judgeClocks is told how far the database's clock is ahead, give or take half of wide.
func (d *doctor) judgeClocks(ahead, wide time.Duration) []finding {
	exact := fmt.Sprintf("within %v", (wide / 2).Round(time.Millisecond))
	switch {
	case ahead.Abs() <= d.limits.skew+wide/2:
		return fine("this host and the database agree within %v", (ahead.Abs() + wide/2).Round(time.Millisecond))
	case ahead < 0:
		exact = fmt.Sprintf("this host is %v ahead of the database, %s", -ahead.Round(time.Millisecond), exact)
	default:
		exact = fmt.Sprintf("this host is %v behind the database, %s", ahead.Round(time.Millisecond), exact)
	}
	return []finding{bad(warned, "set the clock by NTP. Strands are not harmed, since the database's clock schedules; but logs tell other times", "%s", exact)}
}

// checkNotifications asks how full the queue of NOTIFY is. When it is full, every insert that notifies fails.
func (d *doctor) checkNotifications(ctx context.Context) ([]finding, error) {
	var usage float64
	if err := d.db.conn.QueryRow(ctx, "select pg_notification_queue_usage()").Scan(&usage); err != nil {
		return nil, err
	}
	return judgeNotifications(usage), nil
}

func judgeNotifications(usage float64) []finding {
	const do = "end the session that listens and sits in a transaction: see old transactions. When the queue is full, inserts fail"
	switch {
	case usage >= 0.5:
		return []finding{bad(failing, do, "the queue of NOTIFY is %.0f %% full", 100*usage)}
	case usage >= 0.05:
		return []finding{bad(warned, do, "the queue of NOTIFY is %.0f %% full", 100*usage)}
	}
	return fine("the queue of NOTIFY is %.0f %% full", 100*usage)
}

// pins is everything that keeps rows of this database from being vacuumed: sessions, prepared transactions, standbys
// with feedback, and replication slots. Slots have no age in time.
const pins = `
select format('session %s (%s, %s, %s)', a.pid, coalesce(a.usename, '?'), coalesce(nullif(a.application_name, ''), 'no name'),
    coalesce(a.state, a.backend_type)),
  coalesce(extract(epoch from clock_timestamp() - coalesce(a.xact_start, a.backend_start)), 0)::float8, -- not everybody may see it
  format('find out what it does, then select pg_terminate_backend(%s)', a.pid)
from pg_stat_activity a
where (a.datname = current_database() or a.backend_type = 'walsender')
  and (a.backend_xmin is not null or a.backend_xid is not null) and a.pid <> pg_backend_pid()
union all
select format('prepared transaction %L of %s', p.gid, p.owner), extract(epoch from clock_timestamp() - p.prepared)::float8,
  format('commit prepared %L, or rollback prepared %1$L', p.gid)
from pg_prepared_xacts p
where p.database = current_database()
order by 2 desc`

// checkHorizon looks for what keeps dead rows from being vacuumed. They pile up where scans begin, until all is slow.
func (d *doctor) checkHorizon(ctx context.Context) ([]finding, error) {
	type pin struct {
		name string
		age  float64 // s
		do   string
	}
	rows, err := d.db.conn.Query(ctx, pins)
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p pin, err error) { return p, row.Scan(&p.name, &p.age, &p.do) })
	if err != nil {
		return nil, err
	}
	var found []finding
	var oldest time.Duration
	for _, p := range all {
		age := time.Duration(p.age * float64(time.Second))
		oldest = max(oldest, age)
		if age >= d.limits.pinned {
			found = append(found, bad(warned, p.do, "%s keeps dead rows from being vacuumed for %s", p.name, span(age)))
		}
	}
	slots, err := d.pinningSlots(ctx)
	if err != nil {
		return nil, err
	}
	if found = append(found, slots...); len(found) > 0 {
		return found, nil
	}
	var sees bool
	if err := d.db.conn.QueryRow(ctx, "select pg_has_role('pg_read_all_stats', 'usage')").Scan(&sees); err != nil {
		return nil, err
	}
	if !sees {
		return []finding{bad(warned, "grant pg_monitor to this role, to see the others", "only the sessions of this role can be seen, and none of them keeps rows from being vacuumed")}, nil
	}
	return fine("the oldest transaction is of %s ago", span(oldest)), nil
}

// pinnedTransactions is how many transactions a slot may be behind, until that is a finding.
const pinnedTransactions = 1_000_000

func (d *doctor) pinningSlots(ctx context.Context) ([]finding, error) {
	rows, err := d.db.conn.Query(ctx, `
		select s.slot_name, s.active, age(s.xmin) from pg_replication_slots s
		where s.xmin is not null and (not s.active or age(s.xmin) > $1) order by 3 desc`, pinnedTransactions)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (finding, error) {
		var name string
		var active bool
		var behind int64
		if err := row.Scan(&name, &active, &behind); err != nil {
			return finding{}, err
		}
		do := fmt.Sprintf("bring back who uses it, or select pg_drop_replication_slot('%s')", name)
		if active {
			do = "look for a long query on the standby, or switch off its hot_standby_feedback"
		}
		return bad(warned, do, "replication slot %s keeps dead rows of %d transactions from being vacuumed", name, behind), nil
	})
}

// checkSchema asks which version the schema has, and whether a daemon of this binary would start with it.
func (d *doctor) checkSchema(ctx context.Context) ([]finding, error) {
	var err error
	d.version, err = d.schemaVersion(ctx)
	switch {
	case sqlState(err) == "42501":
		return []finding{bad(failing, fmt.Sprintf("run doctor as the role of the daemon; or grant that role schema %s", d.db.schema),
			"a daemon of this role would not start: %s", oneLine(err.Error()))}, nil
	case err != nil:
		return nil, err
	}
	if d.version == 0 {
		return []finding{bad(failing, "respirated migrate up, or name another --schema", "there is no schema %s", d.db.schema)}, nil
	}
	latest := postgres.LatestVersion()
	seen := fmt.Sprintf("schema %s is at version %d, this binary knows %d", d.db.schema, d.version, latest)
	store, err := postgres.Open(ctx, d.postgresConfig())
	if err != nil {
		do := "see there"
		switch {
		case errors.Is(err, postgres.ErrSchema) && d.version < latest:
			do = "respirated migrate up"
		case errors.Is(err, postgres.ErrSchema):
			do = "install a newer respirated"
		}
		return []finding{bad(failing, do, "a daemon would not start: %s", oneLine(err.Error()))}, nil
	}
	store.Close()
	d.usable = true
	switch {
	case d.version < latest:
		return []finding{bad(warned, "respirated migrate up", "%s: some of what it can do is not there yet", seen)}, nil
	case d.version > latest:
		return []finding{bad(warned, "install the newer respirated here, too", "%s: it serves older binaries as well", seen)}, nil
	}
	return fine("%s", seen), nil
}

func (d *doctor) schemaVersion(ctx context.Context) (version int64, err error) {
	table := pgx.Identifier{d.db.schema, "schema_version"}.Sanitize()
	var there bool
	if err := d.db.conn.QueryRow(ctx, "select to_regclass($1) is not null", table).Scan(&there); err != nil || !there {
		return 0, err
	}
	err = d.db.conn.QueryRow(ctx, "select coalesce(max(version_id), 0) from "+table+" where is_applied").Scan(&version)
	return version, err
}

// checkWriting writes a row and takes it back, which says more than any list of rights.
func (d *doctor) checkWriting(ctx context.Context) ([]finding, error) {
	tx, err := d.db.conn.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback(ctx) // always: nothing is to stay
	_, err = tx.Exec(ctx, fmt.Sprintf("insert into %s (tenant, queue) values ('', 'written by respirated doctor') on conflict do nothing", d.table("queue")))
	if err == nil {
		_, err = tx.Exec(ctx, fmt.Sprintf("update %s set woken = true where false", d.table("strand")))
	}
	switch {
	case sqlState(err) == "42501":
		return []finding{bad(warned, "run doctor as the role of the daemon, which owns the schema", "this role may not write the tables: %s", oneLine(err.Error()))}, nil
	case err != nil:
		return []finding{bad(failing, "see there", "the tables cannot be written: %s", oneLine(err.Error()))}, nil
	}
	return fine("the tables can be written"), nil
}

// checkTables compares the schema with what the migrations make.
func (d *doctor) checkTables(ctx context.Context) (_ []finding, err error) {
	if d.version != postgres.LatestVersion() {
		return []finding{bad(warned, "bring schema and binary to the same version", "not compared, since schema and binary are of different versions")}, nil
	}
	m, err := postgres.NewMigrator(ctx, d.postgresConfig())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	differences, err := m.Validate(ctx)
	if err != nil {
		return nil, err
	}
	var found []finding
	for _, difference := range differences {
		found = append(found, bad(failing, "undo what was changed by hand; respirated migrate sql shows how it should be", "%s", difference))
	}
	return or(shortened(found), "all is as the migrations make it"), nil
}

// shortened keeps a table readable: more of the same says nothing more.
func shortened(found []finding) []finding {
	const most = 5
	if len(found) <= most {
		return found
	}
	rest := found[most]
	rest.Seen = fmt.Sprintf("and %d more", len(found)-most)
	return append(found[:most:most], rest)
}

// checkIndexes looks for indexes that a failed CREATE INDEX CONCURRENTLY or REINDEX has left invalid, and for missing ones.
func (d *doctor) checkIndexes(ctx context.Context) ([]finding, error) {
	rows, err := d.db.conn.Query(ctx, `
		select i.indexrelid::regclass::text from pg_index i join pg_class c on c.oid = i.indexrelid
		where c.relnamespace = $1::text::regnamespace and not (i.indisvalid and i.indisready) order by 1`, pgx.Identifier{d.db.schema}.Sanitize())
	if err != nil {
		return nil, err
	}
	invalid, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	rows, err = d.db.conn.Query(ctx, `
		select n from unnest($2::text[]) n
		where not exists (select from pg_class c where c.relnamespace = $1::text::regnamespace and c.relname = n and c.relkind in ('i', 'I'))`,
		pgx.Identifier{d.db.schema}.Sanitize(), neededIndexes(d.version))
	if err != nil {
		return nil, err
	}
	missing, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	var found []finding
	for _, name := range missing {
		found = append(found, bad(failing, "make it again, as respirated migrate sql says, with concurrently", "index %s is missing: statements read whole tables", name))
	}
	for _, name := range invalid {
		found = append(found, bad(failing, "reindex index concurrently "+name, "index %s is invalid: it is kept up to date, but not read", name))
	}
	return or(found, "%d are there and valid", len(neededIndexes(d.version))), nil
}

// neededIndexes carry the statements on a schema of some version.
func neededIndexes(version int64) (names []string) {
	for _, since := range []struct {
		version int64
		names   []string
	}{
		{1, []string{"strand_pkey", "strand_ready", "lane_pkey", "lane_tenant_queue_priority_kind_key", "queue_pkey",
			"history_id", "history_finished", "attempt_strand", "broker_pkey"}},
		{6, []string{"semaphore_pkey", "child_pkey", "child_ended", "deadline_pkey", "deadline_at", "page_pkey", "page_open"}},
		{7, []string{"outcome_pkey", "outcome_at"}},
		{8, []string{"audit_pkey", "audit_strand", "audit_at", "page_untold", "page_shown"}},
	} {
		if version >= since.version {
			names = append(names, since.names...)
		}
	}
	return names
}

// checkVacuum looks whether the strand table is vacuumed: its rows are updated all the time.
func (d *doctor) checkVacuum(ctx context.Context) ([]finding, error) {
	var on, counts bool
	var options []string
	var dead, live int64
	var last *time.Time
	err := d.db.conn.QueryRow(ctx, `
		select current_setting('autovacuum')::bool, current_setting('track_counts')::bool, coalesce(c.reloptions, '{}'),
			coalesce(s.n_dead_tup, 0), coalesce(s.n_live_tup, 0), greatest(s.last_vacuum, s.last_autovacuum)
		from pg_class c left join pg_stat_all_tables s on s.relid = c.oid where c.oid = $1::text::regclass`, d.table("strand")).
		Scan(&on, &counts, &options, &dead, &live, &last)
	if err != nil {
		return nil, err
	}
	var found []finding
	if !on || !counts {
		found = append(found, bad(failing, "alter system set autovacuum = on; alter system set track_counts = on; select pg_reload_conf()", "the server does not vacuum by itself"))
	}
	for _, option := range options {
		name, value, _ := strings.Cut(option, "=")
		if name == "autovacuum_enabled" && (value == "off" || value == "false" || value == "no" || value == "0") {
			found = append(found, bad(failing, fmt.Sprintf("alter table %s reset (autovacuum_enabled)", d.table("strand")), "the strand table is not vacuumed by itself"))
		}
	}
	seen := fmt.Sprintf("the strand table has about %d live and %d dead rows, and was %s", live, dead, vacuumed(last))
	if dead >= d.limits.dead && dead > live {
		found = append(found, bad(warned, fmt.Sprintf("see old transactions; else vacuum %s, and give autovacuum more workers", d.table("strand")), "%s", seen))
	}
	return or(found, "%s", seen), nil
}

func vacuumed(last *time.Time) string {
	if last == nil {
		return "never vacuumed yet"
	}
	return "vacuumed at " + last.UTC().Format(time.RFC3339)
}

// checkDays looks for the partitions of the next days, which a daemon makes each hour, a week ahead.
func (d *doctor) checkDays(ctx context.Context) ([]finding, error) {
	const ahead = 3
	rows, err := d.db.conn.Query(ctx, `
		select t.name || to_char((now() at time zone 'UTC')::date + day, '_YYYYMMDD')
		from unnest(array['history', 'attempt']) t (name), generate_series(0, $2::int) day
		where to_regclass(format('%I.%I', $1::text, t.name || to_char((now() at time zone 'UTC')::date + day, '_YYYYMMDD'))) is null
		order by day, t.name`, d.db.schema, ahead)
	if err != nil {
		return nil, err
	}
	missing, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	if len(missing) == 0 {
		return fine("the partitions of today and the next %d days are there", ahead), nil
	}
	do := fmt.Sprintf("start a daemon, which makes them, or select %s.maintain(); see its log for why it could not", pgx.Identifier{d.db.schema}.Sanitize())
	return []finding{bad(warned, do, "partitions are missing: %s. Nothing fails, but what ends then is dropped row by row", strings.Join(missing, ", "))}, nil
}

// checkPages looks for deadlines that have passed and that nobody has looked after.
func (d *doctor) checkPages(ctx context.Context) ([]finding, error) {
	pages, err := d.db.openPages(ctx)
	if err != nil {
		return nil, err
	}
	if pages.Count == 0 {
		return fine("none is open"), nil
	}
	return []finding{bad(warned, "respirated page list; then see what keeps these strands: respirated strand why ID",
		"%s: strands have not met their deadlines", pages)}, nil
}

// table is the name of a table of ours in SQL.
func (d *doctor) table(name string) string { return pgx.Identifier{d.db.schema, name}.Sanitize() }
