package brokertest

import (
	"time"

	"github.com/respirated/respirated/broker"
)

// cancelCases tell what becomes of a strand for which a cancel is asked.
func cancelCases() []testCase {
	cases := []testCase{
		{"CancelOfAFreeStrandEndsItAtOnce", func(tr *trial) {
			id := tr.insert("")
			tr.store.Cancel(id)
			tr.finished(id, Cancelled)
		}},
		{"CancelOfALeasedStrandWaitsForItsReport", func(tr *trial) {
			p := tr.insertLeased("")
			tr.store.Cancel(p.ID)
			row := tr.row(p.ID)
			tr.equal("asked", row.CancelAsked, true)
			tr.equal("leased", row.Leased, true)
		}},
		{"CancelOfAStrandWhoseLeaseRanOutEndsItAtOnce", func(tr *trial) {
			p := tr.insertLeased("")
			tr.expire(p.ID)
			tr.store.Cancel(p.ID)
			tr.finished(p.ID, Cancelled)
		}},
		{"ScanEndsAStrandAskedToCancelWhoseLeaseRanOut", func(tr *trial) {
			parent, children := tr.family(1)
			tr.rest(parent)
			tr.store.Cancel(children[0].ID)
			tr.finds()
			tr.equal("asked", tr.row(children[0].ID).CancelAsked, true)
			tr.expire(children[0].ID)
			tr.scan(broker.ScanRequest{Kinds: []string{kind}, Bottom: true})
			tr.finished(children[0].ID, Cancelled)
			tr.isWoken(parent)
			tr.report(broker.Gone, exitOf(children[0]))
		}},
		{"ExitOfAStrandAskedToCancelIsDoneAllTheSame", func(tr *trial) {
			p := tr.insertLeased("")
			tr.store.Cancel(p.ID)
			tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Exit, Value: []byte(`1`)})
			tr.sameJSON("value", tr.finished(p.ID, Done).Value, `1`)
		}},
		{"SaveOfAStrandAskedToCancelIsASave", func(tr *trial) {
			p := tr.insertLeased("")
			tr.store.Cancel(p.ID)
			tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Save, Stack: []byte(`[1]`)})
			tr.sameJSON("stack", tr.row(p.ID).Stack, `[1]`)
			tr.equal("leased", tr.row(p.ID).Leased, true)
		}},
	}
	for _, a := range acts {
		if a.act == broker.Exit || a.act == broker.Save {
			continue
		}
		cases = append(cases, testCase{a.name + "OfAStrandAskedToCancelEndsItAsCancelled", func(tr *trial) {
			p := tr.insertLeased("")
			tr.store.Cancel(p.ID)
			r := broker.Report{Pair: p, Seq: 1, Act: a.act, Label: "next", Delay: time.Hour}
			if a.act == broker.Fail || a.act == broker.Cancel || a.act == broker.Crash {
				r.Failure = &boom
			}
			tr.applied(r)
			tr.finished(p.ID, Cancelled)
			tr.equal("evidence kept", len(tr.store.Attempts(p.ID)) == 1, r.Failure != nil)
		}})
	}
	return cases
}

var wakeCases = []testCase{
	{"WakeOfASleeperMakesItDue", func(tr *trial) {
		id := tr.insert(`{"in":3600}`)
		tr.store.Wake(id)
		tr.finds(id)
	}},
	{"WakeOfADueStrandKeepsItsPlace", func(tr *trial) {
		early, late := tr.insert(""), tr.insert("")
		tr.store.Wake(early)
		tr.finds(early, late)
	}},
	{"WakeDuringARunCutsItsNap", func(tr *trial) { tr.wakeCuts(broker.Report{Act: broker.Nap}) }},
	{"WakeDuringARunCutsTheDelayOfItsHop", func(tr *trial) {
		tr.wakeCuts(broker.Report{Act: broker.Hop, Label: "next"})
	}},
	{"WakeDuringARenewedRunCutsItsNapToo", func(tr *trial) {
		p := tr.insertLeased("")
		tr.renewed(p)
		tr.store.Wake(p.ID)
		tr.renewed(p)
		tr.finds()
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Delay: time.Hour})
		tr.finds(p.ID)
	}},
	{"WakeDuringARunCutsNoBackOff", func(tr *trial) {
		p := tr.insertLeased("")
		tr.store.Wake(p.ID)
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Fail, Delay: time.Hour, Failure: &boom})
		tr.about("due", tr.row(p.ID).Due, time.Hour)
	}},
	{"WakeBeforeTheLeaseIsSeenByThatRun", func(tr *trial) {
		id := tr.insert("")
		tr.store.Wake(id)
		p := pairOf(tr.lease(id))
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Delay: time.Hour})
		tr.about("due", tr.row(id).Due, time.Hour)
	}},
	{"WakeOutlivesALeaseThatIsSavedAndRenewed", func(tr *trial) {
		p := tr.insertLeased("")
		tr.store.Wake(p.ID)
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Save, Stack: []byte(`[1]`)})
		tr.renewed(p)
		tr.applied(broker.Report{Pair: p, Seq: 2, Act: broker.Nap, Delay: time.Hour})
		tr.finds(p.ID)
	}},
}

// wakeCuts checks that a run that was woken is followed by another at once.
func (tr *trial) wakeCuts(r broker.Report) {
	tr.t.Helper()
	r.Pair, r.Seq, r.Delay = tr.insertLeased(""), 1, time.Hour
	tr.store.Wake(r.ID)
	tr.applied(r)
	tr.finds(r.ID)
	r.Pair, r.Seq = pairOf(tr.lease(r.ID)), 1
	tr.applied(r)
	tr.about("due after a run that nobody woke", tr.row(r.ID).Due, time.Hour)
}
