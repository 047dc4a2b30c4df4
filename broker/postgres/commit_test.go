package postgres_test

import (
	"crypto/rand"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker"
)

const hour = time.Hour

func newID() (id broker.ID) {
	rand.Read(id[:])
	return id
}

func newToken() broker.Token { return broker.Token(newID()) }

func coin() bool {
	n, _ := rand.Int(rand.Reader, big.NewInt(2))
	return n.Int64() == 1
}

// insert makes a strand of kind "one".
func (s *subject) insert(opts string) broker.ID {
	s.t.Helper()
	ids, err := s.Insert(s.t.Context(), []broker.Insert{{Kind: "one", Args: []byte(`{}`), Opts: []byte(opts)}})
	if err != nil {
		s.t.Fatal(err)
	}
	return ids[0]
}

// lease takes strands that must be free.
func (s *subject) lease(ids ...broker.ID) []broker.Pair {
	s.t.Helper()
	pairs := make([]broker.Pair, len(ids))
	for i, id := range ids {
		pairs[i] = broker.Pair{ID: id, Token: newToken()}
	}
	got, err := s.Lease(s.t.Context(), pairs, hour)
	if err != nil || len(got) != len(ids) {
		s.t.Fatalf("lease: got %d of %d and error %v", len(got), len(ids), err)
	}
	return pairs
}

// apply commits reports until none is answered Later, and fails the test unless all are applied.
func (s *subject) apply(reports ...broker.Report) {
	for len(reports) > 0 {
		verdicts, err := s.Commit(s.t.Context(), reports)
		if err != nil {
			s.t.Error(err)
			return
		}
		var again []broker.Report
		for i, v := range verdicts {
			switch v.State {
			case broker.Applied:
			case broker.Later:
				again = append(again, reports[i])
			default:
				s.t.Errorf("report %+v: got verdict %+v, want it applied", reports[i], v)
			}
		}
		reports = again
	}
}

// family is a leased parent and its leased children.
func (s *subject) family(children int) (parent broker.Pair, kids []broker.Pair) {
	s.t.Helper()
	parents, all := s.families(1, children)
	return parents[0], all[0]
}

// families are n leased parents, each with its leased children.
func (s *subject) families(n, children int) (parents []broker.Pair, kids [][]broker.Pair) {
	s.t.Helper()
	ids, err := s.Insert(s.t.Context(), slices.Repeat([]broker.Insert{{Kind: "one", Args: []byte(`{}`)}}, n))
	if err != nil {
		s.t.Fatal(err)
	}
	parents = s.lease(ids...)
	var reports []broker.Report
	var kidIDs []broker.ID
	for _, parent := range parents {
		report := broker.Report{Pair: parent, Seq: 1, Act: broker.Save, Stack: []byte(`[]`)}
		for range children {
			id := newID()
			kidIDs = append(kidIDs, id)
			report.Inserts = append(report.Inserts, broker.Insert{ID: id, Kind: "child", Args: []byte(`{}`), Child: true})
		}
		reports = append(reports, report)
	}
	s.apply(reports...)
	return parents, slices.Collect(slices.Chunk(s.lease(kidIDs...), children))
}

func napOf(p broker.Pair) broker.Report {
	return broker.Report{Pair: p, Seq: 2, Act: broker.Nap, Delay: hour}
}

func exitOf(p broker.Pair) broker.Report {
	return broker.Report{Pair: p, Seq: 1, Act: broker.Exit}
}

// awake checks that the end of its last child has made a parent due.
func (s *subject) awake(parent broker.Pair) {
	s.t.Helper()
	row, ok := s.Row(parent.ID)
	if !ok || row.ChildrenLeft != 0 || row.Leased || row.Due > 0 {
		s.t.Errorf("parent: got %+v (found: %t), want it due with no child left", row, ok)
	}
}

// inTwo commits two reports, either in one batch, in any order, or in two at once from two brokers.
func inTwo(one, other *subject, together bool, a, b broker.Report) {
	if together {
		if coin() {
			a, b = b, a
		}
		one.apply(a, b)
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { one.apply(a) })
	wg.Go(func() { other.apply(b) })
	wg.Wait()
}

