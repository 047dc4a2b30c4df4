package broker

import (
	"testing"
	"time"

	"github.com/respirated/respirated/protocol"
)

func suspect(n byte) Candidate {
	c := due(n)
	c.Alone = true
	return c
}

func TestWorkerIsFreeAgainWhenNothingNeedsItAlone(t *testing.T) {
	b := newBench(t)
	b.step(t0, greeted{session: 1, worker: "w", kinds: []protocol.Kind{{Name: "k"}}, sync: true}, wanted{session: 1, n: 5})
	b.lease(t0, due(1))
	b.step(t0, scanned{ScanResult: ScanResult{Candidates: []Candidate{suspect(2)}}})
	b.step(t0+16*second, heard{}) // silent: nobody serves the suspect now, and another host runs it
	fx := b.step(t0+17*second, heard{1}, scanned{ScanResult: ScanResult{Candidates: []Candidate{due(3)}}})
	if len(fx.lease) != 1 {
		t.Errorf("leased %v, want strand 3: no strand is left that the worker is kept free for", fx.lease)
	}
}

func TestHeldStrandIsNoLongerACandidateToRunAlone(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 5)
	pairs, _ := b.lease(t0, due(1))
	b.step(t0, scanned{ScanResult: ScanResult{Candidates: []Candidate{suspect(2)}}})
	b.connect(t0, 2, "v", 0, hold{Pair: Pair{strandID(2), Token{9}}, kind: "k"})
	b.step(t0, reported{session: 1, re: 1, reports: []Report{exitOf(pairs[0])}}, renewed{kept: []Kept{{Pair: Pair{strandID(2), Token{9}}}}})
	if fx := b.step(t0, verdicts(Applied)); fx.lease != nil {
		t.Errorf("leased %v, want nothing: a worker holds it", fx.lease)
	}
}

func TestNoClassOfWorkersFillsEveryLease(t *testing.T) {
	b := newBench(t)
	for i, kind := range []string{"a", "b"} {
		b.step(t0, greeted{session: sessionID(i + 1), worker: kind, kinds: served(kind)}, wanted{session: sessionID(i + 1), n: 100})
	}
	var all []Candidate
	for n := range byte(60) {
		all = append(all, Candidate{ID: strandID(n + 1), Kind: "a", Priority: 5})
	}
	all = append(all, Candidate{ID: strandID(100), Kind: "b", Priority: 1})
	fx := b.step(t0, scanned{ScanResult: ScanResult{Candidates: all}})
	fx = b.step(t0, leased{granted: strandsOf(fx.lease)})
	if fx.lease[0].ID != strandID(100) {
		t.Errorf("leased %v second, want the other class first in its turn", fx.lease)
	}
}

// shortRuns connects workers with 2 slots each, whose runs are so short that each wants 20 strands.
func (b *bench) shortRuns(workers int) {
	for i := range workers {
		session := sessionID(i + 1)
		b.connect(t0, session, string(rune('a'+i)), 2)
		b.step(t0, wanted{session: session, n: 20})
	}
}

// leaseOf has so many strands found, and tells the shares in the lease that follows.
func (b *bench) leaseOf(found byte) map[sessionID]int {
	var candidates []Candidate
	for n := range found {
		candidates = append(candidates, due(n+1))
	}
	return b.sharesOf(b.step(t0, scanned{ScanResult: ScanResult{Candidates: candidates}}).lease)
}

// sharesOf tells how many of the strands that are leased are each session's.
func (b *bench) sharesOf(lease []Pair) map[sessionID]int {
	shares := map[sessionID]int{}
	for _, p := range lease {
		shares[b.workers[b.runs[p.ID].worker].session]++
	}
	return shares
}

func TestShortRunsOfABacklogGoToOneWorkerAfterAnother(t *testing.T) {
	b := newBench(t)
	b.shortRuns(3)
	equal(t, "lease", b.leaseOf(50), map[sessionID]int{1: 10})
	for _, next := range []sessionID{2, 3, 1, 2} {
		fx := b.step(t0, leased{granted: strandsOf(b.leasing)})
		equal(t, "lease", b.sharesOf(fx.lease), map[sessionID]int{next: 10})
	}
}

func TestShortRunsWithoutABacklogWaitBehindNobody(t *testing.T) {
	b := newBench(t)
	b.shortRuns(4)
	equal(t, "lease", b.leaseOf(8), map[sessionID]int{1: 2, 2: 2, 3: 2, 4: 2})
}

