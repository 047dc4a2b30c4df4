package brokertest

import (
	"time"

	"github.com/respirated/respirated/broker"
)

// deadlineCases tell what the deadlines of frames do to naps, and when pages open and close.
var deadlineCases = []testCase{
	{"DeadlineCutsANap", func(tr *trial) { tr.deadlineCuts(broker.Report{Act: broker.Nap}) }},
	{"DeadlineCutsTheDelayOfAHop", func(tr *trial) { tr.deadlineCuts(broker.Report{Act: broker.Hop, Label: "next"}) }},
	{"DeadlineCutsNoShorterNap", func(tr *trial) {
		p := tr.due(time.Hour)
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Delay: time.Minute})
		tr.about("due", tr.row(p.ID).Due, time.Minute)
	}},
	{"DeadlineCutsNoBackOff", func(tr *trial) {
		p := tr.due(time.Hour)
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Fail, Delay: 2 * time.Hour, Failure: &boom})
		tr.about("due", tr.row(p.ID).Due, 2*time.Hour)
		tr.equal("deadlines", len(tr.store.Deadlines(p.ID)), 1)
	}},
	{"EarliestDeadlineOfAllFramesCuts", func(tr *trial) {
		p := tr.due(time.Hour)
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Hop, Label: "inner", Frame: 1, Delay: 3 * time.Hour, Due: &broker.Due{Target: "x", In: 2 * time.Hour}})
		tr.about("due", tr.row(p.ID).Due, time.Hour)
		tr.deadlines(p.ID, Deadline{Frame: 0, Target: "end", In: time.Hour}, Deadline{Frame: 1, Target: "x", In: 2 * time.Hour})
	}},
	{"StayMaySetADeadline", func(tr *trial) {
		p := tr.insertLeased("")
		tr.stay(p, broker.Report{Seq: 1, Act: broker.Hop, Label: "a", Due: &broker.Due{Target: "end", In: time.Hour}})
		tr.applied(broker.Report{Pair: p, Seq: 2, Act: broker.Nap, Delay: 2 * time.Hour})
		tr.about("due", tr.row(p.ID).Due, time.Hour)
	}},
	{"ReachedTargetEndsItsDeadline", func(tr *trial) {
		p := tr.due(time.Hour)
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Hop, Label: "end", Delay: 2 * time.Hour})
		tr.deadlines(p.ID)
		tr.about("due", tr.row(p.ID).Due, 2*time.Hour)
	}},
	{"ReachedByAStayEndsItToo", func(tr *trial) {
		p := tr.due(time.Hour)
		tr.stay(p, broker.Report{Seq: 1, Act: broker.Hop, Label: "end"})
		tr.deadlines(p.ID)
	}},
	{"TargetReachedInAnotherFrameEndsNothing", func(tr *trial) {
		p := tr.due(time.Hour)
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Hop, Label: "end", Frame: 1, Delay: 2 * time.Hour})
		tr.deadlines(p.ID, Deadline{Target: "end", In: time.Hour})
		tr.about("due", tr.row(p.ID).Due, time.Hour)
	}},
	{"HopElsewhereEndsNothing", func(tr *trial) {
		p := tr.due(time.Hour)
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Hop, Label: "other"})
		tr.deadlines(p.ID, Deadline{Target: "end", In: time.Hour})
	}},
	{"TargetThatIsWhereTheHopLeadsSetsNone", func(tr *trial) {
		p := tr.insertLeased("")
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Hop, Label: "end", Due: &broker.Due{Target: "end", In: time.Hour}})
		tr.deadlines(p.ID)
	}},
	{"ReturnEndsTheDeadlinesOfFramesAbove", func(tr *trial) {
		p := tr.due(time.Hour)
		for i, frame := range []int{1, 2} {
			tr.stay(p, broker.Report{Seq: uint64(i) + 1, Act: broker.Hop, Label: "inner", Frame: frame, Due: &broker.Due{Target: "x", In: time.Minute}})
		}
		tr.applied(broker.Report{Pair: p, Seq: 3, Act: broker.Hop, Label: "back", Frame: 0, Delay: 2 * time.Hour})
		tr.deadlines(p.ID, Deadline{Target: "end", In: time.Hour})
		tr.about("due", tr.row(p.ID).Due, time.Hour)
	}},
	{"OtherTargetReplacesADeadline", func(tr *trial) {
		p := tr.due(time.Hour)
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Due: &broker.Due{Target: "other", In: 3 * time.Hour}})
		tr.deadlines(p.ID, Deadline{Target: "other", In: 3 * time.Hour})
	}},
	{"EarlierDeadlineForTheSameTargetCounts", func(tr *trial) {
		p := tr.due(time.Hour)
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Due: &broker.Due{Target: "end", In: time.Minute}})
		tr.deadlines(p.ID, Deadline{Target: "end", In: time.Minute})
	}},
	{"LaterDeadlineForTheSameTargetCountsForNothing", func(tr *trial) {
		p := tr.due(time.Hour)
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Due: &broker.Due{Target: "end", In: 3 * time.Hour}})
		tr.deadlines(p.ID, Deadline{Target: "end", In: time.Hour})
	}},
	{"LaterDeadlineCountsUpToItsMostAfterTheFirstWasSet", func(tr *trial) {
		p := tr.due(time.Hour)
		due := broker.Due{Target: "end", In: 3 * time.Hour, Most: 5 * time.Hour}
		tr.stay(p, broker.Report{Seq: 1, Act: broker.Nap, Due: &due})
		tr.deadlines(p.ID, Deadline{Target: "end", In: 3 * time.Hour})
		tr.store.Age(p.ID, time.Hour)
		due.In = 10 * time.Hour
		tr.stay(p, broker.Report{Seq: 2, Act: broker.Nap, Due: &due})
		tr.deadlines(p.ID, Deadline{Target: "end", In: 4 * time.Hour})
	}},
	{"PageOpensOnceWhenADeadlineHasPassed", func(tr *trial) {
		p := tr.due(time.Hour)
		tr.store.OpenPages()
		tr.equal("pages before", len(tr.store.Pages(p.ID)), 0)
		tr.store.Age(p.ID, 2*time.Hour)
		tr.store.OpenPages()
		tr.store.OpenPages()
		tr.equal("pages", tr.store.Pages(p.ID), []Page{{Target: "end"}})
		tr.deadlines(p.ID, Deadline{Target: "end", In: -time.Hour, Paged: true})
	}},
	{"PageOpensWhileTheStrandSleepsTooLong", func(tr *trial) {
		p := tr.due(time.Hour)
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Delay: 2 * time.Hour})
		tr.store.Age(p.ID, 90*time.Minute)
		tr.store.OpenPages()
		tr.equal("pages", tr.store.Pages(p.ID), []Page{{Target: "end"}})
	}},
	{"PagesOfAllFramesOpen", func(tr *trial) {
		p := tr.due(time.Hour)
		tr.stay(p, broker.Report{Seq: 1, Act: broker.Hop, Label: "inner", Frame: 1, Due: &broker.Due{Target: "x", In: time.Minute}})
		tr.store.Age(p.ID, 30*time.Minute)
		tr.store.OpenPages()
		tr.equal("pages first", tr.store.Pages(p.ID), []Page{{Frame: 1, Target: "x"}})
		tr.store.Age(p.ID, time.Hour)
		tr.store.OpenPages()
		tr.equal("pages later", tr.store.Pages(p.ID), []Page{{Frame: 1, Target: "x"}, {Frame: 0, Target: "end"}})
		tr.applied(broker.Report{Pair: p, Seq: 2, Act: broker.Hop, Label: "back"})
		tr.equal("pages after the return", tr.store.Pages(p.ID), []Page{{Frame: 1, Target: "x", Resolved: true}, {Frame: 0, Target: "end"}})
	}},
	{"PagedDeadlineCutsNoNap", func(tr *trial) {
		p := tr.paged()
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Delay: 2 * time.Hour})
		tr.about("due", tr.row(p.ID).Due, 2*time.Hour)
	}},
	{"PagedDeadlineLeavesTheOthersTheirCut", func(tr *trial) {
		p := tr.paged()
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Hop, Label: "inner", Frame: 1, Delay: 2 * time.Hour, Due: &broker.Due{Target: "x", In: time.Hour}})
		tr.about("due", tr.row(p.ID).Due, time.Hour)
	}},
	{"NapAfterADeadlineIsCutOnceMoreAndOpensThePage", func(tr *trial) {
		p := tr.due(time.Hour)
		tr.store.Age(p.ID, 2*time.Hour)
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Delay: 2 * time.Hour})
		tr.about("due", tr.row(p.ID).Due, 0)
		tr.equal("pages", tr.store.Pages(p.ID), []Page{{Target: "end"}})
		tr.applied(broker.Report{Pair: pairOf(tr.lease(p.ID)), Seq: 1, Act: broker.Nap, Delay: 2 * time.Hour})
		tr.about("due after the next run", tr.row(p.ID).Due, 2*time.Hour)
		tr.store.OpenPages()
		tr.equal("pages later", tr.store.Pages(p.ID), []Page{{Target: "end"}})
	}},
	{"PageClosesWhenTheTargetIsReached", func(tr *trial) {
		tr.closesPage(broker.Report{Act: broker.Hop, Label: "end"})
	}},
	{"PageClosesWhenAnotherTargetReplacesIt", func(tr *trial) {
		tr.closesPage(broker.Report{Act: broker.Nap, Due: &broker.Due{Target: "other", In: time.Hour}})
	}},
	{"PageClosesWithTheExitOfItsStrand", func(tr *trial) { tr.closesPage(broker.Report{Act: broker.Exit}) }},
	{"PageClosesWithTheDeathOfItsStrand", func(tr *trial) {
		tr.closesPage(broker.Report{Act: broker.Fail, Final: true, Failure: &boom})
	}},
	{"PageClosesWithTheCancelOfItsStrand", func(tr *trial) {
		p := tr.paged()
		tr.expire(p.ID)
		tr.store.Cancel(p.ID)
		tr.equal("pages", tr.store.Pages(p.ID), []Page{{Target: "end", Resolved: true}})
	}},
	{"PageStaysOpenWhileTheTargetIsNotReached", func(tr *trial) {
		p := tr.paged()
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Hop, Label: "other"})
		tr.applied(broker.Report{Pair: pairOf(tr.lease(p.ID)), Seq: 1, Act: broker.Fail, Delay: time.Hour, Failure: &boom})
		tr.store.OpenPages()
		tr.equal("pages", tr.store.Pages(p.ID), []Page{{Target: "end"}})
	}},
	{"PageOfADeadlineThatIsPutOffIsTheOnlyOne", func(tr *trial) {
		p := tr.paged()
		tr.stay(p, broker.Report{Seq: 1, Act: broker.Nap, Due: &broker.Due{Target: "end", In: time.Hour, Most: 24 * time.Hour}})
		tr.deadlines(p.ID, Deadline{Target: "end", In: time.Hour, Paged: true})
		tr.store.Age(p.ID, 2*time.Hour)
		tr.store.OpenPages()
		tr.equal("pages", tr.store.Pages(p.ID), []Page{{Target: "end"}})
	}},
	{"DeadlineSetAnewIsPagedAnew", func(tr *trial) {
		p := tr.paged()
		tr.stay(p, broker.Report{Seq: 1, Act: broker.Hop, Label: "end"})
		tr.stay(p, broker.Report{Seq: 2, Act: broker.Hop, Label: "start", Due: &broker.Due{Target: "end", In: time.Hour}})
		tr.deadlines(p.ID, Deadline{Target: "end", In: time.Hour})
		tr.store.Age(p.ID, 2*time.Hour)
		tr.store.OpenPages()
		tr.equal("pages", tr.store.Pages(p.ID), []Page{{Target: "end", Resolved: true}, {Target: "end"}})
	}},
	{"DeadlineThatHasPassedHasAPageThoughItsTargetIsReachedBeforeAnybodyLooks", func(tr *trial) {
		tr.missed(broker.Report{Act: broker.Hop, Label: "end"})
		tr.missed(broker.Report{Act: broker.Hop, Label: "end", Stay: true})
	}},
	{"DeadlineThatHasPassedHasAPageThoughAnotherReplacesIt", func(tr *trial) {
		tr.missed(broker.Report{Act: broker.Nap, Due: &broker.Due{Target: "other", In: time.Hour}})
	}},
	{"DeadlineThatHasPassedHasAPageThoughItsFrameReturns", func(tr *trial) {
		p := tr.due(3 * time.Hour)
		tr.stay(p, broker.Report{Seq: 1, Act: broker.Hop, Label: "inner", Frame: 1, Due: &broker.Due{Target: "x", In: time.Hour}})
		tr.store.Age(p.ID, 2*time.Hour)
		tr.applied(broker.Report{Pair: p, Seq: 2, Act: broker.Hop, Label: "back"})
		tr.store.OpenPages()
		tr.equal("pages", tr.store.Pages(p.ID), []Page{{Frame: 1, Target: "x", Resolved: true}})
	}},
	{"DeadlineThatHasPassedHasAPageThoughItsStrandEnds", func(tr *trial) {
		tr.missed(broker.Report{Act: broker.Exit})
		tr.missed(broker.Report{Act: broker.Cancel})
		tr.missed(broker.Report{Act: broker.Fail, Final: true, Failure: &boom})
	}},
	{"DeadlineThatIsPutOffBeforeAnybodyLooksHasNoPage", func(tr *trial) {
		p := tr.due(time.Hour)
		tr.store.Age(p.ID, 2*time.Hour)
		tr.stay(p, broker.Report{Seq: 1, Act: broker.Nap, Due: &broker.Due{Target: "end", In: time.Hour, Most: 24 * time.Hour}})
		tr.store.OpenPages()
		tr.equal("pages", len(tr.store.Pages(p.ID)), 0)
		tr.deadlines(p.ID, Deadline{Target: "end", In: time.Hour})
	}},
	{"DeadlineThatIsMetHasNoPage", func(tr *trial) {
		p := tr.due(time.Hour)
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Hop, Label: "end"})
		tr.applied(broker.Report{Pair: pairOf(tr.lease(p.ID)), Seq: 1, Act: broker.Exit})
		p2 := tr.due(time.Hour)
		tr.applied(broker.Report{Pair: p2, Seq: 1, Act: broker.Exit})
		tr.equal("pages", len(tr.store.Pages(p.ID))+len(tr.store.Pages(p2.ID)), 0)
	}},
	{"DeadlineOfAStaleReportIsNotSet", func(tr *trial) {
		p := tr.insertLeased("")
		tr.expire(p.ID)
		tr.lease(p.ID)
		tr.report(broker.Stale, broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Due: &broker.Due{Target: "end", In: time.Hour}})
		tr.deadlines(p.ID)
	}},
}

