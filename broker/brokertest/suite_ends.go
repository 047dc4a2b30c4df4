package brokertest

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/respirated/respirated/broker"
)

// endCases tell how parents learn what became of their children.
var endCases = []testCase{
	{"EndOfAChildWaitsForItsParent", func(tr *trial) {
		parent, children := tr.family(4)
		tr.rest(parent)
		tr.applied(broker.Report{Pair: children[0], Seq: 2, Act: broker.Exit, Value: []byte(`{"sum":3}`)})
		tr.applied(broker.Report{Pair: children[1], Seq: 2, Act: broker.Cancel})
		tr.applied(broker.Report{Pair: children[2], Seq: 2, Act: broker.Fail, Final: true, Failure: &boom})
		tr.waits(parent, 1)
		tr.applied(exitOf(children[3]))
		in := tr.mail(tr.lease(parent.ID).Inbox)
		tr.equal("left", in.Left, 0)
		tr.equal("ended", endedIDs(in), []broker.ID{children[0].ID, children[1].ID, children[2].ID, children[3].ID})
		var states []string
		for _, e := range in.Ended {
			tr.equal("kind", e.Kind, kind)
			states = append(states, e.State)
		}
		tr.equal("states", states, []string{Done, Cancelled, Dead, Done})
		tr.sameJSON("value", in.Ended[0].Value, `{"sum":3}`)
		tr.sameJSON("value of one that had none", in.Ended[3].Value, `null`)
	}},
	{"EndByCrashesWaitsForTheParent", func(tr *trial) {
		parent, children := tr.family(1)
		child := children[0]
		for range maxCrashes - 1 {
			tr.applied(broker.Report{Pair: child, Act: broker.Crash, Failure: &boom})
			child = tr.leaseAgain(child.ID)
		}
		tr.applied(broker.Report{Pair: child, Act: broker.Crash, Failure: &boom})
		tr.knowsEnd(parent, child.ID, Dead)
	}},
	{"EndByCancelOfAFreeChildWaitsForItsParent", func(tr *trial) {
		parent, children := tr.family(1)
		tr.applied(broker.Report{Pair: children[0], Seq: 2, Act: broker.Release})
		tr.store.Cancel(children[0].ID)
		tr.knowsEnd(parent, children[0].ID, Cancelled)
	}},
	{"EndByCancelOfALeasedChildWaitsForItsParent", func(tr *trial) {
		parent, children := tr.family(1)
		tr.store.Cancel(children[0].ID)
		tr.isEmpty(parent.ID)
		tr.applied(broker.Report{Pair: children[0], Seq: 2, Act: broker.Nap})
		tr.knowsEnd(parent, children[0].ID, Cancelled)
	}},
	{"EndByAScanWaitsForTheParent", func(tr *trial) {
		parent, children := tr.family(1)
		tr.store.Cancel(children[0].ID)
		tr.expire(children[0].ID)
		tr.scan(broker.ScanRequest{Kinds: []string{kind}, Bottom: true})
		tr.knowsEnd(parent, children[0].ID, Cancelled)
	}},
	{"EndTellsTheKindThatAChildHadAtLast", func(tr *trial) {
		parent, children := tr.family(1)
		tr.applied(broker.Report{Pair: children[0], Seq: 2, Act: broker.Hop, Label: "x", Kind: "other"})
		tr.applied(exitOf(pairOf(tr.lease(children[0].ID))))
		tr.equal("kind", tr.store.Waiting(parent.ID).Ended[0].Kind, "other")
	}},
	{"ChildrenThatLiveAreCountedInTheInbox", func(tr *trial) {
		p := tr.insertLeased("")
		r := broker.Report{Pair: p, Seq: 1, Act: broker.Nap}
		for range 3 {
			r.Inserts = append(r.Inserts, broker.Insert{ID: newID(), Kind: kind, Args: []byte(`{}`), Child: true})
		}
		tr.applied(r)
		in := tr.mail(tr.lease(p.ID).Inbox)
		tr.equal("left", in.Left, 3)
		tr.equal("ended", len(in.Ended), 0)
		tr.equal("inbox by the row", tr.row(p.ID).Inbox, 0)
	}},
	{"EndStaysUntilItIsReaped", func(tr *trial) {
		parent, children := tr.family(3)
		tr.rest(parent)
		for _, c := range children {
			tr.applied(exitOf(c))
		}
		parent = pairOf(tr.lease(parent.ID))
		tr.applied(broker.Report{Pair: parent, Seq: 1, Act: broker.Nap, Reaped: []broker.ID{children[1].ID}})
		parent = pairOf(tr.lease(parent.ID))
		want := []broker.ID{children[0].ID, children[2].ID}
		tr.equal("stored", endedIDs(tr.store.Waiting(parent.ID)), want)
		tr.equal("inbox by the row", tr.row(parent.ID).Inbox, 2)
		v := tr.stay(parent, broker.Report{Seq: 1, Act: broker.Hop, Label: "next", Reaped: want})
		tr.equal("inbox", v.Inbox, (*broker.Inbox)(nil))
		tr.isEmpty(parent.ID)
	}},
	{"ReapedThatAreNotTherePassOver", func(tr *trial) {
		_, others := tr.family(1)
		otherParent := tr.row(others[0].ID).Parent
		tr.applied(exitOf(others[0]))
		parent, children := tr.family(2)
		tr.applied(exitOf(children[0]))
		r := napOf(parent)
		r.Reaped = []broker.ID{newID(), others[0].ID, children[1].ID, children[0].ID, children[0].ID, parent.ID}
		tr.applied(r)
		tr.waits(parent, 1)
		tr.isEmpty(parent.ID)
		tr.equal("theirs", endedIDs(tr.store.Waiting(otherParent)), []broker.ID{others[0].ID})
		tr.applied(exitOf(children[1]))
		tr.equal("ours, which lived", endedIDs(tr.mail(tr.lease(parent.ID).Inbox)), []broker.ID{children[1].ID})
	}},
	{"ReapedTooEarlyInTheBatchOfItsExitCountsAllTheSame", func(tr *trial) {
		for _, first := range []bool{true, false} {
			parent, children := tr.family(1)
			nap := napOf(parent)
			nap.Reaped = []broker.ID{children[0].ID}
			if first {
				tr.applied(nap, exitOf(children[0]))
			} else {
				tr.applied(exitOf(children[0]), nap)
			}
			tr.equal("inbox by the row", tr.row(parent.ID).Inbox, len(tr.store.Waiting(parent.ID).Ended))
			tr.isWoken(parent)
		}
	}},
	{"ReapOfAStaleReportForgetsNothing", func(tr *trial) {
		parent, children := tr.family(1)
		tr.applied(exitOf(children[0]))
		tr.expire(parent.ID)
		tr.lease(parent.ID)
		tr.report(broker.Stale, broker.Report{Pair: parent, Seq: 2, Act: broker.Nap, Reaped: []broker.ID{children[0].ID}})
		tr.equal("stored", endedIDs(tr.store.Waiting(parent.ID)), []broker.ID{children[0].ID})
	}},
	{"ReplayOfAChildsExitLeavesOneEnd", func(tr *trial) {
		parent, children := tr.family(1)
		tr.applied(exitOf(children[0]))
		tr.report(broker.Gone, exitOf(children[0]))
		tr.equal("stored", endedIDs(tr.store.Waiting(parent.ID)), []broker.ID{children[0].ID})
		tr.equal("inbox by the row", tr.row(parent.ID).Inbox, 1)
	}},
	{"EndsInOneBatchAllWait", func(tr *trial) {
		parent, children := tr.family(5)
		reports := []broker.Report{napOf(parent)}
		var want []broker.ID
		for _, c := range children {
			reports, want = append(reports, exitOf(c)), append(want, c.ID)
		}
		tr.applied(reports...)
		got := endedIDs(tr.mail(tr.lease(parent.ID).Inbox))
		tr.equal("ended", sortedIDs(got), sortedIDs(want))
	}},
	{"EndsThatDoNotFitComeLater", func(tr *trial) {
		const more = 5
		parent, children := tr.family(broker.InboxItems + more)
		var reports []broker.Report
		for _, c := range children {
			reports = append(reports, exitOf(c))
		}
		tr.rest(parent)
		tr.applied(reports...)
		s := tr.lease(parent.ID)
		in := tr.mail(s.Inbox)
		tr.equal("listed", len(in.Ended), broker.InboxItems)
		tr.equal("more", in.More, true)
		v := tr.stay(pairOf(s), broker.Report{Seq: 1, Act: broker.Nap, Reaped: endedIDs(in)})
		tr.equal("listed later", len(tr.mail(v.Inbox).Ended), more)
		tr.equal("more later", v.Inbox.More, false)
	}},
	{"EndOfAnOrphanIsKeptForNobody", func(tr *trial) {
		parent, children := tr.family(2)
		tr.applied(exitOf(parent))
		tr.applied(exitOf(children[0]))
		tr.applied(broker.Report{Pair: children[1], Seq: 2, Act: broker.Release})
		tr.store.Cancel(children[1].ID)
		tr.isEmpty(parent.ID)
	}},
	{"EndOfParentAndChildMayShareABatch", func(tr *trial) {
		parent, children := tr.family(1)
		tr.applied(exitOf(children[0]), exitOf(parent))
		tr.isEmpty(parent.ID)
	}},
	{"EndsVanishWithTheirParent", func(tr *trial) {
		parent, children := tr.family(2)
		tr.applied(exitOf(children[0]))
		tr.applied(exitOf(parent))
		tr.isEmpty(parent.ID)
		tr.applied(exitOf(children[1]))
		tr.finished(children[1].ID, Done)
	}},
	{"LockedParentDoesNotLoseAnEnd", func(tr *trial) {
		parent, children := tr.family(2)
		tr.rest(parent)
		tr.whileLocked(parent.ID, func(ctx context.Context) {
			got, err := tr.store.Commit(ctx, []broker.Report{exitOf(children[0])})
			if err != nil || len(got) != 1 || got[0].State != broker.Applied && got[0].State != broker.Later {
				tr.t.Errorf("commit: got %s and error %v, want applied or later", verdictText(got), err)
			}
		})
		if _, live := tr.store.Row(children[0].ID); live {
			tr.applied(exitOf(children[0]))
		}
		tr.waits(parent, 1)
		tr.equal("stored", endedIDs(tr.store.Waiting(parent.ID)), []broker.ID{children[0].ID})
	}},
}

