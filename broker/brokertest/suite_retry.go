package brokertest

import (
	"context"
	"time"

	"github.com/respirated/respirated/broker"
)

// retryCases tell what a strand that comes back from history has of what it had.
var retryCases = []testCase{
	{"RetriedStrandGoesOnWhereItEndedWithItsCountsAnew", func(tr *trial) {
		p := tr.insertLeased("")
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Hop, Label: "next", Stack: []byte(`[{"n":2}]`)})
		p = pairOf(tr.lease(p.ID))
		tr.dies(p)
		tr.store.Retry(p.ID)
		if f, over := tr.store.Finished(p.ID); over {
			tr.t.Errorf("it is in history, too: %+v", f)
		}
		s := tr.lease(p.ID)
		tr.equal("label", s.Label, "next")
		tr.sameJSON("stack", s.Stack, `[{"n":2}]`)
		tr.equal("tries", s.Try, 0)
	}},
	{"RetriedParentHasItsChildrenAgain", func(tr *trial) {
		parent, children := tr.family(3)
		tr.applied(exitOf(children[0]))
		tr.dies(parent)
		tr.applied(broker.Report{Pair: children[1], Seq: 2, Act: broker.Exit, Value: []byte(`7`)})
		in := tr.store.Waiting(parent.ID)
		tr.equal("stored while it is dead", endedIDs(in), []broker.ID{children[0].ID, children[1].ID})
		tr.equal("live while it is dead", in.Left, 1)
		tr.store.Retry(parent.ID)
		tr.equal("children left", tr.row(parent.ID).ChildrenLeft, 1)
		tr.equal("inbox by the row", tr.row(parent.ID).Inbox, 2)
		s := tr.lease(parent.ID)
		got := tr.mail(s.Inbox)
		tr.equal("left", got.Left, 1)
		tr.equal("ended", endedIDs(got), []broker.ID{children[0].ID, children[1].ID})
		tr.sameJSON("value", got.Ended[1].Value, `7`)
		tr.rest(pairOf(s))
		tr.waits(parent, 1)
		tr.applied(exitOf(children[2]))
		tr.isWoken(parent)
	}},
	{"RetriedParentWhoseChildrenHaveEndedIsToldSo", func(tr *trial) {
		parent, children := tr.family(2)
		tr.dies(parent)
		tr.applied(exitOf(children[0]))
		tr.applied(broker.Report{Pair: children[1], Seq: 2, Act: broker.Release})
		tr.store.Cancel(children[1].ID)
		tr.store.Retry(parent.ID)
		in := tr.mail(tr.lease(parent.ID).Inbox)
		tr.equal("left", in.Left, 0)
		tr.equal("ended", endedIDs(in), []broker.ID{children[0].ID, children[1].ID})
		tr.equal("state", in.Ended[1].State, Cancelled)
	}},
	{"ParentThatDiesInTheBatchOfItsChildsExitHasThatEndWhenRetried", func(tr *trial) {
		for _, first := range []bool{true, false} {
			parent, children := tr.family(1)
			if first {
				tr.applied(deathOf(parent), exitOf(children[0]))
			} else {
				tr.applied(exitOf(children[0]), deathOf(parent))
			}
			tr.store.Retry(parent.ID)
			tr.equal("children left", tr.row(parent.ID).ChildrenLeft, 0)
			tr.equal("ended", endedIDs(tr.mail(tr.lease(parent.ID).Inbox)), []broker.ID{children[0].ID})
		}
	}},
	{"ParentThatDiesTwiceHasItsChildrenStill", func(tr *trial) {
		parent, children := tr.family(2)
		tr.dies(parent)
		tr.store.Retry(parent.ID)
		tr.applied(exitOf(children[0]))
		tr.applied(deathOf(pairOf(tr.lease(parent.ID))))
		tr.applied(exitOf(children[1]))
		tr.store.Retry(parent.ID)
		tr.equal("children left", tr.row(parent.ID).ChildrenLeft, 0)
		tr.equal("inbox by the row", tr.row(parent.ID).Inbox, 2)
	}},
	{"ChildrenThatWereReapedDoNotComeBack", func(tr *trial) {
		parent, children := tr.family(2)
		tr.applied(exitOf(children[0]))
		parent = pairOf(tr.leaseAfter(broker.Report{Pair: parent, Seq: 2, Act: broker.Nap, Reaped: []broker.ID{children[0].ID}}))
		tr.applied(deathOf(parent))
		tr.store.Retry(parent.ID)
		tr.equal("children left", tr.row(parent.ID).ChildrenLeft, 1)
		tr.isEmpty(parent.ID)
	}},
	{"CancelOfARetriedParentReachesItsChildren", func(tr *trial) {
		parent, children := tr.family(2)
		tr.dies(parent)
		tr.applied(broker.Report{Pair: children[0], Seq: 2, Act: broker.Release})
		tr.store.Retry(parent.ID)
		tr.store.Cancel(parent.ID)
		tr.finished(children[0].ID, Cancelled)
		tr.equal("asked", tr.row(children[1].ID).CancelAsked, true)
	}},
	{"ParentThatWasNotDeadComesBackAlone", func(tr *trial) {
		for _, end := range []broker.Act{broker.Exit, broker.Cancel} {
			parent, children := tr.family(2)
			tr.applied(exitOf(children[0]))
			tr.applied(broker.Report{Pair: parent, Seq: 2, Act: end})
			tr.store.Retry(parent.ID)
			tr.equal("children left", tr.row(parent.ID).ChildrenLeft, 0)
			tr.applied(exitOf(children[1]))
			tr.equal("children left later", tr.row(parent.ID).ChildrenLeft, 0)
			tr.isEmpty(parent.ID)
		}
	}},
	{"ParentOfARetriedChildWaitsForItNoLonger", func(tr *trial) {
		parent, children := tr.family(1)
		tr.applied(deathOf(children[0]))
		tr.store.Retry(children[0].ID)
		tr.equal("parent", tr.row(children[0].ID).Parent, broker.ID{})
		tr.equal("children left", tr.row(parent.ID).ChildrenLeft, 0)
		tr.applied(exitOf(pairOf(tr.lease(children[0].ID))))
		tr.equal("ends", endedIDs(tr.store.Waiting(parent.ID)), []broker.ID{children[0].ID})
		tr.equal("inbox by the row", tr.row(parent.ID).Inbox, 1)
	}},
	{"SemaphoresOfADeadStrandDoNotComeBack", func(tr *trial) {
		p := tr.insertLeased("")
		tr.signal(broker.Signal{ID: p.ID, Name: "go"})
		tr.dies(p)
		tr.store.Retry(p.ID)
		tr.isEmpty(p.ID)
	}},
	{"TreeBelowADeadStrandBeginsThere", func(tr *trial) {
		ids := tr.line(maxDepth)
		tr.applied(deathOf(pairOf(tr.lease(ids[0]))))
		child := broker.Insert{ID: newID(), Kind: kind, Args: []byte(`{}`), Child: true}
		tr.applied(broker.Report{Pair: pairOf(tr.lease(ids[maxDepth-1])), Seq: 1, Act: broker.Nap, Inserts: []broker.Insert{child}})
		tr.equal("parent of the child", tr.row(child.ID).Parent, ids[maxDepth-1])
	}},
	{"LockedChildOfARetriedParentIsNotLost", func(tr *trial) {
		parent, children := tr.family(1)
		tr.dies(parent)
		tr.whileLocked(children[0].ID, func(context.Context) { tr.store.Retry(parent.ID) })
		tr.equal("children left", tr.row(parent.ID).ChildrenLeft, 1)
		tr.rest(pairOf(tr.lease(parent.ID)))
		tr.applied(exitOf(children[0]))
		tr.isWoken(parent)
	}},
}

// dies ends a leased strand as dead.
func (tr *trial) dies(p broker.Pair) {
	tr.t.Helper()
	tr.applied(deathOf(p))
	tr.finished(p.ID, Dead)
}

func deathOf(p broker.Pair) broker.Report {
	return broker.Report{Pair: p, Seq: 3, Act: broker.Fail, Final: true, Failure: &boom}
}

// leaseAfter applies a report after which its strand is due, and takes it again.
func (tr *trial) leaseAfter(r broker.Report) broker.Strand {
	tr.t.Helper()
	tr.applied(r)
	tr.store.Age(r.ID, time.Second)
	return tr.lease(r.ID)
}
