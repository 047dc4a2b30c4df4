package postgres_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/postgres"
)

// These tests are about what only a real database can get wrong: transactions that meet.

// goingOn is a transaction that has carried out go_on.sql for a strand and has not committed.
func (s *subject) goingOn(p broker.Pair, seq int32, stay bool) pgx.Tx {
	s.t.Helper()
	tx := s.begin(pgx.TxOptions{}, `select`)
	done, err := tx.Exec(s.t.Context(), postgres.Statement("go_on"), postgres.UUIDs{p.ID}, postgres.UUIDs{p.Token}, []int32{seq},
		[]bool{true}, []bool{false}, []bool{stay}, []int64{hour.Microseconds()}, []*string{nil}, []*int32{nil}, [][]byte{nil}, false)
	if err != nil || done.RowsAffected() != 1 {
		s.t.Fatalf("go on: %d rows and error %v, want 1", done.RowsAffected(), err)
	}
	return tx
}

// Scans of a lane begin at the first strand that it had, so that what comes to it must not be before that.
func TestStrandThatStaysComesToAnotherLaneAtItsEnd(t *testing.T) {
	s := newSubject(t, migrated(t))
	first, old := s.insert(""), s.insert("")
	s.run(`update respirate.strand set schedule = now() - interval '1 hour' where id = $1`, [16]byte(old))
	p := s.lease(old)[0]
	report := broker.Report{Pair: p, Seq: 1, Act: broker.Hop, Label: "next", Stay: true}
	s.apply(report)
	isBehind := `select a.schedule > b.schedule from respirate.strand a, respirate.strand b where a.id = $1 and b.id = $2`
	if one[bool](s, isBehind, [16]byte(old), [16]byte(first)) {
		t.Error("a strand that stays in its lane has moved in the index")
	}
	report.Seq, report.Kind = 2, "other"
	s.apply(report)
	if !one[bool](s, isBehind, [16]byte(old), [16]byte(first)) {
		t.Error("a strand has come to a lane below strands that were there before")
	}
}

// A queue that keeps no history does not tell of a child that has ended. Its parent does, until it has reaped it.
func TestChildIsNotMadeAgainBeforeItIsReaped(t *testing.T) {
	s := newSubject(t, migrated(t))
	s.run(`insert into respirate.queue (tenant, queue, retention) values ('', 'brief', '0')`)
	p, seq := s.lease(s.insert(""))[0], uint64(0)
	child := broker.Insert{ID: broker.ID{1}, Kind: "k", Args: []byte(`{}`), Opts: []byte(`{"queue":"brief"}`), Child: true}
	goOn := func(reaped []broker.ID, inserts []broker.Insert, left, inbox int) {
		t.Helper()
		seq++
		s.apply(broker.Report{Pair: p, Seq: seq, Act: broker.Nap, Stay: true, Reaped: reaped, Inserts: inserts})
		if row, _ := s.Row(p.ID); row.ChildrenLeft != left || row.Inbox != inbox {
			t.Errorf("nap %d: got %d children left and %d to reap, want %d and %d", seq, row.ChildrenLeft, row.Inbox, left, inbox)
		}
	}
	goOn(nil, []broker.Insert{child}, 1, 0)
	s.apply(broker.Report{Pair: s.lease(child.ID)[0], Seq: 1, Act: broker.Exit})
	goOn(nil, []broker.Insert{child}, 0, 1)
	goOn([]broker.ID{child.ID}, nil, 0, 0)
	goOn(nil, []broker.Insert{child}, 1, 0)
}

// signalling sends a semaphore in a transaction of its own, and tells whether it reached a strand.
func (s *subject) signalling(id broker.ID) <-chan bool {
	found := make(chan bool, 1)
	go func() {
		var ok bool
		if err := s.pool.QueryRow(s.t.Context(), `select respirate.signal($1, 'go')`, [16]byte(id)).Scan(&ok); err != nil {
			s.t.Errorf("signal: %v", err)
		}
		found <- ok
	}()
	return found
}

