package brokertest

import (
	"context"
	"fmt"
	"time"

	"github.com/respirated/respirated/broker"
)

// childrenCases tell how parents learn of their children's end.
func childrenCases() []testCase {
	cases := []testCase{
		{"InsertOfAReportIsAChildOnlyIfItSaysSo", func(tr *trial) {
			parent := tr.insertLeased("")
			child, other := newID(), newID()
			tr.applied(broker.Report{Pair: parent, Seq: 1, Act: broker.Nap, Inserts: []broker.Insert{
				{ID: child, Kind: kind, Args: []byte(`{}`), Child: true},
				{ID: other, Kind: kind, Args: []byte(`{}`)},
			}})
			tr.equal("children left", tr.row(parent.ID).ChildrenLeft, 1)
			tr.equal("parent of the child", tr.row(child).Parent, parent.ID)
			tr.equal("parent of the other", tr.row(other).Parent, broker.ID{})
		}},
		{"LastChildWakesItsParent", func(tr *trial) {
			parent, children := tr.family(2)
			tr.rest(parent)
			tr.applied(exitOf(children[0]))
			tr.waits(parent, 1)
			tr.applied(exitOf(children[1]))
			tr.isWoken(parent)
		}},
		{"LastChildWakesAParentThatIsStillRunning", func(tr *trial) {
			parent, children := tr.family(1)
			tr.applied(exitOf(children[0]))
			tr.equal("leased", tr.row(parent.ID).Leased, true)
			tr.rest(parent)
			tr.isWoken(parent)
		}},
		{"SiblingsThatExitInOneBatchWakeTheirParent", func(tr *trial) {
			parent, children := tr.family(2)
			tr.rest(parent)
			tr.applied(exitOf(children[0]), exitOf(children[1]))
			tr.isWoken(parent)
		}},
		{"DeathOfAChildCountsAsItsEnd", func(tr *trial) {
			parent, children := tr.family(1)
			tr.rest(parent)
			tr.applied(broker.Report{Pair: children[0], Seq: 1, Act: broker.Fail, Final: true, Failure: &boom})
			tr.isWoken(parent)
		}},
		{"ThirdCrashOfAChildCountsAsItsEnd", func(tr *trial) {
			parent, children := tr.family(1)
			tr.rest(parent)
			child := children[0]
			for range 2 {
				tr.applied(broker.Report{Pair: child, Act: broker.Crash, Failure: &boom})
				tr.waits(parent, 1)
				child = tr.leaseAgain(child.ID)
			}
			tr.applied(broker.Report{Pair: child, Act: broker.Crash, Failure: &boom})
			tr.isWoken(parent)
		}},
		{"ChildThatGivesUpCountsAsEnded", func(tr *trial) {
			parent, children := tr.family(1)
			tr.rest(parent)
			tr.applied(broker.Report{Pair: children[0], Seq: 1, Act: broker.Cancel})
			tr.isWoken(parent)
		}},
		{"ChildCancelledWhileItRunsCountsAsEnded", func(tr *trial) {
			parent, children := tr.family(1)
			tr.rest(parent)
			tr.store.Cancel(children[0].ID)
			tr.waits(parent, 1)
			tr.applied(broker.Report{Pair: children[0], Seq: 1, Act: broker.Release})
			tr.isWoken(parent)
		}},
		{"ChildCancelledWhileFreeCountsAsEnded", func(tr *trial) {
			parent, children := tr.family(1)
			tr.rest(parent)
			tr.applied(broker.Report{Pair: children[0], Seq: 1, Act: broker.Release})
			tr.store.Cancel(children[0].ID)
			tr.isWoken(parent)
		}},
		{"ReplayOfAChildsExitCountsOnce", func(tr *trial) {
			parent, children := tr.family(2)
			tr.rest(parent)
			tr.applied(exitOf(children[0]))
			tr.report(broker.Gone, exitOf(children[0]))
			tr.waits(parent, 1)
		}},
		{"ReplayOfAParentsReportRaisesNothing", func(tr *trial) {
			parent := tr.insertLeased("")
			r := broker.Report{Pair: parent, Seq: 1, Act: broker.Nap, Delay: time.Hour,
				Inserts: []broker.Insert{{ID: newID(), Kind: kind, Args: []byte(`{}`), Child: true}}}
			tr.report(broker.Applied, r)
			tr.report(broker.Dup, r)
			tr.waits(parent, 1)
		}},
		{"ChildThatExistsAlreadyRaisesNothing", func(tr *trial) {
			other := tr.insert("")
			parent := tr.insertLeased("")
			tr.applied(broker.Report{Pair: parent, Seq: 1, Act: broker.Nap, Delay: time.Hour,
				Inserts: []broker.Insert{{ID: other, Kind: kind, Args: []byte(`{}`), Child: true}}})
			tr.waits(parent, 0)
			tr.equal("parent of what was there", tr.row(other).Parent, broker.ID{})
		}},
		{"ChildNamedTwiceInOneReportCountsOnce", func(tr *trial) {
			parent := tr.insertLeased("")
			child := broker.Insert{ID: newID(), Kind: kind, Args: []byte(`{}`), Child: true}
			r := napOf(parent)
			r.Inserts = []broker.Insert{child, child}
			tr.applied(r)
			tr.waits(parent, 1)
			tr.applied(exitOf(pairOf(tr.lease(child.ID))))
			tr.isWoken(parent)
		}},
		{"ChildThatIsAlsoInsertedForItselfIsNobodysChild", func(tr *trial) {
			parent := tr.insertLeased("")
			in := broker.Insert{ID: newID(), Kind: kind, Args: []byte(`{}`)}
			child := in
			child.Child = true
			r := napOf(parent)
			r.Inserts = []broker.Insert{in, child}
			tr.applied(r)
			tr.waits(parent, 0)
			tr.equal("parent", tr.row(in.ID).Parent, broker.ID{})
		}},
		{"ChildOfTwoParentsInOneBatchHasOne", func(tr *trial) {
			first, second := napOf(tr.insertLeased("")), napOf(tr.insertLeased(""))
			first.Inserts = []broker.Insert{{ID: newID(), Kind: kind, Args: []byte(`{}`), Child: true}}
			second.Inserts = first.Inserts
			tr.applied(first, second)
			child := tr.row(first.Inserts[0].ID)
			tr.equal("parent", child.Parent == first.ID || child.Parent == second.ID, true)
			tr.equal("children left in all", tr.row(first.ID).ChildrenLeft+tr.row(second.ID).ChildrenLeft, 1)
			tr.equal("children left of its parent", tr.row(child.Parent).ChildrenLeft, 1)
		}},
		{"ChildMayOutliveItsParent", func(tr *trial) {
			parent, children := tr.family(1)
			tr.applied(exitOf(parent))
			tr.applied(exitOf(children[0]))
			tr.finished(children[0].ID, Done)
		}},
		{"ChildAndParentMayExitInOneBatch", func(tr *trial) {
			parent, children := tr.family(1)
			tr.applied(exitOf(children[0]), exitOf(parent))
			tr.finished(parent.ID, Done)
			tr.finished(children[0].ID, Done)
		}},
		{"WakesTravelNoFurtherThanTheParent", func(tr *trial) {
			parent, children := tr.family(1)
			tr.rest(parent)
			tr.applied(broker.Report{Pair: children[0], Seq: 1, Act: broker.Nap, Delay: time.Hour,
				Inserts: []broker.Insert{{ID: newID(), Kind: "grandchild", Args: []byte(`{}`), Child: true}}})
			grandchild := candidates(tr.scan(broker.ScanRequest{Kinds: []string{"grandchild"}, Bottom: true}))[0]
			tr.applied(exitOf(pairOf(tr.lease(grandchild))))
			tr.isWoken(children[0])
			tr.waits(parent, 1)
		}},
		{"LockedParentDoesNotLoseItsWake", lockedParent},
		{"WatchedChildThatDiesWakesItsParentAtOnce", func(tr *trial) {
			tr.watches(true, broker.Report{Act: broker.Fail, Final: true, Failure: &boom})
		}},
		{"WatchedChildThatGivesUpWakesItsParentAtOnce", func(tr *trial) { tr.watches(true, broker.Report{Act: broker.Cancel}) }},
		{"WatchedChildThatIsDoneWakesNobodyWhileOthersLive", func(tr *trial) { tr.watches(false, broker.Report{Act: broker.Exit}) }},
		{"WatchedChildThatFailsAndIsRetriedWakesNobody", func(tr *trial) {
			tr.watches(false, broker.Report{Act: broker.Fail, Failure: &boom})
		}},
		{"WatchedChildThatCrashesForTheThirdTimeWakesItsParent", func(tr *trial) {
			parent, child := tr.watched()
			tr.rest(parent)
			for range 2 {
				tr.applied(broker.Report{Pair: child, Act: broker.Crash, Failure: &boom})
				tr.waits(parent, 2)
				child = tr.leaseAgain(child.ID)
			}
			tr.applied(broker.Report{Pair: child, Act: broker.Crash, Failure: &boom})
			tr.isTold(parent)
		}},
		{"WatchedChildThatIsCancelledWhileFreeWakesItsParent", func(tr *trial) {
			parent, child := tr.watched()
			tr.rest(parent)
			tr.applied(broker.Report{Pair: child, Seq: 1, Act: broker.Release})
			tr.store.Cancel(child.ID)
			tr.isTold(parent)
		}},
		{"WatchedChildThatDiesWhileItsParentRunsCutsItsNap", func(tr *trial) {
			parent, child := tr.watched()
			tr.applied(broker.Report{Pair: child, Seq: 1, Act: broker.Fail, Final: true, Failure: &boom})
			tr.rest(parent)
			tr.isTold(parent)
		}},
		{"WatchedChildOfAStepInATransactionOfItsOwnWakesItsParent", func(tr *trial) {
			parent := tr.insertLeased("")
			r := napOf(parent)
			r.Inserts = watchedAndOther()
			tr.takes(r)
			tr.waits(parent, 2)
			tr.takes(broker.Report{Pair: pairOf(tr.lease(r.Inserts[1].ID)), Seq: 1, Act: broker.Exit})
			tr.waits(parent, 1)
			child := pairOf(tr.lease(r.Inserts[0].ID))
			tr.applied(broker.Report{Pair: child, Seq: 1, Act: broker.Cancel})
			tr.isWoken(parent)
		}},
		{"WatchedChildThatIsThereAlreadyIsNobodysBusiness", func(tr *trial) {
			parent, other := tr.family(2)
			tr.applied(broker.Report{Pair: parent, Seq: 2, Act: broker.Nap, Delay: time.Hour,
				Inserts: []broker.Insert{{ID: other[0].ID, Kind: kind, Args: []byte(`{}`), Child: true, Watch: true}}})
			tr.equal("watched", tr.row(other[0].ID).Watched, false)
			tr.applied(broker.Report{Pair: other[0], Seq: 1, Act: broker.Cancel})
			tr.waits(parent, 1)
		}},
		{"DeathOfAWatchedChildAndNapOfItsParentMayShareABatch", func(tr *trial) {
			for _, last := range []int{0, 1} {
				parent, child := tr.watched()
				all := [2]broker.Report{napOf(parent), {Pair: child, Seq: 1, Act: broker.Fail, Final: true, Failure: &boom}}
				tr.applied(all[1-last], all[last])
				tr.isTold(parent)
			}
		}},
	}
	for _, order := range [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		cases = append(cases, testCase{
			fmt.Sprintf("NapOfAParentAndExitsOfItsChildrenMayShareABatchInOrder%v", order),
			func(tr *trial) {
				parent, children := tr.family(2)
				all := [3]broker.Report{napOf(parent), exitOf(children[0]), exitOf(children[1])}
				tr.applied(all[order[0]], all[order[1]], all[order[2]])
				tr.isWoken(parent)
			},
		})
	}
	return cases
}

