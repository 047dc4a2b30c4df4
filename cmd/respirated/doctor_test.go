package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/postgres"
	"github.com/respirated/respirated/broker/postgres/private"
	"github.com/respirated/respirated/client"
)

// patient is an installation that the doctor looks at: a database, and the folder of a socket.
type patient struct {
	t    *testing.T
	cfg  fileConfig
	conn *pgx.Conn
}

// newPatient is in good health, but nobody runs.
func newPatient(t *testing.T) *patient {
	t.Helper()
	p := &patient{t: t, cfg: fileConfig{DatabaseURLs: urls{migrated(t)}, Schema: postgres.DefaultSchema, Socket: filepath.Join(t.TempDir(), "run", "r.sock")}}
	p.conn = p.connect()
	return p
}

// connect makes a session beside the doctor's.
func (p *patient) connect() *pgx.Conn {
	p.t.Helper()
	conn, err := pgx.Connect(p.t.Context(), p.cfg.DatabaseURLs.one())
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close(p.t.Context()) })
	return conn
}

func (p *patient) sql(statement string, args ...any) {
	p.t.Helper()
	if _, err := p.conn.Exec(p.t.Context(), statement, args...); err != nil {
		p.t.Fatalf("%s: %v", statement, err)
	}
}

// announce makes a broker known that looks after the ids of a range.
func (p *patient) announce(a broker.Announcement) {
	p.t.Helper()
	store, err := postgres.Open(p.t.Context(), postgres.Config{URL: p.cfg.DatabaseURLs.one()})
	if err != nil {
		p.t.Fatal(err)
	}
	defer store.Close()
	if err := store.Announce(p.t.Context(), a, time.Minute); err != nil {
		p.t.Fatal(err)
	}
}

// sees makes one check and compares what it says: a line for each of its findings, with its result and a part of what it
// has seen and of what to do.
func (p *patient) sees(check string, want ...string) {
	p.t.Helper()
	p.seesWith(usualLimits, check, want...)
}

func (p *patient) seesWith(limits doctorLimits, check string, want ...string) {
	p.t.Helper()
	compareFindings(p.t, p.make(limits, check), want)
}

// make makes one check, after that of the schema, which others go by.
func (p *patient) make(limits doctorLimits, check string) []finding {
	p.t.Helper()
	db, err := connect(p.t.Context(), p.cfg, client.InsertOpts{})
	if err != nil {
		p.t.Fatal(err)
	}
	defer db.close(p.t.Context())
	d := &doctor{cfg: p.cfg, db: db, limits: limits}
	if _, err := d.checkSchema(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
	for _, c := range slices.Concat(databaseChecks, schemaChecks, hostChecks) {
		if c.name == check {
			return d.make(p.t.Context(), []doctorCheck{c})
		}
	}
	p.t.Fatalf("there is no check %q", check)
	return nil
}

func TestDoctorFindsNothingWhereADaemonRuns(t *testing.T) {
	t.Parallel()
	h := newHost(t, migrated(t), "--worker", filepath.Join(programs(t), "demo-worker"), "--procs", "1")
	h.start()
	h.workers(1)
	var listed struct{ Checks []finding }
	h.eventually("all checks are ok", func() bool { // the worker is announced a moment after it has connected
		code, stdout, stderr := call("doctor", "--json", "--database-url", h.url, "--socket", h.socket())
		if code != 0 || stderr != "" {
			t.Fatalf("code %d, %s\n%s", code, stderr, stdout)
		}
		listed.Checks = nil
		if err := json.Unmarshal([]byte(stdout), &listed); err != nil {
			t.Fatal(err)
		}
		return !slices.ContainsFunc(listed.Checks, func(f finding) bool { return f.Result != healthy || f.Do != "" })
	})
	for _, check := range slices.Concat(databaseChecks, schemaChecks, hostChecks) {
		if n := len(slices.DeleteFunc(slices.Clone(listed.Checks), func(f finding) bool { return f.Check != check.name })); n != 1 {
			t.Errorf("%s says %d lines, want one", check.name, n)
		}
	}
	code, stdout, _ := call("doctor", "--database-url", h.url, "--socket", h.socket())
	if code != 0 || !strings.HasPrefix(stdout, "CHECK ") || !strings.Contains(stdout, "daemon ") {
		t.Errorf("code %d and\n%s", code, stdout)
	}
}

func TestDoctorWithoutADatabaseOrASchemaFails(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	code, stdout, stderr := call("doctor", "--database-url", "postgres://127.0.0.1:1/x?connect_timeout=2", "--socket", p.cfg.Socket)
	if code != exitFailed || !strings.Contains(stdout, "connection refused") || !strings.Contains(stdout, "no daemon has run") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("no server: code %d, %q\n%s", code, stderr, stdout)
	}
	p.cfg.Schema = "absent"
	p.sees("schema", "fail: there is no schema absent => respirated migrate up")
	code, stdout, stderr = call("doctor", "--database-url", p.cfg.DatabaseURLs.one(), "--socket", p.cfg.Socket, "--schema", "absent")
	if code != exitFailed || !strings.Contains(stderr, "1 of ") || strings.Contains(stdout, "tables") {
		t.Errorf("no schema: code %d, %q\n%s", code, stderr, stdout)
	}
	var made bool
	if err := p.conn.QueryRow(t.Context(), "select to_regnamespace('absent') is not null").Scan(&made); err != nil || made {
		t.Errorf("the doctor has made the schema that it looked for (%v)", err)
	}
}

