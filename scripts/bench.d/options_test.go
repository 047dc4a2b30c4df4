package main

import (
	"slices"
	"testing"
)

func TestQuickShrinksWhatNoFlagHasSet(t *testing.T) {
	for _, c := range []struct {
		args       []string
		jobs, runs int
		procs      []int
		idleProcs  int
	}{
		{nil, 100_000, 3, []int{1, 4, 16}, 16},
		{[]string{"--quick"}, 20_000, 1, []int{4}, 4},
		{[]string{"--quick", "--jobs", "5000", "--procs", "1,2"}, 5000, 1, []int{1, 2}, 4},
		{[]string{"--quick", "--runs", "3"}, 20_000, 3, []int{4}, 4},
	} {
		o, err := parseOptions(c.args)
		if err != nil || o.jobs != c.jobs || o.runs != c.runs || !slices.Equal(o.procs, c.procs) || o.idleProcs != c.idleProcs {
			t.Errorf("%q: %+v, %v", c.args, o, err)
		}
	}
}

func TestWrongOptionsAreRefused(t *testing.T) {
	for _, args := range [][]string{{"--procs", "0"}, {"--procs", "1,,4"}, {"--jobs", "0"}, {"--runs", "-1"}, {"depth"}} {
		if o, err := parseOptions(args); err == nil {
			t.Errorf("%q gave %+v", args, o)
		}
	}
	for _, args := range [][]string{{"--most", "0"}, {"--scans", "0"}, {"--jobs", "-1"}, {"4"}} {
		if o, err := parsePartitions(args); err == nil {
			t.Errorf("%s %q gave %+v", partitionsMode, args, o)
		}
	}
	if _, err := (place{}).peer("oban"); err == nil {
		t.Error("an unknown peer was found")
	}
}