// lockedParent ends a child while somebody has locked its parent. The report may wait or be put off.
func lockedParent(tr *trial) {
	parent, children := tr.family(1)
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
	tr.isWoken(parent)
}

// whileLocked begins work while somebody has locked a row. Work may wait for the lock or not: after a moment it opens.
func (tr *trial) whileLocked(id broker.ID, work func(context.Context)) {
	tr.t.Helper()
	unlock := tr.store.Lock(id)
	done := make(chan struct{})
	go func() {
		defer close(done)
		work(tr.ctx)
	}()
	select {
	case <-done:
	case <-time.After(100 * time.Millisecond):
	}
	unlock()
	<-done
}

// family adds a parent with n children. All are leased.
func (tr *trial) family(n int) (parent broker.Pair, children []broker.Pair) {
	tr.t.Helper()
	parent = tr.insertLeased("")
	r := broker.Report{Pair: parent, Seq: 1, Act: broker.Save}
	for range n {
		r.Inserts = append(r.Inserts, broker.Insert{ID: newID(), Kind: kind, Args: []byte(`{}`), Child: true})
	}
	tr.applied(r)
	for _, in := range r.Inserts {
		children = append(children, pairOf(tr.lease(in.ID)))
	}
	return parent, children
}

// watchedAndOther are two children, of which the first is watched.
func watchedAndOther() []broker.Insert {
	return []broker.Insert{
		{ID: newID(), Kind: kind, Args: []byte(`{}`), Child: true, Watch: true},
		{ID: newID(), Kind: kind, Args: []byte(`{}`), Child: true},
	}
}

