package supervisor

import (
	"testing"
	"time"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// longest draws the longest wait each time.
func longest(most time.Duration) time.Duration { return most }

// lived is a life after the given events, all at t0.
func lived(events ...event) *life {
	l := newLife(rules{stop: 30 * time.Second, adopt: 5 * time.Second, jitter: longest})
	for _, ev := range events {
		l.step(t0, ev)
	}
	return &l
}

// expect checks the effect, the phase and how long after t0 the next tick matters (0 = never).
func expect(t *testing.T, l *life, got, want effect, phase phase, until time.Duration) {
	t.Helper()
	var wake time.Duration
	if !l.until.IsZero() {
		wake = l.until.Sub(t0)
	}
	if got != want || l.phase != phase || wake != until {
		t.Errorf("got effect %d, %s until %v; want effect %d, %s until %v", got, l.phase, wake, want, phase, until)
	}
}

func TestBeginSpawns(t *testing.T) {
	l := lived()
	expect(t, l, l.step(t0, begin{}), spawn, starting, 0)
}

func TestHelloConnects(t *testing.T) {
	l := lived(begin{})
	expect(t, l, l.step(t0, hello{}), nothing, connected, 0)
}

func TestDeathWaitsThenSpawns(t *testing.T) {
	l := lived(begin{})
	expect(t, l, l.step(t0, died{1}), nothing, waiting, 100*time.Millisecond)
	expect(t, l, l.step(t0.Add(99*time.Millisecond), tick{}), nothing, waiting, 100*time.Millisecond)
	expect(t, l, l.step(t0.Add(100*time.Millisecond), tick{}), spawn, starting, 0)
}

func TestEarlyDeathsDoubleTheWaitUpToItsCap(t *testing.T) {
	l := lived(begin{})
	for _, want := range []time.Duration{100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000, 30000} {
		expect(t, l, l.step(t0, died{1}), nothing, waiting, want*time.Millisecond)
		l.step(l.until, tick{})
	}
}

func TestFarTooManyEarlyDeathsStillWaitTheCap(t *testing.T) {
	l := lived(begin{})
	l.k = 1 << 40
	expect(t, l, l.step(t0, died{1}), nothing, waiting, backoffCap)
}

func TestWaitIsDrawnFromZeroToTheBound(t *testing.T) {
	l := lived(begin{})
	l.rules.jitter = func(most time.Duration) time.Duration { return most / 4 }
	expect(t, l, l.step(t0, died{1}), nothing, waiting, 25*time.Millisecond)
}

func TestSixtySecondsOfHealthForgiveThePast(t *testing.T) {
	l := lived(begin{}, died{1}, tick{}, begin{}, died{1}, begin{}, hello{})
	expect(t, l, l.step(t0.Add(time.Minute), died{1}), nothing, waiting, time.Minute+100*time.Millisecond)
}

func TestLessThanSixtySecondsOfHealthDoNot(t *testing.T) {
	l := lived(begin{}, died{1}, begin{}, hello{})
	expect(t, l, l.step(t0.Add(59*time.Second), died{1}), nothing, waiting, 59*time.Second+200*time.Millisecond)
}

func TestLongLifeWithoutHelloIsNoHealth(t *testing.T) {
	l := lived(begin{}, died{1}, begin{})
	expect(t, l, l.step(t0.Add(time.Hour), died{1}), nothing, waiting, time.Hour+200*time.Millisecond)
}

func TestSecondHelloDoesNotRestartTheClockOfHealth(t *testing.T) {
	l := lived(begin{}, died{1}, begin{}, hello{})
	l.step(t0.Add(30*time.Second), hello{})
	expect(t, l, l.step(t0.Add(time.Minute), died{1}), nothing, waiting, time.Minute+100*time.Millisecond)
}

func TestTempFailBacksOffEvenAfterHealth(t *testing.T) {
	l := lived(begin{}, hello{})
	expect(t, l, l.step(t0.Add(time.Minute), died{exitTempFail}), nothing, waiting, time.Minute+1600*time.Millisecond)
}

func TestConfigExitHaltsThePoolOnce(t *testing.T) {
	l := lived(begin{})
	expect(t, l, l.step(t0, died{exitConfig}), haltPool, idle, 0)
}

func TestConfigExitInAHaltedPoolIsNoNews(t *testing.T) {
	l := lived(begin{}, halt{})
	expect(t, l, l.step(t0, died{exitConfig}), nothing, idle, 0)
}

func TestConfigExitOfALastProcessIsNoNews(t *testing.T) {
	l := lived(begin{}, quit{})
	expect(t, l, l.step(t0, died{exitConfig}), nothing, idle, 0)
}

func TestHaltLeavesARunningProcessButStartsNoOther(t *testing.T) {
	l := lived(begin{}, hello{})
	expect(t, l, l.step(t0, halt{}), nothing, connected, 0)
	expect(t, l, l.step(t0, died{1}), nothing, idle, 0)
}

func TestHaltCallsOffAPlannedStart(t *testing.T) {
	l := lived(begin{}, died{1})
	expect(t, l, l.step(t0, halt{}), nothing, idle, 0)
}

func TestResumeStartsAtOnceAndForgives(t *testing.T) {
	l := lived(begin{}, died{1}, begin{}, died{exitConfig})
	expect(t, l, l.step(t0, resume{}), spawn, starting, 0)
	expect(t, l, l.step(t0, died{1}), nothing, waiting, 100*time.Millisecond)
}

func TestResumeAfterQuitStartsNothing(t *testing.T) {
	l := lived(begin{}, died{exitConfig}, quit{})
	expect(t, l, l.step(t0, resume{}), nothing, idle, 0)
}

func TestResumeLeavesARunningProcess(t *testing.T) {
	l := lived(begin{}, hello{}, halt{})
	expect(t, l, l.step(t0, resume{}), nothing, connected, 0)
}

func TestEndTermsThenKillsThenGivesUp(t *testing.T) {
	l := lived(begin{}, hello{})
	expect(t, l, l.step(t0, end{}), term, ending, 30*time.Second)
	expect(t, l, l.step(t0.Add(30*time.Second-1), tick{}), nothing, ending, 30*time.Second)
	expect(t, l, l.step(t0.Add(30*time.Second), tick{}), kill, killed, 40*time.Second)
	expect(t, l, l.step(t0.Add(40*time.Second), tick{}), giveUp, stuck, 0)
}

func TestSecondEndChangesNothing(t *testing.T) {
	l := lived(begin{}, end{})
	expect(t, l, l.step(t0.Add(20*time.Second), end{}), nothing, ending, 30*time.Second)
}

func TestEndOfAnEmptySeatChangesNothing(t *testing.T) {
	l := lived(begin{}, died{1})
	expect(t, l, l.step(t0, end{}), nothing, waiting, 100*time.Millisecond)
}

func TestEndedProcessIsReplaced(t *testing.T) {
	l := lived(begin{}, end{})
	expect(t, l, l.step(t0, died{-1}), nothing, waiting, 100*time.Millisecond)
	if !l.asked {
		t.Error("got a death that nobody asked for, want asked")
	}
}

func TestNextProcessIsNotAskedYet(t *testing.T) {
	l := lived(begin{}, end{}, died{-1}, resume{})
	l.step(l.until, tick{})
	if l.asked {
		t.Error("got a fresh process that was asked to end")
	}
}

func TestHelloDoesNotSaveAnEndingProcess(t *testing.T) {
	l := lived(begin{}, end{})
	expect(t, l, l.step(t0, hello{}), nothing, ending, 30*time.Second)
}

func TestQuitEndsForGood(t *testing.T) {
	l := lived(begin{}, hello{})
	expect(t, l, l.step(t0, quit{}), term, ending, 30*time.Second)
	expect(t, l, l.step(t0, died{0}), nothing, idle, 0)
}

func TestQuitCallsOffAPlannedStart(t *testing.T) {
	l := lived(begin{}, died{1})
	expect(t, l, l.step(t0, quit{}), nothing, idle, 0)
}

func TestQuitOfAnEndingProcessSendsNothingMore(t *testing.T) {
	l := lived(begin{}, end{})
	expect(t, l, l.step(t0, quit{}), nothing, ending, 30*time.Second)
	expect(t, l, l.step(t0, died{0}), nothing, idle, 0)
}

func TestAdoptedProcessThatSaysHelloStays(t *testing.T) {
	l := lived(adopt{})
	expect(t, l, l.step(t0.Add(4*time.Second), hello{}), nothing, connected, 0)
}

func TestAdoptedProcessWithoutHelloIsEndedAndReplaced(t *testing.T) {
	l := lived(adopt{})
	expect(t, l, l.step(t0.Add(5*time.Second), tick{}), term, ending, 35*time.Second)
	expect(t, l, l.step(t0, died{-1}), nothing, waiting, 100*time.Millisecond)
}

func TestFailedStartBacksOffLikeADeath(t *testing.T) {
	l := lived(begin{})
	expect(t, l, l.step(t0, failed{}), nothing, waiting, 100*time.Millisecond)
	l.step(l.until, tick{})
	expect(t, l, l.step(t0, failed{}), nothing, waiting, 200*time.Millisecond)
}

func TestStuckProcessThatDiesAfterAllIsReplaced(t *testing.T) {
	l := lived(begin{}, end{})
	l.step(t0.Add(time.Minute), tick{})
	l.step(t0.Add(2*time.Minute), tick{})
	expect(t, l, l.step(t0, died{-1}), nothing, waiting, 100*time.Millisecond)
}

func TestAskingAgainOnlyShortensTheTimeUntilTheKill(t *testing.T) {
	l := lived(begin{}, hello{})
	expect(t, l, l.step(t0, end{within: 10 * time.Second}), term, ending, 10*time.Second)
	expect(t, l, l.step(t0, end{}), nothing, ending, 10*time.Second)
	expect(t, l, l.step(t0, end{within: time.Minute}), nothing, ending, 10*time.Second)
	expect(t, l, l.step(t0, end{within: time.Second}), nothing, ending, time.Second)
	expect(t, l, l.step(t0.Add(time.Second), tick{}), kill, killed, time.Second+killWait)
}

func TestAdoptedProcessThatWasAskedToEndIsNotAskedAgain(t *testing.T) {
	l := lived(adopt{asked: true})
	expect(t, l, l.step(t0.Add(time.Second), hello{}), nothing, ending, 30*time.Second)
	expect(t, l, l.step(t0.Add(time.Second), quit{}), nothing, ending, 30*time.Second)
	expect(t, l, l.step(t0.Add(30*time.Second), tick{}), kill, killed, 40*time.Second)
}
