package postgres_test

import (
	"context"
	"reflect"
	"regexp"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker"
)

// ear hears what brokers hear.
type ear struct {
	s    *subject
	conn *pgx.Conn
}

func newEar(s *subject, url string) *ear {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), url)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close(context.Background()) })
	if _, err := conn.Exec(s.t.Context(), `listen respirate_wake`); err != nil {
		s.t.Fatal(err)
	}
	return &ear{s: s, conn: conn}
}

var firstByte = regexp.MustCompile(` [0-9a-f]{2}\b`)

// heard lists the payloads since it was last asked, with a ? for each first byte of an id. Notifications keep the order of
// commits, so that everything before the last word has come once that is here.
func (e *ear) heard() []string {
	e.s.t.Helper()
	const lastWord = "that is all"
	e.s.run(`select pg_notify('respirate_wake', $1)`, lastWord)
	payloads := []string{}
	for {
		n, err := e.conn.WaitForNotification(e.s.t.Context())
		if err != nil {
			e.s.t.Fatal(err)
		}
		if n.Payload == lastWord {
			return payloads
		}
		payloads = append(payloads, firstByte.ReplaceAllString(n.Payload, " ?"))
	}
}

// hears does something and compares what is heard of it.
func (e *ear) hears(what string, want []string, do func()) {
	e.s.t.Helper()
	do()
	if got := e.heard(); !reflect.DeepEqual(got, want) {
		e.s.t.Errorf("%s: heard %q, want %q", what, got, want)
	}
}

func TestInsertersNotifyOnlyIfSomebodyCares(t *testing.T) {
	url := migrated(t)
	s := newSubject(t, url)
	e := newEar(s, url)
	silence, wake := []string{}, []string{"due ?"}
	sql := func(text string) func() { return func() { s.run(text) } }
	insert := sql(`select respirate.insert('mail')`)
	a := broker.Announcement{Broker: newID()}
	be := func(change func(), ttl time.Duration) {
		t.Helper()
		a.Busy, a.Slice = false, broker.Slice{}
		change()
		s.announce(a, ttl)
	}
	idle := func() {}

	e.hears("a new lane with no broker", silence, insert)
	be(idle, hour)
	e.hears("an insert", wake, insert)
	e.hears("two inserts in one transaction", []string{"due ?", ""},
		sql(`begin; select respirate.insert('mail'); select respirate.insert('mail'); commit`))
	e.hears("three inserts in one transaction", []string{"due ?", ""},
		sql(`begin; select respirate.insert('mail'); select respirate.insert('mail'); select respirate.insert('mail'); commit`))
	e.hears("an insert in a transaction that has told of nothing due yet", wake,
		sql(`begin; select respirate.insert('mail', '{}', '{"in":6}'); select respirate.insert('mail'); commit`))
	e.hears("an insert after a savepoint was rolled back", wake,
		sql(`begin; savepoint s; select respirate.insert('mail'); rollback to s; select respirate.insert('mail'); commit`))
	e.hears("an insert rolled back", silence, sql(`begin; select respirate.insert('mail'); rollback`))
	e.hears("many at once", []string{""}, sql(`select respirate.insert_many(array_fill('mail'::text, '{100}'), array_fill('1'::jsonb, '{100}'))`))
	e.hears("a deferred one", silence, sql(`select respirate.insert('mail', '{}', '{"in":6}')`))
	e.hears("a deferred one that is due soon", wake, sql(`select respirate.insert('mail', '{}', '{"in":4}')`))
	e.hears("one that is there already", wake, sql(`select respirate.insert('mail', '{}', '{"id":"80000000-0000-4000-8000-000000000000"}')`))
	e.hears("a hint after COPY", []string{""}, sql(`select respirate.hint()`))
	e.hears("a wake", wake, sql(`select respirate.wake('80000000-0000-4000-8000-000000000000')`))
	e.hears("a retry", wake, sql(`select respirate.retry('80000000-0000-4000-8000-000000000000')`))
	e.hears("a new lane", []string{"lane", "due ?"}, sql(`select respirate.insert('new')`))

	be(func() { a.Slice = broker.Slice{Lo: 0, Hi: 0x80000000} }, hour)
	e.hears("an id of another slice", silence, sql(`select respirate.insert('mail', '{}', '{"id":"80000000-0000-4000-8000-000000000001"}')`))
	e.hears("an id of its slice", wake, sql(`select respirate.insert('mail', '{}', '{"id":"7fffffff-0000-4000-8000-000000000000"}')`))

	be(func() { a.Busy = true }, hour)
	e.hears("an insert while it is busy", silence, insert)
	e.hears("a hint while it is busy", silence, sql(`select respirate.hint()`))
	e.hears("a new lane while it is busy", []string{"lane"}, sql(`select respirate.insert('newer')`))
	e.hears("an insert that may see an old flag", wake, sql(`begin isolation level repeatable read; select respirate.insert('mail'); commit`))

	be(idle, -time.Second)
	e.hears("an insert when it is silent", silence, insert)
	be(idle, hour)
	if err := s.Leave(t.Context(), a.Broker); err != nil {
		t.Fatal(err)
	}
	e.hears("an insert when it has left", silence, insert)
}

func TestCancelOfALeasedStrandIsHeardEvenByTheBusy(t *testing.T) {
	url := migrated(t)
	s := newSubject(t, url)
	e := newEar(s, url)
	s.announce(broker.Announcement{Broker: newID(), Busy: true}, hour)
	p := s.lease(s.insert(""))[0]
	free := s.insert(`{"in":3600}`)
	e.heard()
	e.hears("cancel of a leased one", []string{"cancel"}, func() { s.Cancel(p.ID) })
	e.hears("the same again", []string{}, func() { s.Cancel(p.ID) })
	e.hears("cancel of a free one", []string{}, func() { s.Cancel(free) })
}