func TestLongRunsAreSpreadEvenlyOverWorkers(t *testing.T) {
	b := newBench(t)
	for i := range 5 {
		b.connect(t0, sessionID(i+1), string(rune('a'+i)), 100)
	}
	equal(t, "lease", b.leaseOf(50), map[sessionID]int{1: 2, 2: 2, 3: 2, 4: 2, 5: 2})
}

func TestEveryWorkerOfAProcessDiesWithIt(t *testing.T) {
	b := newBench(t)
	for i, uuid := range []string{"before it executed another program", "after"} {
		session := sessionID(i + 1)
		b.step(t0, greeted{session: session, worker: uuid, key: "one key", kinds: served("k")}, wanted{session: session, n: 1})
		b.scanner.flying = true
		b.lease(t0, due(byte(i+1)))
		b.step(t0, parted{session})
	}
	b.step(t0, exited{WorkerExit{Key: "one key", How: "signal: killed"}})
	if len(b.workers) != 0 {
		t.Errorf("%d workers are left, want none", len(b.workers))
	}
}

func TestWorkerIsAskedToEndOnceEachGrace(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	pairs, _ := b.lease(t0, due(1))
	b.step(t0, hinted{Hint{Cancel: true}})
	b.step(t0, renewed{kept: []Kept{{Pair: pairs[0], Cancel: true}}})
	asked := 0
	for now := t0; now < t0+45*second; now += second {
		asked += len(b.step(now, heard{1}).end)
	}
	if asked != 3 {
		t.Errorf("asked %d times in the 25 s after two graces, want 3", asked)
	}
}

func TestReportsOfAReturnedWorkerAreNotKeptTwice(t *testing.T) {
	b := newBench(t)
	former := exitOf(Pair{strandID(1), Token{9}})
	for session := sessionID(1); session <= 5; session++ {
		b.step(t0, greeted{session: session, worker: "w", kinds: served("k")}, reported{session: session, re: 1, reports: []Report{former}})
		b.step(t0, parted{session})
	}
	if n := b.snapshot(t0).Unsettled; n != 1 {
		t.Errorf("%d reports are kept, want 1 of which the worker sent 5 copies", n)
	}
	b.step(t0, verdicts(Gone))
	if len(b.workers) != 0 {
		t.Errorf("%d workers are remembered, want none", len(b.workers))
	}
}

// unrenewed lets time pass in which the database renews nothing.
func (b *bench) unrenewed(from, to int64, meanwhile event) {
	for now := from + second; now <= to; now += second {
		b.notRenewed(now, b.step(now, meanwhile))
	}
}

// notRenewed has a renewal that was asked for fail.
func (b *bench) notRenewed(now int64, fx effects) effects {
	if fx.renew != nil {
		b.step(now, renewed{err: ErrAway})
	}
	return fx
}

// TestProcessWhoseLeaseEndsIsKilledBeforeItDoes: where the database is away, and where the worker is.
func TestProcessWhoseLeaseEndsIsKilledBeforeItDoes(t *testing.T) {
	for _, c := range []struct {
		name string
		away event
		told []string
	}{
		{"connected", heard{1}, []string{"drain", "cancel"}},
		{"gone", parted{1}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.connect(t0, 1, "w", 2)
			pairs, _ := b.lease(t0, due(1), due(2))
			b.unrenewed(t0, t0+104*second, c.away)
			now := t0 + 106*second
			fx := b.notRenewed(now, b.step(now, c.away))
			equal(t, "told", sent(fx, 1), c.told)
			if len(fx.end) == 0 {
				t.Fatal("its process is not ended")
			}
			if by := now + int64(fx.end[0].within); fx.end[0].within <= 0 || by >= t0+120*second {
				t.Errorf("killed %v after the leases were asked for, want that before they end, after 120 s", time.Duration(by-t0))
			}
			if fx.commit != nil {
				t.Fatalf("commit %+v while its process lives, want nothing", fx.commit)
			}
			if fx = b.notRenewed(now+second, b.step(now+second, c.away)); len(fx.end) != 0 {
				t.Errorf("end %+v, want that asked once", fx.end)
			}
			fx = b.step(now+2*second, parted{1}, exited{WorkerExit{Key: "key of w", How: "signal: killed", Asked: true}})
			equal(t, "commit", fx.commit, []Report{{Pair: pairs[0], Act: Yield}, {Pair: pairs[1], Act: Yield}})
		})
	}
}

