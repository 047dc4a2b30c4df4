package main

import (
	"fmt"
	"math"
	"os"
	"text/tabwriter"

	"github.com/respirated/respirated/scripts/bench.d/stat"
)

// Target is one of PERFORMANCE.md's first stage, and what this run says of it.
type Target struct {
	Verdict string  `json:"verdict"` // ok, missed, or unknown where this run did not measure it
	What    string  `json:"what"`
	Got     string  `json:"got"`
	Want    string  `json:"want"`
	Value   float64 `json:"value"` // 0 where unknown
}

const (
	ours        = "respirate"
	oursHistory = "respirate, history"
	fewest      = 1  // processes, for the target that compares few with many
	usual       = 4  // processes, for the targets that name one number for ours
	many        = 16 // processes
)

// atLeast and atMost judge a ratio or a count.
func atLeast(what string, got, want float64) Target { return judge(what, got, want, ">=", got >= want) }
func atMost(what string, got, want float64) Target  { return judge(what, got, want, "<=", got <= want) }

func judge(what string, got, want float64, sign string, ok bool) Target {
	t := Target{Verdict: "missed", What: what, Want: fmt.Sprintf("%s %.4g", sign, want)}
	if math.IsNaN(got) {
		t.Verdict, t.Got = "unknown", "not measured"
		return t
	}
	if ok {
		t.Verdict = "ok"
	}
	t.Got, t.Value = fmt.Sprintf("%.2f", got), got
	return t
}

// showTargets prints those of a mode.
func showTargets(targets []Target) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	printTargets(w, targets)
	return w.Flush()
}

// judge compares what was measured with the targets, in their order.
func (r *Report) judge() []Target {
	cpu := func(d Drain) float64 { return d.Cost.PostgresCPU }
	wal := func(d Drain) float64 { return d.Cost.WAL }
	insert := func(d Drain) float64 { return d.Insert.Rate }
	at := r.common()
	same := func(own, peer string, figure func(Drain) float64) float64 {
		return stat.Ratio(r.summary(own, at, figure).Median, r.summary(peer, at, figure).Median)
	}
	return []Target{
		atLeast("jobs/s: ours with 4 processes / Graphile's best, without history", stat.Ratio(r.rate(ours, usual).Median, r.best("graphile")), 1.5),
		atLeast("jobs/s: ours with 4 processes / River's best, with history", stat.Ratio(r.rate(oursHistory, usual).Median, r.best("river")), 3),
		atLeast("jobs/s: ours with 16 processes / with 1", stat.Ratio(r.rate(ours, many).Median, r.rate(ours, fewest).Median), 0.9),
		atMost("Postgres CPU for a job: ours / Graphile's, without history", same(ours, "graphile", cpu), 1./2),
		atMost("Postgres CPU for a job: ours / River's, with history", same(oursHistory, "river", cpu), 1./6),
		atMost("WAL for a job: ours / Graphile's, without history", same(ours, "graphile", wal), 1./2),
		atMost("WAL for a job: ours / River's, with history", same(oursHistory, "river", wal), 1./4),
		atMost("connections of ours, most of all numbers of processes", r.connections(), 5),
		atMost("idle statements/s of ours", r.idle(), 1),
		atLeast("inserts/s: ours / River's InsertManyFast", same(ours, "river", insert), 1.3),
		atMost("commit to begin, idle, p50: ours / the best peer's", stat.Ratio(r.delay(ours, false, p50).Median, r.bestDelay(p50)), 1),
		atMost("commit to begin, idle, p99: ours / the best peer's", stat.Ratio(r.delay(ours, false, rare).Median, r.bestDelay(rare)), 1),
		atMost("commit to begin, loaded, p50: ours / River's", stat.Ratio(r.delay(ours, true, p50).Median, r.delay("river", true, p50).Median), 1./2),
		atMost("commit to begin, loaded, p99: ours / River's", stat.Ratio(r.delay(ours, true, p99).Median, r.delay("river", true, p99).Median), 1./2),
		atLeast("jobs/s: ours with 4 processes / the raw limit of the design", stat.Ratio(r.rate(ours, usual).Median, r.limit().Median), 0.5),
	}
}

// fewSamples are too few to tell p99: with 100 it is the last but one, which is as late as the disk was once.
const fewSamples = 500

// rare is a p99 that can be relied on.
func rare(l Latency) float64 {
	if l.Samples < fewSamples {
		return math.NaN()
	}
	return l.P99
}

// common is the number of processes at which systems are compared: the usual one, or else the first that was measured.
func (r *Report) common() int {
	numbers := r.processes()
	for _, n := range numbers {
		if n == usual {
			return n
		}
	}
	return numbers[0]
}

// best is the rate of a peer with the number of processes that suits it best; 0 where it was not measured.
func (r *Report) best(name string) (rate float64) {
	for _, n := range r.processes() {
		rate = max(rate, r.rate(name, n).Median)
	}
	return rate
}

// bestDelay is the smallest of all peers' while idle; 0 where none was measured.
func (r *Report) bestDelay(figure func(Latency) float64) (best float64) {
	for _, s := range r.Systems {
		if s.Name == ours {
			continue
		}
		if d := r.delay(s.Name, false, figure).Median; d > 0 && (best == 0 || d < best) {
			best = d
		}
	}
	return best
}

func (r *Report) connections() float64 {
	most := math.NaN()
	for _, d := range r.Drains {
		if d.System == ours {
			most = math.Max(float64(d.Connections), orZero(most))
		}
	}
	return most
}

func orZero(x float64) float64 {
	if math.IsNaN(x) {
		return 0
	}
	return x
}

func (r *Report) idle() float64 {
	for _, i := range r.Idles {
		if i.System == ours {
			return i.Statements
		}
	}
	return math.NaN()
}