// watched adds a parent with two children, and gives the one that is watched.
func (tr *trial) watched() (parent, child broker.Pair) {
	tr.t.Helper()
	parent = tr.insertLeased("")
	r := broker.Report{Pair: parent, Seq: 1, Act: broker.Save, Inserts: watchedAndOther()}
	tr.applied(r)
	return parent, pairOf(tr.lease(r.Inserts[0].ID))
}

// watches has a watched child end by a report, or not, and checks whether its parent is woken by that.
func (tr *trial) watches(wakes bool, r broker.Report) {
	tr.t.Helper()
	parent, child := tr.watched()
	tr.rest(parent)
	r.Pair, r.Seq = child, 1
	tr.applied(r)
	if wakes {
		tr.isTold(parent)
		return
	}
	left := 2
	if r.Act == broker.Exit {
		left = 1
	}
	tr.waits(parent, left)
}

// isTold checks that a parent can run, and knows of one end, though another child lives.
func (tr *trial) isTold(parent broker.Pair) {
	tr.t.Helper()
	tr.equal("children left", tr.row(parent.ID).ChildrenLeft, 1)
	tr.about("due", tr.row(parent.ID).Due, 0)
	tr.equal("ends in its inbox", len(tr.lease(parent.ID).Inbox.Ended), 1)
}

func napOf(p broker.Pair) broker.Report {
	return broker.Report{Pair: p, Seq: 2, Act: broker.Nap, Delay: time.Hour}
}

func exitOf(p broker.Pair) broker.Report {
	return broker.Report{Pair: p, Seq: 2, Act: broker.Exit}
}

// rest lets a parent nap for an hour, unless somebody wakes it.
func (tr *trial) rest(parent broker.Pair) {
	tr.t.Helper()
	tr.applied(napOf(parent))
}

// waits checks that a parent sleeps on.
func (tr *trial) waits(parent broker.Pair, children int) {
	tr.t.Helper()
	row := tr.row(parent.ID)
	tr.equal("children left", row.ChildrenLeft, children)
	tr.about("due", row.Due, time.Hour)
}

// isWoken checks that a parent waits for nobody and can run.
func (tr *trial) isWoken(parent broker.Pair) {
	tr.t.Helper()
	row := tr.row(parent.ID)
	tr.equal("children left", row.ChildrenLeft, 0)
	tr.about("due", row.Due, 0)
	tr.lease(parent.ID)
}