// isDueWith checks that a strand rests, is due, and has as many semaphores.
func (s *subject) isDueWith(id broker.ID, semaphores int) {
	s.t.Helper()
	row, ok := s.Row(id)
	if !ok || row.Leased || row.Due > 0 || row.Inbox != semaphores || len(s.Waiting(id).Semaphores) != semaphores {
		s.t.Errorf("strand: got %+v (found: %t), want it due with %d semaphores", row, ok, semaphores)
	}
}

func TestSignalBetweenLeaseAndNapCutsTheNap(t *testing.T) {
	s := newSubject(t, migrated(t))
	p := s.lease(s.insert(""))[0]
	signal := s.begin(pgx.TxOptions{}, fmt.Sprintf(`select respirate.signal('%s', 'go')`, p.ID))
	napped := make(chan struct{})
	go func() {
		defer close(napped)
		s.apply(napOf(p)) // it does not wait for the lock: it is answered Later until that is gone
	}()
	s.commitTx(signal)
	<-napped
	s.isDueWith(p.ID, 1)
}

func TestSignalBetweenTheStatementOfANapAndItsCommitWakesTheSleeper(t *testing.T) {
	s := newSubject(t, migrated(t))
	p := s.lease(s.insert(""))[0]
	nap := s.goingOn(p, 1, false)
	found := s.signalling(p.ID)
	s.awaitWaiting()
	s.commitTx(nap)
	if !<-found {
		t.Error("signal: no such strand")
	}
	s.isDueWith(p.ID, 1)
}

// Whichever comes first, the strand is due afterwards, and has what was sent.
func TestNoSignalIsLostThatMeetsANap(t *testing.T) {
	url := migrated(t)
	s, other := newSubject(t, url), newSubject(t, url)
	sender := s.lease(s.insert(""))[0]
	seq := uint64(0)
	for round := range 150 {
		p := s.lease(s.insert(""))[0]
		if round%3 > 0 { // by SQL
			found := s.signalling(p.ID)
			s.apply(napOf(p))
			if !<-found {
				t.Fatalf("round %d: there is no such strand", round)
			}
		} else { // by the report of another strand, in one batch or in two
			seq++
			inTwo(s, other, round%2 == 0, napOf(p), broker.Report{Pair: sender, Seq: seq, Act: broker.Hop, Label: "x", Stay: true,
				Signals: []broker.Signal{{ID: p.ID, Name: "go"}}})
		}
		s.isDueWith(p.ID, 1)
	}
}

// Each page has the kind of its own frame, whichever runs now.
func TestPagesNameTheProgramOfTheirFrame(t *testing.T) {
	s := newSubject(t, migrated(t))
	p := s.lease(s.insert(""))[0]
	due := func(target string) *broker.Due { return &broker.Due{Target: target, In: time.Minute} }
	s.apply(broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Due: due("low"), Stay: true})
	s.apply(broker.Report{Pair: p, Seq: 2, Act: broker.Hop, Label: "start", Kind: "upper", Frame: 1, Stay: true})
	s.apply(broker.Report{Pair: p, Seq: 3, Act: broker.Nap, Frame: 1, Due: due("high"), Stay: true})
	s.Age(p.ID, time.Hour)
	s.OpenPages()
	got := one[string](s, `select string_agg(concat_ws(' ', frame, kind, target), ', ' order by frame) from respirate.pages`)
	kind := one[string](s, `select kind from respirate.deadlines where frame = 0`)
	if want := "0 " + kind + " low, 1 upper high"; got != want || kind == "upper" {
		t.Errorf("pages: got %s, want %s", got, want)
	}
}

