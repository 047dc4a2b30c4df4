package brokertest

import (
	"slices"
	"strings"

	"github.com/respirated/respirated/broker"
)

// ownCases tell what becomes of steps that workers take in transactions of their own.
var ownCases = []testCase{
	{"StepThatHasCommittedIsApplied", func(tr *trial) {
		exited, napped, hopped := tr.insertLeased(`{"keep":true}`), tr.insertLeased(""), tr.insertLeased("")
		tr.takes(broker.Report{Pair: exited, Seq: 1, Act: broker.Exit, Value: []byte(`{"a":1}`)})
		tr.takes(broker.Report{Pair: napped, Seq: 1, Act: broker.Nap, Delay: ttl, Stack: []byte(`[1]`)})
		tr.takes(broker.Report{Pair: hopped, Seq: 1, Act: broker.Hop, Label: "next", Kind: "other"})
		tr.applied(own(exited), own(napped), own(hopped))
		tr.applied(own(exited), own(napped), own(hopped))
		tr.sameJSON("value", tr.finished(exited.ID, Done).Value, `{"a":1}`)
		tr.sameRow("after a nap", tr.row(napped.ID), Row{Kind: kind, Label: "start", Stack: []byte(`[1]`), Due: ttl})
		tr.sameRow("after a hop", tr.row(hopped.ID), Row{Kind: "other", Label: "next"})
		tr.equal("attempts", len(tr.store.Attempts(hopped.ID)), 0)
	}},
	{"StepThatIsUnderWayIsForLater", func(tr *trial) {
		p := tr.insertLeased("")
		end := tr.begins(broker.Report{Pair: p, Seq: 1, Act: broker.Hop, Label: "next"})
		before := tr.row(p.ID)
		tr.report(broker.Later, own(p))
		tr.sameRow("meanwhile", tr.row(p.ID), before)
		tr.equal("leased meanwhile", len(tr.tryLease(broker.Pair{ID: p.ID, Token: newToken()})), 0)
		end(true)
		tr.report(broker.Applied, own(p))
		tr.equal("label", tr.row(p.ID).Label, "next")
	}},
	{"StepThatWasUndoneIsAFailure", func(tr *trial) {
		p := tr.insertLeased("")
		tr.begins(broker.Report{Pair: p, Seq: 1, Act: broker.Exit})(false)
		r := own(p)
		r.Failure = &broker.Failure{Class: "Net", Message: "reset by peer", Trace: "t", Worker: "w"}
		tr.report(broker.Applied, r)
		tr.isNotCommitted(p, r)
		tr.report(broker.Dup, r)
		tr.equal("try", tr.row(p.ID).Try, 1)
	}},
	{"StepThatWasNeverTakenIsAFailure", func(tr *trial) {
		p := tr.insertLeased("")
		tr.report(broker.Applied, own(p))
		tr.isNotCommitted(p, own(p))
	}},
	{"StepThatWasUndoneMayBeTheLastTry", func(tr *trial) {
		p := tr.insertLeased(`{"max_tries":1}`)
		tr.report(broker.Applied, own(p))
		tr.finished(p.ID, Dead)
	}},
	{"StepOfAnEarlierLeaseIsRefused", func(tr *trial) {
		p := tr.insertLeased("")
		tr.expire(p.ID)
		next := pairOf(tr.lease(p.ID))
		tr.refusesStep(broker.Report{Pair: p, Seq: 1, Act: broker.Exit})
		tr.report(broker.Stale, own(p))
		tr.applied(exitOf(next))
		tr.refusesStep(broker.Report{Pair: p, Seq: 1, Act: broker.Exit})
		tr.report(broker.Gone, own(p))
	}},
	{"StepAfterTheLeaseRanOutIsTaken", func(tr *trial) {
		p := tr.insertLeased("")
		tr.expire(p.ID)
		tr.takes(broker.Report{Pair: p, Seq: 1, Act: broker.Nap})
		tr.report(broker.Applied, own(p))
	}},
	{"StepIsAppliedThoughSomebodyElseHasTheStrandNow", func(tr *trial) {
		p := tr.insertLeased("")
		tr.takes(broker.Report{Pair: p, Seq: 1, Act: broker.Nap})
		next := pairOf(tr.lease(p.ID))
		before := tr.row(p.ID)
		tr.report(broker.Applied, own(p))
		tr.sameRow("of the next", tr.row(p.ID), before)
		tr.applied(exitOf(next))
	}},
	{"TokenTakesOneStep", func(tr *trial) {
		p := tr.insertLeased("")
		tr.takes(broker.Report{Pair: p, Seq: 1, Act: broker.Nap})
		tr.refusesStep(broker.Report{Pair: p, Seq: 2, Act: broker.Nap})
		tr.report(broker.Applied, own(p))
	}},
	{"StepFollowsTheChainBeforeIt", func(tr *trial) {
		p := tr.insertLeased("")
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Hop, Label: "second", Stay: true})
		tr.refusesStep(broker.Report{Pair: p, Seq: 1, Act: broker.Hop, Label: "third"})
		tr.takes(broker.Report{Pair: p, Seq: 2, Act: broker.Hop, Label: "third"})
		tr.report(broker.Applied, broker.Report{Pair: p, Seq: 2, Act: broker.Own})
		tr.equal("label", tr.row(p.ID).Label, "third")
	}},
	{"StepOfAStrandAskedToCancelMakesNoChildren", func(tr *trial) {
		for _, r := range []broker.Report{{Act: broker.Nap}, {Act: broker.Hop, Label: "next"}} {
			r.Pair, r.Seq = tr.insertLeased(""), 1
			child, other := newID(), newID()
			tr.store.Cancel(r.ID)
			r.Inserts = []broker.Insert{{ID: child, Kind: kind, Args: []byte(`{}`), Child: true}}
			all := r
			all.Pair = tr.insertLeased("")
			all.Inserts = append(slices.Clone(r.Inserts), broker.Insert{ID: other, Kind: kind, Args: []byte(`{}`)})
			tr.store.Cancel(all.ID)
			tr.takes(r)
			tr.takes(all)
			tr.finished(r.ID, Cancelled)
			tr.finished(all.ID, Cancelled)
			tr.equal("parent of the other", tr.row(other).Parent, broker.ID{})
			_, live := tr.store.Row(child)
			tr.equal("its child lives", live, false)
		}
	}},
	{"StepOfAStrandAskedToCancelEndsIt", func(tr *trial) {
		napped, exited, undone := tr.insertLeased(""), tr.insertLeased(""), tr.insertLeased("")
		for _, p := range []broker.Pair{napped, exited, undone} {
			tr.store.Cancel(p.ID)
		}
		tr.takes(broker.Report{Pair: napped, Seq: 1, Act: broker.Nap})
		tr.takes(broker.Report{Pair: exited, Seq: 1, Act: broker.Exit})
		tr.applied(own(napped), own(exited), own(undone))
		tr.finished(napped.ID, Cancelled)
		tr.finished(exited.ID, Done)
		tr.finished(undone.ID, Cancelled)
	}},
	{"StepBringsItsEffectsAlong", func(tr *trial) {
		p, other := tr.insertLeased(""), tr.insert("")
		child := broker.Insert{ID: newID(), Kind: kind, Args: []byte(`{}`), Child: true}
		end := tr.begins(broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Delay: ttl, Inserts: []broker.Insert{child},
			Signals: []broker.Signal{{ID: other, Name: "s", Value: []byte(`1`)}, {Name: "self"}},
			Due:     &broker.Due{Target: "x", In: 2 * ttl}})
		tr.isEmpty(other)
		end(true)
		tr.report(broker.Applied, own(p))
		tr.equal("signals", strings.Join(append(tr.stored(other), tr.stored(p.ID)...), " "), "s self")
		tr.waits(p, 1)
		tr.deadlines(p.ID, Deadline{Target: "x", In: 2 * ttl})
		tr.takes(broker.Report{Pair: pairOf(tr.lease(child.ID)), Seq: 1, Act: broker.Exit})
		tr.isWoken(p)
	}},
	{"StepThatWasUndoneLeavesNoEffect", func(tr *trial) {
		p, other := tr.insertLeased(""), tr.insert("")
		child := broker.Insert{ID: newID(), Kind: kind, Args: []byte(`{}`), Child: true}
		tr.begins(broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Inserts: []broker.Insert{child},
			Signals: []broker.Signal{{ID: other, Name: "s"}}})(false)
		tr.report(broker.Applied, own(p))
		tr.isEmpty(other)
		if _, live := tr.store.Row(child.ID); live {
			tr.t.Error("the child is there")
		}
	}},
	{"StepWithBadContentIsRefused", func(tr *trial) {
		p := tr.insertLeased("")
		for _, r := range []broker.Report{
			{Act: broker.Hop, Label: "a\x00"}, {Act: broker.Hop}, {Act: broker.Hop, Label: "x", Kind: strings.Repeat("k", 256)},
			{Act: broker.Nap, Stack: []byte(`{}`)}, {Act: broker.Exit, Value: []byte(`{`)},
			{Act: broker.Nap, Inserts: []broker.Insert{{Kind: kind, Args: []byte(`{}`), Opts: []byte(`{"priority":10}`)}}},
			{Act: broker.Nap, Signals: []broker.Signal{{Name: ""}}}, {Act: broker.Nap, Due: &broker.Due{}},
		} {
			r.Pair, r.Seq = p, 1
			tr.refusesStep(r)
		}
		tr.takes(broker.Report{Pair: p, Seq: 1, Act: broker.Exit})
		tr.report(broker.Applied, own(p))
	}},
}