func TestDoctorComparesTheSchemaWithThisBinary(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	p.sees("schema", "ok: schema respirate is at version")
	p.sees("writing", "ok: ")
	p.sees("tables", "ok: ")
	p.sql("alter table respirate.strand add column mine int")
	p.sql("drop function respirate.wake(uuid)")
	p.sees("tables", "fail: missing or different: function wake", "fail: unexpected: column mine on strand")

	p.sql("insert into respirate.schema_version (version_id, is_applied) values (99, true)")
	p.sees("schema", "warn: schema respirate is at version 99")
	p.sees("tables", "warn: not compared")
	p.sql("create or replace function respirate.oldest_binary() returns int language sql immutable as 'select 99'")
	p.sees("schema", "schema respirate is at version 99 and serves binaries from version 99 on, this one has")

	p.sql("delete from respirate.schema_version where version_id > 1")
	p.sees("schema", "fail: a daemon would not start: schema does not fit: schema respirate is at version 1")
}

func TestDoctorCountsOpenPages(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	p.sees("pages", "ok: none is open")
	p.sql(`insert into respirate.page (strand, frame, kind, target, due_at, opened_at, resolved_at)
		select gen_random_uuid(), 0, 'k', 'ready', now(), now() - n * interval '1 hour', case when n > 2 then now() end from generate_series(1, 3) n`)
	p.sees("pages", "warn: 2 open, the oldest since 2h00m")
}

func TestDoctorFindsADatabaseThatTakesNoWrites(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	p.cfg.DatabaseURLs[0] += "&options=-cdefault_transaction_read_only%3Don"
	p.sees("database", "fail: PostgreSQL ")
	p.sees("schema", "fail: a daemon would not start: cannot use the database: it is a standby or read-only")
}

func TestDoctorOfARoleThatMayOnlyReadSaysWhatItCannotSee(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	p.sql("create role doctor_reader login")
	defer func() { p.sql("drop owned by doctor_reader"); p.sql("drop role doctor_reader") }()
	p.sql("select respirate.grant_client('doctor_reader')")
	p.sql("grant select on respirate.schema_version to doctor_reader")
	p.cfg.DatabaseURLs[0] += "&user=doctor_reader"
	p.sees("database", "ok: ")
	p.sees("writing", "warn: this role may not write the tables: ")
	p.sees("old transactions", "warn: only the sessions of this role can be seen")
	p.sees("tables", "warn: could not be checked: ")
}

