package broker

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/respirated/respirated/protocol"
)

func placed(n byte, label string) Candidate {
	return Candidate{ID: strandID(n), Kind: "k", Label: label, Priority: 5}
}

func found(all ...Candidate) scanned { return scanned{ScanResult: ScanResult{Candidates: all}} }

// build has a worker say hello, who has these labels of k; none = it does not say. It wants n strands.
func (b *bench) build(now int64, session sessionID, uuid string, n int, labels ...string) effects {
	return b.step(now,
		greeted{session: session, worker: uuid, key: "key of " + uuid, name: uuid, kinds: []protocol.Kind{{Name: "k", Labels: labels}}},
		wanted{session: session, n: n},
	)
}

// byWorker lists the first bytes of the strands that are to be leased, by worker.
func (b *bench) byWorker(pairs []Pair) map[string]string {
	all := map[string]string{}
	for _, p := range pairs {
		all[b.workers[b.runs[p.ID].worker].uuid] += fmt.Sprint(p.ID[0])
	}
	return all
}

func TestStrandGoesToAWorkerThatHasItsLabel(t *testing.T) {
	b := newBench(t)
	b.build(t0, 1, "old", 2, "start", "ship")
	b.build(t0, 2, "new", 2, "start", "pack")
	fx := b.step(t0, found(placed(1, "pack"), placed(2, "ship"), placed(3, "pack"), placed(4, "pack"), placed(5, "ship"), placed(6, "ship")))
	equal(t, "leased", b.byWorker(fx.lease), map[string]string{"old": "25", "new": "13"})
}

func TestWorkerThatTellsNoLabelsGetsStrandsAtAny(t *testing.T) {
	b := newBench(t)
	b.build(t0, 1, "other language", 2)
	fx := b.step(t0, found(placed(1, "pack"), placed(2, "ship")))
	equal(t, "leased", b.byWorker(fx.lease), map[string]string{"other language": "12"})
}

func TestStrandThatMustRunAloneGoesToAWorkerThatHasItsLabel(t *testing.T) {
	b := newBench(t)
	b.build(t0, 1, "old", 2, "ship")
	b.build(t0, 2, "new", 2, "pack")
	c := placed(1, "pack")
	c.Alone = true
	equal(t, "leased", b.byWorker(b.step(t0, found(c)).lease), map[string]string{"new": "1"})
}

// TestStrandAtALabelThatNobodyHasIsFoundWhenAWorkerBringsIt: until then it stays due, for other brokers, and nothing is leased.
func TestStrandAtALabelThatNobodyHasIsFoundWhenAWorkerBringsIt(t *testing.T) {
	b := newBench(t)
	b.build(t0, 1, "old", 2, "ship")
	fx := b.step(t0, found(placed(1, "pack"), placed(2, "ship")))
	equal(t, "leased", b.byWorker(fx.lease), map[string]string{"old": "2"})
	if !slices.Equal(fx.nobodys, []kindLabel{{"k", "pack"}}) {
		t.Errorf("the log is told of %v", fx.nobodys)
	}
	b.step(t0, leased{granted: []Strand{{ID: fx.lease[0].ID, Token: fx.lease[0].Token, Kind: "k", Label: "ship"}}})
	at := t0 + second
	for fx = b.step(at); fx.scan != nil; fx = b.step(at, found(placed(1, "pack"))) { // until it rests
		at += int64(20 * time.Millisecond)
	}
	fx = b.build(at+int64(20*time.Millisecond), 2, "new", 2, "pack")
	if fx.scan == nil || !fx.scan.Bottom {
		t.Fatalf("scan %+v when a worker comes, want one from the bottom", fx.scan)
	}
	equal(t, "leased", b.byWorker(b.step(at+second, found(placed(1, "pack"))).lease), map[string]string{"new": "1"})
}

// Before a backlog no hint leads below what has been scanned.
func TestStrandThatWasPassedOverIsFoundBesideABacklog(t *testing.T) {
	b := newBench(t)
	b.build(t0, 1, "old", 1, "ship")
	at := t0
	for fx := b.step(at, backlogFrom(0)); fx.scan != nil; fx = b.step(at, backlogFrom(at)) {
		at += int64(20 * time.Millisecond)
	}
	fx := b.build(at+int64(20*time.Millisecond), 2, "new", 1, "pack")
	if fx.scan == nil || !fx.scan.Bottom {
		t.Errorf("scan %+v when a worker comes, want one from the bottom", fx.scan)
	}
}