// treeCases tell what holds for a strand and all below it.
var treeCases = []testCase{
	{"CancelOfAParentEndsItsTreeAtOnceWhereNothingRuns", func(tr *trial) {
		ids := tr.line(4)
		tr.store.Cancel(ids[0])
		for _, id := range ids {
			tr.finished(id, Cancelled)
			tr.isEmpty(id)
		}
	}},
	{"CancelOfAParentAsksWhatRunsAndEndsTheRest", func(tr *trial) {
		ids := tr.line(4)
		runs := pairOf(tr.lease(ids[2]))
		tr.store.Cancel(ids[0])
		tr.finished(ids[0], Cancelled)
		tr.finished(ids[1], Cancelled)
		tr.finished(ids[3], Cancelled)
		tr.equal("asked", tr.row(runs.ID).CancelAsked, true)
		tr.equal("stored", endedIDs(tr.store.Waiting(runs.ID)), []broker.ID{ids[3]})
		tr.applied(broker.Report{Pair: runs, Seq: 1, Act: broker.Nap})
		tr.finished(runs.ID, Cancelled)
		tr.isEmpty(runs.ID)
	}},
	{"CancelOfAParentThatRunsEndsItsTreeToo", func(tr *trial) {
		parent, children := tr.family(2)
		tr.applied(broker.Report{Pair: children[0], Seq: 2, Act: broker.Nap})
		tr.store.Cancel(parent.ID)
		tr.equal("parent asked", tr.row(parent.ID).CancelAsked, true)
		tr.finished(children[0].ID, Cancelled)
		tr.equal("child asked", tr.row(children[1].ID).CancelAsked, true)
		tr.equal("children left", tr.row(parent.ID).ChildrenLeft, 1)
		tr.equal("stored", endedIDs(tr.store.Waiting(parent.ID)), []broker.ID{children[0].ID})
	}},
	{"CancelOfAParentTellsThoseThatRunTheTree", func(tr *trial) {
		parent, _ := tr.family(1)
		tr.rest(parent)
		tr.announce(broker.Announcement{Broker: newID()}) // somebody who is to be told
		told := make(chan struct{}, 100)
		defer tr.store.Listen(func(h broker.Hint) {
			if h.Cancel {
				told <- struct{}{}
			}
		})()
		tr.store.Cancel(parent.ID)
		select {
		case <-told:
		case <-time.After(30 * time.Second):
			tr.t.Error("told of a cancel: got nothing, want a hint to renew")
		}
	}},
	{"CancelOfAChildSparesItsParentAndSiblings", func(tr *trial) {
		parent, children := tr.family(2)
		tr.rest(parent)
		tr.applied(broker.Report{Pair: children[0], Seq: 2, Act: broker.Nap})
		tr.store.Cancel(children[0].ID)
		tr.waits(parent, 1)
		tr.equal("sibling asked", tr.row(children[1].ID).CancelAsked, false)
	}},
	{"CancelOfAParentSparesItsOtherInserts", func(tr *trial) {
		p := tr.insertLeased("")
		other := newID()
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Inserts: []broker.Insert{{ID: other, Kind: kind, Args: []byte(`{}`)}}})
		tr.store.Cancel(p.ID)
		tr.finished(p.ID, Cancelled)
		tr.row(other)
	}},
	{"CancelOfAParentThatRunsSparesNoneOfItsLastChildren", func(tr *trial) {
		for _, r := range []broker.Report{
			{Act: broker.Nap}, {Act: broker.Hop, Label: "next"}, {Act: broker.Hop, Label: "next", Stay: true},
		} {
			r.Pair, r.Seq = tr.insertLeased(""), 1
			child, other := newID(), newID()
			r.Inserts = []broker.Insert{
				{ID: child, Kind: kind, Args: []byte(`{}`), Child: true}, {ID: other, Kind: kind, Args: []byte(`{}`)}}
			tr.store.Cancel(r.ID)
			tr.applied(r)
			tr.finished(r.ID, Cancelled)
			tr.equal("parent of the other", tr.row(other).Parent, broker.ID{})
			_, live := tr.store.Row(child)
			tr.equal("its child lives", live, false)
		}
	}},
	{"ChildrenOfAnExitLiveOnThoughACancelWasAskedFor", func(tr *trial) {
		p, child := tr.insertLeased(""), newID()
		tr.store.Cancel(p.ID)
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Exit,
			Inserts: []broker.Insert{{ID: child, Kind: kind, Args: []byte(`{}`), Child: true}}})
		tr.finished(p.ID, Done)
		tr.row(child)
	}},
	{"ExitOfAParentLetsItsTreeGoOn", func(tr *trial) {
		ids := tr.line(3)
		tr.applied(broker.Report{Pair: pairOf(tr.lease(ids[0])), Seq: 1, Act: broker.Exit})
		for _, id := range ids[1:] {
			tr.equal("leased", tr.row(id).Leased, false)
		}
	}},
	{"TreeHasALargestDepth", func(tr *trial) {
		ids := tr.line(maxDepth)
		p := pairOf(tr.lease(ids[maxDepth-1]))
		child := broker.Insert{ID: newID(), Kind: kind, Args: []byte(`{}`), Child: true}
		v := tr.report(broker.Invalid, broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Inserts: []broker.Insert{child}})
		if !strings.Contains(v.Why, "100") {
			tr.t.Errorf("why: got %q, want it to name the limit", v.Why)
		}
		if _, made := tr.store.Row(child.ID); made {
			tr.t.Error("child below the largest depth: got one, want none")
		}
		other := child
		other.Child = false
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Inserts: []broker.Insert{other}})
		tr.equal("parent of what is no child", tr.row(other.ID).Parent, broker.ID{})

		tr.applied(broker.Report{Pair: pairOf(tr.lease(ids[0])), Seq: 1, Act: broker.Exit}) // now the second is the top
		child.ID = newID()
		tr.applied(broker.Report{Pair: pairOf(tr.lease(p.ID)), Seq: 1, Act: broker.Nap, Inserts: []broker.Insert{child}})
		tr.equal("parent of the child", tr.row(child.ID).Parent, p.ID)
	}},
}