func TestSignalThatWaitsForAStrandThatStaysCutsItsNextNap(t *testing.T) {
	s := newSubject(t, migrated(t))
	p := s.lease(s.insert(""))[0]
	stay := s.goingOn(p, 1, true)
	found := s.signalling(p.ID)
	s.awaitWaiting()
	s.commitTx(stay)
	if !<-found {
		t.Error("signal: no such strand")
	}
	s.apply(napOf(p))
	s.isDueWith(p.ID, 1)
}

func TestSignalThatWaitsForTheEndOfItsStrandIsNotKept(t *testing.T) {
	s := newSubject(t, migrated(t))
	p := s.lease(s.insert(""))[0]
	exit := s.begin(pgx.TxOptions{}, fmt.Sprintf(`select respirate.finish('{%s}', '{done}', null, null, null, null)`, p.ID))
	found := s.signalling(p.ID)
	s.awaitWaiting()
	s.commitTx(exit)
	if <-found {
		t.Error("signal: got true, want no such strand")
	}
	if n := one[int](s, `select count(*) from respirate.semaphore`); n != 0 {
		t.Errorf("semaphores: got %d, want none", n)
	}
}

func TestExitThatMeetsASignalLeavesNothingBehind(t *testing.T) {
	s := newSubject(t, migrated(t))
	for range 50 {
		p := s.lease(s.insert(""))[0]
		found := s.signalling(p.ID)
		s.apply(exitOf(p))
		<-found
	}
	if n := one[int](s, `select count(*) from respirate.semaphore`) + one[int](s, `select count(*) from respirate.strand`); n != 0 {
		t.Errorf("semaphores and strands: got %d, want none", n)
	}
}

func TestChildrenThatEndAtOnceAreBothInTheInbox(t *testing.T) {
	url := migrated(t)
	subjects := []*subject{newSubject(t, url), newSubject(t, url)}
	s := subjects[0]
	const rounds = 1000
	ends := make([][]broker.Report, 2)
	var parents []broker.Pair
	for range rounds / 100 {
		some, families := s.families(100, 2)
		parents = append(parents, some...)
		for _, kids := range families {
			for j, kid := range kids {
				exit := exitOf(kid)
				exit.Value = fmt.Append(nil, j)
				ends[j] = append(ends[j], exit)
			}
		}
	}
	var naps []broker.Report
	for i, p := range parents {
		if i%2 == 0 { // the others meet the ends of their children
			naps = append(naps, napOf(p))
		}
	}
	s.apply(naps...)
	var wg sync.WaitGroup
	for i := range rounds {
		for j, one := range subjects {
			wg.Go(func() {
				reports := []broker.Report{ends[j][i]}
				if i%4 == j && i%2 == 1 {
					reports = append(reports, napOf(parents[i])) // in one batch with the end of a child
				} else if i%4 == 3 && j == 0 {
					reports = []broker.Report{napOf(parents[i]), ends[j][i]}
				}
				one.apply(reports...)
			})
		}
		wg.Wait()
	}
	ids := make([][16]byte, len(parents))
	for i, p := range parents {
		ids[i] = p.ID
	}
	good := one[int](s, `select count(*) from respirate.strand s where id = any($1) and children_left = 0 and lease = '-infinity' and schedule <= now()
		and inbox = 2 and 2 = (select count(*) from respirate.child c where c.parent = s.id and c.state is not null)`, ids)
	if good != rounds {
		t.Fatalf("got %d parents of %d that are due with two ended children in the inbox", good, rounds)
	}
	got, err := s.Lease(t.Context(), []broker.Pair{{ID: parents[0].ID, Token: newToken()}}, hour)
	if err != nil || len(got) != 1 || got[0].Inbox == nil || len(got[0].Inbox.Ended) != 2 {
		t.Fatalf("lease: got %+v and error %v, want two ended children", got, err)
	}
}

// The end of the last child waits for the nap's commit.
func TestLastChildThatWaitsForItsParentsNapWakesIt(t *testing.T) {
	s := newSubject(t, migrated(t))
	parent, kids := s.family(1)
	nap := s.goingOn(parent, 2, false)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.apply(exitOf(kids[0])) // Later, until the nap is committed
	}()
	s.commitTx(nap)
	<-ended
	s.awake(parent)
}

