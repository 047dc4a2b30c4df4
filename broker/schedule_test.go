package broker

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/respirated/respirated/protocol"
)

// Times of the tests: t0 is when everything begins.
const (
	t0     = int64(1_000_000_000_000)
	second = int64(time.Second)
)

func testLimits() limits {
	return limits{
		lease: 120 * time.Second, heartbeat: 5 * time.Second, dead: 15 * time.Second, scanEvery: 5 * time.Second,
		grace: 10 * time.Second, maxHold: 100, maxBytes: 1 << 20, maxBatch: 10, maxFrame: 1 << 20,
	}
}

func strandID(n byte) ID { return ID{0: n, 15: n} }

func due(n byte) Candidate { return Candidate{ID: strandID(n), Kind: "k", Priority: 5} }

// bench is a schedule at work in a test, and the first of its databases, which most tests are content with.
type bench struct {
	t *testing.T
	*schedule
	*database
}

func newBench(t *testing.T) *bench {
	return benchOf(t, newSchedule(ID{1}, [32]byte{1}, testLimits()))
}

func benchOf(t *testing.T, s *schedule) *bench { return &bench{t, s, s.databases[0]} }

// connect has worker uuid say hello on a session, and want n strands.
func (b *bench) connect(now int64, session sessionID, uuid string, n int, holds ...hold) effects {
	return b.step(now,
		greeted{session: session, worker: uuid, key: "key of " + uuid, name: uuid, kinds: []protocol.Kind{{Name: "k"}}, hold: holds},
		wanted{session: session, n: n},
	)
}

// lease brings candidates to a worker with credit and has the database grant them all.
func (b *bench) lease(now int64, candidates ...Candidate) (granted []Pair, fx effects) {
	b.t.Helper()
	granted = b.step(now, scanned{ScanResult: ScanResult{Candidates: candidates}}).lease
	if len(granted) != len(candidates) {
		b.t.Fatalf("asked to lease %v, want all of %v", granted, candidates)
	}
	return granted, b.step(now, leased{granted: strandsOf(granted)})
}

func strandsOf(pairs []Pair) []Strand {
	var strands []Strand
	for _, p := range pairs {
		strands = append(strands, Strand{ID: p.ID, Token: p.Token, Kind: "k", Label: "start", Args: []byte("{}"), Queue: "default"})
	}
	return strands
}

func exitOf(p Pair) Report { return Report{Pair: p, Seq: 1, Act: Exit} }

func verdicts(states ...VerdictState) committed {
	var c committed
	for _, s := range states {
		c.verdicts = append(c.verdicts, Verdict{State: s})
	}
	return c
}

// sent lists what an effects value tells a session, by op.
func sent(fx effects, session sessionID) (ops []string) {
	for _, m := range fx.send {
		if m.session == session {
			ops = append(ops, m.message.Op())
		}
	}
	return ops
}

func firstSent[T protocol.ToWorker](t *testing.T, fx effects) T {
	t.Helper()
	for _, m := range fx.send {
		if found, ok := m.message.(T); ok {
			return found
		}
	}
	var none T
	t.Fatalf("no %T was sent, but %v", none, fx.send)
	return none
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Report{}, Pair{}, division{})); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestNoWantNoScanNoLease(t *testing.T) {
	b := newBench(t)
	fx := b.connect(t0, 1, "w", 0)
	if fx.scan != nil || fx.lease != nil {
		t.Errorf("scan %v, lease %v; want neither while nobody wants anything", fx.scan, fx.lease)
	}
	if fx := b.step(t0, wanted{session: 1, n: 1}); fx.scan == nil {
		t.Error("no scan after a worker wants a strand")
	}
}

func TestCandidateAndWantMeetInALease(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	pairs, fx := b.lease(t0, due(1))
	equal(t, "sent", sent(fx, 1), []string{"strands"})
	st := firstSent[*protocol.Strands](t, fx).Strands[0]
	equal(t, "strand", st.ID, pairs[0].ID.String())
	if end := t0 + int64(105*time.Second); st.DeadlineNS != end {
		t.Errorf("deadline %d, want %d: an eighth before the lease's end", st.DeadlineNS, end)
	}
}

func TestNeverMoreThanWanted(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 2)
	fx := b.step(t0, scanned{ScanResult: ScanResult{Candidates: []Candidate{due(1), due(2), due(3)}}})
	if len(fx.lease) != 2 {
		t.Fatalf("leased %d, want 2", len(fx.lease))
	}
	fx = b.step(t0, leased{granted: strandsOf(fx.lease)})
	if fx.lease != nil {
		t.Errorf("leased %v for a worker that holds all it wants", fx.lease)
	}
}

func TestPairsThatMeetWhileALeaseIsInFlightGoTogether(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 5)
	fx := b.step(t0, scanned{ScanResult: ScanResult{Candidates: []Candidate{due(1)}}})
	first := fx.lease
	for n := byte(2); n <= 4; n++ {
		b.scanner.flying = true
		if fx := b.step(t0, scanned{ScanResult: ScanResult{Candidates: []Candidate{due(n)}}}); fx.lease != nil {
			t.Fatal("a second lease while one is in flight")
		}
	}
	if fx := b.step(t0, leased{granted: strandsOf(first)}); len(fx.lease) != 3 {
		t.Errorf("leased %d in the next statement, want the 3 that met meanwhile", len(fx.lease))
	}
}

func TestBetterPriorityStartsFirst(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	later, urgent := due(1), due(2)
	urgent.Priority = 1
	fx := b.step(t0, scanned{ScanResult: ScanResult{Candidates: []Candidate{later, urgent}}})
	equal(t, "leased", fx.lease[0].ID, urgent.ID)
}