// backlogFrom is a full scan behind which there is more, with one strand to be passed over.
func backlogFrom(n int64) scanned {
	ev := found(placed(1, "pack"))
	for i := range 64 {
		c := placed(2, "ship")
		binary.BigEndian.PutUint64(c.ID[1:], uint64(n)+uint64(i))
		ev.Candidates = append(ev.Candidates, c)
	}
	ev.More = true
	return ev
}

func TestCandidatesAtALabelThatNobodyHasAnyMoreAreDropped(t *testing.T) {
	b := newBench(t)
	b.build(t0, 1, "old", 1, "ship")
	b.build(t0, 2, "new", 1, "pack")
	b.step(t0, found(placed(1, "pack"), placed(2, "pack"), placed(3, "ship"), placed(4, "ship")))
	b.step(t0, parted{2})
	if b.buffer.has(strandID(2)) || !b.buffer.has(strandID(4)) {
		t.Errorf("at hand %v, want strand 4 alone", b.buffer.have)
	}
}

// TestStrandsAtALabelThatNobodyHasAreNotInTheWay: those in front of what is due may be a few, not all that a scan may return.
func TestStrandsAtALabelThatNobodyHasAreNotInTheWay(t *testing.T) {
	b := newBench(t)
	b.build(t0, 1, "old", 1, "ship")
	var all []Candidate
	for n := range mostPassed + 1 {
		c := placed(0, "pack")
		c.ID[1], c.ID[2] = byte(n>>8), byte(n)
		all = append(all, c)
	}
	fx := b.step(t0, found(all...))
	last := all[mostPassed].ID
	if len(fx.lease) != 1 || fx.lease[0].ID != last {
		t.Fatalf("leased %v, want the surplus %v", fx.lease, last)
	}
	fx = b.step(t0, leased{granted: []Strand{{ID: last, Token: fx.lease[0].Token, Kind: "k", Label: "pack"}}})
	equal(t, "commit", fx.commit, []Report{{Pair: Pair{last, fx.commit[0].Token}, Act: Yield, Delay: parkTime}})
	if len(sent(fx, 1)) > 0 {
		t.Errorf("sent %v", sent(fx, 1))
	}
	fx = b.step(t0+second, verdicts(Applied), hinted{})
	if fx.take != nil {
		t.Error("a take, which would get what is passed over")
	}
	if fx.scan == nil || fx.scan.Limit < mostPassed+leastAhead {
		t.Errorf("scan %+v, want one that sees what is behind", fx.scan)
	}
}

func TestStrandWhoseLabelHasChangedSinceItWasFoundIsGivenBack(t *testing.T) {
	b := newBench(t)
	b.build(t0, 1, "old", 1, "ship")
	b.build(t0, 2, "new", 1, "pack")
	p := b.step(t0, found(placed(1, "ship"))).lease[0]
	fx := b.step(t0, leased{granted: []Strand{{ID: p.ID, Token: p.Token, Kind: "k", Label: "pack"}}})
	equal(t, "commit", fx.commit, []Report{yieldOf(p)})
}

func TestWhatIsTakenGoesToAWorkerThatHasItsLabel(t *testing.T) {
	for label, want := range map[string]string{"ship": "w", "pack": "new", "bill": ""} {
		b := idle(t, 1)
		b.build(t0+second, 2, "new", 3, "pack")
		b.build(t0+second, 1, "w", 3, "ship")
		b.step(t0+2*second, announced{})
		for b.scanner.flying {
			b.step(t0+2*second, scanned{})
		}
		fx := b.step(t0+3*second, hinted{})
		if fx.take == nil {
			t.Fatal("no take")
		}
		p := Pair{strandID(1), fx.take.tokens[0]}
		fx = b.step(t0+4*second, took{strands: []Strand{{ID: p.ID, Token: p.Token, Kind: "k", Label: label}}})
		if want == "" {
			equal(t, "commit", fx.commit, []Report{yieldOf(p)})
		} else if r := b.runs[p.ID]; r == nil || b.workers[r.worker].uuid != want {
			t.Errorf("a strand at %s is with %+v, want it with %s", label, r, want)
		}
	}
}

