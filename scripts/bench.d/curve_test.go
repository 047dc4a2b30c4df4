package main

import (
	"slices"
	"testing"
)

func TestCurveEndsWhereItWasTold(t *testing.T) {
	for _, c := range []struct {
		most, from, factor int
		want               []int
	}{
		{256, 1, 4, []int{1, 4, 16, 64, 256}},
		{5_000_000, 10_000, 10, []int{10_000, 100_000, 1_000_000, 5_000_000}},
		{1, 1, 4, []int{1}},
		{3, 1, 4, []int{1, 3}},
		{5, 10, 2, nil},
	} {
		var got []int
		for _, s := range grow(c.most, c.from, c.factor, func(x int) setting { return small(x, 1) }) {
			if s.X != s.jobs {
				t.Errorf("the setting of %d was made for %d", s.X, s.jobs)
			}
			got = append(got, s.X)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("from %d to %d by %d: %v, want %v", c.from, c.most, c.factor, got, c.want)
		}
	}
}

func TestCurveDrawsALineForEach(t *testing.T) {
	c := curve{title: "Backlog", x: "strands"}
	g := &Growth{Points: []Grown{
		{X: 10, Line: "free", Drain: Drain{Rate: 5}}, {X: 20, Line: "free", Drain: Drain{Rate: 6}},
		{X: 10, Line: "held", Drain: Drain{Rate: 4}},
	}}
	f := c.chart(g).figure()
	if len(f.Panels) != len(growthColumns) {
		t.Fatalf("%d panels, want %d", len(f.Panels), len(growthColumns))
	}
	lines := f.Panels[1].Lines // strands/s
	if len(lines) != 2 || len(lines[0].Points) != 2 || len(lines[1].Points) != 1 || lines[1].Points[0].Y != 4 {
		t.Errorf("lines %+v", lines)
	}
}

func TestEveryModeHasAPlan(t *testing.T) {
	for _, c := range curves {
		for _, s := range c.plan(c.jobs, c.most) {
			if s.jobs < 1 || s.processes < 1 || s.daemons < 1 || s.processes < s.daemons || s.size < 1 || s.X < 1 {
				t.Errorf("%s: setting %+v", c.name, s)
			}
		}
	}
}

func TestScansAreDrawnWithALineForEachState(t *testing.T) {
	r := &Scans{Points: []Scan{{Partitions: 1, Line: "idle", Pages: 4}, {Partitions: 256, Line: "idle", Pages: 5}, {Partitions: 1, Line: "backlog"}}}
	f := r.chart().figure()
	pages := f.Panels[len(f.Panels)-1]
	if len(f.Panels) != len(scanColumns) || len(pages.Lines) != 2 || len(pages.Lines[0].Points) != 2 || pages.Lines[0].Points[1].Y != 5 {
		t.Errorf("got %+v", f)
	}
}