func TestSlotIsFreeOnlyAfterTheVerdict(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	pairs, _ := b.lease(t0, due(1))
	fx := b.step(t0, reported{session: 1, re: 7, reports: []Report{exitOf(pairs[0])}}, scanned{ScanResult: ScanResult{Candidates: []Candidate{due(2)}}})
	if len(fx.commit) != 1 || fx.lease != nil || len(fx.send) != 0 {
		t.Fatalf("commit %v, lease %v, send %v; want a commit alone", fx.commit, fx.lease, fx.send)
	}
	fx = b.step(t0, verdicts(Applied))
	equal(t, "ack", firstSent[*protocol.Ack](t, fx), &protocol.Ack{Re: 7, Entries: []protocol.AckEntry{
		{Strand: pairs[0].ID.String(), Token: pairs[0].Token.String(), Seq: 1, State: protocol.AckApplied},
	}})
	if len(fx.lease) != 1 {
		t.Error("the freed slot takes no new strand")
	}
}

func TestUnknownCommitIsAskedAgainAndNobodyIsAnswered(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	pairs, _ := b.lease(t0, due(1))
	first := b.step(t0, reported{session: 1, re: 7, reports: []Report{exitOf(pairs[0])}}).commit
	fx := b.step(t0, committed{err: ErrAway})
	if len(fx.send) != 0 || fx.commit != nil {
		t.Fatalf("send %v, commit %v; want neither yet", fx.send, fx.commit)
	}
	fx = b.step(t0+errorRetry, heard{1})
	equal(t, "second try", fx.commit, first)
}

func TestUnknownLeaseIsGivenBack(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	pairs := b.step(t0, scanned{ScanResult: ScanResult{Candidates: []Candidate{due(1)}}}).lease
	fx := b.step(t0, leased{err: ErrAway})
	equal(t, "commit", fx.commit, []Report{{Pair: pairs[0], Act: Yield}})
}

func TestStrandLostOnTheWireIsGivenBackAtTheNextHello(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	pairs, _ := b.lease(t0, due(1))
	b.step(t0, parted{1})
	fx := b.connect(t0, 2, "w", 1)
	equal(t, "commit", fx.commit, []Report{{Pair: pairs[0], Act: Yield}})
}

func TestWorkerGoneKeepsItsStrandsUntilItsDeath(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	pairs, _ := b.lease(t0, due(1))
	if fx := b.step(t0+10*second, parted{1}); fx.commit != nil {
		t.Fatalf("commit %v after a mere disconnect", fx.commit)
	}
	fx := b.step(t0+11*second, exited{WorkerExit{Key: "key of w", PID: 9, How: "signal: killed", Stderr: "oops"}})
	equal(t, "commit", fx.commit, []Report{{Pair: pairs[0], Act: Crash, Guilty: true, Failure: &Failure{
		Class: "crash", Message: "its worker died: signal: killed", Worker: "w", Exit: "signal: killed", Stderr: "oops",
	}}})
}

func TestDeathOfAWorkerThatIsNotOursIsSeenByItsSocketAndProcess(t *testing.T) {
	b := newBench(t)
	b.step(t0, greeted{session: 1, worker: "w", name: "w", kinds: []protocol.Kind{{Name: "k"}}}, wanted{session: 1, n: 1})
	b.lease(t0, due(1))
	if fx := b.step(t0, parted{1}); fx.commit != nil {
		t.Fatalf("commit %v after a mere disconnect", fx.commit)
	}
	fx := b.step(t0, vanished{1})
	if len(fx.commit) != 1 || fx.commit[0].Act != Crash {
		t.Errorf("commit %+v, want the crash", fx.commit)
	}
}

func TestDeathOfAWorkerWhoseKeyNoSupervisorKnowsIsSeenToo(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	b.lease(t0, due(1))
	if fx := b.step(t0, parted{1}, vanished{1}); fx.commit != nil {
		t.Fatalf("commit %v before the supervisor could tell more", fx.commit)
	}
	fx := b.step(t0 + awaitEOF)
	if len(fx.commit) != 1 || fx.commit[0].Act != Crash {
		t.Errorf("commit %+v, want the crash", fx.commit)
	}
}

func TestSupervisorsEvidenceOfADeathIsPreferred(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	b.lease(t0, due(1))
	fx := b.step(t0, parted{1}, vanished{1}, exited{WorkerExit{Key: "key of w", How: "signal: killed"}})
	if len(fx.commit) != 1 || fx.commit[0].Failure.Exit != "signal: killed" {
		t.Errorf("commit %+v, want the crash with its signal", fx.commit)
	}
}

func TestWorkerThatCameBackHasNotVanished(t *testing.T) {
	b := newBench(t)
	b.step(t0, greeted{session: 1, worker: "w", kinds: []protocol.Kind{{Name: "k"}}}, wanted{session: 1, n: 1})
	pairs, _ := b.lease(t0, due(1))
	b.step(t0, parted{1})
	b.step(t0, greeted{session: 2, worker: "w", kinds: []protocol.Kind{{Name: "k"}}, hold: []hold{{Pair: pairs[0], kind: "k"}}})
	if fx := b.step(t0, vanished{1}); fx.commit != nil {
		t.Errorf("commit %+v, want nothing", fx.commit)
	}
}

func TestDeathWithNeighboursMakesSuspectsNotGuilty(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 2)
	b.lease(t0, due(1), due(2))
	fx := b.step(t0, parted{1}, exited{WorkerExit{Key: "key of w", How: "signal: killed"}})
	for _, r := range fx.commit {
		if r.Act != Crash || r.Guilty {
			t.Errorf("report %+v, want a crash without guilt", r)
		}
	}
	if len(fx.commit) != 2 {
		t.Errorf("%d reports, want 2", len(fx.commit))
	}
}

func TestAskedDeathBurnsNothing(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	pairs, _ := b.lease(t0, due(1))
	fx := b.step(t0, parted{1}, exited{WorkerExit{Key: "key of w", How: "signal: killed", Asked: true}})
	equal(t, "commit", fx.commit, []Report{{Pair: pairs[0], Act: Yield}})
}