func TestNoWakeIsLostWhereFamiliesMeet(t *testing.T) {
	url := migrated(t)
	one, other := newSubject(t, url), newSubject(t, url)
	const rounds = 100
	for _, together := range []bool{true, false} {
		t.Run(fmt.Sprintf("ParentsNapAndChildsExit/OneBatch=%t", together), func(t *testing.T) {
			for range rounds {
				parent, kids := one.family(1)
				inTwo(one, other, together, napOf(parent), exitOf(kids[0]))
				one.awake(parent)
			}
		})
		// With its insert, the nap is applied in the same transaction as the child's exit.
		t.Run(fmt.Sprintf("ParentsNapWithAnInsertAndChildsExit/OneBatch=%t", together), func(t *testing.T) {
			for range rounds {
				parent, kids := one.family(1)
				nap := napOf(parent)
				nap.Inserts = []broker.Insert{{Kind: "stranger", Args: []byte(`{}`)}}
				inTwo(one, other, together, nap, exitOf(kids[0]))
				one.awake(parent)
			}
		})
		t.Run(fmt.Sprintf("TwoSiblingsExits/OneBatch=%t", together), func(t *testing.T) {
			for range rounds {
				parent, kids := one.family(2)
				one.apply(napOf(parent))
				inTwo(one, other, together, exitOf(kids[0]), exitOf(kids[1]))
				one.awake(parent)
			}
		})
		t.Run(fmt.Sprintf("OneDiesAndOneIsCancelled/OneBatch=%t", together), func(t *testing.T) {
			for range rounds / 4 {
				parent, kids := one.family(2)
				one.apply(napOf(parent))
				inTwo(one, other, together,
					broker.Report{Pair: kids[0], Seq: 1, Act: broker.Fail, Final: true},
					broker.Report{Pair: kids[1], Seq: 1, Act: broker.Cancel})
				one.awake(parent)
			}
		})
	}
}

func TestParentMayEndBeforeItsChildren(t *testing.T) {
	s := newSubject(t, migrated(t))
	parent, kids := s.family(2)
	s.apply(broker.Report{Pair: parent, Seq: 2, Act: broker.Exit}, exitOf(kids[0]))
	s.apply(exitOf(kids[1]))
	for _, p := range []broker.Pair{parent, kids[0], kids[1]} {
		if f, ok := s.Finished(p.ID); !ok || f.State != "done" {
			t.Errorf("%s: got %+v (found: %t), want it done", p.ID, f, ok)
		}
	}
}

func TestCancelOfAChildCountsItDown(t *testing.T) {
	s := newSubject(t, migrated(t))
	parent, kids := s.family(2)
	s.apply(napOf(parent), exitOf(kids[0]))
	s.apply(broker.Report{Pair: kids[1], Seq: 1, Act: broker.Release, Delay: hour})
	s.Cancel(kids[1].ID)
	s.awake(parent)
}

// Renewals and commits of two brokers, and an application that wakes and cancels, use the same rows at once. Nobody may
// get a deadlock, and every strand must end.
func TestRenewalsCommitsWakesAndCancelsDoNotDeadlock(t *testing.T) {
	url := migrated(t)
	one, other, app := newSubject(t, url), newSubject(t, url), newPoolSubject(t, url)
	const size = 50
	for range 10 {
		var pairs []broker.Pair
		for range size / 2 {
			parent, kids := one.family(1)
			pairs = append(pairs, parent, kids[0])
		}
		var wg sync.WaitGroup
		for _, s := range []*subject{one, other} {
			wg.Go(func() {
				if _, err := s.Renew(t.Context(), pairs, hour); err != nil {
					t.Errorf("renew: %v", err)
				}
			})
		}
		wg.Go(func() {
			for i := len(pairs) - 1; i >= 0; i -= 3 {
				app.Wake(pairs[i].ID)
			}
		})
		wg.Go(func() { one.commitAll(pairs[:size/2]) })
		wg.Go(func() { other.commitAll(pairs[size/2:]) })
		wg.Wait()
		for _, p := range pairs {
			if _, live := one.Row(p.ID); live {
				t.Fatalf("%s: still live after its exit", p.ID)
			}
		}
	}
}

func (s *subject) commitAll(pairs []broker.Pair) {
	var reports []broker.Report
	for _, p := range pairs {
		reports = append(reports, broker.Report{Pair: p, Seq: 9, Act: broker.Exit})
	}
	s.apply(reports...)
}

