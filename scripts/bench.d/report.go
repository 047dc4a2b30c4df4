package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/respirated/respirated/scripts/bench.d/stat"
	"github.com/respirated/respirated/scripts/bench.d/system"
)

// Report is all that a comparison has found out.
type Report struct {
	Began     time.Time `json:"began"`
	Machine   string    `json:"machine"`
	Server    []string  `json:"server"`
	Systems   []About   `json:"systems"`
	Drains    []Drain   `json:"drains"`
	Limits    []Limit   `json:"limits"`
	Latencies []Latency `json:"latencies"`
	Flushes   []Flush   `json:"flushes"`
	Idles     []Idle    `json:"idle"`
	Targets   []Target  `json:"targets"`
}

// About is what a system was, and how it was set up.
type About struct {
	Name     string `json:"name"`
	Version  string `json:"version"`
	Settings string `json:"settings"`
}

func newReport(l *lab, systems []system.System) (*Report, error) {
	r := &Report{Began: time.Now(), Machine: machine(), Server: l.settings()}
	for _, s := range systems {
		a, err := about(s)
		if err != nil {
			return nil, err
		}
		r.Systems = append(r.Systems, a)
	}
	return r, nil
}

func about(s system.System) (About, error) {
	version, err := s.Version()
	return About{s.Name(), version, s.Settings()}, err
}

func machine() string {
	return fmt.Sprintf("%d processors, %s, %s", runtime.NumCPU(), cpuModel(), runtime.Version())
}

func cpuModel() string {
	file, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if name, model, ok := strings.Cut(lines.Text(), ": "); ok && strings.HasPrefix(name, "model name") {
			return model
		}
	}
	return runtime.GOARCH
}