// grow gives a strand n children, and each of these one of its own, behind the store's back.
func (s *subject) grow(root broker.ID, n int) {
	s.run(`with kids as (
			insert into respirate.strand (id, lane, args, parent, children_left, schedule)
			select gen_random_uuid(), respirate.lane('', 'default', 5, 'kid'), '{}', $1, 1, now() from generate_series(1, $2::int)
			returning id, parent
		), grandkids as (
			insert into respirate.strand (id, lane, args, parent)
			select gen_random_uuid(), respirate.lane('', 'default', 5, 'kid'), '{}', k.id from kids k
			returning id, parent
		)
		insert into respirate.child (parent, child) select parent, id from kids union all select parent, id from grandkids`, [16]byte(root), n)
	s.run(`update respirate.strand set children_left = children_left + $2 where id = $1`, [16]byte(root), n)
}

func TestCancelOfALargeTreeIsOneStatement(t *testing.T) {
	s := newSubject(t, migrated(t))
	p := s.lease(s.insert(""))[0]
	s.grow(p.ID, 50_000)
	runs := s.lease(broker.ID(one[[16]byte](s, `select id from respirate.strand where parent = $1 limit 1`, [16]byte(p.ID)))) // one of them runs
	start := time.Now()
	s.Cancel(p.ID)
	t.Logf("cancelled 100,000 strands in %v", time.Since(start))
	if n := one[int](s, `select count(*) from respirate.strand`); n != 1+len(runs) {
		t.Errorf("live strands: got %d, want the %d that run", n, 1+len(runs))
	}
	if n := one[int](s, `select count(*) from respirate.strand where cancel_at is null`); n != 0 {
		t.Errorf("not asked: got %d, want none", n)
	}
	if n := one[int](s, `select count(*) from respirate.history where state = 'cancelled'`); n != 100_000-len(runs) {
		t.Errorf("cancelled: got %d", n)
	}
	in := s.Waiting(p.ID)
	if row, _ := s.Row(p.ID); row.Inbox != len(in.Ended) || row.ChildrenLeft != in.Left || in.Left != 1 || len(in.Ended) != 49_999 {
		t.Errorf("parent: got %+v, %d ended and %d left", row, len(in.Ended), in.Left)
	}
}

