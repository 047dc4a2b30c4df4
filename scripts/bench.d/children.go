package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/respirated/respirated/scripts/bench.d/hub"
	"github.com/respirated/respirated/scripts/bench.d/meter"
	"github.com/respirated/respirated/scripts/bench.d/system"
)

// childrenMode measures one strand with many children: how it buds, waits for and reaps them, and how all are cancelled.
const childrenMode = "children"

// Family is the report of the mode.
type Family struct {
	Mode     string    `json:"mode"`
	Began    time.Time `json:"began"`
	Machine  string    `json:"machine"`
	Server   []string  `json:"server"`
	System   About     `json:"system"`
	Children int       `json:"children"`

	Budded    float64    `json:"budded_seconds"`      // from the begin of the parent's first run until it has budded all
	Alone     float64    `json:"alone_seconds"`       // from there until it runs, with no child left
	Reaped    float64    `json:"reaped_seconds"`      // from there until it has reaped all
	Rate      float64    `json:"children_per_second"` // over all three
	Cost      meter.Cost `json:"cost_per_child"`
	Reaps     int64      `json:"runs_to_reap"`
	Waits     int64      `json:"runs_while_children_were_left"`
	Broker    int64      `json:"broker_bytes"` // at its peak
	Worker    int64      `json:"worker_bytes"` // of the largest
	Cancelled float64    `json:"cancel_seconds"`
}

func runChildren(ctx context.Context, at place, args []string) (err error) {
	flags := flag.NewFlagSet("scripts/bench "+childrenMode, flag.ContinueOnError)
	children := flags.Int("children", 100_000, "the `number` of children")
	portion := flags.Int("portion", 1000, "how `many` it buds in one run")
	processes := flags.Int("procs", usual, "the `number` of worker processes")
	json := flags.String("json", "", "write everything to this `file`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || *children < 1 || *portion < 1 || *processes < 1 {
		return fmt.Errorf("%s takes flags only, with numbers from 1 on", childrenMode)
	}
	l, err := openLab(ctx, at.work, newProgress(os.Stderr))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	ours := at.respirate(false)
	r := &Family{Mode: childrenMode, Began: time.Now(), Machine: machine(), Server: l.settings(), Children: *children}
	if r.System, err = about(ours); err != nil {
		return err
	}
	parent := system.Parent{Children: *children, Portion: *portion}
	for _, measure := range []func(*visit, system.Parent) error{r.reap, r.cancel} {
		if err := l.family(ctx, ours, *processes, parent, measure); err != nil {
			return err
		}
	}
	return errors.Join(writeJSON(*json, r), r.print())
}

// family is a visit whose workers run.
func (l *lab) family(ctx context.Context, ours system.Respirate, processes int, parent system.Parent, measure func(*visit, system.Parent) error) (err error) {
	v, err := l.open(ctx, ours)
	if err != nil {
		return err
	}
	defer func() {
		_, closeErr := v.close()
		err = errors.Join(err, closeErr)
	}()
	if err := v.start(processes); err != nil {
		return err
	}
	if err := v.hub.Go(); err != nil {
		return err
	}
	return measure(v, parent)
}

// parent inserts it, and returns its id and when.
func (v *visit) parent(args system.Parent) (id string, at hub.Instant, err error) {
	at = hub.Now()
	if err = v.conn.QueryRow(v.ctx, `select respirate.insert('parent', $1::jsonb)::text`, args).Scan(&id); err != nil {
		err = fmt.Errorf("insert the parent: %w", err)
	}
	return id, at, err
}

// reap has the children run and be reaped.
func (r *Family) reap(v *visit, args system.Parent) error {
	before, err := v.meter.Begin(v.ctx)
	if err != nil {
		return err
	}
	_, began, err := v.parent(args)
	if err != nil {
		return err
	}
	moments := []hub.Instant{began}
	for _, name := range []string{system.TellBudded, system.TellAlone, system.TellReaped} {
		at, err := v.hub.Value(v.ctx, name)
		if err != nil {
			return err
		}
		moments = append(moments, hub.Instant(at))
		v.lab.progress.step("%d children: %s after %.1f s", args.Children, name, hub.Instant(at).Since(began).Seconds())
	}
	for i, phase := range []*float64{&r.Budded, &r.Alone, &r.Reaped} {
		*phase = moments[i+1].Since(moments[i]).Seconds()
	}
	r.Rate = float64(args.Children) / moments[3].Since(began).Seconds()
	if err := v.persisted(); err != nil {
		return err
	}
	after, err := v.meter.End(v.ctx)
	if err != nil {
		return err
	}
	r.Cost = after.Since(before, args.Children)
	if r.Reaps, err = v.hub.Value(v.ctx, system.TellRuns); err != nil {
		return err
	}
	if r.Waits, err = v.hub.Value(v.ctx, system.TellWaits); err != nil {
		return err
	}
	if r.Broker, err = meter.Peak(v.meter.Brokers[0]); err != nil {
		return err
	}
	for _, pid := range v.meter.Workers {
		peak, err := meter.Peak(pid)
		if err != nil {
			return err
		}
		r.Worker = max(r.Worker, peak)
	}
	return nil
}

// cancel ends the parent while all of its children wait for another day.
func (r *Family) cancel(v *visit, args system.Parent) error {
	args.Idle = true
	id, _, err := v.parent(args)
	if err != nil {
		return err
	}
	if _, err := v.hub.Value(v.ctx, system.TellBudded); err != nil {
		return err
	}
	began := time.Now()
	if _, err := v.conn.Exec(v.ctx, `select respirate.cancel($1)`, id); err != nil {
		return fmt.Errorf("cancel the parent: %w", err)
	}
	if err := v.persisted(); err != nil {
		return err
	}
	r.Cancelled = time.Since(began).Seconds()
	v.lab.progress.step("%d children are cancelled after %.1f s", args.Children, r.Cancelled)
	return nil
}

func (r *Family) print() error {
	fmt.Printf("\nOne strand with %d children: %s, %s\n\n", r.Children, r.Machine, r.System.Version)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	const mib = 1 << 20
	for _, line := range []struct {
		what, format string
		figure       float64
	}{
		{"all budded after, s", "%.2f", r.Budded},
		{"then all have ended, and it runs again, s", "%.2f", r.Alone},
		{"then all reaped, s", "%.2f", r.Reaped},
		{"children/s over all of it", "%.0f", r.Rate},
		{"Postgres CPU, us/child", "%.1f", r.Cost.PostgresCPU},
		{"broker CPU, us/child", "%.1f", r.Cost.BrokerCPU},
		{"worker CPU, us/child", "%.1f", r.Cost.WorkerCPU},
		{"WAL, bytes/child", "%.0f", r.Cost.WAL},
		{"runs of the parent to reap", "%.0f", float64(r.Reaps)},
		{"of them while children were left", "%.0f", float64(r.Waits)},
		{"memory of the broker, MiB", "%.0f", float64(r.Broker) / mib},
		{"memory of the largest worker, MiB", "%.0f", float64(r.Worker) / mib},
		{"cancel of all, s", "%.2f", r.Cancelled},
	} {
		fmt.Fprintf(w, "%s\t"+line.format+"\n", line.what, line.figure)
	}
	return w.Flush()
}
