package broker

import (
	"testing"

	"github.com/respirated/respirated/protocol"
)

func TestPauseRestsWhenAllThatWasHeardIsSettled(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 3)
	held, _ := b.lease(t0, due(1), due(2))
	b.scanner.flying = true
	late := b.step(t0, scanned{ScanResult: ScanResult{Candidates: []Candidate{due(3)}}}).lease
	fx := b.step(t0, reported{session: 1, re: 1, reports: []Report{exitOf(held[0])}}, pausing{})
	if fx.rested || !b.deaf() {
		t.Fatalf("rested %v, deaf %v with a lease and a result under way; want the latter alone", fx.rested, b.deaf())
	}
	equal(t, "commit", fx.commit, []Report{exitOf(held[0])})
	if fx = b.step(t0, leased{granted: strandsOf(late)}); fx.rested {
		t.Error("rested before the last result is durable")
	}
	equal(t, "sent", sent(fx, 1), []string{"strands"})
	fx = b.step(t0, verdicts(Applied))
	equal(t, "sent", sent(fx, 1), []string{"ack"})
	if !fx.rested || fx.scan != nil || fx.lease != nil {
		t.Errorf("rested %v, scan %v, lease %v; want it rested, and nothing begun", fx.rested, fx.scan, fx.lease)
	}
}

func TestPauseOfAnyLengthIsNobodysSilenceOnceItIsOver(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	b.scanner.flying = false
	if fx := b.step(t0, pausing{}); !fx.rested {
		t.Fatal("does not rest though nothing is under way")
	}
	fx := b.step(t0+20*second, resuming{}, heard{1})
	if len(fx.hangUp) > 0 || len(fx.end) > 0 || b.deaf() {
		t.Errorf("hangs up on %v, ends %v, deaf: %v; want none of it", fx.hangUp, fx.end, b.deaf())
	}
	if fx.scan == nil {
		t.Error("no scan after the pause, though a worker wants a strand")
	}
}

func TestPauseHearsADyingWorkerToItsEnd(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	held, _ := b.lease(t0, due(1))
	b.scanner.flying = false
	fx := b.step(t0, exited{WorkerExit{Key: "key of w", How: "signal: killed"}}, pausing{})
	if fx.rested || b.deaf() {
		t.Fatalf("rested %v, deaf %v before the worker's last frame is read", fx.rested, b.deaf())
	}
	fx = b.step(t0, reported{session: 1, re: 1, reports: []Report{exitOf(held[0])}}, parted{1})
	equal(t, "commit", fx.commit, []Report{exitOf(held[0])})
	if fx = b.step(t0, verdicts(Applied)); !fx.rested {
		t.Error("does not rest after all that the worker said is durable")
	}
}

func TestSuccessorAsksForTheNumberThatItHasAndTellsTheSameKinds(t *testing.T) {
	limits := testLimits()
	limits.partition = Partition{Number: Auto, Most: 256}
	b := benchOf(t, newSchedule(ID{1}, [32]byte{1}, limits))
	b.succeed(&Former{Broker: ID{1}, Places: []FormerPlace{{Number: 7, Kinds: []string{"k"}}}})
	fx := b.step(t0)
	if fx.join == nil || fx.join.Number != 7 {
		t.Fatalf("joins by %+v, want number 7", fx.join)
	}
	fx = b.step(t0, joined{Joined: Joined{Number: 7}})
	if fx.present == nil || len(fx.present.Kinds) != 1 {
		t.Errorf("tells %+v before its workers are back, want the kind that they serve", fx.present)
	}
	b.step(t0, greeted{session: 1, worker: "w", kinds: []protocol.Kind{{Name: "k"}}}, wanted{1, 1, 0})
	equal(t, "its former", *b.former(), Former{Broker: ID{1}, Places: []FormerPlace{{Number: 7, Kinds: []string{"k"}}}})
}
