package brokertest

import (
	"slices"

	"github.com/respirated/respirated/broker"
)

// fenceSeq is the seq of the report that meets the fence.
const fenceSeq = 5

// standings are all the ways in which a report can find its strand.
var standings = []struct {
	name    string
	prepare func(*trial) broker.Pair // returns what the report will be under
	worker  []broker.VerdictState    // what a worker's report may be answered
	broker  []broker.VerdictState    // what Yield and Crash may be answered, which carry no seq
}{
	{"LeasedIsApplied", func(tr *trial) broker.Pair {
		return tr.insertLeased("")
	}, just(broker.Applied), just(broker.Applied)},

	{"WhoseLeaseRanOutIsApplied", func(tr *trial) broker.Pair {
		p := tr.insertLeased("")
		tr.expire(p.ID)
		return p
	}, just(broker.Applied), just(broker.Applied)},

	{"WithALowerSeqSoFarIsApplied", func(tr *trial) broker.Pair {
		return tr.insertSaved(fenceSeq - 1)
	}, just(broker.Applied), just(broker.Applied)},

	{"WithThatSeqSoFarIsDup", func(tr *trial) broker.Pair {
		return tr.insertSaved(fenceSeq)
	}, just(broker.Dup), just(broker.Applied)},

	{"WithAHigherSeqSoFarIsDup", func(tr *trial) broker.Pair {
		return tr.insertSaved(fenceSeq + 1)
	}, just(broker.Dup), just(broker.Applied)},

	{"RestingAfterThatSeqIsDup", func(tr *trial) broker.Pair {
		return tr.insertResting(fenceSeq)
	}, just(broker.Dup), both(broker.Dup, broker.Stale)},

	{"RestingAfterALowerSeqIsStale", func(tr *trial) broker.Pair {
		return tr.insertResting(fenceSeq - 1)
	}, just(broker.Stale), both(broker.Dup, broker.Stale)},

	{"HeldByAnotherIsStale", func(tr *trial) broker.Pair {
		p := tr.insertLeased("")
		tr.expire(p.ID)
		tr.lease(p.ID)
		return p
	}, just(broker.Stale), just(broker.Stale)},

	{"HeldByAnotherWithAHigherSeqIsStale", func(tr *trial) broker.Pair {
		p := tr.insertLeased("")
		tr.expire(p.ID)
		next := pairOf(tr.lease(p.ID))
		tr.applied(broker.Report{Pair: next, Seq: fenceSeq + 1, Act: broker.Save, Stack: []byte(`[]`)})
		return p
	}, just(broker.Stale), just(broker.Stale)},

	{"NeverLeasedIsStale", func(tr *trial) broker.Pair {
		return broker.Pair{ID: tr.insert(""), Token: newToken()}
	}, just(broker.Stale), just(broker.Stale)},

	{"ThatWasYieldedIsStale", func(tr *trial) broker.Pair {
		p := tr.insertLeased("")
		tr.applied(broker.Report{Pair: p, Act: broker.Yield})
		return p
	}, just(broker.Stale), just(broker.Stale)},

	{"ThatCrashedIsStale", func(tr *trial) broker.Pair {
		p := tr.insertLeased("")
		tr.applied(broker.Report{Pair: p, Act: broker.Crash, Failure: &broker.Failure{Exit: "signal: killed"}})
		return p
	}, just(broker.Stale), just(broker.Stale)},

	{"ThatIsOverIsGone", func(tr *trial) broker.Pair {
		p := tr.insertLeased("")
		tr.applied(broker.Report{Pair: p, Seq: fenceSeq, Act: broker.Exit})
		return p
	}, just(broker.Gone), just(broker.Gone)},

	{"ThatNeverWasIsGone", func(*trial) broker.Pair {
		return broker.Pair{ID: newID(), Token: newToken()}
	}, just(broker.Gone), just(broker.Gone)},
}

func just(s broker.VerdictState) []broker.VerdictState    { return []broker.VerdictState{s} }
func both(s, t broker.VerdictState) []broker.VerdictState { return []broker.VerdictState{s, t} }

// insertSaved adds a strand that is leased and has reported up to seq.
func (tr *trial) insertSaved(seq uint64) broker.Pair {
	tr.t.Helper()
	p := tr.insertLeased("")
	tr.applied(broker.Report{Pair: p, Seq: seq, Act: broker.Save, Stack: []byte(`["saved"]`)})
	return p
}