// line adds a strand with a child that has a child, and so on, n strands in all, uppermost first. None is leased.
func (tr *trial) line(n int) []broker.ID {
	tr.t.Helper()
	ids := []broker.ID{tr.insert("")}
	for len(ids) < n {
		child := broker.Insert{ID: newID(), Kind: kind, Args: []byte(`{}`), Child: true}
		tr.applied(broker.Report{Pair: pairOf(tr.lease(ids[len(ids)-1])), Seq: 1, Act: broker.Nap, Inserts: []broker.Insert{child}})
		ids = append(ids, child.ID)
	}
	return ids
}

// knowsEnd checks that a leased parent, once it naps, runs again and is told how its only child ended.
func (tr *trial) knowsEnd(parent broker.Pair, child broker.ID, state string) {
	tr.t.Helper()
	tr.rest(parent)
	in := tr.mail(tr.lease(parent.ID).Inbox)
	tr.equal("ended", in.Ended, []broker.Ended{{ID: child, Kind: kind, State: state}})
	tr.equal("inbox by the row", tr.row(parent.ID).Inbox, 1)
}

func sortedIDs(ids []broker.ID) []broker.ID {
	return slices.SortedFunc(slices.Values(ids), func(a, b broker.ID) int { return bytes.Compare(a[:], b[:]) })
}