func TestTreeIsNoDeeperAndNoWiderThanItMayBe(t *testing.T) {
	s := newSubject(t, migrated(t))
	child := func() []broker.Insert {
		return []broker.Insert{{ID: newID(), Kind: "child", Args: []byte(`{}`), Child: true}}
	}
	p := s.lease(s.insert(""))[0]
	for range 99 {
		report := broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Delay: hour, Inserts: child()}
		s.apply(report)
		p = s.lease(report.Inserts[0].ID)[0]
	}
	wide := s.lease(s.insert(""))[0]
	s.run(`update respirate.strand set children_left = 1000000 where id = $1`, [16]byte(wide.ID))
	good := s.lease(s.insert(""))[0]
	verdicts, err := s.Commit(t.Context(), []broker.Report{
		{Pair: p, Seq: 1, Act: broker.Nap, Inserts: child()},
		{Pair: wide, Seq: 1, Act: broker.Nap, Inserts: child()},
		{Pair: good, Seq: 1, Act: broker.Nap, Inserts: child()},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []broker.VerdictState{broker.Invalid, broker.Invalid, broker.Applied} {
		if verdicts[i].State != want {
			t.Errorf("report %d: got %+v, want state %d", i, verdicts[i], want)
		}
	}
	t.Logf("deep: %s; wide: %s", verdicts[0].Why, verdicts[1].Why)
	s.apply(broker.Report{Pair: wide, Seq: 1, Act: broker.Nap}, broker.Report{Pair: p, Seq: 1, Act: broker.Exit})
}

// pagesOf is how many pages a statement reads or finds in memory.
func (s *subject) pagesOf(sql string, args ...any) int {
	s.t.Helper()
	text := one[string](s, `explain (analyze, buffers, format json) `+sql, args...)
	var explained []struct{ Plan plan }
	if err := json.Unmarshal([]byte(text), &explained); err != nil {
		s.t.Fatal(err)
	}
	return explained[0].Plan.Hit + explained[0].Plan.Read
}

func TestSleepersCostNeitherASignalNorAScan(t *testing.T) {
	s := newSubject(t, migrated(t))
	id := s.insert(`{"in":3600}`)
	sleep := func(n int) {
		s.run(`insert into respirate.strand (id, lane, args, schedule)
			select gen_random_uuid(), respirate.lane('', 'default', 5, 'one'), '{}', now() + n * interval '1 s' from generate_series(1000, $1::int) n`, n)
		s.run(`insert into respirate.semaphore (strand, name) select id, 'x' from respirate.strand where id <> $1 limit 50000`, [16]byte(id))
		s.run(`vacuum analyze respirate.strand, respirate.semaphore`)
	}
	cost := func() (signal, scan int) {
		var signals []int
		for range 5 { // the first plans
			signals = append(signals, s.pagesOf(fmt.Sprintf(`select respirate.signal('%s', 'go')`, id)))
		}
		s.scanned("one")
		s.RewindScan()
		return slices.Min(signals), s.pages(broker.ScanRequest{Kinds: []string{"one"}, Limit: 1000, Bottom: true})
	}
	sleep(2000)
	signal, scan := cost()
	sleep(200_000)
	signalAmong, scanAmong := cost()
	t.Logf("pages of a signal: %d, %d among 200 times as many; of a scan: %d, %d", signal, signalAmong, scan, scanAmong)
	if signalAmong > signal+10 || scanAmong > scan+10 {
		t.Error("it costs more where more sleep")
	}
}

func TestAnnouncementOpensPagesNowAndThen(t *testing.T) {
	s := newSubject(t, migrated(t))
	a := broker.Announcement{Broker: newID(), Host: "h"}
	late := func() broker.ID {
		p := s.lease(s.insert(""))[0]
		s.apply(broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Delay: hour, Due: &broker.Due{Target: "paid", In: time.Minute}})
		s.Age(p.ID, time.Hour)
		return p.ID
	}
	first := late()
	for range 2 {
		if err := s.Announce(t.Context(), a, time.Minute); err != nil {
			t.Fatal(err)
		}
		if got := s.Pages(first); len(got) != 1 || got[0].Resolved {
			t.Errorf("pages: got %+v, want one that is open", got)
		}
		if got := s.PagesOpen(); got != 1 {
			t.Errorf("%d pages are open, want 1", got)
		}
	}
	second := late()
	if err := s.Announce(t.Context(), a, time.Minute); err != nil {
		t.Fatal(err)
	}
	if got := s.Pages(second); len(got) != 0 {
		t.Errorf("pages: got %+v, want none so soon", got)
	}
}