func TestResultSentBeforeDeathCounts(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	pairs, _ := b.lease(t0, due(1))
	fx := b.step(t0, exited{WorkerExit{Key: "key of w", How: "signal: killed"}})
	if fx.commit != nil {
		t.Fatalf("commit %v before the socket was read to its end", fx.commit)
	}
	equal(t, "sessions to be read to their end", fx.ended, []sessionID{1})
	fx = b.step(t0, reported{session: 1, re: 1, reports: []Report{exitOf(pairs[0])}}, parted{1})
	equal(t, "commit", fx.commit, []Report{exitOf(pairs[0])})
}

func TestHelloReadAfterTheDeathOfItsProcessIsReadToItsEnd(t *testing.T) {
	b := newBench(t)
	b.step(t0, exited{WorkerExit{Key: "key of w", How: "signal: killed"}})
	fx := b.step(t0, greeted{session: 1, key: "key of w", worker: "w", kinds: []protocol.Kind{{Name: "k"}}})
	equal(t, "sessions to be read to their end", fx.ended, []sessionID{1})
}

func TestSocketHeldOpenByAGrandchildDelaysNothingForLong(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	b.lease(t0, due(1))
	b.step(t0, exited{WorkerExit{Key: "key of w", How: "signal: killed"}})
	if at := b.nextTick(); at > t0+awaitEOF {
		t.Errorf("it wants to be called after %v, want %v", time.Duration(at-t0), time.Duration(awaitEOF))
	}
	fx := b.step(t0 + awaitEOF)
	if len(fx.commit) != 1 || fx.commit[0].Act != Crash {
		t.Errorf("commit %v, want the crash", fx.commit)
	}
}

func TestTheDeadAreBuriedOnTimeThoughASweepComesBetween(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	b.lease(t0, due(1))
	died := t0 + sweepEvery - awaitEOF/2
	b.step(died, exited{WorkerExit{Key: "key of w", How: "signal: killed"}})
	b.step(t0 + sweepEvery)
	if at := b.nextTick(); at > died+awaitEOF {
		t.Errorf("it wants to be called %v after the death, want %v", time.Duration(at-died), time.Duration(awaitEOF))
	}
}

func TestSuspectRunsAlone(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 5)
	pairs, _ := b.lease(t0, due(1))
	suspect := due(2)
	suspect.Alone = true
	fx := b.step(t0+6*second, scanned{ScanResult: ScanResult{Candidates: []Candidate{suspect, due(3)}}})
	if fx.lease != nil {
		t.Fatalf("leased %v; want the worker kept free for the suspect", fx.lease)
	}
	b.step(t0+6*second, reported{session: 1, re: 1, reports: []Report{exitOf(pairs[0])}})
	fx = b.step(t0+6*second, verdicts(Applied))
	if len(fx.lease) != 1 || fx.lease[0].ID != suspect.ID {
		t.Fatalf("leased %v, want the suspect alone", fx.lease)
	}
	fx = b.step(t0+6*second, leased{granted: strandsOf(fx.lease)})
	if fx.lease != nil {
		t.Errorf("leased %v beside a strand that must run alone", fx.lease)
	}
}

func TestLeaseIsRenewedAfterAThirdAndTheWorkerIsTold(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	pairs, _ := b.lease(t0, due(1))
	at := t0 + 41*second
	fx := b.step(at, heard{1})
	equal(t, "renewed", fx.renew, pairs)
	fx = b.step(at, renewed{kept: []Kept{{Pair: pairs[0]}}})
	if got, want := firstSent[*protocol.Lease](t, fx).Leases[0].DeadlineNS, at+int64(105*time.Second); got != want {
		t.Errorf("deadline %d, want %d", got, want)
	}
}

func TestLeaseThatIsNotRenewedIsLost(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	b.lease(t0, due(1))
	b.step(t0+41*second, heard{1})
	fx := b.step(t0+41*second, renewed{})
	equal(t, "why", firstSent[*protocol.Cancel](t, fx).Cancels[0].Why, protocol.StopLost)
	if len(b.runs) != 0 {
		t.Errorf("%d runs are kept, want none", len(b.runs))
	}
}

func TestLeaseOfALockedRowKeepsItsDeadlineAndIsAskedForAgain(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	pairs, _ := b.lease(t0, due(1))
	at := t0 + 41*second
	b.step(at, heard{1})
	fx := b.step(at, renewed{kept: []Kept{{Pair: pairs[0], Locked: true}}})
	equal(t, "sent", sent(fx, 1), []string(nil))
	if got, want := b.runs[pairs[0].ID].leaseEnd, t0+int64(105*time.Second); got != want {
		t.Errorf("deadline %d, want %d as before: the database has not extended the lease", got, want)
	}
	fx = b.step(at+second, heard{1})
	equal(t, "renewed again", fx.renew, pairs)
}

func TestGoneWorkerIsNotRenewed(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	b.lease(t0, due(1))
	b.step(t0, parted{1})
	if fx := b.step(t0 + 41*second); fx.renew != nil {
		t.Errorf("renewed %v for a worker that is gone", fx.renew)
	}
}

func TestCancelHintRenewsAtOnceAndStopsTheRun(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	pairs, _ := b.lease(t0, due(1))
	fx := b.step(t0+second, hinted{Hint{Cancel: true}})
	equal(t, "renewed", fx.renew, pairs)
	fx = b.step(t0+second, renewed{kept: []Kept{{Pair: pairs[0], Cancel: true}}})
	equal(t, "why", firstSent[*protocol.Cancel](t, fx).Cancels[0].Why, protocol.StopCancelled)
}