func TestLockedRowDelaysOnlyItsOwnReport(t *testing.T) {
	s := newSubject(t, migrated(t))
	pairs := s.lease(s.insert(""), s.insert(""), s.insert(""))
	unlock := s.Lock(pairs[0].ID)
	verdicts, err := s.Commit(t.Context(), []broker.Report{exitOf(pairs[0]), exitOf(pairs[1])})
	if err != nil || verdicts[0].State != broker.Later || verdicts[1].State != broker.Applied {
		t.Fatalf("commit: got %+v and error %v, want later and applied", verdicts, err)
	}

	// From now on it is known to be locked, and nobody waits for it any more.
	var took []time.Duration
	for range 5 {
		start := time.Now()
		verdicts, err := s.Commit(t.Context(), []broker.Report{exitOf(pairs[0])})
		took = append(took, time.Since(start))
		if err != nil || verdicts[0].State != broker.Later {
			t.Fatalf("commit: got %+v and error %v, want later", verdicts, err)
		}
	}
	noWaiting(t, "commits of a row known to be locked", took)
	s.apply(exitOf(pairs[2]))
	unlock()
	s.apply(exitOf(pairs[0]))
}

// noWaiting checks that most of these calls took less time than a wait for a lock: one of them may take long anyway where the machine
// is busy with something else.
func noWaiting(t *testing.T, what string, took []time.Duration) {
	t.Helper()
	slices.Sort(took)
	if typical := took[len(took)/2]; typical >= 200*time.Millisecond {
		t.Errorf("%s took %v, want no waiting", what, took)
	}
}

func TestRenewTellsLockedFromLost(t *testing.T) {
	s := newSubject(t, migrated(t))
	pairs := s.lease(s.insert(""), s.insert(""), s.insert(""))
	s.apply(broker.Report{Pair: pairs[2], Act: broker.Yield})
	unlock := s.Lock(pairs[0].ID)
	defer unlock()
	kept, err := s.Renew(t.Context(), pairs, 2*hour)
	if err != nil || len(kept) != 2 {
		t.Fatalf("renew: got %+v and error %v, want two", kept, err)
	}
	for _, k := range kept {
		if k.Locked != (k.ID == pairs[0].ID) {
			t.Errorf("%s: got locked %t", k.ID, k.Locked)
		}
	}
	if row, _ := s.Row(pairs[0].ID); row.Left > hour {
		t.Errorf("locked lease: got %v left, want it not extended", row.Left)
	}
}

func TestLockedStrandDelaysOneLeaseOnce(t *testing.T) {
	s := newSubject(t, migrated(t))
	locked := s.insert("")
	unlock := s.Lock(locked)
	var took []time.Duration
	lease := func(want ...broker.ID) {
		t.Helper()
		pairs := []broker.Pair{{ID: locked, Token: newToken()}, {ID: s.insert(""), Token: newToken()}}
		start := time.Now()
		got, err := s.Lease(t.Context(), pairs, hour)
		took = append(took, time.Since(start))
		if err != nil || len(got) != len(want)+1 {
			t.Fatalf("lease: got %+v and error %v, want the free ones", got, err)
		}
	}
	lease()
	for range 5 {
		lease()
	}
	noWaiting(t, "leases with a row known to be locked", took[1:])
	unlock()
	lease(locked)
}