// A broker that stops gives up what it was about to do, which is nobody's fault.
func TestStatementsThatAreGivenUpAtAStopAreNotLogged(t *testing.T) {
	url := migrated(t)
	var log strings.Builder // written to before Announce and Scan return
	store, err := postgres.Open(t.Context(), postgres.Config{URL: url, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	s := &subject{Store: store, t: t, pool: openPool(t, url)}
	announcement := broker.Announcement{Broker: newID()}
	ended := s.insert("")
	req := broker.ScanRequest{Kinds: []string{"one"}, Limit: 10, Bottom: true, Known: true}
	if err := s.Announce(t.Context(), announcement, hour); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Scan(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	s.ForgetPaged()
	s.run(`update respirate.strand set cancel_at = now(), lease = now() - interval '1 s' where id = $1`, [16]byte(ended))
	for what, c := range map[string]struct {
		lock string
		call func(context.Context) error
	}{
		"pages": {`lock table respirate.broker`, func(ctx context.Context) error { return s.Announce(ctx, announcement, hour) }},
		"cancels": {`lock table respirate.strand`, func(ctx context.Context) error {
			_, err := s.Scan(ctx, req)
			return err
		}},
	} {
		ctx, stop := context.WithCancel(t.Context())
		lock := s.begin(pgx.TxOptions{}, c.lock)
		called := make(chan error, 1)
		go func() { called <- c.call(ctx) }()
		s.awaitWaiting()
		stop()
		s.commitTx(lock)
		if err := <-called; err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if log.Len() > 0 {
		t.Errorf("logged: %s", log.String())
	}
}

// Binaries of an older schema end strands without a look at what they have.
func TestPageDueForgetsDeadlinesWhoseStrandIsGone(t *testing.T) {
	s := newSubject(t, migrated(t))
	s.run(`insert into respirate.deadline (strand, frame, target, at, first_at, kind)
		select gen_random_uuid(), 0, 'x', now() - interval '1 s', now(), 'k'`)
	s.OpenPages()
	if n := one[int](s, `select (select count(*) from respirate.deadline) + (select count(*) from respirate.page)`); n != 0 {
		t.Errorf("deadlines and pages: got %d, want none", n)
	}
}

func TestPageDueWaitsForNobody(t *testing.T) {
	s := newSubject(t, migrated(t))
	p := s.lease(s.insert(""))[0]
	s.apply(broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Delay: hour, Due: &broker.Due{Target: "paid", In: time.Minute}})
	s.Age(p.ID, time.Hour)
	unlock := s.Lock(p.ID)
	s.OpenPages()
	if got := s.Pages(p.ID); len(got) != 0 {
		t.Errorf("pages while it is locked: got %+v, want none", got)
	}
	unlock()
	s.OpenPages()
	s.OpenPages()
	if got := s.Pages(p.ID); len(got) != 1 {
		t.Errorf("pages: got %+v, want one", got)
	}
}

func TestSignalsThatCannotBeStoredAreNamed(t *testing.T) {
	s := newSubject(t, migrated(t))
	id := s.insert(`{"in":3600}`)
	for name, value := range map[string][]byte{"Huge": huge, "NUL": []byte(`"\u0000"`), "NoJSON": []byte(`{`), "Empty": {}} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Signal(t.Context(), []broker.Signal{{ID: id, Name: "good"}, {ID: id, Name: "bad", Value: value}})
			if bad, ok := err.(*broker.SignalError); !ok || bad.Index != 1 {
				t.Errorf("got %v, want an error about signal 1", err)
			}
			p := s.lease(s.insert(""), s.insert(""))
			signal := []broker.Signal{{ID: id, Name: "bad", Value: value}}
			verdicts, err := s.Commit(t.Context(), []broker.Report{{Pair: p[0], Seq: 1, Act: broker.Nap, Signals: signal}, exitOf(p[1])})
			if err != nil || verdicts[0].State != broker.Invalid || verdicts[1].State != broker.Applied {
				t.Errorf("commit: got %+v and error %v, want invalid and applied", verdicts, err)
			}
		})
	}
	if in := s.Waiting(id); len(in.Semaphores) != 0 {
		t.Errorf("stored: got %+v, want nothing", in)
	}
}

