package worker

import (
	"testing"
	"time"
)

func TestCreditAsksForMoreThanSlotsOnlyWhileRunsAreShort(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name     string
		run, lag time.Duration
		want     int
	}{
		{"nothing measured yet", 0, 0, 10},
		{"a run as long as the way", 5 * ms, 5 * ms, 30},
		{"a run of a tenth of the way", 1 * ms, 10 * ms, 160},
		{"a run of nothing", 1, 10 * ms, 160},
		{"a run of a hundred times the way", 500 * ms, 5 * ms, 10},
		{"a run of a minute", time.Minute, 5 * ms, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			credit := credit{slots: 10, most: 160}
			if c.run > 0 {
				credit.run.add(c.run)
				credit.lag.add(c.lag)
			}
			if got := credit.want(); got != c.want {
				t.Errorf("want() = %d, want %d", got, c.want)
			}
		})
	}
}

func TestCreditNeverExceedsWhatTheBrokerAllows(t *testing.T) {
	c := credit{slots: 10, most: 4}
	if got := c.want(); got != 4 {
		t.Errorf("want() = %d, want 4", got)
	}
}

func TestCreditIsToldOnlyWhenItMatters(t *testing.T) {
	for _, c := range []struct {
		told, n int
		want    bool
	}{
		{-1, 10, true},
		{-1, 0, true},
		{10, 10, false},
		{10, 12, false},
		{10, 13, true},
		{40, 33, false},
		{40, 29, true},
		{12, 10, true}, // bare slots: runs have become long
		{10, 9, true},  // a slot is taken by a lost run
		{9, 10, true},  // and is free again
		{9, 11, true},  // and runs are short
		{0, 0, false},  // draining
		{160, 0, true},
	} {
		credit := credit{slots: 10, most: 160, told: c.told}
		if got := credit.worth(c.n); got != c.want {
			t.Errorf("told %d: worth(%d) = %v, want %v", c.told, c.n, got, c.want)
		}
	}
}

func TestCreditFallsToTheSlotsWhenRunsBecomeLong(t *testing.T) {
	c := credit{slots: 10, most: 160}
	for range 100 {
		c.run.add(time.Millisecond)
		c.lag.add(5 * time.Millisecond)
	}
	before := c.want()
	c.run.atLeast(time.Second)
	if after := c.want(); before <= 100 || after != 10 {
		t.Errorf("want() went from %d to %d, want from over 100 to 10", before, after)
	}
	for range 100 {
		c.run.add(time.Millisecond)
	}
	if again := c.want(); again <= 100 {
		t.Errorf("want() = %d after 100 short runs, want over 100", again)
	}
}
