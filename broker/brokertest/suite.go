package brokertest

import (
	"context"
	"crypto/rand"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/respirated/respirated/broker"
)

// TestStore proves that a store keeps the promises of [broker.Store]. open gives each test a subject of its own: no
// strand of another test is in it, and its scans start at the bottom.
func TestStore(t *testing.T, open func(t *testing.T) Subject) {
	groups := []struct {
		name  string
		cases []testCase
	}{
		{"Insert", insertCases()},
		{"Scan", scanCases},
		{"Brokers", brokerCases},
		{"Together", togetherCases},
		{"Overdue", overdueCases},
		{"Take", takeCases},
		{"Lease", leaseCases},
		{"Renew", renewCases},
		{"Fence", fenceCases()},
		{"Acts", actCases},
		{"Cancel", cancelCases()},
		{"Wake", wakeCases},
		{"Children", childrenCases()},
		{"Signal", signalCases},
		{"Effects", effectCases},
		{"Stay", stayCases},
		{"Ends", endCases},
		{"Tree", treeCases},
		{"Retry", retryCases},
		{"Deadlines", deadlineCases},
		{"Invalid", invalidCases()},
		{"Own", ownCases},
	}
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			for _, c := range g.cases {
				t.Run(c.name, func(t *testing.T) { c.run(newTrial(t, open(t))) })
			}
		})
	}
	t.Run("RandomWalk", func(t *testing.T) { walkRandomly(t, open(t)) })
}

// testCase is one promise, named as a sentence.
type testCase struct {
	name string
	run  func(*trial)
}

// A trial is one test at work: its store, and the words that the cases are written in. Each of them fails the test
// when the store does not do as it is told.
type trial struct {
	t     *testing.T
	store Subject
	ctx   context.Context
}

// kind is what the cases insert where the kind does not matter.
const kind = "brokertest"

// ttl is how long the cases lease for, long enough never to pass by itself.
const ttl = time.Hour

// tolerance is what a test may lose between asking for a time and looking at it.
const tolerance = 20 * time.Second

// skew is what a clock that counts microseconds may be off.
const skew = time.Millisecond

func newTrial(t *testing.T, s Subject) *trial {
	return &trial{t: t, store: s, ctx: t.Context()}
}

func newID() (id broker.ID) {
	rand.Read(id[:])
	return id
}

func newToken() broker.Token { return broker.Token(newID()) }

// insert adds one strand with the given JSON options ("" = none) and returns its id.
func (tr *trial) insert(opts string) broker.ID {
	tr.t.Helper()
	return tr.insertAs(newID(), kind, opts)
}

// insertAs adds one strand of a given id and kind.
func (tr *trial) insertAs(id broker.ID, kind, opts string) broker.ID {
	tr.t.Helper()
	in := broker.Insert{ID: id, Kind: kind, Args: []byte(`{"n":1}`)}
	if opts != "" {
		in.Opts = []byte(opts)
	}
	return tr.insertAll(in)[0]
}

func (tr *trial) insertAll(inserts ...broker.Insert) []broker.ID {
	tr.t.Helper()
	ids, err := tr.store.Insert(tr.ctx, inserts)
	if err != nil {
		tr.t.Fatalf("insert: %v", err)
	}
	return ids
}

// lease takes a strand that must be free to take, and returns it under its new token.
func (tr *trial) lease(id broker.ID) broker.Strand {
	tr.t.Helper()
	got := tr.tryLease(broker.Pair{ID: id, Token: newToken()})
	if len(got) != 1 {
		tr.t.Fatalf("lease of %s: got %d strands, want 1", id, len(got))
	}
	return got[0]
}

func (tr *trial) tryLease(pairs ...broker.Pair) []broker.Strand {
	tr.t.Helper()
	got, err := tr.store.Lease(tr.ctx, pairs, ttl)
	if err != nil {
		tr.t.Fatalf("lease: %v", err)
	}
	return got
}

// insertLeased adds a strand and takes it.
func (tr *trial) insertLeased(opts string) broker.Pair {
	tr.t.Helper()
	return pairOf(tr.lease(tr.insert(opts)))
}

// commit sends one batch and compares the verdicts.
func (tr *trial) commit(want []broker.VerdictState, reports ...broker.Report) []broker.Verdict {
	tr.t.Helper()
	got, err := tr.store.Commit(tr.ctx, reports)
	if err != nil {
		tr.t.Fatalf("commit: %v", err)
	}
	if !slices.EqualFunc(got, want, func(v broker.Verdict, w broker.VerdictState) bool { return v.State == w }) {
		tr.t.Fatalf("verdicts: got %s, want %s", verdictText(got), stateText(want))
	}
	return got
}

// applied sends one batch of which every report must be applied.
func (tr *trial) applied(reports ...broker.Report) {
	tr.t.Helper()
	tr.commit(slices.Repeat([]broker.VerdictState{broker.Applied}, len(reports)), reports...)
}

// report sends one report and compares its verdict.
func (tr *trial) report(want broker.VerdictState, r broker.Report) broker.Verdict {
	tr.t.Helper()
	return tr.commit([]broker.VerdictState{want}, r)[0]
}

// row shows a strand that must be live.
func (tr *trial) row(id broker.ID) Row {
	tr.t.Helper()
	row, ok := tr.store.Row(id)
	if !ok {
		tr.t.Fatalf("strand %s: got no row, want one", id)
	}
	return row
}

// finished checks that a strand is over, and how.
func (tr *trial) finished(id broker.ID, state string) Finished {
	tr.t.Helper()
	if row, live := tr.store.Row(id); live {
		tr.t.Fatalf("strand %s: got a live row %+v, want it %s", id, row, state)
	}
	f, ok := tr.store.Finished(id)
	if !ok || f.State != state {
		tr.t.Fatalf("strand %s in history: got %+v (found: %t), want %s", id, f, ok, state)
	}
	return f
}

// expire lets the lease of a strand run out.
func (tr *trial) expire(id broker.ID) {
	tr.t.Helper()
	tr.store.Age(id, tr.row(id).Left+time.Second)
}

// arrive lets a strand become due.
func (tr *trial) arrive(id broker.ID) {
	tr.t.Helper()
	tr.store.Age(id, tr.row(id).Due+time.Second)
}

// about checks a time until something: it may have shrunk a little since it was set.
func (tr *trial) about(what string, got, want time.Duration) {
	tr.t.Helper()
	tr.between(what, got, want, want)
}

// between checks a time until something that the store's dice have decided.
func (tr *trial) between(what string, got, lo, hi time.Duration) {
	tr.t.Helper()
	if got < lo-tolerance || got > hi+skew {
		tr.t.Errorf("%s: got %v, want %v to %v", what, got, lo, hi)
	}
}

func (tr *trial) equal(what string, got, want any) {
	tr.t.Helper()
	if !reflect.DeepEqual(got, want) {
		tr.t.Errorf("%s: got %+v, want %+v", what, got, want)
	}
}

// sameRow checks that nothing but the time has touched a row.
func (tr *trial) sameRow(what string, got, want Row) {
	tr.t.Helper()
	if !sameRow(got, want) {
		tr.t.Errorf("%s: got %+v, want %+v", what, got, want)
	}
}

// sameJSON compares two documents by meaning; nil and null are the same.
func (tr *trial) sameJSON(what string, got []byte, want string) {
	tr.t.Helper()
	if !jsonEqual(got, []byte(want)) {
		tr.t.Errorf("%s: got %s, want %s", what, got, want)
	}
}
