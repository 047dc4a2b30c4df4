package broker

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/respirated/respirated/protocol"
)

// chained is a hop that asks to go on under its lease.
func chained(p Pair, seq uint64) Report {
	return Report{Pair: p, Seq: seq, Act: Hop, Label: "next", Stay: true}
}

// stayed is the answer to one such report.
func stayed(in *Inbox) committed {
	return committed{verdicts: []Verdict{{State: Applied, Stays: true, Inbox: in}}}
}

// atWork has worker w run strand 1, and wants no more than that.
func (b *bench) atWork() Pair {
	b.t.Helper()
	b.connect(t0, 1, "w", 1)
	pairs, _ := b.lease(t0, due(1))
	return pairs[0]
}

func TestChainGoesOnUnderItsLease(t *testing.T) {
	b := newBench(t)
	p := b.atWork()
	end := b.runs[p.ID].leaseEnd
	fx := b.step(t0+second, reported{session: 1, re: 7, reports: []Report{chained(p, 1)}}, scanned{ScanResult: ScanResult{Candidates: []Candidate{due(2)}}})
	equal(t, "commit", fx.commit, []Report{chained(p, 1)})
	if len(fx.send) != 0 {
		t.Errorf("sent %v before the step is stored", fx.send)
	}
	in := &Inbox{Semaphores: []Semaphore{{ID: 3, Name: "n", Value: []byte("1"), Sent: time.UnixMilli(4)}}, Ended: []Ended{{ID: strandID(9), Kind: "c", State: "done"}}, Left: 2, More: true}
	fx = b.step(t0+second, stayed(in))
	strand, token := p.text()
	equal(t, "ack", firstSent[*protocol.Ack](t, fx), &protocol.Ack{Re: 7, Entries: []protocol.AckEntry{{
		Strand: strand, Token: token, Seq: 1, State: protocol.AckApplied, Next: protocol.NextGo,
		Inbox: &protocol.Inbox{
			Semaphores: []protocol.Semaphore{{ID: 3, Name: "n", Value: []byte("1"), SentMS: 4}},
			Ended:      []protocol.Ended{{Strand: strandID(9).String(), Kind: "c", State: "done"}}, Left: 2, More: true,
		},
	}}})
	if fx.lease != nil || b.workerNamed("w").held != 1 {
		t.Errorf("leased %v, held %d; the slot is taken", fx.lease, b.workerNamed("w").held)
	}
	if r := b.running(p); r == nil || r.leaseEnd != end {
		t.Errorf("run %+v, want it at work until %d as before", r, end)
	}
	last := exitOf(p)
	last.Seq = 2
	equal(t, "last commit", b.step(t0+2*second, reported{session: 1, re: 8, reports: []Report{last}}).commit, []Report{last})
	if fx := b.step(t0+2*second, verdicts(Applied)); len(fx.lease) != 1 {
		t.Errorf("leased %v once the chain has ended, want the strand that waited", fx.lease)
	}
}

func (b *bench) workerNamed(uuid string) *worker { return b.workers[b.byUUID[uuid]] }