// It sees that others have a transaction, but not since when.
func TestDoctorOfARoleThatMayNotSeeOthersIsNotConfusedByThem(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	p.sql("create role doctor_blind login")
	defer func() { p.sql("drop owned by doctor_blind"); p.sql("drop role doctor_blind") }()
	tx, err := p.connect().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "select pg_current_xact_id()"); err != nil {
		t.Fatal(err)
	}
	p.cfg.DatabaseURLs[0] += "&user=doctor_blind"
	p.sees("old transactions", "warn: only the sessions of this role can be seen")
	p.sees("schema", "fail: a daemon of this role would not start: ")
}

func TestDoctorTellsADaemonThatIsStoppedFromOneThatIsGone(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	dir := filepath.Dir(p.cfg.Socket)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.cfg.Socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, controlSocket)) // the kernel takes who comes; nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p.sees("socket", "fail: the daemon at "+l.Addr().String()+" does not answer: it is stopped, or hangs => see whether")
}

func TestDoctorFindsWhatKeepsRowsFromBeingVacuumed(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	p.sees("old transactions", "ok: ")
	tx, err := p.conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "select pg_current_xact_id()"); err != nil {
		t.Fatal(err)
	}
	at := usualLimits
	at.pinned = 0
	p.seesWith(at, "old transactions", fmt.Sprintf("warn: session %d (", p.conn.PgConn().PID()))
	p.seesWith(at, "old transactions", "idle in transaction) keeps dead rows from being vacuumed for ")
	p.seesWith(at, "old transactions", fmt.Sprintf("=> find out what it does, then select pg_terminate_backend(%d)", p.conn.PgConn().PID()))
	p.sees("old transactions", "ok: the oldest transaction is of ")
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.seesWith(at, "old transactions", "ok: ")
}

