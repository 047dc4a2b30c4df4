package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker"
)

// What a report inserts may have to wait for a transaction of somebody else's, which may be open for long: then that report is for
// later, and no other is.
func TestInsertThatHasToWaitHoldsUpNoNeighbour(t *testing.T) {
	child := func(id broker.ID, kind string) []broker.Insert {
		return []broker.Insert{{ID: id, Kind: kind, Args: []byte(`{}`), Child: true}}
	}
	id := newID()
	for name, c := range map[string]struct {
		theirs string
		report broker.Report
	}{
		"AnIDThatIsBeingInserted": {
			fmt.Sprintf(`select respirate.insert('one', '{}', '{"id":"%s"}')`, id),
			broker.Report{Act: broker.Nap, Delay: hour, Inserts: child(id, "one")},
		},
		"ALaneThatIsBeingMade": {`select respirate.insert('new', '{}')`, broker.Report{Act: broker.Nap, Delay: hour, Inserts: child(newID(), "new")}},
		"AHopToALaneBeingMade": {`select respirate.insert('new', '{}')`, broker.Report{Act: broker.Hop, Label: "x", Kind: "new", Delay: hour}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSubject(t, migrated(t))
			var ids []broker.ID
			for range 6 {
				ids = append(ids, s.insert(""))
			}
			pairs := s.lease(ids...)
			app := s.begin(pgx.TxOptions{}, c.theirs)
			reports := make([]broker.Report, len(pairs))
			for i, p := range pairs {
				reports[i] = broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Delay: hour, Inserts: child(newID(), "one")}
			}
			reports[3] = c.report
			reports[3].Pair, reports[3].Seq = pairs[3], 1
			verdicts, err := s.Commit(t.Context(), reports)
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range verdicts {
				want := broker.Applied
				if i == 3 {
					want = broker.Later
				}
				if v.State != want {
					t.Errorf("report %d: got %+v, want state %d", i, v, want)
				}
			}
			s.commitTx(app)
			s.apply(reports[3])
		})
	}
}

// A tree of which a row is locked, as by a worker in a transaction of its own, cannot be cancelled yet. Others can.
func TestTreeThatCannotBeSweptHoldsUpNoOther(t *testing.T) {
	s := newSubject(t, migrated(t))
	var parents []broker.ID
	var kids []broker.ID
	for range 5 {
		parent, children := s.family(1)
		parents, kids = append(parents, parent.ID), append(kids, children[0].ID)
	}
	s.run(`update respirate.strand set cancel_at = now(), lease = now() - interval '1 s' where id = any ($1)`, parents)
	unlock := s.Lock(kids[2])
	scan := func() {
		if _, err := s.Scan(t.Context(), broker.ScanRequest{Kinds: []string{"one"}, Limit: 100, Bottom: true}); err != nil {
			t.Fatal(err)
		}
	}
	scan()
	for i, id := range parents {
		if _, live := s.Row(id); live != (i == 2) {
			t.Errorf("tree %d: lives %t", i, live)
		}
	}
	unlock()
	scan()
	if _, live := s.Row(parents[2]); live {
		t.Error("the last tree: it lives")
	}
}

// It is soon over, mostly.
func TestInsertWaitsForOneWhoInsertsTheSame(t *testing.T) {
	s := newSubject(t, migrated(t))
	app := s.begin(pgx.TxOptions{}, `select respirate.insert('new', '{}')`)
	made := make(chan error, 1)
	go func() {
		_, err := s.Insert(t.Context(), []broker.Insert{{Kind: "new", Args: []byte(`{}`)}})
		made <- err
	}()
	s.awaitWaiting()
	const waits = `select coalesce(max(query_start), '-infinity') > $1 from pg_stat_activity
		where datname = current_database() and wait_event_type = 'Lock'`
	for first := s.now(); !one[bool](s, waits, first); { // a statement has given up, and the next one waits
		select {
		case err := <-made:
			t.Fatalf("it gave up: %v", err)
		default:
		}
	}
	s.commitTx(app)
	if err := <-made; err != nil {
		t.Fatal(err)
	}
}

func TestReportBehindOneThatHasToWaitWaitsToo(t *testing.T) {
	s := newSubject(t, migrated(t))
	p := s.lease(s.insert(""))[0]
	app := s.begin(pgx.TxOptions{}, `select respirate.insert('new', '{}')`)
	reports := []broker.Report{
		{Pair: p, Seq: 1, Act: broker.Save, Inserts: []broker.Insert{{ID: newID(), Kind: "new", Args: []byte(`{}`), Child: true}}},
		{Pair: p, Seq: 2, Act: broker.Nap, Delay: hour},
	}
	verdicts, err := s.Commit(t.Context(), reports)
	if err != nil || verdicts[0].State != broker.Later || verdicts[1].State != broker.Later {
		t.Errorf("got %+v and error %v, want both for later", verdicts, err)
	}
	s.commitTx(app)
	s.apply(reports...)
	if row, _ := s.Row(p.ID); row.ChildrenLeft != 1 || row.Leased {
		t.Errorf("got %+v, want it to nap with a child", row)
	}
}

// A step whose worker is not sure of it may commit between two tries of a batch: that it was not there the first time says nothing.
func TestTryThatFailsLeavesAStepToBeLookedForAgain(t *testing.T) {
	s := newSubject(t, migrated(t))
	pairs := s.lease(s.insert(""), s.insert(""))
	app := s.begin(pgx.TxOptions{}, `select respirate.insert('new', '{}')`) // the try waits for it in vain
	acts, states, err := s.TryLooked(t.Context(),
		broker.Report{Pair: pairs[0], Seq: 1, Act: broker.Own, Failure: &broker.Failure{}},
		broker.Report{Pair: pairs[1], Seq: 1, Act: broker.Hop, Label: "x", Kind: "new"})
	if err == nil || acts[0] != broker.Own || acts[1] != broker.Hop || states[0] != 0 || states[1] != 0 {
		t.Errorf("got acts %v, verdicts %v and error %v, want an error, and all as it was", acts, states, err)
	}
	s.commitTx(app)
}

// Whoever sends and sends to a strand that takes nothing is told so in the end.
func TestStrandForWhichTooMuchWaitsTakesNoMoreSignals(t *testing.T) {
	s := newSubject(t, migrated(t))
	full, other := s.insert(`{"in":3600}`), s.insert(`{"in":3600}`)
	s.run(`update respirate.strand set inbox = 1999999 where id = $1`, [16]byte(full))
	go1 := broker.Signal{ID: full, Name: "go"}
	if _, err := s.Signal(t.Context(), []broker.Signal{go1}); err != nil {
		t.Fatalf("the last that it may have: %v", err)
	}
	_, err := s.Signal(t.Context(), []broker.Signal{{ID: other, Name: "go"}, go1})
	if bad, ok := err.(*broker.SignalError); !ok || bad.Index != 1 || !strings.Contains(bad.Why, "2000000 semaphores and ended children wait") {
		t.Errorf("one more: got %v, want an error about signal 1", err)
	}
	p := s.lease(s.insert(""), s.insert(""))
	verdicts, err := s.Commit(t.Context(), []broker.Report{
		{Pair: p[0], Seq: 1, Act: broker.Exit, Signals: []broker.Signal{go1}},
		{Pair: p[1], Seq: 1, Act: broker.Exit, Signals: []broker.Signal{{ID: other, Name: "go"}}},
	})
	if err != nil || verdicts[0].State != broker.Invalid || verdicts[1].State != broker.Applied {
		t.Errorf("reports: got %+v and error %v, want the one refused and the other applied", verdicts, err)
	}
}