// due adds a strand that should be at the label "end" after in, and takes it.
func (tr *trial) due(in time.Duration) broker.Pair {
	tr.t.Helper()
	p := tr.insertLeased("")
	tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Due: &broker.Due{Target: "end", In: in}})
	return pairOf(tr.lease(p.ID))
}

// paged adds a strand that should have been at the label "end", so that a page is open, and takes it.
func (tr *trial) paged() broker.Pair {
	tr.t.Helper()
	p := tr.due(time.Hour)
	tr.store.Age(p.ID, 61*time.Minute)
	tr.store.OpenPages()
	tr.equal("pages", tr.store.Pages(p.ID), []Page{{Target: "end"}})
	return p
}

// missed ends a deadline that has passed, before anybody has looked for such: its page is over at once.
func (tr *trial) missed(r broker.Report) {
	tr.t.Helper()
	r.Pair, r.Seq = tr.due(time.Hour), 1
	tr.store.Age(r.ID, 2*time.Hour)
	tr.report(broker.Applied, r)
	tr.store.OpenPages()
	tr.equal("pages", tr.store.Pages(r.ID), []Page{{Target: "end", Resolved: true}})
}

func (tr *trial) deadlineCuts(r broker.Report) {
	tr.t.Helper()
	r.Pair, r.Seq, r.Delay = tr.due(time.Hour), 1, 2*time.Hour
	tr.applied(r)
	tr.about("due", tr.row(r.ID).Due, time.Hour)
}

func (tr *trial) closesPage(r broker.Report) {
	tr.t.Helper()
	r.Pair, r.Seq = tr.paged(), 1
	tr.applied(r)
	tr.equal("pages", tr.store.Pages(r.ID), []Page{{Target: "end", Resolved: true}})
}

// deadlines checks those of a live strand.
func (tr *trial) deadlines(id broker.ID, want ...Deadline) {
	tr.t.Helper()
	got := tr.store.Deadlines(id)
	if !sameDeadlines(got, want) {
		tr.t.Errorf("deadlines: got %+v, want %+v", got, want)
	}
}
