package broker

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/respirated/respirated/protocol"
)

// backlog is a database with an order in which strands are found, and a cursor for each kind, as Store wants it.
type backlog struct {
	due    []Candidate // in the order of their start
	leased map[ID]bool
	passed map[string]int // by kind
	walked map[string]int // by kind: scans from the bottom
}

func newBacklog() *backlog {
	return &backlog{leased: map[ID]bool{}, passed: map[string]int{}, walked: map[string]int{}}
}

func (d *backlog) add(kind string, n int, alone bool) {
	for range n {
		c := Candidate{Kind: kind, Priority: 5, Alone: alone}
		binary.BigEndian.PutUint32(c.ID[:], uint32(len(d.due)+1))
		d.due = append(d.due, c)
	}
}

func (d *backlog) scan(req *ScanRequest) (r ScanResult) {
	if req.Bottom {
		clear(d.passed)
		for _, kind := range req.Kinds {
			d.walked[kind]++
		}
	}
	for i := 0; i < len(d.due) && len(r.Candidates) < req.Limit; i++ {
		c := d.due[i]
		if !d.leased[c.ID] && i >= d.passed[c.Kind] && slices.Contains(req.Kinds, c.Kind) {
			r.Candidates = append(r.Candidates, c)
			d.passed[c.Kind] = i + 1
		}
	}
	r.More = len(r.Candidates) == req.Limit
	return r
}

func served(kinds ...string) (all []protocol.Kind) {
	for _, kind := range kinds {
		all = append(all, protocol.Kind{Name: kind})
	}
	return all
}

// work lets time pass over d and a schedule with one worker, on session 1, whose runs take as long as run. It returns how many
// strands of each kind have ended.
func (b *bench) work(d *backlog, fx effects, lasts, run int64) map[string]int {
	ended := map[string]int{}
	var held []Pair // in order of their end
	var ends []int64
	for now := t0; now < t0+lasts; {
		var evs []event
		if fx.scan != nil {
			evs = append(evs, scanned{ScanResult: d.scan(fx.scan)})
		}
		if fx.announce != nil {
			evs = append(evs, announced{})
		}
		if fx.lease != nil {
			granted := strandsOf(fx.lease)
			for i, p := range fx.lease {
				granted[i].Kind, d.leased[p.ID] = b.runs[p.ID].kind, true
				held, ends = append(held, p), append(ends, now+run)
			}
			evs = append(evs, leased{granted: granted})
		}
		if fx.commit != nil {
			var c committed
			for _, r := range fx.commit {
				ended[b.runs[r.ID].kind]++
				c.verdicts = append(c.verdicts, Verdict{State: Applied})
			}
			evs = append(evs, c)
		}
		if evs == nil {
			now = max(now, b.nextTick())
			if len(ends) > 0 && ends[0] <= now {
				now = ends[0]
				evs = append(evs, reported{session: 1, re: 1, reports: []Report{exitOf(held[0])}})
				held, ends = held[1:], ends[1:]
			} else {
				evs = append(evs, heard{1})
			}
		}
		fx = b.step(now, evs...)
	}
	return ended
}

func TestIdleKindDoesNotHoldUpTheBacklogOfAnother(t *testing.T) {
	b, d := newBench(t), newBacklog()
	d.add("loaded", 3000, false)
	fx := b.step(t0, greeted{session: 1, worker: "w", kinds: served("idle", "loaded")}, wanted{session: 1, n: 1})
	if got := b.work(d, fx, 20*second, second/100)["loaded"]; got < 1990 {
		t.Errorf("%d strands of 10 ms ended in 20 s, want the slot busy all the time", got)
	}
}

// Only a scan from the bottom finds the lanes that are new, and the queues that were paused or resumed.
func TestIdleKindDoesNotTakeTheScansFromTheBottomOfAnother(t *testing.T) {
	b, d := newBench(t), newBacklog()
	d.add("loaded", 10_000, false)
	fx := b.step(t0, greeted{session: 1, worker: "w", kinds: served("idle", "loaded")}, wanted{session: 1, n: 1})
	b.work(d, fx, 60*second, second/100)
	if got := d.walked["loaded"]; got < 10 {
		t.Errorf("%d scans from the bottom in 60 s for the kind with a backlog, want one each %v", got, b.scanEvery)
	}
}

