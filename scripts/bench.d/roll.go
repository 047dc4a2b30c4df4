package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/respirated/respirated/scripts/bench.d/stat"
	"github.com/respirated/respirated/scripts/bench.d/system"
)

// rollMode compares windows in which a pool rolls from build to build without a pause with windows in which it does not, in
// turns, under load.
const rollMode = "roll"

// Roll is the report of the mode.
type Roll struct {
	Mode    string       `json:"mode"`
	Began   time.Time    `json:"began"`
	Machine string       `json:"machine"`
	Server  []string     `json:"server"`
	System  About        `json:"system"`
	Procs   int          `json:"procs"`
	Takes   int          `json:"strand_ms"` // how long a strand takes, besides what the system takes for it
	Windows []Window     `json:"windows"`
	Still   stat.Summary `json:"strands_per_second_still"`
	Rolling stat.Summary `json:"strands_per_second_rolling"`
	Each    stat.Summary `json:"roll_seconds"`
	Ratio   float64      `json:"ratio"`       // of the medians
	Failed  int          `json:"failed_runs"` // of all
}

// Window is a time under load.
type Window struct {
	Rolled []float64 `json:"rolled"` // how long each roll that began in it took, in seconds; none = it was still
	Rate   float64   `json:"strands_per_second"`
}

type rollOptions struct {
	procs, takes, backlog, windows int
	window                         time.Duration
	json                           string
}

func parseRoll(args []string) (o rollOptions, err error) {
	flags := flag.NewFlagSet("scripts/bench "+rollMode, flag.ContinueOnError)
	flags.IntVar(&o.procs, "procs", many, "the `number` of worker processes")
	flags.IntVar(&o.takes, "takes", 20, "how long a strand takes, in `ms`; 0 = nothing, so that the processors are the limit")
	flags.IntVar(&o.backlog, "backlog", 200_000, "the `number` of strands that wait when a window begins: more than a window takes")
	flags.IntVar(&o.windows, "windows", 7, "the `number` of windows of each kind, of which the median counts")
	flags.DurationVar(&o.window, "window", 10*time.Second, "how `long` each is")
	flags.StringVar(&o.json, "json", "", "write everything to this `file`")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 || o.procs < 1 || o.takes < 0 || o.backlog < 1 || o.windows < 1 || o.window <= 0 {
		return o, fmt.Errorf("%s takes flags only, with numbers from 1 on", rollMode)
	}
	return o, nil
}

func runRoll(ctx context.Context, at place, args []string) (err error) {
	o, err := parseRoll(args)
	if err != nil {
		return err
	}
	l, err := openLab(ctx, at.work, newProgress(os.Stderr))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	ours, err := system.NewRolling(at.respirate(false), at.work)
	if err != nil {
		return err
	}
	r := &Roll{Mode: rollMode, Began: time.Now(), Machine: machine(), Server: l.settings(), Procs: o.procs, Takes: o.takes}
	if r.System, err = about(ours); err != nil {
		return err
	}
	if err := r.measure(ctx, l, ours, o); err != nil {
		return err
	}
	return errors.Join(writeJSON(o.json, r), r.print())
}

// roller is a visit with a pool that can be rolled.
type roller struct {
	*visit
	ours     *system.Rolling
	daemon   *daemon
	options  rollOptions
	inserted int
}

func (r *Roll) measure(ctx context.Context, l *lab, ours *system.Rolling, o rollOptions) (err error) {
	v, err := l.open(ctx, ours)
	if err != nil {
		return err
	}
	defer func() {
		_, closeErr := v.close()
		err = errors.Join(err, closeErr)
	}()
	if err := v.start(o.procs); err != nil {
		return err
	}
	if err := v.hub.Go(); err != nil {
		return err
	}
	w := &roller{visit: v, ours: ours, daemon: newDaemon(v, ours.Respirate), options: o}
	if err := w.daemon.connected(o.procs); err != nil {
		return err
	}
	if _, err := w.still(); err != nil { // warms up, and does not count
		return err
	}
	var still, rolling, each []float64
	for i := range 2 * o.windows {
		measure := w.still
		if (i+i/2)%2 == 1 { // each kind first in every other turn
			measure = w.rolling
		}
		got, err := measure()
		if err != nil {
			return err
		}
		r.Windows = append(r.Windows, got)
		if len(got.Rolled) == 0 {
			still = append(still, got.Rate)
		} else {
			rolling, each = append(rolling, got.Rate), append(each, got.Rolled...)
		}
		l.progress.step("window %d: %d rolls, %.0f strands/s", i+1, len(got.Rolled), got.Rate)
	}
	if err := v.persisted(); err != nil {
		return err
	}
	r.Still, r.Rolling, r.Each = stat.Summarize(still), stat.Summarize(rolling), stat.Summarize(each)
	r.Ratio = stat.Ratio(r.Rolling.Median, r.Still.Median)
	if err := v.conn.QueryRow(v.ctx, "select count(*) from respirate.attempts").Scan(&r.Failed); err != nil {
		return fmt.Errorf("count failed runs: %w", err)
	}
	return nil
}