func TestHandlerThatIgnoresCancelCostsItsWorker(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 2)
	pairs, _ := b.lease(t0, due(1), due(2))
	b.step(t0+second, hinted{Hint{Cancel: true}})
	b.step(t0+second, renewed{kept: []Kept{{Pair: pairs[0], Cancel: true}, {Pair: pairs[1]}}})
	fx := b.step(t0+12*second, heard{1})
	equal(t, "after the first grace", sent(fx, 1), []string{"drain"})
	fx = b.step(t0+23*second, heard{1})
	if len(fx.end) != 1 {
		t.Fatalf("end %v, want the worker's process ended after the second grace", fx.end)
	}
	fx = b.step(t0+24*second, parted{1}, exited{WorkerExit{Key: "key of w", Asked: true, How: "signal: killed"}})
	equal(t, "commit", fx.commit, []Report{
		{Pair: pairs[0], Act: Crash, Failure: &Failure{
			Class: "cancelled", Message: "did not stop when it was cancelled; its worker was ended", Worker: "w", Exit: "signal: killed",
		}},
		{Pair: pairs[1], Act: Yield},
	})
}

// TestLimitOfAStrandThatWaitedForASlotCountsFromItsFirstTouch: no later one prolongs it.
func TestLimitOfAStrandThatWaitedForASlotCountsFromItsFirstTouch(t *testing.T) {
	b := newBench(t)
	b.step(t0, greeted{session: 1, worker: "w", key: "key of w", kinds: []protocol.Kind{{Name: "k", RunMS: 5000}}}, wanted{session: 1, n: 1})
	pairs, _ := b.lease(t0, due(1))
	b.step(t0+12*second, touched{session: 1, runs: pairs})
	for now := t0 + 13*second; now < t0+27*second; now += second {
		fx := b.step(now, touched{session: 1, runs: pairs})
		if len(fx.send) > 0 {
			t.Fatalf("told %+v after %v, want nothing before the limit, its grace and the wait are over", fx.send, time.Duration(now-t0))
		}
	}
	fx := b.step(t0+27*second, touched{session: 1, runs: pairs})
	if stop := firstSent[*protocol.Cancel](t, fx); stop.Cancels[0].Why != protocol.StopTimeout {
		t.Errorf("told %+v, want a timeout", stop)
	}
}

func TestHandlerThatIgnoresItsLimitCostsItsWorkerAndIsGuilty(t *testing.T) {
	b := newBench(t)
	b.step(t0, greeted{session: 1, worker: "w", key: "key of w", kinds: []protocol.Kind{{Name: "k", RunMS: 5000}}}, wanted{session: 1, n: 1})
	pairs, _ := b.lease(t0, due(1))
	fx := b.step(t0+16*second, heard{1})
	equal(t, "a grace after the limit", sent(fx, 1), []string{"drain", "cancel"})
	fx = b.step(t0+27*second, heard{1})
	if len(fx.end) != 1 {
		t.Fatalf("end %v, want its process ended another grace later", fx.end)
	}
	fx = b.step(t0+28*second, parted{1}, exited{WorkerExit{Key: "key of w", How: "signal: killed", Asked: true}})
	if len(fx.commit) != 1 || fx.commit[0].Pair != pairs[0] || !fx.commit[0].Guilty || fx.commit[0].Failure.Class != "timeout" {
		t.Errorf("commit %+v, want the strand guilty of its timeout", fx.commit)
	}
}

func TestStrandThatNoFrameCarriesIsDeadNotSent(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	pairs := b.step(t0, scanned{ScanResult: ScanResult{Candidates: []Candidate{due(1)}}}).lease
	huge := strandsOf(pairs)
	huge[0].Stack = make([]byte, b.maxFrame)
	fx := b.step(t0, leased{granted: huge})
	if len(fx.send) != 0 || len(fx.commit) != 1 || !fx.commit[0].Final || fx.commit[0].Failure.Class != "too_large" {
		t.Errorf("send %v, commit %+v; want the strand failed for good", fx.send, fx.commit)
	}
}

// A frame of the default size carries the largest strand with the largest semaphore and the largest value of a child.
func TestStrandOfTheLargestSizeIsSentWithTheFirstOfEachMail(t *testing.T) {
	const mib = 1 << 20
	b := newBench(t)
	cfg, err := Config{}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	b.maxFrame, b.maxBytes = cfg.MaxFrame, cfg.MaxBytes
	b.connect(t0, 1, "w", 1)
	granted := strandsOf(b.step(t0, scanned{ScanResult: ScanResult{Candidates: []Candidate{due(1)}}}).lease)
	name := strings.Repeat("n", protocol.MaxName)
	g := &granted[0]
	g.Args, g.Stack, g.Metadata = make([]byte, mib), make([]byte, mib), make([]byte, 64<<10)
	g.Kind, g.Label, g.Tenant, g.Queue, g.Tags = name, name, name, name, slices.Repeat([]string{name}, 100)
	g.Inbox = &Inbox{
		Semaphores: slices.Repeat([]Semaphore{{Name: name}}, InboxItems),
		Ended:      slices.Repeat([]Ended{{Kind: name, State: "cancelled"}}, InboxItems),
	}
	g.Inbox.Semaphores[0].Value, g.Inbox.Ended[0].Value = make([]byte, protocol.MaxSignal), make([]byte, mib)
	fx := b.step(t0, leased{granted: granted})
	if len(fx.commit) != 0 || len(fx.send) != 1 {
		t.Fatalf("commit %+v, send %d frames; want it sent", fx.commit, len(fx.send))
	}
	in := fx.send[0].message.(*protocol.Strands).Strands[0].Inbox
	if len(in.Semaphores) == 0 || len(in.Ended) == 0 {
		t.Errorf("inbox of %d semaphores and %d ended, want some of both", len(in.Semaphores), len(in.Ended))
	}
	frame, err := protocol.Append(nil, fx.send[0].message)
	if err != nil || len(frame) > cfg.MaxFrame {
		t.Errorf("frame of %d bytes and error %v, want %d at most", len(frame), err, cfg.MaxFrame)
	}
}