// Each such scan begins at the lane's floor again, and asks for all lanes.
func TestKindsWithBacklogsAreNotScannedFromTheBottomAllTheTime(t *testing.T) {
	b, d := newBench(t), newBacklog()
	for range 300 {
		d.add("fast", 50, false)
		d.add("also fast", 50, false)
	}
	fx := b.step(t0, greeted{session: 1, worker: "w", kinds: served("idle", "fast", "also fast")}, wanted{session: 1, n: 1})
	b.work(d, fx, 60*second, second/200)
	for kind, got := range d.walked {
		if got > 40 {
			t.Errorf("%d scans from the bottom in 60 s for %q, want one or a few each %v", got, kind, b.scanEvery)
		}
	}
}

func TestManyStrandsThatMustRunAloneDoNotHideTheOthers(t *testing.T) {
	b, d := newBench(t), newBacklog()
	b.connect(t0, 1, "w", 5)
	b.lease(t0, due(200)) // takes its time, and so long nothing can run alone
	d.add("k", 500, true)
	d.add("k", 1, false)
	b.scanner.flying = false
	if b.work(d, b.step(t0, hinted{}), 20*second, second); !b.buffer.has(d.due[500].ID) {
		t.Error("the first strand behind 500 that must run alone has not been found within 20 s")
	}
}

func TestBacklogOfManyKindsIsNotTakenIntoMemory(t *testing.T) {
	b, d := newBench(t), newBacklog()
	var kinds []string
	for i := range 15 {
		kinds = append(kinds, fmt.Sprint("kind ", i))
		d.add(kinds[i], 10_000, false)
	}
	fx := b.step(t0, greeted{session: 1, worker: "w", kinds: served(kinds...)}, wanted{session: 1, n: 1})
	b.work(d, fx, second/10, second)
	if got, most := b.buffer.len(), len(kinds)*b.ahead(); got > most {
		t.Errorf("%d candidates at hand, want at most %d", got, most)
	}
}

func TestNapThatCommitsDuringAScanIsScannedForInTime(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	b.step(t0, announced{})
	pairs, _ := b.lease(t0, due(1))
	b.step(t0 + hintApart)
	if !b.scanner.flying {
		t.Fatal("no scan is in flight")
	}
	b.step(t0, reported{session: 1, re: 1, reports: []Report{{Pair: pairs[0], Seq: 1, Act: Nap, Delay: 200 * time.Millisecond}}})
	b.step(t0, verdicts(Applied))
	b.step(t0+hintApart+1, scanned{})
	if at := b.nextTick(); at > t0+int64(201*time.Millisecond) {
		t.Errorf("the next step is after %v, want one when the napper is due", time.Duration(at-t0))
	}
	if fx := b.step(t0 + int64(202*time.Millisecond)); fx.scan == nil {
		t.Error("no scan when the napper is due")
	}
}

// idleAndLoaded is a schedule with a worker for each of two kinds, of which "loaded" has more at hand than it needs, and
// more to come. Both have been scanned for from the bottom.
func idleAndLoaded(t *testing.T) *bench {
	b := newBench(t)
	b.step(t0, greeted{session: 1, worker: "i", key: "i", kinds: served("idle")}, wanted{session: 1, n: 1},
		greeted{session: 2, worker: "l", key: "l", kinds: served("loaded")}, wanted{session: 2, n: 1}, announced{})
	loaded := ScanResult{More: true}
	for n := range byte(leastAhead) {
		loaded.Candidates = append(loaded.Candidates, Candidate{ID: strandID(n + 1), Kind: "loaded", Priority: 5})
	}
	fx := b.step(t0, scanned{ScanResult: loaded})
	if fx.scan == nil || !slices.Equal(fx.scan.Kinds, []string{"idle"}) {
		t.Fatalf("scan %+v, want one for what is idle", fx.scan)
	}
	return b
}

// Busy is about hints of what is due. Those of a new lane still come, and the lane is known to no scan yet.
func TestNewLaneIsScannedAtOnceThoughInsertersNeedNotTell(t *testing.T) {
	b := idleAndLoaded(t)
	b.scanner.busy, b.scanner.since = true, t0+second
	fx := b.step(t0+second, scanned{ScanResult: ScanResult{More: true}}, hinted{Hint{Lanes: true}})
	if fx.scan == nil || !fx.scan.Bottom || fx.scan.Known {
		t.Errorf("scan %+v, want one that looks for lanes", fx.scan)
	}
}

