package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/respirated/respirated/scripts/bench.d/meter"
	"github.com/respirated/respirated/scripts/bench.d/system"
)

// hopsMode draws how many hops there are in a second over the number of strands that hop at once.
const hopsMode = "hops"

// fewHops is the most for each strand: one alone waits for the disk each time.
const fewHops = 2000

// Hops is the report of the mode.
type Hops struct {
	Mode    string    `json:"mode"`
	Began   time.Time `json:"began"`
	Machine string    `json:"machine"`
	Server  []string  `json:"server"`
	System  About     `json:"system"`
	Points  []Hopped  `json:"points"`
}

// Hopped is a visit of so many strands that hop at once.
type Hopped struct {
	Strands int        `json:"strands"`
	Hops    int        `json:"hops"` // of all, their ends included
	Rate    float64    `json:"hops_per_second"`
	Cost    meter.Cost `json:"cost_per_hop"`
}

var hopColumns = []figure[Hopped]{
	{"hops", "%.0f", func(h Hopped) float64 { return float64(h.Hops) }},
	{"hops/s", "%.0f", func(h Hopped) float64 { return h.Rate }},
	{"Postgres CPU, us/hop", "%.1f", func(h Hopped) float64 { return h.Cost.PostgresCPU }},
	{"broker CPU, us/hop", "%.1f", func(h Hopped) float64 { return h.Cost.BrokerCPU }},
	{"worker CPU, us/hop", "%.1f", func(h Hopped) float64 { return h.Cost.WorkerCPU }},
	{"WAL, bytes/hop", "%.0f", func(h Hopped) float64 { return h.Cost.WAL }},
	{"statements/hop", "%.4f", func(h Hopped) float64 { return h.Cost.Statements }},
}

func runHops(ctx context.Context, at place, args []string) (err error) {
	flags := flag.NewFlagSet("scripts/bench "+hopsMode, flag.ContinueOnError)
	hops := flags.Int("hops", 100_000, "the `number` of hops, divided among the strands")
	most := flags.Int("most", 10_000, "the `end` of the curve, in strands")
	processes := flags.Int("procs", usual, "the `number` of worker processes")
	json := flags.String("json", "", "write everything to this `file`")
	svg := flags.String("svg", "", "draw the curve to this `file`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || *hops < *most || *most < 1 || *processes < 1 {
		return fmt.Errorf("%s takes flags only, with numbers from 1 on, and a hop for each strand", hopsMode)
	}
	l, err := openLab(ctx, at.work, newProgress(os.Stderr))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	ours := at.respirate(false)
	r := &Hops{Mode: hopsMode, Began: time.Now(), Machine: machine(), Server: l.settings()}
	if r.System, err = about(ours); err != nil {
		return err
	}
	for _, s := range grow(*most, 1, 10, func(int) setting { return setting{} }) {
		h, err := l.hop(ctx, ours, s.X, min(*hops/s.X, fewHops), *processes)
		if err != nil {
			return fmt.Errorf("%d strands that hop: %w", s.X, err)
		}
		r.Points = append(r.Points, h)
		l.progress.step("%d strands hop: %.0f hops/s", h.Strands, h.Rate)
	}
	c := r.chart()
	return errors.Join(writeJSON(*json, r), c.draw(*svg), table(os.Stdout, c, r.Machine+", "+r.System.Version))
}

// hop is a visit of strands that make so many hops each, the last of which is their end.
func (l *lab) hop(ctx context.Context, ours system.Respirate, strands, each, processes int) (h Hopped, err error) {
	v, err := l.open(ctx, ours)
	if err != nil {
		return h, err
	}
	defer func() {
		_, closeErr := v.close()
		err = errors.Join(err, closeErr)
	}()
	if _, err := v.conn.Exec(v.ctx, `select respirate.insert('hopper', jsonb_build_object('left', $2::int - 1)) from generate_series(1, $1::int)`, strands, each); err != nil {
		return h, fmt.Errorf("insert the strands: %w", err)
	}
	if err := v.vacuum(); err != nil {
		return h, err
	}
	if err := v.start(processes); err != nil {
		return h, err
	}
	d, err := v.drain(strands * each)
	return Hopped{Strands: strands, Hops: strands * each, Rate: d.Rate, Cost: d.Cost}, err
}

func (r *Hops) chart() chart {
	return newChart("Strands that hop at once", "strands", hopColumns, r.Points, func(h Hopped) mark { return mark{x: h.Strands} })
}