// Of before signals had a limit of their own, or where frames are smaller.
func TestSemaphoreThatDoesNotFitBesideItsStrandWaits(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	granted := strandsOf(b.step(t0, scanned{ScanResult: ScanResult{Candidates: []Candidate{due(1)}}}).lease)
	granted[0].Args = make([]byte, b.maxFrame/2)
	granted[0].Inbox = &Inbox{Semaphores: []Semaphore{{Name: "huge", Value: make([]byte, b.maxFrame/2)}}, Ended: []Ended{{Kind: "k", State: "done"}}}
	fx := b.step(t0, leased{granted: granted})
	if len(fx.commit) != 0 || len(fx.send) != 1 {
		t.Fatalf("commit %+v, send %d frames; want it sent", fx.commit, len(fx.send))
	}
	if in := fx.send[0].message.(*protocol.Strands).Strands[0].Inbox; len(in.Semaphores) != 0 || len(in.Ended) != 1 || !in.More {
		t.Errorf("inbox %+v, want the ended child alone, and that there is more", in)
	}
}

func TestSilentWorkerIsGivenUp(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	fx := b.step(t0 + 16*second)
	if len(fx.hangUp) != 1 || fx.hangUp[0].last.Code != protocol.CodeDead {
		t.Errorf("hang up %v, want code dead", fx.hangUp)
	}
	if len(fx.end) != 1 {
		t.Errorf("end %v, want its process ended", fx.end)
	}
}

// TestHelloOfAnOlderConnectionIsStale: while we were stopped, a worker may have tried again and again. All that is read at
// once, in any order, and what it said it held at first is not what it holds by now.
func TestHelloOfAnOlderConnectionIsStale(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 3, "w", 1)
	pairs, _ := b.lease(t0, due(1))
	stale := greeted{session: 2, worker: "w", kinds: []protocol.Kind{{Name: "k"}}}
	for range 2 {
		fx := b.step(t0, stale)
		if len(fx.hangUp) != 1 || fx.hangUp[0].session != 2 || fx.commit != nil {
			t.Fatalf("hang up %v, commit %v; want only the older connection hung up", fx.hangUp, fx.commit)
		}
		b.step(t0, parted{3}) // after its end, too
	}
	fx := b.step(t0, greeted{session: 4, worker: "w", kinds: []protocol.Kind{{Name: "k"}}, hold: []hold{{pairs[0], "k", true}}},
		reported{session: 4, re: 1, reports: []Report{exitOf(pairs[0])}})
	equal(t, "commit", fx.commit, []Report{exitOf(pairs[0])})
}

// TestLoopThatIsAlwaysLateJudgesTheDeadAllTheSame: on a host that is overloaded for long, nothing is put off for ever.
func TestLoopThatIsAlwaysLateJudgesTheDeadAllTheSame(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	pairs, _ := b.lease(t0, due(1))
	now, late := t0, 3*second
	for b.sessions[1] != 0 {
		now = b.nextTick() + late
		b.step(now, overslept{late})
		if now > t0+600*second {
			t.Fatal("a silent worker is still admitted after 600 s")
		}
	}
	for now < t0+600*second {
		now = b.nextTick() + late
		if fx := b.step(now, overslept{late}); fx.commit != nil {
			equal(t, "commit", fx.commit, []Report{{Pair: pairs[0], Act: Yield}})
			return
		}
	}
	t.Fatal("a lease of a worker that is gone is not given up")
}

func TestNobodyWasSilentWhileWeWereDeaf(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	fx := b.step(t0+21*second, overslept{20 * second})
	if fx.hangUp != nil || fx.end != nil {
		t.Errorf("hang up %v, end %v; want neither for a worker that could not be heard", fx.hangUp, fx.end)
	}
	fx = b.step(t0 + 37*second)
	if len(fx.hangUp) != 1 {
		t.Errorf("hang up %v, want the worker given up that stayed silent when we could hear it", fx.hangUp)
	}
}

func TestResultThatCameWhileWeWereStoppedCountsThoughItsLeaseIsOver(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	pairs, _ := b.lease(t0, due(1))
	if fx := b.step(t0+200*second, overslept{199 * second}); fx.commit != nil {
		t.Fatalf("commit %+v before the sockets were read", fx.commit)
	}
	fx := b.step(t0+200*second, reported{session: 1, re: 1, reports: []Report{exitOf(pairs[0])}})
	equal(t, "commit", fx.commit, []Report{exitOf(pairs[0])})
}

func TestLeaseThatEndedWhileWeWereStoppedIsGivenUpOnceSocketsAreRead(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	pairs, _ := b.lease(t0, due(1))
	b.step(t0+200*second, overslept{199 * second})
	fx := b.step(t0 + 200*second + readFirst)
	equal(t, "commit", fx.commit, []Report{{Pair: pairs[0], Act: Yield}})
}

func TestResultsThatAWorkerMayHaveWaitingAreBoundInBytes(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 3)
	pairs, _ := b.lease(t0, due(1), due(2), due(3))
	var large []Report
	for _, p := range pairs {
		r := exitOf(p)
		r.Value = make([]byte, b.maxBytes/2)
		large = append(large, r)
	}
	fx := b.step(t0, reported{session: 1, re: 1, reports: large})
	if ack := firstSent[*protocol.Ack](t, fx); len(ack.Entries) != 1 || ack.Entries[0].State != protocol.AckLater {
		t.Fatalf("ack %+v, want the third put off", ack)
	}
	b.step(t0, verdicts(Applied, Applied))
	fx = b.step(t0+second, reported{session: 1, re: 2, reports: large[2:]})
	equal(t, "commit", len(fx.commit), 1)
}

