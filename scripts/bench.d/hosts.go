package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/respirated/respirated/scripts/bench.d/hub"
	"github.com/respirated/respirated/scripts/bench.d/meter"
	"github.com/respirated/respirated/scripts/bench.d/system"
)

// hostsMode measures what a daemon takes of memory and time for many workers that have nothing to do, and when they had.
const hostsMode = "hosts"

// Hosts is the report of the mode.
type Hosts struct {
	Mode    string    `json:"mode"`
	Began   time.Time `json:"began"`
	Machine string    `json:"machine"`
	Server  []string  `json:"server"`
	System  About     `json:"system"`
	Jobs    int       `json:"jobs"`
	Points  []Hosted  `json:"points"`
}

// Hosted is a daemon with so many workers.
type Hosted struct {
	Processes   int `json:"processes"`
	Connections int `json:"connections"` // of all of them

	Fresh Rest    `json:"fresh"` // before any work
	Rate  float64 `json:"jobs_per_second"`
	Peak  int64   `json:"peak_bytes"` // of all of it
	Spent Rest    `json:"spent"`      // after the backlog
}

// Rest is a time without work.
type Rest struct {
	Resident int64   `json:"resident_bytes"`       // of the daemon, at its end
	Daemon   float64 `json:"daemon_percent"`       // of a processor
	Workers  float64 `json:"all_workers_percent"`  // of a processor
	Largest  int64   `json:"largest_worker_bytes"` // at its end
}

const mib = 1 << 20

var hostColumns = []figure[Hosted]{
	{"connections", "%.0f", func(h Hosted) float64 { return float64(h.Connections) }},
	{"MiB idle", "%.0f", func(h Hosted) float64 { return float64(h.Fresh.Resident) / mib }},
	{"CPU idle, %", "%.1f", func(h Hosted) float64 { return h.Fresh.Daemon }},
	{"all workers, %", "%.1f", func(h Hosted) float64 { return h.Fresh.Workers }},
	{"strands/s", "%.0f", func(h Hosted) float64 { return h.Rate }},
	{"MiB at most", "%.0f", func(h Hosted) float64 { return float64(h.Peak) / mib }},
	{"MiB afterwards", "%.0f", func(h Hosted) float64 { return float64(h.Spent.Resident) / mib }},
	{"CPU afterwards, %", "%.1f", func(h Hosted) float64 { return h.Spent.Daemon }},
	{"all workers, %", "%.1f", func(h Hosted) float64 { return h.Spent.Workers }},
	{"largest worker, MiB", "%.0f", func(h Hosted) float64 { return float64(h.Spent.Largest) / mib }},
}

type hostOptions struct {
	procs, crowd, connections, slots, jobs int
	idle                                   time.Duration
	json                                   string
}

func parseHosts(args []string) (o hostOptions, err error) {
	flags := flag.NewFlagSet("scripts/bench "+hostsMode, flag.ContinueOnError)
	flags.IntVar(&o.crowd, "crowd", 20, "the `number` of processes that the daemon does not start")
	flags.IntVar(&o.connections, "connections", 50, "the `number` of connections of each of them")
	flags.IntVar(&o.procs, "procs", 256, "the `number` of processes of a pool, each with a connection")
	flags.IntVar(&o.slots, "slots", slots, "the `number` of slots of each connection")
	flags.IntVar(&o.jobs, "jobs", 200_000, "the `number` of jobs in each backlog")
	flags.DurationVar(&o.idle, "idle", 20*time.Second, "how `long` they have nothing to do, before and after the backlog")
	flags.StringVar(&o.json, "json", "", "write everything to this `file`")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 || o.crowd < 1 || o.connections < 1 || o.procs < 1 || o.slots < 1 || o.jobs < 1 || o.idle <= 0 {
		return o, fmt.Errorf("%s takes flags only, with numbers from 1 on", hostsMode)
	}
	return o, nil
}

