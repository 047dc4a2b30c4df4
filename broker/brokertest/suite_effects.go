package brokertest

import (
	"context"
	"time"

	"github.com/respirated/respirated/broker"
)

// effectCases tell what a report does beside its act. That it does so once, and not where it is not applied, is also
// among the cases of the fence.
var effectCases = []testCase{
	{"UsedSemaphoresAreRemovedAndNoOthers", func(tr *trial) {
		for _, r := range []broker.Report{{Act: broker.Nap}, {Act: broker.Hop, Label: "next"}} {
			id := tr.insert("")
			tr.signal(broker.Signal{ID: id, Name: "a"}, broker.Signal{ID: id, Name: "b"}, broker.Signal{ID: id, Name: "c"})
			s := tr.lease(id)
			ids := semaphoreIDs(tr.mail(s.Inbox))
			tr.signal(broker.Signal{ID: id, Name: "late"})
			r.Pair, r.Seq, r.Used = pairOf(s), 1, []int64{ids[0], ids[2], ids[2]}
			tr.applied(r)
			tr.equal("inbox by the row", tr.row(id).Inbox, 2)
			tr.equal("names", names(tr.lease(id).Inbox), []string{"b", "late"})
		}
	}},
	{"UsedThatAreNotTherePassOver", func(tr *trial) {
		other, id := tr.insert(""), tr.insert("")
		tr.signal(broker.Signal{ID: other, Name: "theirs"}, broker.Signal{ID: id, Name: "ours"})
		theirs := semaphoreIDs(tr.mail(tr.lease(other).Inbox))
		p := pairOf(tr.lease(id))
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Used: append(theirs, 0, -1, 1<<62)})
		tr.equal("theirs", tr.stored(other), []string{"theirs"})
		tr.equal("ours", tr.stored(id), []string{"ours"})
	}},
	{"UsedUnderAStaleTokenStay", func(tr *trial) {
		id := tr.insert("")
		tr.signal(broker.Signal{ID: id, Name: "go"})
		s := tr.lease(id)
		tr.expire(id)
		tr.lease(id)
		tr.report(broker.Stale, broker.Report{Pair: pairOf(s), Seq: 1, Act: broker.Nap, Used: semaphoreIDs(*s.Inbox)})
		tr.equal("names", tr.stored(id), []string{"go"})
	}},
	{"SignalOfAReportWakesASleeper", func(tr *trial) {
		for _, r := range []broker.Report{{Act: broker.Exit}, {Act: broker.Nap, Delay: time.Hour}, {Act: broker.Hop, Label: "x", Delay: time.Hour}} {
			sleeper := tr.insert(`{"in":3600}`)
			r.Pair, r.Seq = tr.insertLeased(""), 1
			r.Signals = []broker.Signal{{ID: sleeper, Name: "go", Value: []byte(`7`)}}
			tr.applied(r)
			tr.finds(sleeper)
			in := tr.mail(tr.lease(sleeper).Inbox)
			tr.equal("names", names(&in), []string{"go"})
			tr.sameJSON("value", in.Semaphores[0].Value, `7`)
		}
	}},
	{"QuietSignalOfAReportWakesNobody", func(tr *trial) {
		sleeper := tr.insert(`{"in":3600}`)
		tr.applied(broker.Report{Pair: tr.insertLeased(""), Seq: 1, Act: broker.Exit,
			Signals: []broker.Signal{{ID: sleeper, Name: "psst", Quiet: true}}})
		tr.about("due", tr.row(sleeper).Due, time.Hour)
		tr.equal("names", tr.stored(sleeper), []string{"psst"})
	}},
	{"SignalOfAReportCutsTheNapOfARun", func(tr *trial) {
		target := tr.insertLeased("")
		tr.applied(broker.Report{Pair: tr.insertLeased(""), Seq: 1, Act: broker.Exit, Signals: []broker.Signal{{ID: target.ID, Name: "go"}}})
		tr.applied(napOf(target))
		tr.finds(target.ID)
	}},
	{"SignalsOfAReportComeInTheirOrder", func(tr *trial) {
		id := tr.insert("")
		tr.applied(broker.Report{Pair: tr.insertLeased(""), Seq: 1, Act: broker.Exit,
			Signals: []broker.Signal{{ID: id, Name: "b"}, {ID: id, Name: "a"}, {ID: id, Name: "c"}}})
		tr.equal("names", names(tr.lease(id).Inbox), []string{"b", "a", "c"})
	}},
	{"SignalToItselfDoesNotWake", func(tr *trial) {
		p := tr.insertLeased("")
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Delay: time.Hour, Signals: []broker.Signal{{Name: "later"}}})
		tr.about("due", tr.row(p.ID).Due, time.Hour)
		tr.arrive(p.ID)
		s := tr.lease(p.ID)
		tr.equal("names", names(s.Inbox), []string{"later"})
		tr.applied(broker.Report{Pair: pairOf(s), Seq: 1, Act: broker.Nap, Delay: time.Hour})
		tr.about("due after the next run", tr.row(p.ID).Due, time.Hour)
	}},
	{"SignalToItselfVanishesWithAnExit", func(tr *trial) {
		p := tr.insertLeased("")
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Exit, Signals: []broker.Signal{{Name: "a"}, {ID: p.ID, Name: "b"}}})
		tr.finished(p.ID, Done)
		tr.isEmpty(p.ID)
	}},
	{"SignalOfAReportToNobodyPassesOver", func(tr *trial) {
		over := tr.insertLeased("")
		tr.applied(exitOf(over))
		target, missing := tr.insert(""), newID()
		tr.applied(broker.Report{Pair: tr.insertLeased(""), Seq: 1, Act: broker.Exit,
			Signals: []broker.Signal{{ID: missing, Name: "a"}, {ID: target, Name: "b"}, {ID: over.ID, Name: "c"}}})
		tr.equal("names", tr.stored(target), []string{"b"})
		tr.isEmpty(missing)
		tr.isEmpty(over.ID)
	}},
	{"SignalOfAReportReachesWhatItInserts", func(tr *trial) {
		child := broker.Insert{ID: newID(), Kind: kind, Args: []byte(`{}`), Opts: []byte(`{"in":3600}`), Child: true}
		tr.applied(broker.Report{Pair: tr.insertLeased(""), Seq: 1, Act: broker.Nap, Delay: time.Hour,
			Inserts: []broker.Insert{child}, Signals: []broker.Signal{{ID: child.ID, Name: "go"}}})
		tr.finds(child.ID)
		tr.equal("names", names(tr.lease(child.ID).Inbox), []string{"go"})
	}},
	{"SignalMayShareABatchWithTheNapOfItsTarget", func(tr *trial) {
		for _, first := range []bool{true, false} {
			target := tr.insertLeased("")
			signal := broker.Report{Pair: tr.insertLeased(""), Seq: 1, Act: broker.Exit, Signals: []broker.Signal{{ID: target.ID, Name: "go"}}}
			if first {
				tr.applied(signal, napOf(target))
			} else {
				tr.applied(napOf(target), signal)
			}
			tr.about("due", tr.row(target.ID).Due, 0)
			tr.equal("names", names(tr.lease(target.ID).Inbox), []string{"go"})
		}
	}},
	{"SignalMayShareABatchWithTheExitOfItsTarget", func(tr *trial) {
		target, sender := tr.insertLeased(""), tr.insertLeased("")
		tr.applied(exitOf(target), broker.Report{Pair: sender, Seq: 1, Act: broker.Exit, Signals: []broker.Signal{{ID: target.ID, Name: "go"}}})
		tr.finished(target.ID, Done)
		tr.isEmpty(target.ID)
	}},
	{"SignalsCrosswiseMayShareABatch", func(tr *trial) {
		a, b := tr.insertLeased(""), tr.insertLeased("")
		toB, toA := napOf(a), napOf(b)
		toB.Signals, toA.Signals = []broker.Signal{{ID: b.ID, Name: "from a"}}, []broker.Signal{{ID: a.ID, Name: "from b"}}
		tr.applied(toB, toA)
		tr.equal("names of a", names(tr.lease(a.ID).Inbox), []string{"from b"})
		tr.equal("names of b", names(tr.lease(b.ID).Inbox), []string{"from a"})
	}},
	{"LockedTargetDoesNotLoseItsSignal", func(tr *trial) {
		target := tr.insert(`{"in":3600}`)
		r := broker.Report{Pair: tr.insertLeased(""), Seq: 1, Act: broker.Exit, Signals: []broker.Signal{{ID: target, Name: "go"}}}
		tr.whileLocked(target, func(ctx context.Context) {
			got, err := tr.store.Commit(ctx, []broker.Report{r})
			if err != nil || len(got) != 1 || got[0].State != broker.Applied && got[0].State != broker.Later {
				tr.t.Errorf("commit: got %s and error %v, want applied or later", verdictText(got), err)
			}
		})
		if _, live := tr.store.Row(r.ID); live {
			tr.applied(r)
		}
		tr.equal("names", names(tr.lease(target).Inbox), []string{"go"})
	}},
}
