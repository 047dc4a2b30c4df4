package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/respirated/respirated/scripts/bench.d/hub"
	"github.com/respirated/respirated/scripts/bench.d/stat"
	"github.com/respirated/respirated/scripts/bench.d/system"
)

const (
	warmUp = 2000            // jobs that are done before latency is measured
	settle = time.Second / 2 // for a system to notice that it is idle
)

// comparison is a run of the whole.
type comparison struct {
	lab     *lab
	opts    options
	ours    system.Respirate // without history
	systems []system.System  // ours twice, then the peers
	report  *Report
}

func runComparison(ctx context.Context, at place, args []string) (err error) {
	o, err := parseOptions(args)
	if err != nil {
		return err
	}
	c := &comparison{opts: o, ours: at.respirate(false), systems: []system.System{at.respirate(false), at.respirate(true)}}
	for _, name := range o.against {
		peer, err := at.peer(name)
		if err != nil {
			return err
		}
		c.systems = append(c.systems, peer)
	}
	if c.lab, err = openLab(ctx, at.work, newProgress(os.Stderr)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.lab.close()) }()
	if c.report, err = newReport(c.lab, c.systems); err != nil {
		return err
	}
	if err := c.run(ctx); err != nil {
		return err
	}
	c.report.Targets = c.report.judge()
	return errors.Join(writeJSON(o.json, c.report), c.report.print(os.Stdout))
}

