package postgres_test

import (
	"fmt"
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