// TestChainEndsWhereSomethingSpeaksAgainstIt: the step is stored as any hop, without staying.
func TestChainEndsWhereSomethingSpeaksAgainstIt(t *testing.T) {
	others := scanned{ScanResult: ScanResult{Candidates: []Candidate{due(2)}}}
	for name, c := range map[string]struct {
		before []event
		after  time.Duration
		kind   string
		stays  bool
	}{
		"nothing does":                        {stays: true},
		"kind is served":                      {kind: "other", stays: true},
		"kind is not served":                  {kind: "nobody's"},
		"lease is used up to a quarter":       {after: 30 * time.Second},
		"lease is not used up to a quarter":   {after: 29 * time.Second, stays: true},
		"others wait and it has had a second": {before: []event{others}, after: time.Second},
		"others wait and it has had less":     {before: []event{others}, after: 999 * time.Millisecond, stays: true},
		"a suspect waits for the worker":      {before: []event{scanned{ScanResult: ScanResult{Candidates: []Candidate{suspect(2)}}}}, after: time.Second},
		"broker drains":                       {before: []event{draining{by: t0 + 60*second}}},
		"worker wants fewer":                  {before: []event{wanted{session: 1, n: 0}}},
		"process has ended":                   {before: []event{exited{WorkerExit{Key: "key of w"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.step(t0, greeted{session: 1, worker: "w", key: "key of w", kinds: served("k", "other")}, wanted{session: 1, n: 1})
			pairs, _ := b.lease(t0, due(1))
			b.scanner.flying = true
			b.step(t0, c.before...)
			hop := chained(pairs[0], 1)
			hop.Kind = c.kind
			fx := b.step(t0+int64(c.after), reported{session: 1, re: 7, reports: []Report{hop}})
			hop.Stay = c.stays
			equal(t, "commit", fx.commit, []Report{hop})
		})
	}
}

func TestChainEndsWhenTheRunHasBeenAskedToStop(t *testing.T) {
	b := newBench(t)
	p := b.atWork()
	b.step(t0, hinted{Hint{Cancel: true}})
	b.step(t0, renewed{kept: []Kept{{Pair: p, Cancel: true}}})
	if fx := b.step(t0, reported{session: 1, re: 7, reports: []Report{chained(p, 1)}}); fx.commit[0].Stay {
		t.Error("a cancelled run may stay")
	}
}

func TestWorkerCannotStayWithWhatIsNotItsOwn(t *testing.T) {
	b := newBench(t)
	p := b.atWork()
	b.connect(t0, 2, "v", 1)
	if fx := b.step(t0, reported{session: 2, re: 1, reports: []Report{chained(p, 1)}}); fx.commit[0].Stay {
		t.Error("a worker may stay with another's strand")
	}
}

// TestNothingStaysHeldByTheDeadWhenAChainBreaks: what comes between the report and its verdict leaves a lease that nobody uses.
func TestNothingStaysHeldByTheDeadWhenAChainBreaks(t *testing.T) {
	again := func(p Pair, holds ...hold) []event {
		return []event{parted{1}, greeted{session: 2, worker: "w", key: "key of w", kinds: served("k"), hold: holds}, wanted{session: 2, n: 1}}
	}
	for name, c := range map[string]struct {
		between func(p Pair) []event
		verdict committed
		after   time.Duration
		yields  bool
	}{
		"nothing":                       {},
		"connection ends":               {between: func(Pair) []event { return []event{parted{1}} }, yields: true},
		"worker is back, and forgot it": {between: func(p Pair) []event { return again(p) }, yields: true},
		"worker is back, and sends it later": {between: func(p Pair) []event {
			return again(p, hold{Pair: p, kind: "k", done: true})
		}, yields: true},
		"worker is back, and has sent it again": {between: func(p Pair) []event {
			return append(again(p, hold{Pair: p, kind: "k", done: true}), reported{session: 2, re: 1, reports: []Report{chained(p, 1)}})
		}},
		"process ends":               {between: func(Pair) []event { return []event{exited{WorkerExit{Key: "key of w"}}} }, yields: true},
		"process and connection end": {between: func(Pair) []event { return []event{parted{1}, exited{WorkerExit{Key: "key of w"}}} }, yields: true},
		"broker drains":              {between: func(Pair) []event { return []event{draining{by: t0 + 60*second}} }, yields: true},
		"lease ends":                 {after: 106 * time.Second, yields: true},
		"answer was lost":            {verdict: verdicts(Dup), yields: true},
		"somebody cancelled it":      {verdict: verdicts(Applied)},
		"lease was lost":             {verdict: verdicts(Stale)},
		"somebody deleted it":        {verdict: verdicts(Gone)},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			p := b.atWork()
			b.step(t0, reported{session: 1, re: 7, reports: []Report{chained(p, 1)}})
			if c.between != nil {
				b.step(t0, c.between(p)...)
			}
			if c.verdict.verdicts == nil {
				c.verdict = stayed(nil)
			}
			now := t0 + int64(c.after)
			fx := b.step(now, heard{1}, c.verdict)
			goes := c.verdict.verdicts[0].Stays && !c.yields
			if (b.running(p) != nil) != goes {
				t.Errorf("run %+v, want it at work: %t", b.runs[p.ID], goes)
			}
			for _, m := range fx.send {
				if ack, ok := m.message.(*protocol.Ack); ok && (ack.Entries[0].Next == protocol.NextGo) != goes {
					t.Errorf("ack %+v, want go: %t", ack.Entries[0], goes)
				}
			}
			yields := slices.EqualFunc(fx.commit, []Report{yieldOf(p)}, func(a, b Report) bool { return a.Act == b.Act && a.Pair == b.Pair })
			if yields != c.yields {
				t.Errorf("commit %+v, want what is still leased given back: %t", fx.commit, c.yields)
			}
			if goes {
				return
			}
			if yields {
				b.step(now, verdicts(Applied))
			}
			if len(b.runs) != 0 {
				t.Errorf("runs %+v are left", b.runs)
			}
			if w := b.workerNamed("w"); w != nil && w.held != 0 {
				t.Errorf("the worker holds %d", w.held)
			}
		})
	}
}