// run measures everything, system by system within each run, so that a noisy minute meets all of them.
func (c *comparison) run(ctx context.Context) error {
	for run := range c.opts.runs {
		if err := c.drainAll(ctx, run); err != nil {
			return err
		}
	}
	load := int(c.slowest() / 2)
	for run := range c.opts.runs {
		for _, s := range c.turn(run) {
			if s.Name() == c.systems[1].Name() {
				continue // with history or without, starting is the same
			}
			if err := c.latency(ctx, s, run, load); err != nil {
				return err
			}
		}
		f, err := c.lab.flushes(ctx, run, c.opts.singles, c.opts.gap)
		if err != nil {
			return fmt.Errorf("measure the disk: %w", err)
		}
		c.report.Flushes = append(c.report.Flushes, f)
		c.lab.progress.step("run %d: a bare flush of the disk takes %.1f ms, p99 %.1f ms", run+1, f.P50, f.P99)
	}
	if c.opts.idleProcs == c.opts.latencyProcs() {
		return nil // measured together with the latency
	}
	for _, s := range c.systems {
		if s.Name() == c.systems[1].Name() {
			continue
		}
		if err := c.idleOnly(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// turn is the order of the systems in a run: everybody is first once.
func (c *comparison) turn(run int) []system.System {
	n := run % len(c.systems)
	return append(c.systems[n:len(c.systems):len(c.systems)], c.systems[:n]...)
}

func (c *comparison) drainAll(ctx context.Context, run int) error {
	for _, processes := range c.opts.procs {
		for _, s := range c.turn(run) {
			if err := c.drain(ctx, s, processes, run); err != nil {
				return err
			}
		}
	}
	l, err := c.lab.limit(ctx, c.ours, c.opts.jobs)
	if err != nil {
		return fmt.Errorf("measure the raw limit: %w", err)
	}
	l.Run = run
	c.report.Limits = append(c.report.Limits, l)
	c.lab.progress.step("run %d: the raw limit is %.0f jobs/s", run+1, l.Rate)
	return nil
}

func (c *comparison) drain(ctx context.Context, s system.System, processes, run int) error {
	d, err := c.lab.drain(ctx, s, backlog{jobs: c.opts.jobs, size: hub.SmallArgs, processes: processes})
	if err != nil {
		return err
	}
	d.Run = run
	c.report.Drains = append(c.report.Drains, d)
	c.lab.progress.step("run %d: %s with %d processes: %.0f jobs/s, %.0f inserted/s", run+1, s.Name(), processes, d.Rate, d.Insert.Rate)
	return nil
}

// slowest is the most that the slowest of all can do.
func (c *comparison) slowest() (rate float64) {
	for _, s := range c.systems {
		if r := c.report.rate(s.Name(), c.opts.latencyProcs()).Median; rate == 0 || r < rate {
			rate = r
		}
	}
	return rate
}

// latency is one visit: idle, and then at an offered load.
func (c *comparison) latency(ctx context.Context, s system.System, run, load int) (err error) {
	v, err := c.lab.awake(ctx, s, c.opts.latencyProcs())
	if err != nil {
		return err
	}
	defer func() {
		_, closeErr := v.close()
		err = errors.Join(err, closeErr)
	}()
	if c.opts.idleProcs == c.opts.latencyProcs() && run == 0 {
		if err := c.idle(v); err != nil {
			return err
		}
	}
	for _, rate := range []int{0, load} {
		delays, err := v.delays(c.opts, rate)
		if err != nil {
			return err
		}
		ms := func(p float64) float64 { return float64(stat.Percentile(delays, p)) / float64(time.Millisecond) }
		r := Latency{
			System: s.Name(), Processes: c.opts.latencyProcs(), Run: run, Load: rate, Samples: len(delays),
			P50: ms(50), P95: ms(95), P99: ms(99),
		}
		c.report.Latencies = append(c.report.Latencies, r)
		c.lab.progress.step("run %d: %s at %d jobs/s: begins %.1f ms after the commit, p99 %.1f ms", run+1, s.Name(), rate, r.P50, r.P99)
	}
	return nil
}

// awake is a visit whose workers run and have done a little, on tables of which the planner knows what they hold: on new
// ones, some systems' plans read the whole table for each job.
func (l *lab) awake(ctx context.Context, s system.System, processes int) (_ *visit, err error) {
	v, err := l.open(ctx, s)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_, closeErr := v.close()
			err = errors.Join(err, closeErr)
		}
	}()
	if _, err := v.insert(warmUp, hub.SmallArgs); err != nil {
		return nil, err
	}
	if err := v.start(processes); err != nil {
		return nil, err
	}
	_, err = v.drain(warmUp)
	return v, err
}

// delays inserts traced jobs, one at a time or at a rate, and returns how long after its commit each began.
func (v *visit) delays(o options, rate int) ([]time.Duration, error) {
	from := v.next
	var err error
	if rate == 0 {
		v.next += o.singles
		err = v.hub.Single(v.ctx, from, o.singles, o.gap)
	} else {
		v.next += 2 * int(float64(rate)*o.loadFor.Seconds()) // more than are sent
		err = v.hub.Load(v.ctx, from, rate, o.loadFor)
	}
	if err != nil {
		return nil, fmt.Errorf("insert with %s: %w", v.system.Name(), err)
	}
	return v.hub.Delays(v.ctx, from)
}

// idle counts what a system asks of the database while nothing happens.
func (c *comparison) idle(v *visit) error {
	r := Idle{System: v.system.Name(), Processes: len(v.meter.Workers)}
	var err error
	if r.Statements, r.Seconds, err = v.idle(c.opts.idleFor); err != nil {
		return err
	}
	if r.Connections, err = c.lab.meter.Connections(v.ctx, v.meter.Database); err != nil {
		return err
	}
	c.report.Idles = append(c.report.Idles, r)
	c.lab.progress.step("%s idle with %d processes: %.1f statements/s, %d connections", r.System, r.Processes, r.Statements, r.Connections)
	return nil
}

func (c *comparison) idleOnly(ctx context.Context, s system.System) (err error) {
	v, err := c.lab.awake(ctx, s, c.opts.idleProcs)
	if err != nil {
		return err
	}
	defer func() {
		_, closeErr := v.close()
		err = errors.Join(err, closeErr)
	}()
	return c.idle(v)
}

// pause waits for a time that is part of a measurement.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