func TestCommitsTellOthersOfWhatTheyMakeDue(t *testing.T) {
	url := migrated(t)
	s := newSubject(t, url)
	e := newEar(s, url)
	s.announce(broker.Announcement{Broker: newID()}, hour)
	parent, kids := s.family(2)
	p := s.lease(s.insert(""))[0]
	e.heard()
	wake := []string{"due ?"}
	e.hears("a parent's nap", []string{}, func() { s.apply(napOf(parent)) })
	e.hears("a child's exit", []string{}, func() { s.apply(exitOf(kids[0])) })
	e.hears("the last child's exit", wake, func() { s.apply(exitOf(kids[1])) })
	e.hears("a hop to another kind", wake, func() {
		s.apply(broker.Report{Pair: p, Seq: 1, Act: broker.Hop, Label: "x", Kind: "child"})
	})
}

// scanned is what a scan from the bottom finds.
func (s *subject) scanned(kinds ...string) broker.ScanResult {
	s.t.Helper()
	got, err := s.Scan(s.t.Context(), broker.ScanRequest{Kinds: kinds, Limit: 1000, Bottom: true})
	if err != nil {
		s.t.Fatal(err)
	}
	return got
}

// settled is a scan that is settled, as it has to be soon when nobody of this test is at anything: the server's own affairs, such as
// an analysis of another database, have transactions, too.
func (s *subject) settled(kinds ...string) (got broker.ScanResult) {
	s.t.Helper()
	eventually(s.t, "the scan is settled", func() bool {
		got = s.scanned(kinds...)
		return got.Settled
	})
	return got
}

// begin starts a transaction of an application, with some SQL in it.
func (s *subject) begin(options pgx.TxOptions, sql string) pgx.Tx {
	s.t.Helper()
	tx, err := s.pool.BeginTx(s.t.Context(), options)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { tx.Rollback(cleanupContext(s.t)) }) // where the test failed before its end
	if _, err := tx.Exec(s.t.Context(), sql); err != nil {
		s.t.Fatal(err)
	}
	return tx
}

func (s *subject) commitTx(tx pgx.Tx) {
	s.t.Helper()
	if err := tx.Commit(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// An inserter saw us busy and sends nothing. From the first scan that is settled on, its row has been seen.
func TestScanIsSettledOnlyWhenAllWhoSawUsBusyAreOver(t *testing.T) {
	url := migrated(t)
	s := newSubject(t, url)
	e := newEar(s, url)
	a := broker.Announcement{Broker: newID(), Busy: true}
	s.announce(a, hour)
	s.run(`select respirate.lane('', 'default', 5, 'one')`)
	e.heard()

	tx := s.begin(pgx.TxOptions{}, `select respirate.insert('one')`)
	a.Busy = false
	s.announce(a, hour)
	for range 3 {
		if got := s.scanned("one"); got.Settled || len(got.Candidates) > 0 {
			t.Fatalf("while the inserter is at it: got %+v, want nothing found and nothing settled", got)
		}
	}
	s.commitTx(tx)
	if heard := e.heard(); len(heard) > 0 {
		t.Fatalf("the inserter saw us busy, but sent %q", heard)
	}
	if got := s.settled("one"); len(got.Candidates) != 1 {
		t.Errorf("when the inserter is over: got %+v, want its strand", got)
	}
	if got := s.scanned("one"); !got.Settled {
		t.Error("once settled it must stay so")
	}
}

// The inserter looks before our announcement is committed, whatever the order of their transaction ids.
func TestInserterThatLooksDuringAnAnnouncementIsWaitedFor(t *testing.T) {
	s := newSubject(t, migrated(t))
	a := broker.Announcement{Broker: newID(), Busy: true}
	s.announce(a, hour)
	s.run(`select respirate.lane('', 'default', 5, 'one')`)

	// What Announce does, stretched: its transaction has drawn its id, the inserter's draws a later one, looks, and is
	// still at it when the announcement is there.
	slow := s.begin(pgx.TxOptions{}, `update respirate.broker set busy = false`)
	inserter := s.begin(pgx.TxOptions{}, `select respirate.insert('one')`)
	s.commitTx(slow)
	a.Busy = false
	s.announce(a, hour)
	if got := s.scanned("one"); got.Settled {
		t.Error("settled while an inserter that saw us busy is at it")
	}
	s.commitTx(inserter)
	if got := s.settled("one"); len(got.Candidates) != 1 {
		t.Errorf("when the inserter is over: got %+v, want its strand", got)
	}
}

func TestAnnouncementThatChangesNothingKeepsTheScanSettled(t *testing.T) {
	s := newSubject(t, migrated(t))
	if s.scanned("one").Settled {
		t.Error("settled before anything was announced")
	}
	a := broker.Announcement{Broker: newID()}
	other := s.begin(pgx.TxOptions{}, `select pg_current_xact_id()`)
	s.announce(a, hour)
	if s.scanned("one").Settled {
		t.Error("settled while a transaction is open that is older than the announcement")
	}
	s.commitTx(other)
	s.settled("one")
	other = s.begin(pgx.TxOptions{}, `select pg_current_xact_id()`)
	a.Workers = 7
	s.announce(a, hour)
	if !s.scanned("one").Settled {
		t.Error("a heartbeat unsettled the scan")
	}
	s.commitTx(other)
}