func TestGoThatWasLostIsNotSaidTwice(t *testing.T) {
	b := newBench(t)
	p := b.atWork()
	b.step(t0, reported{session: 1, re: 7, reports: []Report{chained(p, 1)}})
	b.step(t0, stayed(nil)) // the connection ends before the worker reads it
	b.step(t0, parted{1})
	b.connect(t0, 2, "w", 1, hold{Pair: p, kind: "k", done: true})
	b.step(t0, reported{session: 2, re: 1, reports: []Report{chained(p, 1)}})
	fx := b.step(t0, verdicts(Dup))
	if e := firstSent[*protocol.Ack](t, fx).Entries[0]; e.State != protocol.AckDup || e.Next != "" {
		t.Errorf("ack %+v, want a copy that is not gone on after", e)
	}
	equal(t, "commit", fx.commit, []Report{yieldOf(p)})
}

func TestChainOfAFormerBrokerIsGivenBack(t *testing.T) {
	b := newBench(t)
	p := Pair{strandID(1), Token{9}}
	b.connect(t0, 1, "w", 1, hold{Pair: p, kind: "k", done: true})
	if fx := b.step(t0, reported{session: 1, re: 1, reports: []Report{chained(p, 1)}}); fx.commit[0].Stay {
		t.Fatal("a run that we do not know may stay")
	}
	equal(t, "commit", b.step(t0, verdicts(Dup)).commit, []Report{yieldOf(p)})
	b.step(t0, verdicts(Applied))
	if !b.commits.empty() || len(b.runs) != 0 {
		t.Errorf("%+v and runs %v are left", b.commits, b.runs)
	}
}

func TestAdoptedRunDoesNotStay(t *testing.T) {
	b := newBench(t)
	p := Pair{strandID(1), Token{9}}
	b.connect(t0, 1, "w", 1, hold{Pair: p, kind: "k"})
	b.step(t0, renewed{kept: []Kept{{Pair: p}}})
	if fx := b.step(t0, reported{session: 1, re: 1, reports: []Report{chained(p, 4)}}); fx.commit[0].Stay {
		t.Error("it may stay, though nobody knows how long its worker has had it")
	}
}

func TestOneWordDoesNotSwallowAGo(t *testing.T) {
	b := newBench(t)
	b.step(t0, greeted{session: 1, worker: "w", kinds: served("k"), ackAll: true}, wanted{session: 1, n: 2})
	pairs, _ := b.lease(t0, due(1), due(2))
	b.step(t0, reported{session: 1, re: 7, reports: []Report{exitOf(pairs[0]), chained(pairs[1], 1)}})
	answer := verdicts(Applied, Applied)
	answer.verdicts[1].Stays = true
	ack := firstSent[*protocol.Ack](t, b.step(t0, answer))
	if ack.All || len(ack.Entries) != 2 || ack.Entries[0].Next != "" || ack.Entries[1].Next != protocol.NextGo {
		t.Errorf("ack %+v, want both listed, the second with go", ack)
	}
	b.step(t0, reported{session: 1, re: 8, reports: []Report{chained(pairs[1], 2)}})
	if ack := firstSent[*protocol.Ack](t, b.step(t0, verdicts(Applied))); !ack.All {
		t.Errorf("ack %+v, want one word: nothing of the frame goes on", ack)
	}
}

