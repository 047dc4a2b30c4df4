package brokertest

import (
	"time"

	"github.com/respirated/respirated/broker"
)

// stayCases tell of naps and hops after which a strand runs on under its lease.
var stayCases = []testCase{
	{"StayStoresTheStepAndKeepsTheLease", func(tr *trial) {
		p := tr.insertLeased("")
		tr.store.Age(p.ID, ttl/2)
		v := tr.stay(p, broker.Report{Seq: 1, Act: broker.Hop, Label: "second", Stack: []byte(`[2]`)})
		tr.equal("stays", v.Stays, true)
		row := tr.row(p.ID)
		tr.equal("label", row.Label, "second")
		tr.sameJSON("stack", row.Stack, `[2]`)
		tr.about("lease", row.Left, ttl/2)
		tr.equal("kept", tr.renewed(p), []broker.Pair{p})
		tr.report(broker.Dup, broker.Report{Pair: p, Seq: 1, Act: broker.Exit})
		tr.report(broker.Applied, broker.Report{Pair: p, Seq: 2, Act: broker.Exit})
	}},
	{"StayGoesOnAsAnotherKind", func(tr *trial) {
		p := tr.insertLeased("")
		tr.equal("stays", tr.stay(p, broker.Report{Seq: 1, Act: broker.Hop, Label: "second", Kind: "other"}).Stays, true)
		tr.equal("kind", tr.row(p.ID).Kind, "other")
		tr.equal("leased", tr.row(p.ID).Leased, true)
	}},
	{"StayStartsTheCountsAnew", func(tr *trial) {
		tr.startsAnew(broker.Report{Act: broker.Nap, Stay: true})
		tr.startsAnew(broker.Report{Act: broker.Hop, Label: "next", Stay: true})
	}},
	{"StayIsNotFound", func(tr *trial) {
		p := tr.insertLeased("")
		tr.stay(p, broker.Report{Seq: 1, Act: broker.Nap})
		tr.finds()
		tr.equal("taken by another", len(tr.tryLease(broker.Pair{ID: p.ID, Token: newToken()})), 0)
	}},
	{"StayKeepsALeaseThatRanOutAsItIs", func(tr *trial) {
		p := tr.insertLeased("")
		tr.expire(p.ID)
		tr.stay(p, broker.Report{Seq: 1, Act: broker.Nap})
		tr.about("lease", tr.row(p.ID).Left, -time.Second)
		tr.lease(p.ID)
	}},
	{"StayTellsWhatWaits", func(tr *trial) {
		p := tr.insertLeased("")
		tr.signal(broker.Signal{ID: p.ID, Name: "a"})
		tr.equal("names", names(tr.stay(p, broker.Report{Seq: 1, Act: broker.Nap}).Inbox), []string{"a"})
		tr.signal(broker.Signal{ID: p.ID, Name: "b"})
		tr.equal("names later", names(tr.stay(p, broker.Report{Seq: 2, Act: broker.Hop, Label: "x"}).Inbox), []string{"a", "b"})
	}},
	{"StayWithNothingWaitingHasNoInbox", func(tr *trial) {
		p := tr.insertLeased("")
		tr.equal("inbox", tr.stay(p, broker.Report{Seq: 1, Act: broker.Nap}).Inbox, (*broker.Inbox)(nil))
	}},
	{"StayTellsOfWhatItUsedAndSentItself", func(tr *trial) {
		id := tr.insert("")
		tr.signal(broker.Signal{ID: id, Name: "used"}, broker.Signal{ID: id, Name: "left"})
		s := tr.lease(id)
		v := tr.stay(pairOf(s), broker.Report{Seq: 1, Act: broker.Nap, Used: semaphoreIDs(*s.Inbox)[:1], Signals: []broker.Signal{{Name: "own"}}})
		tr.equal("names", names(v.Inbox), []string{"left", "own"})
		tr.applied(broker.Report{Pair: pairOf(s), Seq: 2, Act: broker.Nap, Delay: time.Hour})
		tr.about("due", tr.row(id).Due, time.Hour)
	}},
	{"StayTellsOfItsNewChildren", func(tr *trial) {
		p := tr.insertLeased("")
		v := tr.stay(p, broker.Report{Seq: 1, Act: broker.Nap, Inserts: []broker.Insert{{ID: newID(), Kind: kind, Args: []byte(`{}`), Child: true}}})
		tr.equal("left", tr.mail(v.Inbox).Left, 1)
	}},
	{"StayTellsOfChildrenThatHaveEnded", func(tr *trial) {
		parent, children := tr.family(2)
		tr.applied(exitOf(children[0]))
		in := tr.mail(tr.stay(parent, broker.Report{Seq: 2, Act: broker.Nap}).Inbox)
		tr.equal("ended", endedIDs(in), []broker.ID{children[0].ID})
		tr.equal("left", in.Left, 1)
	}},
	{"SignalBeforeAStayCutsNoNapAfterIt", func(tr *trial) {
		p := tr.insertLeased("")
		tr.signal(broker.Signal{ID: p.ID, Name: "go"})
		tr.stay(p, broker.Report{Seq: 1, Act: broker.Nap})
		tr.applied(napOf(p))
		tr.about("due", tr.row(p.ID).Due, time.Hour)
	}},
	{"SignalAfterAStayCutsTheNapAfterIt", func(tr *trial) {
		p := tr.insertLeased("")
		tr.stay(p, broker.Report{Seq: 1, Act: broker.Nap})
		tr.signal(broker.Signal{ID: p.ID, Name: "go"})
		tr.applied(napOf(p))
		tr.finds(p.ID)
	}},
	{"SignalMayShareABatchWithAStayOfItsTarget", func(tr *trial) {
		for _, first := range []bool{true, false} {
			target := tr.insertLeased("")
			stay := broker.Report{Pair: target, Seq: 1, Act: broker.Nap, Stay: true}
			signal := broker.Report{Pair: tr.insertLeased(""), Seq: 1, Act: broker.Exit, Signals: []broker.Signal{{ID: target.ID, Name: "go"}}}
			reports := []broker.Report{signal, stay}
			if !first {
				reports = []broker.Report{stay, signal}
			}
			tr.heard(target, reports, func(in *broker.Inbox) bool { return len(names(in)) == 1 })
			tr.equal("names", tr.stored(target.ID), []string{"go"})
		}
	}},
	{"LastChildMayExitInABatchWithAStayOfItsParent", func(tr *trial) {
		for _, first := range []bool{true, false} {
			parent, children := tr.family(1)
			stay := broker.Report{Pair: parent, Seq: 2, Act: broker.Nap, Stay: true}
			reports := []broker.Report{exitOf(children[0]), stay}
			if !first {
				reports = []broker.Report{stay, exitOf(children[0])}
			}
			tr.heard(parent, reports, func(in *broker.Inbox) bool { return in != nil && len(in.Ended) == 1 })
		}
	}},
	{"StayOfAStrandAskedToCancelEndsIt", func(tr *trial) {
		for _, r := range []broker.Report{{Act: broker.Nap}, {Act: broker.Hop, Label: "next"}} {
			p := tr.insertLeased("")
			tr.signal(broker.Signal{ID: p.ID, Name: "go"})
			tr.store.Cancel(p.ID)
			r.Seq = 1
			v := tr.stay(p, r)
			tr.equal("stays", v.Stays, false)
			tr.equal("inbox", v.Inbox, (*broker.Inbox)(nil))
			tr.finished(p.ID, Cancelled)
			tr.isEmpty(p.ID)
		}
	}},
	{"StayAgainIsADupThatTellsNothing", func(tr *trial) {
		p := tr.insertLeased("")
		tr.signal(broker.Signal{ID: p.ID, Name: "go"})
		r := broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Stay: true, Signals: []broker.Signal{{Name: "own"}}}
		tr.report(broker.Applied, r)
		v := tr.report(broker.Dup, r)
		tr.equal("stays", v.Stays, false)
		tr.equal("inbox", v.Inbox, (*broker.Inbox)(nil))
		tr.equal("names", tr.stored(p.ID), []string{"go", "own"})
	}},
	{"StaleStayTellsNothing", func(tr *trial) {
		p := tr.insertLeased("")
		tr.signal(broker.Signal{ID: p.ID, Name: "go"})
		tr.expire(p.ID)
		tr.lease(p.ID)
		v := tr.report(broker.Stale, broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Stay: true})
		tr.equal("stays", v.Stays, false)
		tr.equal("inbox", v.Inbox, (*broker.Inbox)(nil))
	}},
	{"StaysOfManyInOneBatchTellEachItsOwn", func(tr *trial) {
		var reports []broker.Report
		for i := range 10 {
			p := tr.insertLeased("")
			if i%2 == 0 {
				tr.signal(broker.Signal{ID: p.ID, Name: p.ID.String()})
			}
			reports = append(reports, broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Stay: true})
		}
		got, err := tr.store.Commit(tr.ctx, reports)
		if err != nil {
			tr.t.Fatalf("commit: %v", err)
		}
		for i, v := range got {
			tr.equal("stays", v.Stays, true)
			want := []string{reports[i].ID.String()}
			if i%2 == 1 {
				want = nil
			}
			tr.equal("names", names(v.Inbox), want)
		}
	}},
}

