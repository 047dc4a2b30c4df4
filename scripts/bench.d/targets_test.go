package main

import (
	"strings"
	"testing"
)

// example is a report in which ours takes 10 where River takes 100 and Graphile 50, and is four times as fast as both.
func example() *Report {
	r := &Report{Systems: []About{{Name: ours}, {Name: oursHistory}, {Name: "river"}, {Name: "graphile"}}}
	for _, s := range r.Systems {
		cost, rate := map[string]float64{"river": 100, "graphile": 50}[s.Name], 1000.
		if cost == 0 {
			cost, rate = 10, 4000
		}
		for _, processes := range []int{1, 4, 16} {
			d := Drain{System: s.Name, Processes: processes, Rate: rate, Connections: 4, Insert: Insert{Rate: rate}}
			d.Cost.PostgresCPU, d.Cost.WAL = cost, cost
			r.Drains = append(r.Drains, d)
		}
		for _, load := range []int{0, 500} {
			r.Latencies = append(r.Latencies, Latency{System: s.Name, Load: load, Samples: fewSamples, P50: cost, P95: cost, P99: cost})
		}
		r.Idles = append(r.Idles, Idle{System: s.Name, Statements: 0})
	}
	r.Limits = []Limit{{Rate: 5000}}
	return r
}

// verdict is that on the target whose words begin so.
func verdict(t *testing.T, r *Report, what string) string {
	t.Helper()
	for _, target := range r.judge() {
		if strings.HasPrefix(target.What, what) {
			return target.Verdict
		}
	}
	t.Fatalf("no target begins with %q", what)
	return ""
}

func TestEveryTargetIsReachedByWhoIsFarAhead(t *testing.T) {
	for _, target := range example().judge() {
		if target.Verdict != "ok" {
			t.Errorf("%s: %s, got %s, want %s", target.What, target.Verdict, target.Got, target.Want)
		}
	}
}

func TestTargetIsMissedByWhoIsBehind(t *testing.T) {
	for _, c := range []struct {
		spoil func(*Report)
		what  string
	}{
		{func(r *Report) { r.Drains[1].Rate = 1400 }, "jobs/s: ours with 4 processes / Graphile's best"},
		{func(r *Report) { r.Drains[9].Rate = 3000 }, "jobs/s: ours with 4 processes / Graphile's best"}, // with 1 process
		{func(r *Report) { r.Drains[4].Rate = 2900 }, "jobs/s: ours with 4 processes / River's best"},
		{func(r *Report) { r.Drains[2].Rate = 3500 }, "jobs/s: ours with 16 processes / with 1"},
		{func(r *Report) { r.Drains[1].Cost.PostgresCPU = 26 }, "Postgres CPU for a job: ours / Graphile's"},
		{func(r *Report) { r.Drains[4].Cost.WAL = 26 }, "WAL for a job: ours / River's"},
		{func(r *Report) { r.Drains[0].Connections = 6 }, "connections"},
		{func(r *Report) { r.Idles[0].Statements = 1.1 }, "idle statements/s"},
		{func(r *Report) { r.Latencies[0].P99 = 51 }, "commit to begin, idle, p99"},
		{func(r *Report) { r.Latencies[1].P50 = 51 }, "commit to begin, loaded, p50"},
		{func(r *Report) { r.Limits[0].Rate = 9000 }, "jobs/s: ours with 4 processes / the raw limit"},
	} {
		r := example()
		c.spoil(r)
		if got := verdict(t, r, c.what); got != "missed" {
			t.Errorf("%s: %s, want missed", c.what, got)
		}
	}
}

func TestTargetOfAnAbsentPeerIsUnknown(t *testing.T) {
	r := &Report{Systems: []About{{Name: ours}}, Drains: []Drain{{System: ours, Processes: 2, Rate: 1000}}}
	for _, target := range r.judge() {
		if target.Verdict != "unknown" && !strings.HasPrefix(target.What, "connections") {
			t.Errorf("%s: %s", target.What, target.Verdict)
		}
	}
}

func TestRareDelayOfFewSamplesIsUnknown(t *testing.T) {
	r := example()
	for i := range r.Latencies {
		r.Latencies[i].Samples = fewSamples - 1
	}
	if got := verdict(t, r, "commit to begin, idle, p99"); got != "unknown" {
		t.Errorf("p99 of %d samples: %s, want unknown", fewSamples-1, got)
	}
	if got := verdict(t, r, "commit to begin, idle, p50"); got != "ok" {
		t.Errorf("p50 of %d samples: %s, want ok", fewSamples-1, got)
	}
}

func TestEverySystemBeginsARunOnce(t *testing.T) {
	c := &comparison{}
	for range 3 {
		c.systems = append(c.systems, c.ours)
	}
	for i := range c.systems {
		c.ours.Slots = i
		c.systems[i] = c.ours
	}
	for run := range 6 {
		turn := c.turn(run)
		for i := range turn {
			if want := c.systems[(run+i)%3]; turn[i] != want {
				t.Errorf("run %d, place %d: %v, want %v", run, i, turn[i], want)
			}
		}
	}
}