func TestChainEndsAtALabelThatItsWorkerDoesNotHave(t *testing.T) {
	for label, stays := range map[string]bool{"ship": true, "pack": false} {
		b := newBench(t)
		b.build(t0, 1, "old", 1, "start", "ship")
		b.build(t0, 2, "new", 1, "start", "pack")
		p := b.step(t0, found(placed(1, "ship"))).lease[0]
		b.step(t0, leased{granted: []Strand{{ID: p.ID, Token: p.Token, Kind: "k", Label: "ship"}}})
		fx := b.step(t0, reported{session: 1, re: 1, reports: []Report{{Pair: p, Seq: 1, Act: Hop, Label: label, Stay: true}}})
		if fx.commit[0].Stay != stays {
			t.Errorf("a hop to %s stays: %v, want %v", label, fx.commit[0].Stay, stays)
		}
	}
}

// TestLabelsOfABusyBuildDoNotHoldUpTheOther: all that is at hand is for the one, so the other is scanned for.
func TestLabelsOfABusyBuildDoNotHoldUpTheOther(t *testing.T) {
	b := newBench(t)
	b.build(t0, 1, "old", 1, "ship")
	b.build(t0, 2, "new", 1, "pack")
	var all []Candidate
	for n := range leastAhead {
		all = append(all, placed(byte(n+1), "pack"))
	}
	full := found(all...)
	full.More = true
	fx := b.step(t0, full)
	equal(t, "leased", b.byWorker(fx.lease), map[string]string{"new": "1"})
	if fx.scan == nil || !slices.Equal(fx.scan.Kinds, []string{"k"}) {
		t.Fatalf("scan %+v, want one for the other labels", fx.scan)
	}
	b.step(t0, leased{granted: []Strand{{ID: fx.lease[0].ID, Token: fx.lease[0].Token, Kind: "k", Label: "pack"}}})
	equal(t, "leased", b.byWorker(b.step(t0, found(placed(200, "ship"))).lease), map[string]string{"old": "200"})
}

// TestWhatIsCutIsFoundAgain: while one build is looked for, no more of the other's is kept than that needs; later it is.
func TestWhatIsCutIsFoundAgain(t *testing.T) {
	b := newBench(t)
	b.build(t0, 1, "old", 1, "ship")
	b.build(t0, 2, "new", 1, "pack")
	n, now := 0, t0
	more := func(many int) scanned {
		ev := found()
		for range many {
			c := placed(0, "pack")
			n++
			c.ID[1], c.ID[2] = byte(n>>8), byte(n)
			ev.Candidates = append(ev.Candidates, c)
		}
		ev.More = true
		return ev
	}
	b.step(now, announced{}, more(1))
	fx := b.step(now, leased{})
	for range 6 {
		now += second / 10
		if fx = b.step(now, more(leastAhead), leased{}); fx.scan == nil || fx.scan.Bottom {
			t.Fatalf("scan %+v, want the next one to go on behind", fx.scan)
		}
	}
	if got := b.buffer.countAt("k", "pack"); got <= leastAhead || got > 2*leastAhead {
		t.Errorf("%d candidates are kept, want %d at most", got, 2*leastAhead)
	}
	b.scanner.bottomAt = now + 100*second
	for id := range b.buffer.have {
		if b.buffer.countAt("k", "pack") >= leastAhead/2 {
			b.buffer.discard(id)
		}
	}
	if fx = b.step(now, found()); fx.scan == nil || !fx.scan.Bottom {
		t.Errorf("scan %+v, want one from the bottom", fx.scan)
	}
}

func TestServersCountsNoWorkerThatIsAwayOrDrains(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "here", 1)
	b.connect(t0, 2, "away", 1)
	b.connect(t0, 3, "drains", 1)
	equal(t, "of all", b.servers("k", "l", Queue{Name: "q"}), Servers{Kind: 3, Label: 3})
	b.lease(t0, due(1), due(2), due(3)) // or who parts would be forgotten
	b.step(t0, parted{session: 2})
	b.workerNamed("drains").draining = true
	equal(t, "of those that are left", b.servers("k", "l", Queue{Name: "q"}), Servers{Kind: 1, Label: 1})
	b.workerNamed("here").terms = Terms{Queues: []Queue{{Name: "other"}}}
	equal(t, "of a pool for other queues", b.servers("k", "l", Queue{Name: "q"}), Servers{Kind: 1, OtherQueues: 1})
	b.workerNamed("here").terms = Terms{Queues: []Queue{{Name: "q"}}, Paused: true}
	equal(t, "of a paused pool", b.servers("k", "l", Queue{Name: "q"}), Servers{Kind: 1, Paused: 1})
	equal(t, "of a paused pool for other queues", b.servers("k", "l", Queue{"acme", "q"}), Servers{Kind: 1, OtherQueues: 1})
	equal(t, "of another kind", b.servers("other", "l", Queue{}), Servers{})
}