func TestCallsThatWaitAreBoundInBytes(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	large := []Insert{{Kind: "k", Args: make([]byte, b.maxBytes/2+1)}}
	b.step(t0, called{session: 1, id: 1, inserts: large}) // in flight
	b.step(t0, called{session: 1, id: 2, inserts: large}) // waits
	fx := b.step(t0, called{session: 1, id: 3, inserts: large})
	if reply := firstSent[*protocol.Reply](t, fx); reply.Re != 3 || reply.Err == nil {
		t.Errorf("reply %+v, want the third call refused", reply)
	}
	for range 2 {
		b.step(t0, inserted{})
	}
	if b.callBytes != 0 {
		t.Errorf("%d bytes are on the account of calls that are answered", b.callBytes)
	}
}

func TestSilentSingleThreadedWorkerOnlyGetsNothingNew(t *testing.T) {
	b := newBench(t)
	b.step(t0, greeted{session: 1, worker: "w", kinds: []protocol.Kind{{Name: "k"}}, sync: true}, wanted{session: 1, n: 5})
	b.lease(t0, due(1))
	fx := b.step(t0+16*second, scanned{ScanResult: ScanResult{Candidates: []Candidate{due(2)}}})
	if fx.hangUp != nil || fx.lease != nil {
		t.Errorf("hang up %v, lease %v; want neither", fx.hangUp, fx.lease)
	}
	if fx := b.step(t0+17*second, heard{1}); len(fx.lease) != 1 {
		t.Error("nothing is leased for it after it was heard again")
	}
}

func TestNewerConnectionOfAWorkerWins(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	fx := b.connect(t0, 2, "w", 1)
	if len(fx.hangUp) != 1 || fx.hangUp[0].session != 1 || fx.hangUp[0].last.Code != protocol.CodeSuperseded {
		t.Errorf("hang up %+v, want session 1 superseded", fx.hangUp)
	}
}

func TestForeignSpawnKeyIsDenied(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	fx := b.step(t0, greeted{session: 2, worker: "other", key: "key of w"})
	if len(fx.hangUp) != 1 || fx.hangUp[0].last.Code != protocol.CodeDenied {
		t.Errorf("hang up %+v, want session 2 denied", fx.hangUp)
	}
}

func TestRestartedBrokerAdoptsWhatItsWorkersHold(t *testing.T) {
	b := newBench(t)
	held := Pair{strandID(1), Token{9}}
	fx := b.connect(t0, 1, "w", 1, hold{Pair: held, kind: "k"})
	equal(t, "renewed", fx.renew, []Pair{held})
	fx = b.step(t0, renewed{kept: []Kept{{Pair: held}}}, reported{session: 1, re: 3, reports: []Report{exitOf(held)}})
	equal(t, "commit", fx.commit, []Report{exitOf(held)})
}

func TestResultOfAFormerBrokersStrandIsCommitted(t *testing.T) {
	b := newBench(t)
	held := Pair{strandID(1), Token{9}}
	b.connect(t0, 1, "w", 1, hold{Pair: held, kind: "k", done: true})
	fx := b.step(t0, reported{session: 1, re: 3, reports: []Report{exitOf(held)}})
	equal(t, "commit", fx.commit, []Report{exitOf(held)})
	fx = b.step(t0, verdicts(Gone))
	equal(t, "ack", firstSent[*protocol.Ack](t, fx).Entries[0].State, protocol.AckGone)
}

func TestRefusedResultFailsItsStrand(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	pairs, _ := b.lease(t0, due(1))
	b.step(t0, reported{session: 1, re: 1, reports: []Report{exitOf(pairs[0])}})
	fx := b.step(t0, committed{verdicts: []Verdict{{State: Invalid, Why: "val: no JSON"}}})
	equal(t, "ack", firstSent[*protocol.Ack](t, fx).Entries[0].State, protocol.AckInvalid)
	if len(fx.commit) != 1 || fx.commit[0].Act != Fail || fx.commit[0].Failure.Message != "the result was refused: val: no JSON" {
		t.Errorf("commit %+v, want a failure that says why", fx.commit)
	}
}

func TestFloodOfForeignResultsIsPutOff(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	var stray []Report
	for n := range byte(b.maxHold + 5) {
		stray = append(stray, exitOf(Pair{strandID(n + 1), Token{n}}))
	}
	fx := b.step(t0, reported{session: 1, re: 1, reports: stray})
	if got := len(firstSent[*protocol.Ack](t, fx).Entries); got != 5 {
		t.Errorf("%d entries were put off, want the 5 above the bound", got)
	}
}

func TestLockedRowIsTriedAgainAloneWithoutHoldingUpOthers(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 2)
	pairs, _ := b.lease(t0, due(1), due(2))
	b.step(t0, reported{session: 1, re: 1, reports: []Report{exitOf(pairs[0]), exitOf(pairs[1])}})
	fx := b.step(t0, verdicts(Later, Applied))
	equal(t, "acked", len(firstSent[*protocol.Ack](t, fx).Entries), 1)
	if fx.commit != nil {
		t.Fatalf("commit %v at once", fx.commit)
	}
	fx = b.step(t0+lockedRetry, heard{1})
	equal(t, "commit", fx.commit, []Report{exitOf(pairs[0])})
}

func TestTwoReportsOfOneStrandNeverShareABatch(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	pairs, _ := b.lease(t0, due(1))
	save := Report{Pair: pairs[0], Seq: 1, Act: Save, Stack: []byte("[1]")}
	exit := Report{Pair: pairs[0], Seq: 2, Act: Exit}
	fx := b.step(t0, reported{session: 1, re: 1, reports: []Report{save, exit}})
	equal(t, "first batch", fx.commit, []Report{save})
	fx = b.step(t0, verdicts(Applied))
	equal(t, "second batch", fx.commit, []Report{exit})
}

