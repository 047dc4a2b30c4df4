package supervisor

import (
	"testing"
	"time"
)

// rolledBy is a roll after the given events, all at t0.
func rolledBy(events ...event) *roll {
	r := &roll{}
	for _, ev := range events {
		r.step(t0, ev)
	}
	return r
}

func (r *roll) expect(t *testing.T, got, want rollEffect, phase rollPhase) {
	t.Helper()
	if got != want || r.phase != phase {
		t.Errorf("got effect %d in phase %d, want %d in %d", got, r.phase, want, phase)
	}
}

func TestChangedBuildIsTried(t *testing.T) {
	r := rolledBy()
	r.expect(t, r.step(t0, changed{}), tryBuild, trying)
}

func TestServedStrandProvesABuild(t *testing.T) {
	r := rolledBy(changed{}, hello{}, served{0})
	r.expect(t, r.step(t0, served{1}), moveOn, rolling)
}

func TestTenSecondsWithoutAStrandProveABuild(t *testing.T) {
	r := rolledBy(changed{}, hello{})
	r.expect(t, r.step(t0.Add(proofAfter-1), tick{}), keepOn, trying)
	r.expect(t, r.step(t0.Add(proofAfter), tick{}), moveOn, rolling)
}

func TestCanaryWithAStrandIsWaitedFor(t *testing.T) {
	r := rolledBy(changed{}, hello{}, served{0})
	r.expect(t, r.step(t0.Add(proofAfter), tick{}), keepOn, trying)
	r.expect(t, r.step(t0.Add(proofAtMost), tick{}), moveOn, rolling)
}

func TestSecondHelloOfACanaryDoesNotPutOffItsProof(t *testing.T) {
	r := rolledBy(changed{}, hello{})
	r.step(t0.Add(proofAfter-1), hello{})
	r.expect(t, r.step(t0.Add(proofAfter), tick{}), moveOn, rolling)
}

func TestCanaryThatNeverConnectsProvesNothing(t *testing.T) {
	r := rolledBy(changed{})
	r.expect(t, r.step(t0.Add(time.Hour), tick{}), keepOn, trying)
}

func TestSecondFailedCanaryHoldsTheBuildBack(t *testing.T) {
	r := rolledBy(changed{}, hello{}, died{1})
	r.expect(t, r.step(t0.Add(time.Hour), tick{}), keepOn, trying) // the dead one's time does not count
	r.expect(t, r.step(t0, failed{}), holdBack, held)
	r.expect(t, r.step(t0, died{1}), keepOn, held)
	r.expect(t, r.step(t0, changed{}), tryBuild, trying)
}

func TestRollFinishesOnceAllHaveMoved(t *testing.T) {
	r := rolledBy(changed{}, hello{}, served{1}, died{1})
	r.expect(t, r.step(t0, moved{}), finish, rolled)
	r.expect(t, r.step(t0, moved{}), keepOn, rolled)
}

func TestFileSettlesAfterItHasNotChangedForAWhile(t *testing.T) {
	const rest = time.Second
	var s settling
	a, b := image{size: 1}, image{size: 2}
	for i, want := range []struct {
		im    image
		after time.Duration
		rests bool
	}{{a, 0, false}, {b, rest, false}, {b, 2*rest - 1, false}, {b, 2 * rest, true}} {
		if got := s.look(t0.Add(want.after), want.im, rest); got != want.rests {
			t.Errorf("look %d: got %v, want %v", i, got, want.rests)
		}
	}
}

func TestFiveEarlyDeathsInAMinuteAreASpate(t *testing.T) {
	var s spate
	for i := range enough {
		if got := s.died(t0.Add(time.Duration(i)*within/enough), tooEarly-1); got != (i == enough-1) {
			t.Errorf("death %d: a spate begins: %v", i+1, got)
		}
	}
	if s.died(t0.Add(within), 0) {
		t.Error("a spate is told twice")
	}
}

