package brokertest

import (
	"math"
	"time"

	"github.com/respirated/respirated/broker"
)

// boom is a failure with every field set.
var boom = broker.Failure{
	Class:   "Boom",
	Message: "it went boom",
	Trace:   "here\nand there",
	Worker:  "host:42",
	Exit:    "signal: killed",
	Stderr:  "last words",
	MaxRSS:  96 << 20, CPU: 1234 * time.Millisecond,
}

var actCases = []testCase{
	{"ExitEndsTheStrandAsDoneWithItsValue", func(tr *trial) {
		p := tr.insertLeased("")
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Exit, Value: []byte(`{"sum":3}`)})
		tr.sameJSON("value", tr.finished(p.ID, Done).Value, `{"sum":3}`)
	}},
	{"ExitWithoutAValueIsNull", func(tr *trial) {
		p := tr.insertLeased("")
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Exit})
		tr.sameJSON("value", tr.finished(p.ID, Done).Value, `null`)
	}},
	{"ExitEndsManyInOneBatch", func(tr *trial) {
		var reports []broker.Report
		for range 50 {
			reports = append(reports, broker.Report{Pair: tr.insertLeased(""), Seq: 1, Act: broker.Exit})
		}
		tr.applied(reports...)
		for _, r := range reports {
			tr.finished(r.ID, Done)
		}
	}},
	{"NapMakesTheStrandDueAfterItsDelay", func(tr *trial) {
		p := tr.insertLeased(`{"label":"wait"}`)
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Delay: time.Hour, Stack: []byte(`[{"i":1}]`)})
		row := tr.row(p.ID)
		tr.about("due", row.Due, time.Hour)
		tr.equal("leased", row.Leased, false)
		tr.equal("label", row.Label, "wait")
		tr.sameJSON("stack", row.Stack, `[{"i":1}]`)
	}},
	{"NapWithoutAStackKeepsTheStack", func(tr *trial) {
		p := tr.insertLeased("")
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Stack: []byte(`[1]`)})
		p = pairOf(tr.lease(p.ID))
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Nap})
		tr.sameJSON("stack", tr.row(p.ID).Stack, `[1]`)
	}},
	{"NapOfNoTimeIsDueAtOnce", func(tr *trial) {
		p := tr.insertLeased("")
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Nap})
		tr.finds(p.ID)
	}},
	{"NapMayLastForAges", func(tr *trial) {
		p := tr.insertLeased("")
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Delay: 200 * 365 * 24 * time.Hour})
		tr.about("due", tr.row(p.ID).Due, 200*365*24*time.Hour)
	}},
	{"NapStartsTheCountsAnew", func(tr *trial) { tr.startsAnew(broker.Report{Act: broker.Nap}) }},
	{"HopStartsTheCountsAnew", func(tr *trial) { tr.startsAnew(broker.Report{Act: broker.Hop, Label: "next"}) }},
	{"HopGoesOnAtItsLabel", func(tr *trial) {
		p := tr.insertLeased("")
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Hop, Label: "second", Delay: time.Hour, Stack: []byte(`[2]`)})
		row := tr.row(p.ID)
		tr.equal("label", row.Label, "second")
		tr.equal("kind", row.Kind, kind)
		tr.about("due", row.Due, time.Hour)
		tr.sameJSON("stack", row.Stack, `[2]`)
		tr.arrive(p.ID)
		tr.equal("label at the next run", tr.lease(p.ID).Label, "second")
	}},
	{"HopToAnotherKindIsFoundThere", func(tr *trial) {
		p := tr.insertLeased(`{"queue":"q","tenant":"t","priority":2}`)
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Hop, Label: "second", Kind: "other"})
		tr.finds()
		got := ageless(tr.scan(broker.ScanRequest{Kinds: []string{"other"}, Bottom: true}))
		tr.equal("found there", got, []broker.Candidate{{ID: p.ID, Kind: "other", Queue: broker.Queue{Tenant: "t", Name: "q"}, Label: "second", Priority: 2}})
		s := tr.lease(p.ID)
		tr.equal("kind, queue, tenant", []string{s.Kind, s.Queue, s.Tenant}, []string{"other", "q", "t"})
	}},
	{"FailCountsATryAndKeepsTheEvidence", func(tr *trial) {
		p := tr.insertLeased("")
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Fail, Delay: time.Hour, Stack: []byte(`[1]`), Failure: &boom})
		row := tr.row(p.ID)
		tr.equal("try", row.Try, 1)
		tr.equal("leased", row.Leased, false)
		tr.about("due", row.Due, time.Hour)
		tr.sameJSON("stack", row.Stack, `[1]`)
		tr.equal("attempts", tr.store.Attempts(p.ID), []broker.Failure{boom})
	}},
	{"FailBacksOffTwiceAsLongEachTimeUpToADay", func(tr *trial) {
		p := tr.insertLeased("")
		for try := 1; try <= 20; try++ {
			tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Fail, Delay: -1, Failure: &broker.Failure{Class: "E"}})
			full := min(time.Second<<(try-1), 24*time.Hour)
			tr.between("back-off", tr.row(p.ID).Due, full/2, full)
			p = tr.leaseAgain(p.ID)
		}
	}},
	{"FailWithTheLastTryIsDead", func(tr *trial) {
		p := tr.insertLeased(`{"max_tries":2}`)
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Fail, Failure: &broker.Failure{Class: "first"}})
		p = tr.leaseAgain(p.ID)
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Fail, Failure: &broker.Failure{Class: "second"}})
		tr.finished(p.ID, Dead)
		tr.equal("attempts", tr.store.Attempts(p.ID), []broker.Failure{{Class: "first"}, {Class: "second"}})
	}},
	{"FailThatIsFinalIsDead", func(tr *trial) {
		p := tr.insertLeased("")
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Fail, Final: true, Failure: &boom})
		tr.finished(p.ID, Dead)
		tr.equal("attempts", tr.store.Attempts(p.ID), []broker.Failure{boom})
	}},
	{"FailKeepsAnyTextOfAFailure", func(tr *trial) {
		p, neighbour := tr.insertLeased(""), tr.insertLeased("")
		odd := broker.Failure{Class: "E", Message: "nul \x00, half a rune \xc3", Stderr: "\x00\xff"}
		tr.applied(
			broker.Report{Pair: p, Act: broker.Crash, Failure: &odd},
			broker.Report{Pair: neighbour, Seq: 1, Act: broker.Exit},
		)
		tr.equal("attempts", len(tr.store.Attempts(p.ID)), 1)
	}},
	{"CancelEndsTheStrandAsCancelled", func(tr *trial) {
		p := tr.insertLeased("")
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Cancel, Failure: &boom})
		tr.finished(p.ID, Cancelled)
		tr.equal("attempts", tr.store.Attempts(p.ID), []broker.Failure{boom})
	}},
	{"ReleaseGivesTheStrandBackAsItWas", func(tr *trial) { tr.givesBack(broker.Release) }},
	{"YieldGivesTheStrandBackAsItWas", func(tr *trial) { tr.givesBack(broker.Yield) }},
	{"SaveStoresTheStackAndKeepsTheLease", func(tr *trial) {
		p := tr.insertLeased("")
		before := tr.row(p.ID)
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Save, Stack: []byte(`[{"at":7}]`)})
		before.Stack = []byte(`[{"at":7}]`)
		tr.sameRow("row", tr.row(p.ID), before)
		tr.report(broker.Applied, broker.Report{Pair: p, Seq: 2, Act: broker.Exit})
	}},
	{"SaveAndExitInOneBatchHappenInOrder", func(tr *trial) {
		p := tr.insertLeased("")
		save := broker.Report{Pair: p, Seq: 1, Act: broker.Save, Stack: []byte(`[1]`)}
		nap := broker.Report{Pair: p, Seq: 2, Act: broker.Nap, Delay: time.Hour}
		tr.commit([]broker.VerdictState{broker.Applied, broker.Dup, broker.Applied, broker.Dup}, save, save, nap, nap)
		row := tr.row(p.ID)
		tr.sameJSON("stack", row.Stack, `[1]`)
		tr.about("due", row.Due, time.Hour)
	}},
	{"SeqBeyondMeasureHarmsNobody", func(tr *trial) {
		p, neighbour := tr.insertLeased(""), tr.insertLeased("")
		got, err := tr.store.Commit(tr.ctx, []broker.Report{
			{Pair: p, Seq: math.MaxUint64, Act: broker.Save, Stack: []byte(`[1]`)},
			exitOf(neighbour),
		})
		if err != nil || got[0].State != broker.Applied && got[0].State != broker.Invalid || got[1].State != broker.Applied {
			tr.t.Errorf("commit: got %s and error %v, want the first applied or invalid, the second applied", verdictText(got), err)
		}
	}},
	{"CrashBacksOffAndKeepsTheEvidence", func(tr *trial) {
		p := tr.insertLeased("")
		began := time.Now()
		tr.applied(broker.Report{Pair: p, Act: broker.Crash, Failure: &boom, Stack: []byte(`["not to be kept"]`)})
		row := tr.row(p.ID)
		tr.sameJSON("stack", row.Stack, `null`)
		if lo := time.Second - time.Since(began) - skew; row.Due < lo || row.Due > time.Second+skew {
			tr.t.Errorf("due: got %v, want 1 s, or %v at least", row.Due, lo)
		}
		tr.equal("crashes", row.Crashes, 1)
		tr.equal("try", row.Try, 0)
		tr.equal("leased", row.Leased, false)
		tr.equal("attempts", tr.store.Attempts(p.ID), []broker.Failure{boom})
	}},
	{"CrashAtTheThirdTimeIsDead", func(tr *trial) {
		p := tr.insertLeased("")
		for range 2 {
			tr.applied(broker.Report{Pair: p, Act: broker.Crash, Failure: &boom})
			p = tr.leaseAgain(p.ID)
		}
		tr.applied(broker.Report{Pair: p, Act: broker.Crash, Failure: &boom})
		tr.finished(p.ID, Dead)
		tr.equal("attempts", tr.store.Attempts(p.ID), []broker.Failure{boom, boom, boom})
	}},
	{"CrashWithoutGuiltBurnsNoTry", func(tr *trial) {
		p := tr.insertLeased(`{"max_tries":1}`)
		tr.applied(broker.Report{Pair: p, Act: broker.Crash, Failure: &boom})
		tr.equal("try", tr.row(p.ID).Try, 0)
	}},
	{"CrashWithGuiltBurnsATry", func(tr *trial) {
		p := tr.insertLeased(`{"max_tries":2}`)
		tr.applied(broker.Report{Pair: p, Act: broker.Crash, Guilty: true, Failure: &boom})
		tr.equal("try", tr.row(p.ID).Try, 1)
		p = tr.leaseAgain(p.ID)
		tr.applied(broker.Report{Pair: p, Act: broker.Crash, Guilty: true, Failure: &boom})
		tr.finished(p.ID, Dead)
	}},
}