// insertResting adds a strand that napped in its report seq.
func (tr *trial) insertResting(seq uint64) broker.Pair {
	tr.t.Helper()
	p := tr.insertLeased("")
	tr.applied(broker.Report{Pair: p, Seq: seq, Act: broker.Nap})
	return p
}

// fenceCases lets every act meet every standing.
func fenceCases() (cases []testCase) {
	for _, a := range acts {
		for _, s := range standings {
			want := s.worker
			if ofBroker(a.act) {
				want = s.broker
			}
			cases = append(cases, testCase{a.name + "OfAStrand" + s.name, func(tr *trial) {
				tr.meetFence(tr.fenceReport(s.prepare(tr), a.act), want)
			}})
		}
		cases = append(cases,
			testCase{a.name + "OfALockedStrandIsForLater", func(tr *trial) { tr.meetLock(a.act) }},
			testCase{a.name + "AppliedTwiceChangesNothingMore", func(tr *trial) { tr.replay(a.act) }},
		)
	}
	return cases
}

// fenceReport is a report that leaves a trace of everything it can carry.
func (tr *trial) fenceReport(p broker.Pair, act broker.Act) broker.Report {
	tr.t.Helper()
	r := broker.Report{
		Pair:    p,
		Act:     act,
		Label:   "next",
		Value:   []byte(`"value"`),
		Stack:   []byte(`["new"]`),
		Failure: &broker.Failure{Class: "E", Message: "was here"},
		Inserts: []broker.Insert{{ID: newID(), Kind: kind, Args: []byte(`{}`), Child: true}},
	}
	if !ofBroker(act) {
		r.Seq = fenceSeq
	}
	if hasEffects(act) {
		r.Signals = []broker.Signal{{ID: tr.insert(`{"in":3600}`), Name: "was here"}}
	}
	return r
}

// sent is how many of the semaphores of a fence report have come to others.
func (tr *trial) sent(r broker.Report) (n int) {
	for _, sig := range r.Signals {
		n += len(tr.stored(sig.ID))
	}
	return n
}

// meetFence sends a report and checks that it did all or nothing.
func (tr *trial) meetFence(r broker.Report, want []broker.VerdictState) {
	tr.t.Helper()
	before, _ := tr.store.Row(r.ID)
	attempts := len(tr.store.Attempts(r.ID))
	got, err := tr.store.Commit(tr.ctx, []broker.Report{r})
	if err != nil {
		tr.t.Fatalf("commit: %v", err)
	}
	if len(got) != 1 || !slices.Contains(want, got[0].State) {
		tr.t.Fatalf("verdict: got %s, want one of %s", verdictText(got), stateText(want))
	}
	_, childMade := tr.store.Row(r.Inserts[0].ID)
	tr.equal("its insert was made", childMade, got[0].State == broker.Applied)
	if got[0].State == broker.Applied {
		tr.equal("its signals that came", tr.sent(r), len(r.Signals))
		return // what it did is for the cases of its act
	}
	after, _ := tr.store.Row(r.ID)
	tr.sameRow("row", after, before)
	tr.equal("its signals that came", tr.sent(r), 0)
	tr.equal("attempts", len(tr.store.Attempts(r.ID)), attempts)
}

// meetLock reports on a strand that somebody has locked, then once more.
func (tr *trial) meetLock(act broker.Act) {
	tr.t.Helper()
	r := tr.fenceReport(tr.insertLeased(""), act)
	neighbour := tr.insertLeased("")
	unlock := tr.store.Lock(r.ID)
	tr.commit([]broker.VerdictState{broker.Later, broker.Applied}, r, broker.Report{Pair: neighbour, Seq: 1, Act: broker.Exit})
	unlock()
	tr.equal("still leased", tr.row(r.ID).Leased, true)
	tr.equal("its signals that came", tr.sent(r), 0)
	tr.report(broker.Applied, r)
}

// replay sends a report again, as a broker does that has not learned what became of it.
func (tr *trial) replay(act broker.Act) {
	tr.t.Helper()
	r := tr.fenceReport(tr.insertLeased(""), act)
	tr.report(broker.Applied, r)
	before, live := tr.store.Row(r.ID)
	attempts := len(tr.store.Attempts(r.ID))
	switch {
	case !live:
		tr.report(broker.Gone, r)
	case ofBroker(act):
		tr.report(broker.Stale, r)
	default:
		tr.report(broker.Dup, r)
	}
	after, _ := tr.store.Row(r.ID)
	tr.sameRow("row", after, before)
	tr.equal("its signals that came", tr.sent(r), len(r.Signals))
	tr.equal("attempts", len(tr.store.Attempts(r.ID)), attempts)
}