func TestDoctorFindsPreparedTransactionsThatNobodyEnds(t *testing.T) {
	t.Parallel()
	server, err := private.Start(t.Context(), private.Config{Template: true, Settings: map[string]string{"max_prepared_transactions": "2", "fsync": "off"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	p := &patient{t: t, cfg: fileConfig{DatabaseURLs: urls{server.URL()}, Schema: postgres.DefaultSchema, Socket: filepath.Join(t.TempDir(), "r.sock")}}
	p.conn = p.connect()
	p.sql("begin; select pg_current_xact_id(); prepare transaction 'forgotten';")
	at := usualLimits
	at.pinned = 0
	p.seesWith(at, "old transactions", "=> commit prepared 'forgotten', or rollback prepared 'forgotten'")
	p.sql("rollback prepared 'forgotten'")
	p.seesWith(at, "old transactions", "ok: ")
}

func TestDoctorFindsInvalidAndMissingIndexes(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	p.sees("indexes", "ok: ")
	p.sql("insert into respirate.queue (tenant, queue) values ('a', 'x'), ('b', 'x')")
	if _, err := p.conn.Exec(t.Context(), "create unique index concurrently one_queue on respirate.queue (queue)"); err == nil {
		t.Fatal("the index was made")
	}
	p.sees("indexes", "fail: index respirate.one_queue is invalid: it is kept up to date, but not read => reindex index concurrently respirate.one_queue")
	p.sql("drop index respirate.one_queue")
	p.sql("drop index respirate.strand_ready")
	p.sees("indexes", "fail: index strand_ready is missing")
}

func TestDoctorKnowsAllIndexesThatTheMigrationsMake(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	var made []string
	err := p.conn.QueryRow(t.Context(), `select array_agg(c.relname::text order by c.relname) from pg_class c
		where c.relnamespace = 'respirate'::regnamespace and c.relkind in ('i', 'I') and not c.relispartition and c.relname !~ '^schema_version'`).Scan(&made)
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(slices.Values(neededIndexes(postgres.LatestVersion()))); !slices.Equal(got, made) {
		t.Errorf("got %q, want %q", got, made)
	}
	if got := neededIndexes(5); slices.Contains(got, "semaphore_pkey") || !slices.Contains(got, "broker_pkey") {
		t.Errorf("of schema 5: got %q", got)
	}
}

func TestDoctorFindsATableThatIsNotVacuumed(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	p.sees("vacuum", "ok: ")
	p.sql("alter table respirate.strand set (autovacuum_enabled = off)")
	p.sees("vacuum", `fail: the strand table is not vacuumed by itself => alter table "respirate"."strand" reset (autovacuum_enabled)`)

	p.sql("select respirate.insert('echo') from generate_series(1, 200)")
	p.sql("update respirate.strand set try = 1")
	p.sql("delete from respirate.strand")
	at := usualLimits
	at.dead = 100
	p.conn.Close(t.Context()) // a session that ends tells how much it has left behind
	end := time.Now().Add(patience)
	for len(p.make(at, "vacuum")) < 2 && time.Now().Before(end) {
		time.Sleep(50 * time.Millisecond)
	}
	p.seesWith(at, "vacuum", "fail: ", "warn: the strand table has about 0 live and ")
	p.conn = p.connect()
	p.sql("alter table respirate.strand reset (autovacuum_enabled)")
}

func TestDoctorFindsMissingDays(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	p.sees("days of history", "ok: ")
	var tomorrow string
	if err := p.conn.QueryRow(t.Context(), "select to_char((now() at time zone 'UTC')::date + 1, 'YYYYMMDD')").Scan(&tomorrow); err != nil {
		t.Fatal(err)
	}
	p.sql("drop table respirate.history_" + tomorrow)
	p.sees("days of history", "warn: partitions are missing: history_"+tomorrow+".")
	p.sql("select respirate.maintain()")
	p.sees("days of history", "ok: ")
}

func TestDoctorSeesWhoIsThere(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	p.sees("brokers", "warn: no broker is alive: nothing is due")
	p.sees("coverage")
	p.sql("select respirate.insert('noop', '{}', '{\"in\": 3600}')")
	p.sees("brokers", "warn: no broker is alive: nothing is due")
	p.sql("select respirate.insert('noop')")
	p.sees("brokers", "fail: no broker is alive: strands that are due wait")
	p.announce(broker.Announcement{Broker: broker.ID{1}, Host: "a", PID: 7, Build: "v1"})
	p.sees("brokers", "fail: 1 brokers are alive, but none has a worker: strands that are due wait")
	p.announce(broker.Announcement{Broker: broker.ID{1}, Host: "a", PID: 7, Build: "v1", Workers: 2})
	p.sees("brokers", "ok: 1 alive, with 2 workers")
	p.sees("coverage", "ok: ")
	p.announce(broker.Announcement{Broker: broker.ID{2}, Host: "b", PID: 7, Build: "v2", Workers: 2})
	p.sees("brokers", "warn: brokers are of different builds: 1 of v1, 1 of v2")
}

func TestDoctorFindsIdsThatNobodyLooksAfter(t *testing.T) {
	for _, c := range []struct {
		slices []broker.Slice
		want   []string
	}{
		{[]broker.Slice{{}}, []string{"ok: "}},
		{[]broker.Slice{{Lo: 1 << 32, Hi: 1 << 32}}, []string{"ok: no broker has a worker"}},
		{[]broker.Slice{{Lo: 1 << 32, Hi: 1 << 32}, {Hi: 1 << 31}, {Lo: 1 << 31}}, []string{"ok: each"}},
		{[]broker.Slice{{Lo: 1 << 32, Hi: 1 << 32}, {Hi: 1 << 31}, {Lo: 1 << 32, Hi: 1 << 32}}, []string{"the ids 80000000-ffffffff"}},
		{[]broker.Slice{{Hi: 1 << 31}, {Lo: 1 << 31}}, []string{"ok: "}},
		{[]broker.Slice{{Lo: 1 << 31}, {}}, []string{"ok: "}},
		{[]broker.Slice{{Lo: 0x55555555, Hi: 0xAAAAAAAA}, {Hi: 0xC0000000}, {Lo: 0xC0000000}}, []string{"ok: "}},
		{[]broker.Slice{{Hi: 1 << 31}}, []string{"the ids 80000000-ffffffff"}},
		{[]broker.Slice{{Lo: 1 << 31}}, []string{"the ids 00000000-7fffffff"}},
		{[]broker.Slice{{Lo: 0xC0000000}, {Lo: 1, Hi: 0x40000000}, {Lo: 0x50000000, Hi: 0x60000000}},
			[]string{"the ids 00000000-00000000", "the ids 40000000-4fffffff", "the ids 60000000-bfffffff"}},
	} {
		var rows []*client.BrokerRow
		for _, s := range c.slices {
			hi := int64(s.Hi)
			if hi == 0 {
				hi = 1 << 32
			}
			rows = append(rows, &client.BrokerRow{Alive: true, Lo: int64(s.Lo), Hi: hi})
		}
		compareFindings(t, judgeCoverage(rows), c.want)
	}
}

func TestDoctorFindsKindsThatNotAllServe(t *testing.T) {
	half := func(upper int64, kinds ...string) *client.BrokerRow {
		return &client.BrokerRow{Alive: true, Lo: upper << 31, Hi: (upper + 1) << 31, Kinds: kinds}
	}
	whole := &client.BrokerRow{Alive: true, Hi: 1 << 32, Kinds: []string{"a", "b", "c", "d", "e", "f"}}
	for _, c := range []struct {
		brokers []*client.BrokerRow
		want    string
	}{
		{[]*client.BrokerRow{half(0), half(1)}, "ok: "},
		{[]*client.BrokerRow{half(0, "a", "b"), half(1, "b", "a")}, "ok: "},
		{[]*client.BrokerRow{half(0, "a", "b"), half(1, "b")}, "warn: some brokers have no worker for: a. Such"},
		{[]*client.BrokerRow{half(0), half(1, whole.Kinds...)}, "warn: some brokers have no worker for: a, b, c, d, e and 1 more. Such"},
		{[]*client.BrokerRow{half(0), half(1, "a"), whole}, "ok: "},
	} {
		compareFindings(t, judgeCoverage(c.brokers), []string{c.want})
	}
}

func TestDoctorFindsNumbersThatSeveralHave(t *testing.T) {
	for _, c := range []struct {
		brokers []*client.BrokerRow
		want    []string
	}{
		{[]*client.BrokerRow{{Host: "a"}, {Host: "b"}}, []string{"ok: no broker has a number"}},
		{[]*client.BrokerRow{{Partition: 1, Members: 2}, {Partition: 2, Members: 2}}, []string{"ok: 2 numbers, each of one broker"}},
		{[]*client.BrokerRow{{Host: "a", PID: 7, Partition: 3, Members: 2}, {Host: "b", PID: 8, Partition: 3, Members: 2}, {Partition: 4, Members: 2}},
			[]string{"warn: 2 brokers have the number 3: a (pid 7), b (pid 8)"}},
		{[]*client.BrokerRow{{Partition: 1, Members: 2}, {Partition: 2, Members: 3}, {Partition: 4, Members: 3}},
			[]string{"warn: brokers do not agree how many parts there are: 2, 3"}},
		{[]*client.BrokerRow{{Partition: 1, Members: 1}, {}, {}}, []string{"warn: 2 brokers have no number, and look for all strands beside 1 that"}},
	} {
		for _, b := range c.brokers {
			b.Alive = true
		}
		compareFindings(t, judgePartitions(c.brokers), c.want)
	}
}

func TestDoctorJudgesClocksByMoreThanTheWayOfTheAnswer(t *testing.T) {
	d := &doctor{limits: usualLimits}
	for _, c := range []struct {
		ahead, wide time.Duration
		want        string
	}{
		{0, time.Millisecond, "ok: "},
		{-900 * time.Millisecond, 0, "ok: "},
		{3 * time.Second, 10 * time.Second, "ok: "}, // that may be all on the way
		{3 * time.Second, 20 * time.Millisecond, "warn: this host is 3s behind the database, within 10ms"},
		{-time.Hour, time.Millisecond, "warn: this host is 1h0m0s ahead of the database"},
	} {
		compareFindings(t, d.judgeClocks(c.ahead, c.wide), []string{c.want})
	}
}

func TestDoctorWarnsBeforeTheQueueOfNotificationsIsFull(t *testing.T) {
	for usage, want := range map[float64]string{0: "ok: ", 0.049: "ok: ", 0.06: "warn: the queue of NOTIFY is 6 % full", 0.5: "fail: ", 1: "fail: "} {
		compareFindings(t, judgeNotifications(usage), []string{want})
	}
}

func TestDoctorLooksAtTheFolderOfTheSocket(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	p.sees("socket", "warn: no daemon has run at "+p.cfg.Socket)
	p.sees("daemon")
	dir := filepath.Dir(p.cfg.Socket)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	p.sees("socket", "fail: the folder "+dir+" can be entered by others (mode 0755): no daemon starts there => chmod 700 "+dir)
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	p.sees("socket", "warn: no daemon runs at "+p.cfg.Socket)
	if err := os.WriteFile(p.cfg.Socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p.sees("socket", "fail: no daemon answers, and it has left its socket")
	lock := filepath.Join(dir, "respirate.lock")
	if err := os.WriteFile(lock, fmt.Appendln(nil, os.Getpid()), 0o600); err != nil {
		t.Fatal(err)
	}
	p.sees("socket", fmt.Sprintf("ok: process %d serves %s and has no control socket: an application has embedded it", os.Getpid(), p.cfg.Socket))
	if err := os.WriteFile(lock, fmt.Appendln(nil, endedProcess(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	p.sees("socket", "fail: no daemon answers, and it has left its socket")
	if err := os.Remove(p.cfg.Socket); err != nil {
		t.Fatal(err)
	}
	serveControl(t, dir, known{snapshot: broker.Snapshot{Broker: broker.ID{1}.String()}})
	p.sees("socket", fmt.Sprintf("ok: daemon %d ", os.Getpid()))
	p.sees("daemon", "fail: the daemon of this host is not among the brokers of this schema")
	p.announce(broker.Announcement{Broker: broker.ID{1}, Host: "a", PID: 7, Workers: 1})
	p.sees("daemon", "ok: ")
}

// endedProcess is the pid of a process that was there.
func endedProcess(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

func TestDoctorKeepsItsTableReadable(t *testing.T) {
	var many []finding
	for n := range 40 {
		many = append(many, bad(failing, "do", "difference %d", n))
	}
	compareFindings(t, shortened(many), []string{"difference 0", "difference 1", "difference 2", "difference 3", "difference 4", "and 35 more"})
	compareFindings(t, shortened(many[:5]), []string{"difference 0", "difference 1", "difference 2", "difference 3", "difference 4"})
}

func compareFindings(t *testing.T, found []finding, want []string) {
	t.Helper()
	var got []string
	for _, f := range found {
		got = append(got, fmt.Sprintf("%s: %s => %s", f.Result, f.Seen, f.Do))
	}
	ok := len(got) == len(want)
	for i := 0; ok && i < len(want); i++ {
		ok = strings.Contains(got[i], want[i])
	}
	if !ok {
		t.Errorf("got\n%s\nwant lines with\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