// troubled adds a strand with one failure, one crash and one rescue behind it, leased.
func (tr *trial) troubled() broker.Pair {
	tr.t.Helper()
	p := tr.insertLeased("")
	tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Fail, Failure: &boom})
	p = tr.leaseAgain(p.ID)
	tr.applied(broker.Report{Pair: p, Act: broker.Crash, Failure: &boom})
	p = tr.leaseAgain(p.ID)
	tr.expire(p.ID)
	p = pairOf(tr.lease(p.ID))
	tr.equal("counts", counts(tr.row(p.ID)), [3]int{1, 1, 1})
	return p
}

// counts are try, crashes and rescues.
func counts(r Row) [3]int { return [3]int{r.Try, r.Crashes, r.Rescues} }

func (tr *trial) startsAnew(r broker.Report) {
	tr.t.Helper()
	r.Pair, r.Seq = tr.troubled(), 1
	tr.applied(r)
	tr.equal("counts", counts(tr.row(r.ID)), [3]int{})
}

func (tr *trial) givesBack(act broker.Act) {
	tr.t.Helper()
	p := tr.troubled()
	before := tr.row(p.ID)
	tr.applied(broker.Report{Pair: p, Seq: 1, Act: act, Delay: time.Hour, Stack: []byte(`["not to be kept"]`)})
	before.Due, before.Leased, before.Left = time.Hour, false, 0
	tr.sameRow("row", tr.row(p.ID), before)
}