// An application that could wake strands may send them semaphores as soon as there are any.
func TestRolesOfBeforeGetTheRightsOfPrograms(t *testing.T) {
	url := migrated(t)
	m := newMigrator(t, postgres.Config{URL: url})
	s, conn := clientOf(t, url)
	parent, kids := s.family(2)
	s.apply(exitOf(kids[0]))
	if _, err := m.DownTo(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{`select respirate.signal(id, 'go') from respirate.strands`, `select * from respirate.semaphores`} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	// Children of before are still children, though the ends that were not reaped are forgotten.
	if in := s.Waiting(parent.ID); in.Left != 1 || len(in.Ended) != 0 || len(in.Semaphores) != 1 {
		t.Errorf("inbox: got %+v, want a semaphore and a live child", in)
	}
	s.apply(napOf(parent), exitOf(kids[1]))
	s.awake(parent)
	if in := s.Waiting(parent.ID); in.Left != 0 || len(in.Ended) != 1 {
		t.Errorf("inbox: got %+v, want an ended child", in)
	}
}

// What comes to a strand while it runs, and what it does without a rest, stays on the page of its row.
func TestStaysAndSignalsToWhoRunsAreHOT(t *testing.T) {
	s := newSubject(t, migrated(t))
	s.oldStrands(4, "one", "default") // few: a page has room for the versions of one transaction
	tx := s.begin(pgx.TxOptions{}, `select`)
	ids := txOne[[][16]byte](s, tx, `select array_agg(id order by id) from respirate.strand`)
	tokens := make([][16]byte, len(ids))
	for i := range tokens {
		tokens[i] = newToken()
	}
	n := len(ids)
	for _, st := range []struct {
		what, sql string
		args      []any
	}{
		{"leases", postgres.Statement("lease"), []any{ids, tokens, hour}},
		{"signals", postgres.Statement("signal"), []any{ids, slices.Repeat([]string{"go"}, n), make([][]byte, n), slices.Repeat([]bool{true}, n)}},
		{"stays", postgres.Statement("go_on"), []any{ids, tokens, slices.Repeat([]int32{1}, n), slices.Repeat([]bool{true}, n),
			make([]bool, n), slices.Repeat([]bool{true}, n), make([]int64, n), make([]*string, n), make([]*int32, n), make([][]byte, n), false}},
	} {
		count := func(which string) int {
			return txOne[int](s, tx, `select pg_stat_get_xact_tuples_`+which+`('respirate.strand'::regclass)`)
		}
		all, hot := count("updated"), count("hot_updated")
		if _, err := tx.Exec(t.Context(), st.sql, st.args...); err != nil {
			t.Fatalf("%s: %v", st.what, err)
		}
		all, hot = count("updated")-all, count("hot_updated")-hot
		if all != n || hot != n {
			t.Errorf("%s: got %d of %d HOT, want all", st.what, hot, all)
		}
	}
}

func TestSignalWaitsForALockThatIsSoonGone(t *testing.T) {
	s := newSubject(t, migrated(t))
	id := s.insert(`{"in":3600}`)
	unlock := s.Lock(id)
	sent := make(chan error, 1)
	go func() {
		found, err := s.Signal(t.Context(), []broker.Signal{{ID: id, Name: "go"}})
		if err == nil && !found[0] {
			err = fmt.Errorf("no such strand")
		}
		sent <- err
	}()
	s.awaitWaiting()
	const waits = `select coalesce(max(query_start), '-infinity') > $1 from pg_stat_activity
		where datname = current_database() and wait_event_type = 'Lock'`
	for first := s.now(); !one[bool](s, waits, first); { // a statement has given up, and the next one waits
	}
	unlock()
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	s.isDueWith(id, 1)
}

// From SQL nobody else looks at a value before the database does.
func TestSignalFromSQLHasTheLargestValueAtMost(t *testing.T) {
	conn, err := pgx.Connect(t.Context(), migrated(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, c := range []struct {
		size int // of the value as JSON prints it, its quotes included
		want string
	}{{broker.SignalBytes, ""}, {broker.SignalBytes + 1, fmt.Sprintf("is %d bytes long, at most %d are allowed", broker.SignalBytes+1, broker.SignalBytes)}} {
		_, err := conn.Exec(t.Context(), `select respirate.signal(respirate.insert('k', '{}'), 'go', to_jsonb(repeat('x', $1::int - 2)))`, c.size)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("a value of %d bytes: got %v, want %q", c.size, err, c.want)
		}
	}
}