func TestEachLabelOfAChainHasItsOwnLimit(t *testing.T) {
	b := newBench(t)
	kinds := []protocol.Kind{{Name: "k", RunMS: 5000}, {Name: "slow", RunMS: 50_000}, {Name: "free"}}
	b.step(t0, greeted{session: 1, worker: "w", kinds: kinds}, wanted{session: 1, n: 1})
	pairs, _ := b.lease(t0, due(1))
	b.step(t0, touched{1, pairs})
	for seq, c := range []struct {
		kind string
		end  int64
	}{{"slow", t0 + 70*second}, {"", t0 + 70*second}, {"free", 0}} {
		hop := chained(pairs[0], uint64(seq+1))
		hop.Kind = c.kind
		b.step(t0+10*second, reported{session: 1, re: 1, reports: []Report{hop}})
		b.step(t0+10*second, stayed(nil))
		if r := b.running(pairs[0]); r == nil || r.runEnd != c.end || r.begun {
			t.Fatalf("run %+v, want it to have a limit of its own until %d", r, c.end)
		}
	}
}

func TestWhatWaitsForStrandsTakesSeveralFrames(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 3)
	pairs, _ := b.lease(t0, due(1), due(2), due(3))
	large := &Inbox{Semaphores: []Semaphore{{ID: 1, Name: "n", Value: bytes.Repeat([]byte("1"), 100<<10)}}}
	answer := committed{}
	var reports []Report
	for _, p := range pairs {
		reports = append(reports, chained(p, 1))
		answer.verdicts = append(answer.verdicts, Verdict{State: Applied, Stays: true, Inbox: large})
	}
	b.step(t0, reported{session: 1, re: 7, reports: reports})
	fx := b.step(t0, answer)
	equal(t, "sent", sent(fx, 1), []string{"ack", "ack", "ack"})
	if held := b.workerNamed("w").bytesHeld; held < 3*100<<10 {
		t.Errorf("the worker is taken to hold %d bytes, want what it was told to be counted", held)
	}
	for range 3 { // what has been used is not held any more
		for _, p := range pairs {
			b.step(t0, reported{session: 1, re: 8, reports: []Report{{Pair: p, Seq: 2, Act: Nap, Stay: true, Stack: []byte("[1]")}}})
			b.step(t0, stayed(nil))
		}
	}
	if held := b.workerNamed("w").bytesHeld; held > 3<<10 {
		t.Errorf("the worker is taken to hold %d bytes, want those of three small strands", held)
	}
}

func TestStrandWithAllThatWaitsForItFitsIntoAFrame(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	fx := b.step(t0, scanned{ScanResult: ScanResult{Candidates: []Candidate{due(1)}}})
	granted := strandsOf(fx.lease)
	granted[0].Args = bytes.Repeat([]byte(" "), b.maxFrame-80<<10)
	granted[0].Inbox = &Inbox{Left: 7}
	for i := range InboxItems {
		granted[0].Inbox.Semaphores = append(granted[0].Inbox.Semaphores, Semaphore{ID: int64(i + 1), Name: "n", Value: bytes.Repeat([]byte("1"), 1<<10)})
		granted[0].Inbox.Ended = append(granted[0].Inbox.Ended, Ended{ID: strandID(9), Kind: "c", State: "done"})
	}
	strands := firstSent[*protocol.Strands](t, b.step(t0, leased{granted: granted}))
	in := strands.Strands[0].Inbox
	if n, m := len(in.Semaphores), len(in.Ended); n < 50 || n > 80 || m != n || !in.More || in.Left != 7 {
		t.Errorf("%d semaphores and %d ended children are listed (%+v), want what there is room for", n, m, in.More)
	}
	if frame, err := protocol.Append(nil, strands); err != nil || len(frame)-4 > b.maxFrame {
		t.Errorf("a frame of %d bytes, error %v; want at most %d", len(frame), err, b.maxFrame)
	}
}