// writeJSON writes a file, if one was asked for.
func writeJSON(file string, v any) error {
	if file == "" {
		return nil
	}
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write the report as JSON: %w", err)
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// summary sums one figure up over the runs of a system with so many processes.
func (r *Report) summary(name string, processes int, figure func(Drain) float64) stat.Summary {
	var values []float64
	for _, d := range r.Drains {
		if d.System == name && d.Processes == processes {
			values = append(values, figure(d))
		}
	}
	return stat.Summarize(values)
}

func (r *Report) rate(name string, processes int) stat.Summary {
	return r.summary(name, processes, func(d Drain) float64 { return d.Rate })
}

// processes are the numbers of worker processes that were measured, in the order of measurement.
func (r *Report) processes() (numbers []int) {
	seen := make(map[int]bool)
	for _, d := range r.Drains {
		if !seen[d.Processes] {
			seen[d.Processes] = true
			numbers = append(numbers, d.Processes)
		}
	}
	return numbers
}

// print writes the report for people: what was compared, tables, and last the targets.
func (r *Report) print(out io.Writer) error {
	fmt.Fprintf(out, "\n%s\n%s\n", r.Machine, strings.Join(r.Server, ", "))
	for _, s := range r.Systems {
		fmt.Fprintf(out, "%s %s: %s\n", s.Name, s.Version, s.Settings)
	}
	for _, table := range []func(io.Writer){r.printDrains, r.printLatencies, r.printIdles, r.printTargets} {
		fmt.Fprintln(out)
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		table(w)
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// column is a figure of a drain, as a table shows it.
type column struct {
	title  string
	format string
	spread bool // show the least and the most of several runs, too
	figure func(Drain) float64
}

var drainColumns = []column{
	{"jobs/s", "%.0f", true, func(d Drain) float64 { return d.Rate }},
	{"inserts/s", "%.0f", true, func(d Drain) float64 { return d.Insert.Rate }},
	{"connections", "%.0f", false, func(d Drain) float64 { return float64(d.Connections) }},
	{"Postgres us", "%.1f", true, func(d Drain) float64 { return d.Cost.PostgresCPU }},
	{"broker us", "%.1f", false, func(d Drain) float64 { return d.Cost.BrokerCPU }},
	{"workers us", "%.1f", false, func(d Drain) float64 { return d.Cost.WorkerCPU }},
	{"WAL B", "%.0f", true, func(d Drain) float64 { return d.Cost.WAL }},
	{"statements", "%.4f", false, func(d Drain) float64 { return d.Cost.Statements }},
	{"transactions", "%.4f", false, func(d Drain) float64 { return d.Transactions }},
	{"notifies", "%.4f", false, func(d Drain) float64 { return d.Cost.Notifies }},
	{"insert: Postgres us", "%.1f", false, func(d Drain) float64 { return d.Insert.Cost.PostgresCPU }},
	{"client us", "%.1f", false, func(d Drain) float64 { return d.Insert.Cost.WorkerCPU }},
	{"WAL B", "%.0f", false, func(d Drain) float64 { return d.Insert.Cost.WAL }},
}

func (r *Report) printDrains(w io.Writer) {
	fmt.Fprint(w, "a backlog, each job\tprocesses")
	for _, c := range drainColumns {
		fmt.Fprint(w, "\t", c.title)
	}
	fmt.Fprintln(w)
	for _, processes := range r.processes() {
		for _, s := range r.Systems {
			fmt.Fprintf(w, "%s\t%d", s.Name, processes)
			for _, c := range drainColumns {
				fmt.Fprint(w, "\t", c.cell(r.summary(s.Name, processes, c.figure)))
			}
			fmt.Fprintln(w)
		}
	}
	limit := r.limit()
	fmt.Fprintf(w, "raw limit\t-\t%s\n", drainColumns[0].cell(limit))
}

func (c column) cell(s stat.Summary) string {
	text := fmt.Sprintf(c.format, s.Median)
	if c.spread && s.Min != s.Max {
		text += fmt.Sprintf(" ("+c.format+"-"+c.format+")", s.Min, s.Max)
	}
	return text
}

func (r *Report) limit() stat.Summary {
	var rates []float64
	for _, l := range r.Limits {
		rates = append(rates, l.Rate)
	}
	return stat.Summarize(rates)
}

// delay sums one percentile up over the runs of a system, idle or under load.
func (r *Report) delay(name string, loaded bool, figure func(Latency) float64) stat.Summary {
	var values []float64
	for _, l := range r.Latencies {
		if l.System == name && l.Load > 0 == loaded {
			values = append(values, figure(l))
		}
	}
	return stat.Summarize(values)
}

func (r *Report) printLatencies(w io.Writer) {
	fmt.Fprintln(w, "from commit to begin\toffered\tp50 ms\tp95 ms\tp99 ms")
	ms := column{format: "%.1f", spread: true}
	for _, loaded := range []bool{false, true} {
		for _, s := range r.Systems {
			p50 := r.delay(s.Name, loaded, p50)
			if p50.Median == 0 {
				continue
			}
			offered := "idle"
			if loaded {
				offered = fmt.Sprintf("%d/s", r.load())
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", s.Name, offered, ms.cell(p50),
				ms.cell(r.delay(s.Name, loaded, p95)), ms.cell(r.delay(s.Name, loaded, p99)))
		}
	}
	fmt.Fprintf(w, "a bare flush of the disk\tidle\t%s\t%s\t%s\n", ms.cell(r.flush(func(f Flush) float64 { return f.P50 })),
		ms.cell(r.flush(func(f Flush) float64 { return f.P95 })), ms.cell(r.flush(func(f Flush) float64 { return f.P99 })))
}

// flush sums one percentile of the disk's up over the runs.
func (r *Report) flush(figure func(Flush) float64) stat.Summary {
	var values []float64
	for _, f := range r.Flushes {
		values = append(values, figure(f))
	}
	return stat.Summarize(values)
}

func p50(l Latency) float64 { return l.P50 }
func p95(l Latency) float64 { return l.P95 }
func p99(l Latency) float64 { return l.P99 }

// load is the offered load.
func (r *Report) load() (rate int) {
	for _, l := range r.Latencies {
		rate = max(rate, l.Load)
	}
	return rate
}

func (r *Report) printIdles(w io.Writer) {
	fmt.Fprintln(w, "idle\tprocesses\tstatements/s\tconnections")
	for _, i := range r.Idles {
		fmt.Fprintf(w, "%s\t%d\t%.1f\t%d\n", i.System, i.Processes, i.Statements, i.Connections)
	}
}

func (r *Report) printTargets(w io.Writer) { printTargets(w, r.Targets) }

func printTargets(w io.Writer, targets []Target) {
	for _, t := range targets {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", t.Verdict, t.What, t.Got, t.Want)
	}
}
