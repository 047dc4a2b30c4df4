package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker/postgres"
	"github.com/respirated/respirated/scripts/bench.d/hub"
	"github.com/respirated/respirated/scripts/bench.d/meter"
	"github.com/respirated/respirated/scripts/bench.d/stat"
	"github.com/respirated/respirated/scripts/bench.d/system"
)

// sleepersMode measures what strands that sleep cost the others, and how soon one of them runs that is signalled.
const sleepersMode = "sleepers"

// Sleepers is the report of the mode.
type Sleepers struct {
	Mode    string    `json:"mode"`
	Began   time.Time `json:"began"`
	Machine string    `json:"machine"`
	Server  []string  `json:"server"`
	System  About     `json:"system"`
	Signals int       `json:"signals"`
	Jobs    int       `json:"jobs"` // plain strands in each backlog
	Points  []Asleep  `json:"points"`
}

// Asleep is how it is beside so many strands that sleep.
type Asleep struct {
	Rows   int          `json:"rows"`
	Idle   Scan         `json:"scan_idle"`
	Busy   Scan         `json:"scan_backlog"`
	Signal Latency      `json:"signal"` // from the return of the commit to the begin of the label
	Rates  stat.Summary `json:"jobs_per_second"`
	CPU    stat.Summary `json:"postgres_cpu_us"`
	Drains []Drain      `json:"drains"`
}

var sleeperColumns = []figure[Asleep]{
	{"pages of a scan, idle", "%.0f", func(a Asleep) float64 { return a.Idle.Pages }},
	{"us", "%.0f", func(a Asleep) float64 { return a.Idle.Time }},
	{"pages, backlog", "%.0f", func(a Asleep) float64 { return a.Busy.Pages }},
	{"us", "%.0f", func(a Asleep) float64 { return a.Busy.Time }},
	{"signal to begin p50, ms", "%.1f", func(a Asleep) float64 { return a.Signal.P50 }},
	{"p95", "%.1f", func(a Asleep) float64 { return a.Signal.P95 }},
	{"p99", "%.1f", func(a Asleep) float64 { return a.Signal.P99 }},
	{"plain strands/s", "%.0f", func(a Asleep) float64 { return a.Rates.Median }},
	{"Postgres CPU, us/strand", "%.1f", func(a Asleep) float64 { return a.CPU.Median }},
}

type sleeperOptions struct {
	rows, signals, jobs, runs, scans int
	json                             string
}

func parseSleepers(args []string) (o sleeperOptions, err error) {
	flags := flag.NewFlagSet("scripts/bench "+sleepersMode, flag.ContinueOnError)
	flags.IntVar(&o.rows, "rows", 5_000_000, "the `number` of strands that sleep")
	flags.IntVar(&o.signals, "signals", 1000, "to how `many` of them a signal is sent")
	flags.IntVar(&o.jobs, "jobs", 100_000, "the `number` of plain strands in each backlog")
	flags.IntVar(&o.runs, "runs", 3, "the `number` of backlogs, of which the median counts")
	flags.IntVar(&o.scans, "scans", 500, "how `often` each scan is repeated")
	flags.StringVar(&o.json, "json", "", "write everything to this `file`")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 || o.signals < 1 || o.rows < o.signals || o.jobs < 1 || o.runs < 1 || o.scans < 1 {
		return o, fmt.Errorf("%s takes flags only, with numbers from 1 on, and a sleeper for each signal", sleepersMode)
	}
	return o, nil
}

func runSleepers(ctx context.Context, at place, args []string) (err error) {
	o, err := parseSleepers(args)
	if err != nil {
		return err
	}
	l, err := openLab(ctx, at.work, newProgress(os.Stderr))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	ours := at.respirate(false)
	r := &Sleepers{Mode: sleepersMode, Began: time.Now(), Machine: machine(), Server: l.settings(), Signals: o.signals, Jobs: o.jobs}
	if r.System, err = about(ours); err != nil {
		return err
	}
	if err := r.measure(ctx, l, ours, o); err != nil {
		return err
	}
	if err := errors.Join(writeJSON(o.json, r), table(os.Stdout, r.chart(), r.Machine+", "+r.System.Version)); err != nil {
		return err
	}
	few, many := r.Points[0], r.Points[1]
	fmt.Printf("\nplain strands/s beside %d that sleep, to those beside %d: %.2f\n", many.Rows, few.Rows, stat.Ratio(many.Rates.Median, few.Rates.Median))
	return nil
}