// TestChainWhoseSlotHasBeenLent goes on if a slot is free.
func TestChainWhoseSlotHasBeenLent(t *testing.T) {
	for name, free := range map[string]bool{"it is taken": false, "it is free again": true} {
		t.Run(name, func(t *testing.T) {
			b := newSeveral(t)
			b.connect(t0, 1, "w", 1)
			fx := b.step(t0, dueIn(0, 1))
			p := fx.to(0).lease[0]
			b.startBoth(t0, fx)
			b.step(t0, reported{session: 1, re: 7, reports: []Report{chained(p, 1)}})
			fx = b.step(t0+2*second, heard{1}, dueIn(1, 1))
			if !b.runs[p.ID].lent || len(fx.to(1).lease) != 1 {
				t.Fatalf("run %+v, leases %v; want its slot lent", b.runs[p.ID], leasesOf(fx))
			}
			b.startBoth(t0+2*second, fx)
			if free {
				b.step(t0+2*second, ended(1, fx.to(1).lease))
				b.step(t0+2*second, from{1, applied(1)})
			}
			fx = b.step(t0+2*second, from{0, stayed(nil)})
			if goes := b.running(p) != nil; goes != free {
				t.Errorf("goes on: %t, want %t", goes, free)
			}
			if !free {
				equal(t, "commit", fx.to(0).commit, []Report{yieldOf(p)})
				b.step(t0+2*second, from{0, applied(1)})
			}
			if w := b.workerNamed("w"); b.lent != 0 || w.lent != 0 || w.held != 1 {
				t.Errorf("lent %d and %d, held %d; want one that is held", b.lent, w.lent, w.held)
			}
		})
	}
}

// TestChainOfAFormerBrokerIsGivenBackInItsDatabase: the run was adopted, and nobody knew where it is.
func TestChainOfAFormerBrokerIsGivenBackInItsDatabase(t *testing.T) {
	b := newSeveral(t)
	p := Pair{strandID(1), Token{9}}
	b.connect(t0, 1, "w", 1, hold{Pair: p, kind: "k"})
	b.step(t0, from{0, renewed{err: ErrAway}})
	b.step(t0, reported{session: 1, re: 1, reports: []Report{chained(p, 1)}})
	b.step(t0, from{0, verdicts(Gone)})
	fx := b.step(t0, from{1, verdicts(Dup)})
	if len(fx.to(0).commit) != 0 {
		t.Errorf("the first is asked for %v", fx.to(0).commit)
	}
	equal(t, "commit", fx.to(1).commit, []Report{yieldOf(p)})
	b.step(t0, from{1, applied(1)})
	if len(b.runs) != 0 {
		t.Errorf("runs %v are left", b.runs)
	}
}

func TestResultOfAProgramIsReadWhole(t *testing.T) {
	p := Pair{strandID(1), Token{2}}
	strand, token := p.text()
	ev := (&session{id: 3}).reported(&protocol.Results{ID: 4, Results: []protocol.Result{{
		Strand: strand, Token: token, Seq: 5, Act: protocol.ActHop, Label: "next", NewKind: "other", Stack: []byte("[1]"),
		Signals: []protocol.Signal{{Name: "own"}, {Strand: strandID(6).String(), Name: "n", Value: []byte("7"), Quiet: true}},
		Used:    []uint64{8, 9}, Reaped: []string{strandID(10).String()},
		Due: &protocol.Due{Target: "end", MS: 1 << 60, MostMS: 11}, Frame: 12, Chain: true,
	}}})
	equal(t, "reports", ev.reports, []Report{{
		Pair: p, Seq: 5, Act: Hop, Label: "next", Kind: "other", Stack: []byte("[1]"),
		Signals: []Signal{{Name: "own"}, {ID: strandID(6), Name: "n", Value: []byte("7"), Quiet: true}},
		Used:    []int64{8, 9}, Reaped: []ID{strandID(10)},
		Due: &Due{Target: "end", In: longestDelay, Most: 11 * time.Millisecond}, Frame: 12, Stay: true,
	}})
}