func TestDeathsThatAreLateOrFarApartAreNoSpate(t *testing.T) {
	var late, apart spate
	for i := range 10 * enough {
		if late.died(t0, tooEarly) || apart.died(t0.Add(time.Duration(i)*within/(enough-1)+time.Duration(i)), 0) {
			t.Fatalf("a spate begins at death %d", i+1)
		}
	}
}

func TestSpateIsTriedEachThirtySeconds(t *testing.T) {
	var s spate
	for range enough {
		s.died(t0, 0)
	}
	for i, want := range []struct {
		after time.Duration
		tries bool
	}{{tryEvery - 1, false}, {tryEvery, true}, {2*tryEvery - 1, false}, {2 * tryEvery, true}} {
		if got := s.tries(t0.Add(want.after)); got != want.tries {
			t.Errorf("look %d: got %v, want %v", i, got, want.tries)
		}
	}
}

func TestWearEndsAtItsBoundsOrATenthBefore(t *testing.T) {
	r := Recycle{Strands: 100, Age: 10 * time.Minute}
	w := newWear(t0, r, longest)
	if w.strands != 90 || w.age.Sub(t0) != 9*time.Minute {
		t.Errorf("got %+v, want 90 strands and 9 minutes", w)
	}
	w = newWear(t0, r, func(time.Duration) time.Duration { return 0 })
	if w.over(t0.Add(10*time.Minute-1), 99) != "" || w.over(t0, 100) != "strands" || w.over(t0.Add(10*time.Minute), 0) != "age" {
		t.Errorf("got %+v, want the bounds themselves", w)
	}
	if why := newWear(t0, Recycle{}, longest).over(t0.Add(1000*time.Hour), 1<<40); why != "" {
		t.Errorf("without bounds it is over for %s", why)
	}
}

func TestParkedSeatWaitsForATry(t *testing.T) {
	l := lived(begin{}, died{1}, park{})
	expect(t, l, l.step(t0.Add(time.Hour), tick{}), nothing, parked, 0)
	expect(t, l, l.step(t0, try{}), spawn, starting, 0)
	expect(t, l, l.step(t0, died{1}), nothing, parked, 0)
	expect(t, l, l.step(t0, unpark{}), nothing, waiting, 100*time.Millisecond)
}

func TestParkLeavesARunningProcess(t *testing.T) {
	l := lived(begin{}, hello{})
	expect(t, l, l.step(t0, park{}), nothing, connected, 0)
	expect(t, l, l.step(t0, unpark{}), nothing, connected, 0)
}

func TestHaltedOrLastSeatIsNotParked(t *testing.T) {
	l := lived(begin{}, park{}, died{1}, halt{})
	expect(t, l, l.step(t0, try{}), nothing, idle, 0)
	l = lived(begin{}, park{}, died{1}, quit{})
	expect(t, l, l.step(t0, unpark{}), nothing, idle, 0)
}

func TestProcessWithoutHelloIsEndedAtTheBootTimeout(t *testing.T) {
	l := lived()
	l.rules.boot = time.Minute
	l.step(t0, begin{})
	expect(t, l, l.step(t0.Add(time.Minute-1), tick{}), nothing, starting, time.Minute)
	expect(t, l, l.step(t0.Add(time.Minute), tick{}), term, ending, 90*time.Second)
}

func TestADietIsLongerEachTimeThatItEndsEarly(t *testing.T) {
	var d diet
	for _, c := range []struct{ age, least time.Duration }{
		{time.Minute, 2 * time.Minute}, {2 * time.Minute, 4 * time.Minute}, {7 * time.Minute, 8 * time.Minute}, {time.Hour, time.Minute},
	} {
		if d.replaced(c.age, time.Minute); d.least(time.Minute) != c.least {
			t.Errorf("after one that was %v old the next is spared for %v, want %v", c.age, d.least(time.Minute), c.least)
		}
	}
	d.early = 1000
	if got := d.least(time.Minute); got != 64*time.Minute {
		t.Errorf("got %v at most, want 64 min", got)
	}
}