func TestIdleBrokerScansEachFiveSecondsOnly(t *testing.T) {
	b := newBench(t)
	now := t0
	fx := b.connect(now, 1, "w", 1)
	scans := 0
	for now < t0+60*second {
		if fx.scan != nil {
			scans++
			fx = b.step(now, scanned{})
			continue
		}
		if fx.announce != nil {
			fx = b.step(now, announced{})
			continue
		}
		now = max(now+1, b.nextTick())
		fx = b.step(now, heard{1})
	}
	if scans > 14 {
		t.Errorf("%d scans in 60 s of idleness, want at most one in 5 s, and two at the start", scans)
	}
}

func TestHintScansAtOnce(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	b.step(t0, scanned{})
	b.step(t0+second, announced{})
	b.step(t0+second, scanned{})
	if fx := b.step(t0+2*second, hinted{}); fx.scan == nil || !fx.scan.Bottom || !fx.scan.Known {
		t.Errorf("scan %+v, want one of the known lanes from the bottom", fx.scan)
	}
}

func TestHintOfALaneHasTheLanesLoaded(t *testing.T) {
	for _, hint := range []Hint{{Lanes: true}, {Connected: true}} {
		b := newBench(t)
		b.connect(t0, 1, "w", 1)
		b.step(t0, scanned{})
		b.step(t0+second, announced{})
		b.step(t0+second, hinted{hint}) // while a scan is in flight
		if fx := b.step(t0+2*second, scanned{}); fx.scan == nil || !fx.scan.Bottom || fx.scan.Known {
			t.Errorf("%+v: scan %+v, want one that loads the lanes", hint, fx.scan)
		}
	}
}

func TestHintDuringAScanIsNotForgotten(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	b.step(t0, hinted{})
	if fx := b.step(t0+hintApart, scanned{}); fx.scan == nil {
		t.Error("no scan for a hint that came while one was in flight")
	}
}

func TestHintsThatComeTogetherShareAScan(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	b.step(t0, hinted{})
	fx := b.step(t0+1, scanned{})
	if fx.scan != nil || b.nextTick() != t0+hintApart {
		t.Errorf("scan %+v and next step after %v, want the next scan %v after the last", fx.scan, b.nextTick()-t0, time.Duration(hintApart))
	}
}

func TestNextDueStrandSetsTheTimer(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	b.step(t0, announced{})
	b.step(t0+hintApart, scanned{})
	b.step(t0+hintApart, scanned{ScanResult: ScanResult{NextDue: 300 * time.Millisecond}})
	if fx := b.step(t0 + int64(299*time.Millisecond)); fx.scan != nil {
		t.Fatal("scanned too early")
	}
	if fx := b.step(t0 + hintApart + int64(302*time.Millisecond)); fx.scan == nil {
		t.Error("no scan when the deferred strand is due")
	}
}

func TestNapOfOursIsScannedForInTime(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	b.step(t0, announced{})
	pairs, _ := b.lease(t0, due(1))
	b.step(t0, reported{session: 1, re: 1, reports: []Report{{Pair: pairs[0], Seq: 1, Act: Nap, Delay: 200 * time.Millisecond}}})
	b.step(t0, verdicts(Applied))
	b.scanner.flying = false
	if fx := b.step(t0 + int64(202*time.Millisecond)); fx.scan == nil {
		t.Error("no scan when the napper is due")
	}
}

// A backlog is no reason for inserters not to tell: other kinds may be idle. But what they tell of is behind it.
func TestHintBeforeABacklogIsNoReasonToBeginAtTheBottom(t *testing.T) {
	for _, c := range []struct {
		hint   Hint
		more   bool
		bottom bool
	}{{Hint{}, false, true}, {Hint{}, true, false}, {Hint{Lanes: true}, true, true}} {
		b := newBench(t)
		b.connect(t0, 1, "w", 100)
		b.step(t0+second, announced{})
		b.step(t0+second, scanned{})
		fx := b.step(t0+second+hintApart, scanned{ScanResult: ScanResult{More: c.more}}, hinted{c.hint})
		if b.scanner.busy || fx.scan == nil || fx.scan.Bottom != c.bottom {
			t.Errorf("%+v with more to come %t: busy %t, scan %+v; want bottom %t", c.hint, c.more, b.scanner.busy, fx.scan, c.bottom)
		}
	}
}

func TestStreamOfHintsMakesBusyAndItsEndIsWatchedUntilSettled(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 100)
	b.step(t0, announced{})
	for range busyAbove - 1 {
		b.step(t0, hinted{})
	}
	if fx := b.step(t0+rateWindow-1, heard{1}); fx.announce != nil {
		t.Fatalf("announce %+v before there were many hints", fx.announce)
	}
	b.step(t0+rateWindow-1, hinted{})
	fx := b.step(t0+rateWindow, heard{1})
	if fx.announce == nil || !fx.announce.Busy {
		t.Fatalf("announce %+v, want busy", fx.announce)
	}
	b.step(t0+rateWindow, announced{})
	fx = b.step(t0+rateWindow+second, heard{1})
	if fx.announce == nil || fx.announce.Busy {
		t.Fatalf("announce %+v, want busy withdrawn", fx.announce)
	}
	now := t0 + rateWindow + second
	b.step(now, announced{})
	if b.scanner.settleEnd != now+settleMost {
		t.Error("transactions that saw the busy flag are not watched for")
	}
	b.scanner.flying = true
	b.step(now, scanned{ScanResult: ScanResult{Settled: true}})
	if b.scanner.settleEnd != 0 {
		t.Error("the watch goes on after all of them are over")
	}
}

func TestDrainGivesBackWhatIsGrantedLateAndEndsWhenAllIsSettled(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 2)
	held, _ := b.lease(t0, due(1))
	b.scanner.flying = true
	pairs := b.step(t0, scanned{ScanResult: ScanResult{Candidates: []Candidate{due(2)}}}).lease
	fx := b.step(t0, draining{by: t0 + 30*second})
	equal(t, "sent", sent(fx, 1), []string{"drain"})
	fx = b.step(t0, leased{granted: strandsOf(pairs)})
	equal(t, "given back", fx.commit, []Report{{Pair: pairs[0], Act: Yield}})
	b.step(t0, verdicts(Applied))
	fx = b.step(t0, reported{session: 1, re: 1, reports: []Report{exitOf(held[0])}})
	if fx.finished {
		t.Fatal("finished before the last result is durable")
	}
	if fx = b.step(t0, verdicts(Applied)); !fx.finished {
		t.Error("not finished though nothing is held")
	}
}