// TestManyLockedStrandsDelayOneBatchOnce: who locks many rows makes us wait for one of them, not for each.
func TestManyLockedStrandsDelayOneBatchOnce(t *testing.T) {
	s := newSubject(t, migrated(t))
	const many = 20
	held := s.lease(s.insert(""), s.insert(""), s.insert(""))
	for range many {
		s.insert("")
	}
	tx, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	rows, err := tx.Query(t.Context(), `select id from respirate.strand where id <> $1 for update`, held[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	locked, err := pgx.CollectRows(rows, pgx.RowTo[[16]byte])
	if err != nil || len(locked) != many+2 {
		t.Fatalf("locked %d rows and error %v, want %d", len(locked), err, many+2)
	}
	var took []time.Duration
	for _, id := range locked {
		pairs := []broker.Pair{{ID: id, Token: newToken()}, {ID: s.insert(""), Token: newToken()}}
		start := time.Now()
		got, err := s.Lease(t.Context(), pairs, hour)
		took = append(took, time.Since(start))
		if err != nil || len(got) != 1 {
			t.Fatalf("lease: got %+v and error %v, want the free one", got, err)
		}
	}
	for _, p := range held[1:] {
		start := time.Now()
		verdicts, err := s.Commit(t.Context(), []broker.Report{exitOf(p)})
		took = append(took, time.Since(start))
		if err != nil || verdicts[0].State != broker.Later {
			t.Fatalf("commit: got %+v and error %v, want later", verdicts, err)
		}
	}
	s.apply(exitOf(held[0]))
	noWaiting(t, "batches with a locked row each", took)
}

func TestLeaseAskedTwiceGivesTheSameStrandsAgain(t *testing.T) {
	s := newSubject(t, migrated(t))
	pairs := []broker.Pair{{ID: s.insert(""), Token: newToken()}}
	for range 2 {
		got, err := s.Lease(t.Context(), pairs, hour)
		if err != nil || len(got) != 1 || got[0].Token != pairs[0].Token {
			t.Fatalf("lease: got %+v and error %v, want the strand", got, err)
		}
	}
	if row, _ := s.Row(pairs[0].ID); row.Rescues != 0 {
		t.Errorf("rescues: got %d, want 0: the first answer was only lost", row.Rescues)
	}
	s.apply(exitOf(pairs[0]))
}

func TestHistoryOffDeletesAndKeepKeeps(t *testing.T) {
	for name, other := range map[string]bool{"EveryLaneBare": false, "OthersKeepHistory": true} {
		t.Run(name, func(t *testing.T) {
			s := newSubject(t, migrated(t))
			s.run(`insert into respirate.queue (tenant, queue, retention) values ('', 'default', '0')`)
			if other {
				s.apply(exitOf(s.lease(s.insert(`{"queue":"q"}`))[0]))
			}
			plain, kept, failed := s.insert(""), s.insert(`{"keep":true}`), s.insert("")
			pairs := s.lease(plain, kept, failed)
			s.apply(exitOf(pairs[0]), exitOf(pairs[1]), broker.Report{Pair: pairs[2], Seq: 1, Act: broker.Fail, Final: true})
			for id, want := range map[broker.ID]bool{plain: false, kept: true, failed: true} {
				_, live := s.Row(id)
				_, found := s.Finished(id)
				if live || found != want {
					t.Errorf("%s: got live %t and in history %t, want in history %t", id, live, found, want)
				}
			}
		})
	}
}

func TestTextForPeopleIsMadeFitAndCut(t *testing.T) {
	s := newSubject(t, migrated(t))
	pair := s.lease(s.insert(""))[0]
	long := make([]byte, 100<<10)
	for i := range long {
		long[i] = 0xc3 // half a character, all along
	}
	s.apply(broker.Report{Pair: pair, Seq: 1, Act: broker.Fail, Delay: hour,
		Failure: &broker.Failure{Class: "a\x00b", Message: string(long), Trace: "\xff"}})
	got := s.Attempts(pair.ID)
	if len(got) != 1 || got[0].Class != "a\uFFFDb" || got[0].Trace != "\uFFFD" || len(got[0].Message) == 0 || len(got[0].Message) > 4096 {
		t.Errorf("attempts: got %.200v, want them readable and short", got)
	}
}

func TestDelayBelowZeroIsNone(t *testing.T) {
	s := newSubject(t, migrated(t))
	for _, act := range []broker.Act{broker.Nap, broker.Release, broker.Yield} {
		pair := s.lease(s.insert(""))[0]
		before := s.now()
		s.apply(broker.Report{Pair: pair, Seq: 1, Act: act, Delay: -hour})
		if due := one[time.Time](s, `select schedule from respirate.strand where id = $1`, [16]byte(pair.ID)); due.Before(before) {
			t.Errorf("act %d: due at %v, before it was reported at %v", act, due, before)
		}
	}
}

func TestRescuesCountedToTheEndStayThere(t *testing.T) {
	s := newSubject(t, migrated(t))
	id := s.insert("")
	s.lease(id)
	s.run(`update respirate.strand set rescues = 32767, lease = now() - interval '1 h' where id = $1`, [16]byte(id))
	s.lease(id)
	if row, _ := s.Row(id); row.Rescues != 32767 {
		t.Errorf("rescues: got %d, want 32767", row.Rescues)
	}
}