// TestResultOfARunWhoseLeaseIsOverIsStale: its strand is given back first.
func TestResultOfARunWhoseLeaseIsOverIsStale(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	pairs, _ := b.lease(t0, due(1))
	b.unrenewed(t0, t0+106*second, heard{1})
	fx := b.step(t0+107*second, reported{session: 1, re: 1, reports: []Report{exitOf(pairs[0])}})
	if len(fx.commit) == 0 || fx.commit[0].Act != Yield {
		t.Errorf("commit %+v, want the strand given back before its late result is looked at", fx.commit)
	}
}

// TestProcessOfSomebodyElseIsNotWaitedFor: we cannot end it, and only its lease holds its strand.
func TestProcessOfSomebodyElseIsNotWaitedFor(t *testing.T) {
	b := newBench(t)
	b.step(t0, greeted{session: 1, worker: "w", kinds: []protocol.Kind{{Name: "k"}}}, wanted{session: 1, n: 1})
	pairs, _ := b.lease(t0, due(1))
	b.unrenewed(t0, t0+104*second, heard{1})
	fx := b.step(t0+106*second, heard{1})
	equal(t, "commit", fx.commit, []Report{{Pair: pairs[0], Act: Yield}})
	equal(t, "told", sent(fx, 1), []string{"cancel"})
}

// greetIsolating connects a worker that wants the strands of kind k alone.
func (b *bench) greetIsolating(session sessionID, uuid string, n int) {
	b.step(t0, greeted{session: session, worker: uuid, key: "key of " + uuid, name: uuid, kinds: []protocol.Kind{{Name: "k", Isolate: true}, {Name: "l"}}},
		wanted{session: session, n: n})
}

// TestStrandsOfAnIsolatedKindHaveAProcessOfTheirOwn: however many slots it has.
func TestStrandsOfAnIsolatedKindHaveAProcessOfTheirOwn(t *testing.T) {
	b := newBench(t)
	b.greetIsolating(1, "v", 10)
	b.greetIsolating(2, "w", 10)
	other := due(4)
	other.Kind = "l"
	first := b.step(t0, scanned{ScanResult: ScanResult{Candidates: []Candidate{due(1), due(2), due(3), other}}}).lease
	if len(first) != 2 {
		t.Fatalf("asked to lease %v, want one strand for each of the two processes, and nothing beside", first)
	}
	holders := map[workerNo]bool{}
	for _, p := range first {
		holders[b.runs[p.ID].worker] = true
	}
	if len(holders) != 2 {
		t.Errorf("both went to one process")
	}
	b.step(t0, leased{granted: strandsOf(first)})
	fx := b.step(t0+second, reported{session: 1, re: 1, reports: []Report{exitOf(first[0])}}, reported{session: 2, re: 1, reports: []Report{exitOf(first[1])}})
	fx = b.step(t0+second, verdicts(Applied, Applied))
	if len(fx.lease) != 2 {
		t.Errorf("asked to lease %v, want the other two strands now", fx.lease)
	}
}

func TestAWorkerWithOtherStrandsGetsNoIsolatedOne(t *testing.T) {
	b := newBench(t)
	b.greetIsolating(1, "w", 10)
	other := due(1)
	other.Kind = "l"
	pairs, _ := b.lease(t0, other)
	fx := b.step(t0, scanned{ScanResult: ScanResult{Candidates: []Candidate{due(2)}}})
	if fx.lease != nil {
		t.Fatalf("asked to lease %v beside another strand", fx.lease)
	}
	b.step(t0+second, reported{session: 1, re: 1, reports: []Report{exitOf(pairs[0])}})
	if fx = b.step(t0+second, verdicts(Applied)); len(fx.lease) != 1 || fx.lease[0].ID != due(2).ID {
		t.Errorf("asked to lease %v, want the isolated strand once its worker is idle", fx.lease)
	}
}

// TestAStrandDoesNotGoOnAsAnIsolatedKindBesideOthers: it is leased anew, for a process of its own.
func TestAStrandDoesNotGoOnAsAnIsolatedKindBesideOthers(t *testing.T) {
	b := newBench(t)
	b.greetIsolating(1, "w", 10)
	one, two := due(1), due(2)
	one.Kind, two.Kind = "l", "l"
	pairs, _ := b.lease(t0, one, two)
	w := b.workers[b.sessions[1]]
	if r := b.runs[pairs[0].ID]; b.mayStay(t0, w, r, "k") || !b.mayStay(t0, w, r, "l") {
		t.Error("it may go on as the isolated kind, or may not as its own")
	}
}