func TestNewLaneOfAKindThatIsNotHungryIsScannedOnceItIs(t *testing.T) {
	b := idleAndLoaded(t)
	fx := b.step(t0+hintApart, scanned{}, hinted{Hint{Lanes: true}})
	if fx.scan == nil || !fx.scan.Bottom || slices.Contains(fx.scan.Kinds, "loaded") {
		t.Fatalf("scan %+v, want one for what is idle", fx.scan)
	}
	b.step(t0+hintApart, scanned{})
	b.buffer = newBuffer()
	fx = b.step(t0+hintApart+1, heard{2})
	if fx.scan == nil || !slices.Contains(fx.scan.Kinds, "loaded") || !fx.scan.Bottom || fx.scan.Known {
		t.Errorf("scan %+v, want one that looks for lanes of what is hungry now", fx.scan)
	}
}

// What was committed long after its schedule may be where scans for hints do not look any more: below the floors, or
// behind the backlog.
func TestHintOfWhatScansDoNotFindBringsARound(t *testing.T) {
	for name, c := range map[string]struct {
		hints int
		found ScanResult
		want  int64
	}{
		"all is found":           {1, ScanResult{Candidates: []Candidate{due(1)}}, 5 * second},
		"nothing is found":       {1, ScanResult{}, busyBottom},
		"less is found":          {2, ScanResult{Candidates: []Candidate{due(1)}}, busyBottom},
		"it is before a backlog": {1, ScanResult{Candidates: []Candidate{due(1), due(2)}, More: true}, busyBottom},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.connect(t0, 1, "w", 1)
			b.step(t0, announced{})
			b.step(t0, scanned{ScanResult: ScanResult{More: c.found.More}})
			b.scanner.flying, b.scanner.now = false, false
			hints := slices.Repeat([]event{hinted{}}, c.hints)
			if fx := b.step(t0+hintApart, hints...); fx.scan == nil || b.scanner.round {
				t.Fatalf("scan %+v, want one for the hint", fx.scan)
			}
			b.step(t0+hintApart, scanned{ScanResult: c.found})
			if got := b.scanner.bottomAt - t0; got != c.want {
				t.Errorf("the next round is after %v, want %v", time.Duration(got), time.Duration(c.want))
			}
		})
	}
}

// Inserters that saw the busy flag did not tell, however late they commit.
func TestRoundFollowsTheLastTransactionThatSawTheBusyFlag(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	b.step(t0, announced{}, scanned{})
	b.scanner.flying, b.scanner.now, b.scanner.settleEnd = true, false, t0+settleMost
	fx := b.step(t0+second, scanned{ScanResult: ScanResult{Settled: true}})
	if fx.scan == nil || !b.scanner.round {
		t.Errorf("scan %+v, want a round", fx.scan)
	}
}

// TestHintsOfKindsThatOthersServe make a broker neither busy nor look all the time; what is its own it finds soon.
func TestHintsOfKindsThatOthersServe(t *testing.T) {
	b := newBench(t)
	fx := b.connect(t0, 1, "w", 1)
	scans, now := 0, t0
	pass := func(until int64, found ...Candidate) (leased []Pair) {
		for ; now < until && leased == nil; now += int64(time.Millisecond) {
			evs := []event{hinted{}}
			if fx.scan != nil {
				evs, scans = append(evs, scanned{ScanResult: ScanResult{Candidates: found}}), scans+1
			}
			if fx.announce != nil {
				evs = append(evs, announced{})
				if fx.announce.Busy {
					t.Fatalf("busy after %v", time.Duration(now-t0))
				}
			}
			fx = b.step(now, evs...)
			leased = fx.lease
		}
		return leased
	}
	pass(t0 + 4*second)
	if scans > 150 {
		t.Errorf("%d scans in 4 s, want about one each 50 ms", scans)
	}
	began := now
	if pass(t0+5*second, due(1)) == nil || now-began > 2*vainApart {
		t.Errorf("a strand of its own is found after %v", time.Duration(now-began))
	}
}