// fill has as many strands wait as a window needs.
func (w *roller) fill() error {
	n := w.options.backlog - (w.inserted - int(w.hub.Count()))
	if n <= 0 {
		return nil
	}
	w.inserted += n
	_, err := w.conn.Exec(w.ctx, `with lane as (select respirate.lane('', 'default', 5, 'lasting') as lane)
		insert into respirate.strand (id, lane, args)
		select gen_random_uuid(), (select lane from lane), jsonb_build_object('ms', $2::int) from generate_series(1, $1::int)`, n, w.options.takes)
	if err != nil {
		return fmt.Errorf("insert a backlog: %w", err)
	}
	if err := w.vacuum(); err != nil {
		return err
	}
	// A daemon that had nothing to do finds it at its next look.
	for before := w.hub.Count(); w.hub.Count() == before; {
		if err := pause(w.ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return pause(w.ctx, settle)
}

// still is a window in which nothing else happens.
func (w *roller) still() (got Window, err error) {
	if err := w.fill(); err != nil {
		return got, err
	}
	got.Rate, err = w.rate()
	return got, err
}

// rate counts over a window.
func (w *roller) rate() (float64, error) {
	before, began := w.hub.Count(), time.Now()
	if err := pause(w.ctx, w.options.window); err != nil {
		return 0, err
	}
	after, took := w.hub.Count(), time.Since(began)
	if w.inserted-int(after) < w.options.backlog/20 {
		return 0, fmt.Errorf("the backlog came to its end: %.0f strands/s take more than a --backlog of %d",
			float64(after-before)/took.Seconds(), w.options.backlog)
	}
	return float64(after-before) / took.Seconds(), nil
}

// rolling is a window in which one roll follows the other. It returns when the last has ended.
func (w *roller) rolling() (got Window, err error) {
	if err := w.fill(); err != nil {
		return got, err
	}
	over := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		for {
			took, err := w.roll()
			got.Rolled = append(got.Rolled, took.Seconds())
			select {
			case <-over:
			default:
				if err == nil {
					continue
				}
			}
			ended <- err
			return
		}
	}()
	rate, err := w.rate()
	close(over)
	err = errors.Join(err, <-ended)
	got.Rate = rate
	return got, err
}

// roll puts another build into the place of the workers', and waits until all of them run it.
func (w *roller) roll() (time.Duration, error) {
	before, err := w.daemon.pool()
	if err != nil {
		return 0, err
	}
	if err := w.ours.Replace(); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := w.daemon.ask(http.MethodPost, "pools/"+system.Pool+"/roll", new(any)); err != nil {
		return 0, err
	}
	for {
		if err := pause(w.ctx, 20*time.Millisecond); err != nil {
			return 0, err
		}
		switch p, err := w.daemon.pool(); {
		case err != nil:
			return 0, err
		case p.State == "running" && p.Build != before.Build:
			return time.Since(began), nil
		case p.State != "running" && p.State != "rolling":
			return 0, fmt.Errorf("the pool is %q: %s", p.State, p.Note)
		}
	}
}

func (r *Roll) print() error {
	fmt.Printf("\nA pool of %d that rolls without a pause, strands of %d ms: %s, %s\n\n", r.Procs, r.Takes, r.Machine, r.System.Version)
	line := func(what string, s stat.Summary, format string) {
		fmt.Printf("%-24s "+format+" ("+format+" to "+format+")\n", what, s.Median, s.Min, s.Max)
	}
	line("strands/s, still", r.Still, "%.0f")
	line("strands/s, rolling", r.Rolling, "%.0f")
	line("a roll takes, s", r.Each, "%.2f")
	fmt.Println()
	return showTargets([]Target{
		atLeast("strands/s: medians of windows, rolling / still", r.Ratio, 0.85),
		atMost("failed runs", float64(r.Failed), 0),
	})
}