func TestDrainEndsThoughAWorkerDoesNot(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	pairs, _ := b.lease(t0, due(1))
	b.step(t0, draining{by: t0 + 3*second})
	fx := b.step(t0+4*second, heard{1})
	equal(t, "given back", fx.commit, []Report{{Pair: pairs[0], Act: Yield}})
	if fx = b.step(t0+4*second, verdicts(Applied)); !fx.finished {
		t.Error("not finished though all is given back")
	}
}

func TestPayloadCreditHoldsBackMore(t *testing.T) {
	b := newBench(t)
	b.step(t0, greeted{session: 1, worker: "w", kinds: []protocol.Kind{{Name: "k"}}}, wanted{session: 1, n: 10, bytes: 1000})
	var big []Candidate
	for n := range byte(5) {
		c := due(n + 1)
		c.Bytes = 600
		big = append(big, c)
	}
	fx := b.step(t0, scanned{ScanResult: ScanResult{Candidates: big}})
	if len(fx.lease) != 2 {
		t.Errorf("leased %d strands of 600 bytes for a worker that takes 1000, want 2", len(fx.lease))
	}
}

func TestInsertsOutsideRunsGoOneByOneAndNotTooManyWait(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 0)
	var calls []event
	for id := range uint64(mostCalls + 2) {
		calls = append(calls, called{session: 1, id: id})
	}
	fx := b.step(t0, calls...)
	if fx.call == nil || fx.call.id != 0 {
		t.Fatalf("insert %+v, want the first call", fx.call)
	}
	if late := firstSent[*protocol.Reply](t, fx); late.Re != mostCalls || late.Err.RetryMS == 0 {
		t.Errorf("reply %+v, want call %d put off", late, mostCalls)
	}
	if fx := b.step(t0, draining{by: t0}); fx.call != nil || fx.finished {
		t.Errorf("insert %+v, finished %v; want neither while one is in flight", fx.call, fx.finished)
	}
	if fx := b.step(t0, inserted{}); fx.call == nil || fx.call.id != 1 {
		t.Errorf("insert %+v, want the second call", fx.call)
	}
}

func TestTagsAndNamesCountInAFrame(t *testing.T) {
	b := newBench(t)
	b.maxFrame, b.maxHold, b.maxBytes, b.maxBatch = 256<<10, 200, 64<<20, 200
	b.connect(t0, 1, "w", 200)
	var candidates []Candidate
	for n := range byte(200) {
		candidates = append(candidates, due(n+1))
	}
	granted := strandsOf(b.step(t0, scanned{ScanResult: ScanResult{Candidates: candidates}}).lease)
	name := strings.Repeat("n", protocol.MaxName)
	for i := range granted {
		granted[i].Label, granted[i].Queue, granted[i].Tenant = name, name, name
		granted[i].Tags = slices.Repeat([]string{name}, i%2*100)
	}
	handed := 0
	for _, send := range b.step(t0, leased{granted: granted}).send {
		frame, err := protocol.Append(nil, send.message)
		if err != nil {
			t.Fatal(err)
		}
		if len(frame) > b.maxFrame {
			t.Errorf("a frame of %d bytes, its reader takes %d", len(frame), b.maxFrame)
		}
		if m, ok := send.message.(*protocol.Strands); ok {
			handed += len(m.Strands)
		}
	}
	if handed != len(granted) {
		t.Errorf("%d strands are handed out, want %d", handed, len(granted))
	}
}

// TestHeartbeatGoesOnThroughADrainAndWhileNothingElseDoes: leases are renewed and the broker is announced whatever work is or
// is not given out, so that nobody takes what workers still finish for lost.
func TestHeartbeatGoesOnThroughADrainAndWhileNothingElseDoes(t *testing.T) {
	for name, prepare := range map[string]func(b *bench){
		"at work":    func(*bench) {},
		"in a drain": func(b *bench) { b.step(t0+second, draining{by: t0 + 1000*second}) },
		"while a scan and a lease hang": func(b *bench) {
			b.scanner.flying = true
			if fx := b.step(t0, scanned{ScanResult: ScanResult{Candidates: []Candidate{due(3)}}}); len(fx.lease) != 1 {
				t.Fatal("no lease is asked for")
			}
			b.scanner.flying = true
		},
	} {
		b := newBench(t)
		b.connect(t0, 1, "w", 3)
		held, _ := b.lease(t0, due(1), due(2))
		b.step(t0, announced{})
		prepare(b)
		var renewals, announcements int
		for at := t0 + second; at < t0+300*second; at += second {
			fx := b.step(at, heard{1})
			if slices.ContainsFunc(fx.renew, func(p Pair) bool { return p == held[0] }) {
				renewals++
			}
			if len(fx.renew) > 0 {
				var kept []Kept
				for _, p := range fx.renew {
					kept = append(kept, Kept{Pair: p})
				}
				b.step(at, renewed{kept: kept})
			}
			if fx.announce != nil {
				announcements++
				b.step(at, announced{})
			}
		}
		if renewals < 5 {
			t.Errorf("%s: the lease of 120 s was renewed %d times in 300 s", name, renewals)
		}
		if least := int(300 * time.Second / announceTTL); announcements < least {
			t.Errorf("%s: the broker was announced %d times in 300 s, for %v each time", name, announcements, announceTTL)
		}
		if len(b.runs) == 0 {
			t.Errorf("%s: what the worker held is given up", name)
		}
	}
}