// measure does everything beside few sleepers, one for each signal, and beside many, in turn.
func (r *Sleepers) measure(ctx context.Context, l *lab, ours system.Respirate, o sleeperOptions) error {
	r.Points = []Asleep{{Rows: o.signals}, {Rows: o.rows}}
	for i := range r.Points {
		p := &r.Points[i]
		if err := l.scanBeside(ctx, system.Sleeping{Respirate: ours, Rows: p.Rows}, o, p); err != nil {
			return fmt.Errorf("scan beside %d sleepers: %w", p.Rows, err)
		}
	}
	for i := range r.Points {
		p := &r.Points[i]
		if err := l.wake(ctx, system.Sleeping{Respirate: ours, Rows: p.Rows}, o, p); err != nil {
			return fmt.Errorf("signal some of %d sleepers: %w", p.Rows, err)
		}
	}
	for run := range o.runs {
		for i := range r.Points {
			p := &r.Points[i]
			d, err := l.drain(ctx, system.Sleeping{Respirate: ours, Rows: p.Rows}, backlog{jobs: o.jobs, size: hub.SmallArgs, processes: usual})
			if err != nil {
				return err
			}
			d.Run = run
			p.Drains = append(p.Drains, d)
			l.progress.step("run %d: %.0f plain strands/s beside %d sleepers", run+1, d.Rate, p.Rows)
		}
	}
	for i := range r.Points {
		p := &r.Points[i]
		var rates, cpu []float64
		for _, d := range p.Drains {
			rates, cpu = append(rates, d.Rate), append(cpu, d.Cost.PostgresCPU)
		}
		p.Rates, p.CPU = stat.Summarize(rates), stat.Summarize(cpu)
	}
	return nil
}

// scanBeside measures a scan while nothing is due, and with a backlog.
func (l *lab) scanBeside(ctx context.Context, s system.Sleeping, o sleeperOptions, p *Asleep) (err error) {
	name, url, err := l.database(ctx, s)
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, meter.AsHarness(url))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.Background())) }()
	store, err := postgres.Open(ctx, postgres.Config{URL: url})
	if err != nil {
		return err
	}
	defer store.Close()
	if _, err := conn.Exec(ctx, `select respirate.lane('', 'default', 5, 'noop')`); err != nil {
		return err
	}
	sc := scans{store: store, server: l.meter, database: name, count: o.scans, kinds: []string{"noop", "sleeper"}}
	for _, fill := range []struct {
		sql  string
		into *Scan
	}{
		{`select`, &p.Idle},
		{fmt.Sprintf(`insert into respirate.strand (id, lane, args)
			select gen_random_uuid(), (select lane from respirate.lane where kind = 'noop'), '{}' from generate_series(1, %d)`, o.jobs), &p.Busy},
	} {
		if _, err := conn.Exec(ctx, fill.sql); err != nil {
			return fmt.Errorf("fill the table: %w", err)
		}
		if _, err := conn.Exec(ctx, "vacuum analyze"); err != nil {
			return fmt.Errorf("vacuum the table: %w", err)
		}
		if *fill.into, err = sc.measure(ctx, 1, 0); err != nil {
			return err
		}
		l.progress.step("a scan beside %d sleepers finds %.0f: %.0f pages, %.0f us", p.Rows, fill.into.Found, fill.into.Pages, fill.into.Time)
	}
	return nil
}

// wake signals sleepers that lie far apart, one at a time, through a daemon and its workers.
func (l *lab) wake(ctx context.Context, s system.Sleeping, o sleeperOptions, p *Asleep) (err error) {
	v, err := l.open(ctx, s)
	if err != nil {
		return err
	}
	defer func() {
		_, closeErr := v.close()
		err = errors.Join(err, closeErr)
	}()
	if _, err := v.insert(min(warmUp, o.jobs), hub.SmallArgs); err != nil {
		return err
	}
	if err := v.start(usual); err != nil {
		return err
	}
	if _, err := v.drain(v.next); err != nil {
		return err
	}
	if err := pause(v.ctx, settle); err != nil {
		return err
	}
	if err := v.hub.Signal(v.ctx, 0, o.signals, 10*time.Millisecond, p.Rows/o.signals); err != nil {
		return err
	}
	delays, err := v.hub.Delays(v.ctx, 0)
	if err != nil {
		return err
	}
	ms := func(at float64) float64 { return float64(stat.Percentile(delays, at)) / float64(time.Millisecond) }
	p.Signal = Latency{System: s.Name(), Processes: usual, Samples: len(delays), P50: ms(50), P95: ms(95), P99: ms(99)}
	l.progress.step("one of %d sleepers runs %.1f ms after its signal, p99 %.1f ms", p.Rows, p.Signal.P50, p.Signal.P99)
	return nil
}

func (r *Sleepers) chart() chart {
	return newChart(fmt.Sprintf("Beside strands that sleep, %d signals, %d plain strands", r.Signals, r.Jobs), "asleep", sleeperColumns, r.Points,
		func(a Asleep) mark { return mark{x: a.Rows} })
}
