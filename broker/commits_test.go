package broker

import (
	"encoding/binary"
	"syscall"
	"testing"
	"time"

	"github.com/respirated/respirated/protocol"
)

func TestReportsOfOneStrandKeepTheirOrderThoughItsRowWasLocked(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	pairs, _ := b.lease(t0, due(1))
	save := Report{Pair: pairs[0], Seq: 1, Act: Save, Stack: []byte("[1]")}
	release := Report{Pair: pairs[0], Seq: 2, Act: Release}
	b.step(t0, reported{session: 1, re: 1, reports: []Report{save}})
	b.step(t0, verdicts(Later))
	if fx := b.step(t0, reported{session: 1, re: 2, reports: []Report{release}}); fx.commit != nil {
		t.Fatalf("commit %v before what was saved", fx.commit)
	}
	fx := b.step(t0 + lockedRetry)
	equal(t, "first", fx.commit, []Report{save})
	fx = b.step(t0+lockedRetry, verdicts(Applied))
	equal(t, "second", fx.commit, []Report{release})
}

// What counts against its worker is the payload of the report alone.
func TestReportWhoseRowIsLockedDoesNotKeepItsFrame(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 2)
	pairs, _ := b.lease(t0, due(1), due(2))
	reports := []Report{exitOf(pairs[0]), exitOf(pairs[1])}
	b.step(t0, reported{session: 1, re: 1, reports: reports})
	b.step(t0, verdicts(Later, Applied))
	if len(b.commits.locked) != 1 || b.commits.locked[0].ID != pairs[0].ID {
		t.Fatalf("%d reports are locked, want the first", len(b.commits.locked))
	}
	if b.commits.locked[0].Report == &reports[0] {
		t.Error("the report that waits for its row is still a part of its frame, all of which is kept with it")
	}
}

func TestAckIsForTheFrameThatLastCarriedTheReport(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	pairs, _ := b.lease(t0, due(1))
	result := []Report{exitOf(pairs[0])}
	b.step(t0, reported{session: 1, re: 7, reports: result})
	b.step(t0, parted{1})
	b.connect(t0, 2, "w", 1, hold{Pair: pairs[0], kind: "k", done: true})
	b.step(t0, reported{session: 2, re: 3, reports: result})
	fx := b.step(t0, verdicts(Applied))
	if ack := firstSent[*protocol.Ack](t, fx); ack.Re != 3 || len(ack.Entries) != 1 {
		t.Errorf("ack %+v, want one entry for frame 3 of the new connection", ack)
	}
	if n := len(b.commits.carriers); n != 0 {
		t.Errorf("%d reports are remembered after the last was answered", n)
	}
}

// TestOneWordAcksAFrameOnlyIfAllOfItIsApplied: and only for a worker that takes it, on the connection that the frame came by.
func TestOneWordAcksAFrameOnlyIfAllOfItIsApplied(t *testing.T) {
	for name, c := range map[string]struct {
		able     bool
		verdicts []VerdictState
		refused  []refusal // in the same frame
		again    []int     // the worker has come back, and has sent these in a frame with the same id
		all      bool
	}{
		"all applied":                            {able: true, verdicts: []VerdictState{Applied, Applied}, all: true},
		"one is stale":                           {able: true, verdicts: []VerdictState{Applied, Stale}},
		"one is not a report":                    {able: true, verdicts: []VerdictState{Applied, Applied}, refused: []refusal{{why: "no"}}},
		"worker is not able":                     {verdicts: []VerdictState{Applied, Applied}},
		"worker is back":                         {able: true, verdicts: []VerdictState{Applied, Applied}, again: []int{2}},
		"one of it is sent again beside another": {able: true, verdicts: []VerdictState{Applied, Applied}, again: []int{0, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			hello := greeted{session: 1, worker: "w", kinds: served("k"), ackAll: c.able}
			b.step(t0, hello, wanted{session: 1, n: 9})
			pairs, _ := b.lease(t0, due(1), due(2), due(3))
			b.step(t0, reported{session: 1, re: 7, reports: []Report{exitOf(pairs[0]), exitOf(pairs[1])}, refused: c.refused})
			if c.again != nil {
				hello.session = 2
				for _, p := range pairs {
					hello.hold = append(hello.hold, hold{Pair: p, kind: "k", done: true})
				}
				b.step(t0, parted{1}, hello)
				var reports []Report
				for _, i := range c.again {
					reports = append(reports, exitOf(pairs[i]))
				}
				b.step(t0, reported{session: 2, re: 7, reports: reports})
			}
			ack := firstSent[*protocol.Ack](t, b.step(t0, verdicts(c.verdicts...)))
			if ack.All != c.all || c.all != (len(ack.Entries) == 0) || ack.Re != 7 {
				t.Errorf("ack %+v, want one word for all of frame 7: %t", ack, c.all)
			}
		})
	}
}

// TestManyWorkersReturnAtOnceWithManyResults: after a restart all workers send what they could not get rid of.
func TestManyWorkersReturnAtOnceWithManyResults(t *testing.T) {
	b := newBench(t)
	b.maxHold = protocol.DefaultMaxN
	start := processorTime(t)
	for w := range 100 {
		session := sessionID(w + 1)
		b.step(t0, greeted{session: session, worker: session.String(), kinds: served("k")})
		for range protocol.DefaultMaxN / finalResults {
			var results []Report
			for range finalResults {
				p := Pair{ID: ID{15: 1}, Token: Token{1}}
				binary.BigEndian.PutUint32(p.ID[:], uint32(len(b.commits.waiting)+len(b.commits.flying)+len(results)))
				results = append(results, exitOf(p))
			}
			b.step(t0, reported{session: session, re: 1, reports: results})
		}
	}
	if n := b.snapshot(t0).Unsettled; n != 100*protocol.DefaultMaxN {
		t.Errorf("%d reports wait, want %d", n, 100*protocol.DefaultMaxN)
	}
	if took := processorTime(t) - start; took > 3*time.Second {
		t.Errorf("took %v of processor time, want well below a second: each report is looked up, not searched for", took)
	}
}

// processorTime is what this process has used: a busy machine does not add to it, as it does to the time gone by.
func processorTime(t *testing.T) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