func runHosts(ctx context.Context, at place, args []string) (err error) {
	o, err := parseHosts(args)
	if err != nil {
		return err
	}
	l, err := openLab(ctx, at.work, newProgress(os.Stderr))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	ours := at.respirate(false)
	ours.Slots = o.slots
	r := &Hosts{Mode: hostsMode, Began: time.Now(), Machine: machine(), Server: l.settings(), Jobs: o.jobs}
	if r.System, err = about(ours); err != nil {
		return err
	}
	for _, h := range []struct {
		system.System
		processes, connections int
	}{
		{system.Crowd{Respirate: ours, Connections: o.connections}, o.crowd, o.crowd * o.connections},
		{ours, o.procs, o.procs},
	} {
		got, err := l.host(ctx, h.System, ours, h.processes, h.connections, o)
		if err != nil {
			return fmt.Errorf("%d connections of %d processes: %w", h.connections, h.processes, err)
		}
		r.Points = append(r.Points, got)
		l.progress.step("%d connections of %d processes: %.0f MiB, %.0f at most", got.Connections, got.Processes, float64(got.Spent.Resident)/mib, float64(got.Peak)/mib)
	}
	return errors.Join(writeJSON(o.json, r), r.print())
}

// host is a visit of a daemon with so many workers.
func (l *lab) host(ctx context.Context, s system.System, ours system.Respirate, processes, connections int, o hostOptions) (h Hosted, err error) {
	v, err := l.open(ctx, s)
	if err != nil {
		return h, err
	}
	defer func() {
		_, closeErr := v.close()
		err = errors.Join(err, closeErr)
	}()
	h.Processes, h.Connections = processes, connections
	if err := v.start(processes); err != nil {
		return h, err
	}
	if err := v.hub.Go(); err != nil {
		return h, err
	}
	if err := newDaemon(v, ours).connected(connections); err != nil {
		return h, err
	}
	if h.Fresh, err = v.rest(o.idle); err != nil {
		return h, err
	}
	if _, err = v.insert(o.jobs, hub.SmallArgs); err != nil {
		return h, err
	}
	first, err := v.hub.Handled(v.ctx, o.jobs)
	if err != nil {
		return h, err
	}
	if err := v.persisted(); err != nil {
		return h, err
	}
	h.Rate = float64(o.jobs) / hub.Now().Since(first).Seconds()
	if h.Spent, err = v.rest(o.idle); err != nil {
		return h, err
	}
	h.Peak, err = meter.Peak(v.meter.Brokers[0])
	return h, err
}

// rest measures a time without work.
func (v *visit) rest(during time.Duration) (r Rest, err error) {
	if err := pause(v.ctx, settle); err != nil {
		return r, err
	}
	broker, workers, err := v.clocks()
	if err != nil {
		return r, err
	}
	began := time.Now()
	if err := pause(v.ctx, during); err != nil {
		return r, err
	}
	brokerThen, workersThen, err := v.clocks()
	if err != nil {
		return r, err
	}
	took := time.Since(began)
	percent := func(d time.Duration) float64 { return 100 * d.Seconds() / took.Seconds() }
	r.Daemon, r.Workers = percent(brokerThen-broker), percent(workersThen-workers)
	if r.Resident, err = meter.Resident(v.meter.Brokers[0]); err != nil {
		return r, err
	}
	for _, pid := range v.meter.Workers {
		resident, err := meter.Resident(pid)
		if err != nil {
			return r, err
		}
		r.Largest = max(r.Largest, resident)
	}
	return r, nil
}

func (v *visit) clocks() (broker, workers time.Duration, err error) {
	if broker, err = meter.CPU(v.meter.Brokers); err != nil {
		return 0, 0, err
	}
	workers, err = meter.CPU(v.meter.Workers)
	return broker, workers, err
}

func (r *Hosts) print() error {
	c := newChart(fmt.Sprintf("A daemon and its workers, with a backlog of %d", r.Jobs), "processes", hostColumns, r.Points, func(h Hosted) mark { return mark{x: h.Processes} })
	if err := table(os.Stdout, c, r.Machine+", "+r.System.Version); err != nil {
		return err
	}
	fmt.Println()
	var targets []Target
	for _, h := range r.Points {
		of := fmt.Sprintf("daemon with %d connections:", h.Connections)
		targets = append(targets,
			atMost(of+" MiB at most", float64(h.Peak)/mib, 128),
			atMost(of+" % of a processor, idle", max(h.Fresh.Daemon, h.Spent.Daemon), 5))
	}
	return showTargets(targets)
}