// stay reports a nap or hop that goes on under its lease.
func (tr *trial) stay(p broker.Pair, r broker.Report) broker.Verdict {
	tr.t.Helper()
	r.Pair, r.Stay = p, true
	return tr.report(broker.Applied, r)
}

// heard sends a batch that holds a stay, and what the strand that stays should hear of. It is in the inbox, or cuts the
// next nap.
func (tr *trial) heard(p broker.Pair, reports []broker.Report, in func(*broker.Inbox) bool) {
	tr.t.Helper()
	got, err := tr.store.Commit(tr.ctx, reports)
	if err != nil {
		tr.t.Fatalf("commit: %v", err)
	}
	told := false
	for i, v := range got {
		if v.State != broker.Applied {
			tr.t.Fatalf("verdicts: got %s, want all applied", verdictText(got))
		}
		told = told || reports[i].ID == p.ID && in(v.Inbox)
	}
	tr.applied(broker.Report{Pair: p, Seq: 3, Act: broker.Nap, Delay: time.Hour})
	if due := tr.row(p.ID).Due; !told && due > tolerance {
		tr.t.Errorf("what came in the batch of a stay: got nothing of it in the inbox, and a nap of %v after it", due)
	}
}

func endedIDs(in broker.Inbox) (ids []broker.ID) {
	for _, e := range in.Ended {
		ids = append(ids, e.ID)
	}
	return ids
}