// own reports a step taken in a transaction of the worker's.
func own(p broker.Pair) broker.Report { return broker.Report{Pair: p, Seq: 1, Act: broker.Own} }

// begins takes a step in a transaction that stays open.
func (tr *trial) begins(r broker.Report) (end func(commit bool)) {
	tr.t.Helper()
	end, err := tr.store.Step(r)
	if err != nil {
		tr.t.Fatalf("step: %v", err)
	}
	return end
}

// takes takes a step, and commits.
func (tr *trial) takes(r broker.Report) {
	tr.t.Helper()
	tr.begins(r)(true)
}

// refusesStep takes a step that is not allowed.
func (tr *trial) refusesStep(r broker.Report) {
	tr.t.Helper()
	if end, err := tr.store.Step(r); err == nil {
		end(false)
		tr.t.Errorf("step %+v: got no error", r)
	}
}

// isNotCommitted looks at a strand whose step left no trace, which has been reported.
func (tr *trial) isNotCommitted(p broker.Pair, r broker.Report) {
	tr.t.Helper()
	row := tr.row(p.ID)
	tr.equal("try", row.Try, 1)
	tr.equal("leased", row.Leased, false)
	got := tr.store.Attempts(p.ID)
	if want := r.NotCommitted().Failure; len(got) != 1 || got[0] != *want || got[0].Class != "not_committed" {
		tr.t.Errorf("attempts: got %+v, want one: %+v", got, *want)
	}
}
