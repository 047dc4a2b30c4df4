package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/respirated/respirated/scripts/bench.d/hub"
	"github.com/respirated/respirated/scripts/bench.d/system"
)

// curve is a mode: how the cost of a strand grows with something.
type curve struct {
	name  string
	title string
	x     string // label of what grows
	jobs  int    // of each backlog, unless that is what grows
	most  int    // where it ends
	plan  func(jobs, most int) []setting
	extra []figure[Grown] // what only this one shows
}

// setting is one point of a curve.
type setting struct {
	backlog
	X       int
	line    string // which curve of several it belongs to
	daemons int
}

func (s setting) label() string { return label(s.X, s.line) }

// label names a point.
func label(x int, line string) string {
	if line == "" {
		return fmt.Sprint(x)
	}
	return fmt.Sprintf("%d, %s", x, line)
}

// curves are the modes. A new one is a new entry here.
var curves = []curve{
	{
		name: "workers", title: "Worker processes on one host", x: "worker processes", jobs: 100_000, most: 256,
		plan: func(jobs, most int) []setting {
			return grow(most, 1, 4, func(x int) setting { return small(jobs, x) })
		},
	},
	{
		name: "daemons", title: "Daemons on one Postgres, 4 workers each", x: "daemons", jobs: 100_000, most: 4,
		plan: func(jobs, most int) []setting {
			return grow(most, 1, 2, func(x int) setting {
				s := small(jobs, usual*x)
				s.daemons, s.idleFor = x, 20*time.Second
				return s
			})
		},
		extra: []figure[Grown]{{"idle, statements/s of a daemon", "%.2f", func(d Grown) float64 { return d.Idle * usual / float64(d.Processes) }}},
	},
	{
		name: "backlog", title: "Backlog, 4 workers", x: "strands in the backlog", most: 5_000_000,
		plan: func(_, most int) []setting {
			return grow(most, 10_000, 10, func(x int) setting { return small(x, usual) })
		},
	},
	{
		name: "horizon", title: "Backlog, 4 workers, with a transaction elsewhere that is as old", x: "strands in the backlog", most: 320_000,
		plan: func(_, most int) []setting {
			free := grow(most, 20_000, 4, func(x int) setting {
				s := small(x, usual)
				s.line = "horizon free"
				return s
			})
			return append(free, grow(most, 20_000, 4, func(x int) setting {
				s := small(x, usual)
				s.line, s.held = "horizon held", true
				return s
			})...)
		},
	},
	{
		name: "payload", title: "Payload, 4 workers", x: "bytes of args", jobs: 50_000, most: 64 << 10,
		plan: func(jobs, most int) []setting {
			const room = 200 << 20 // for all payloads of a backlog, so that a point takes no minutes
			return grow(most, 128, 8, func(x int) setting {
				s := small(min(jobs, room/x), usual)
				s.size = x
				return s
			})
		},
	},
}

// small is a setting with small jobs and one daemon.
func small(jobs, processes int) setting {
	return setting{backlog: backlog{jobs: jobs, size: hub.SmallArgs, processes: processes}, daemons: 1}
}

// grow makes settings for an x that grows by a factor until its end, which is one of them.
func grow(most, from, factor int, at func(x int) setting) (all []setting) {
	for x := from; x <= most; x *= factor {
		s := at(x)
		s.X = x
		all = append(all, s)
		if x < most && x*factor > most {
			s := at(most)
			s.X = most
			all = append(all, s)
		}
	}
	return all
}

// Growth is the report of a curve.
type Growth struct {
	Mode    string    `json:"mode"`
	Began   time.Time `json:"began"`
	Machine string    `json:"machine"`
	Server  []string  `json:"server"`
	System  About     `json:"system"`
	Points  []Grown   `json:"points"`
}

// Grown is one point of a curve.
type Grown struct {
	X    int    `json:"x"`
	Line string `json:"line,omitempty"`
	Drain
}

// curveOptions are the flags of a mode.
type curveOptions struct {
	jobs, most int
	json, svg  string
}

func (c curve) parse(args []string) (o curveOptions, err error) {
	flags := flag.NewFlagSet("scripts/bench "+c.name, flag.ContinueOnError)
	flags.IntVar(&o.jobs, "jobs", c.jobs, "the `number` of jobs in each backlog, where that is not what grows")
	flags.IntVar(&o.most, "most", c.most, "the `end` of the curve, in "+c.x)
	flags.StringVar(&o.json, "json", "", "write everything to this `file`")
	flags.StringVar(&o.svg, "svg", "", "draw the curve to this `file`")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("%s takes flags only, not %q", c.name, flags.Args())
	}
	return o, nil
}

func runCurve(ctx context.Context, at place, c curve, args []string) (err error) {
	o, err := c.parse(args)
	if err != nil {
		return err
	}
	settings := c.plan(o.jobs, o.most)
	if len(settings) == 0 {
		return fmt.Errorf("--most %d is below the begin of the curve", o.most)
	}
	l, err := openLab(ctx, at.work, newProgress(os.Stderr))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	g, err := c.measure(ctx, l, at.respirate(false), settings)
	if err != nil {
		return err
	}
	return errors.Join(c.save(g, o), table(os.Stdout, c.chart(g), g.Machine+", "+g.System.Version))
}

// save writes the files that were asked for.
func (c curve) save(g *Growth, o curveOptions) error {
	return errors.Join(writeJSON(o.json, g), c.chart(g).draw(o.svg))
}

func (c curve) measure(ctx context.Context, l *lab, ours system.Respirate, settings []setting) (*Growth, error) {
	system, err := about(ours)
	if err != nil {
		return nil, err
	}
	g := &Growth{Mode: c.name, Began: time.Now(), Machine: machine(), Server: l.settings(), System: system}
	for _, s := range settings {
		ours.Daemons = s.daemons
		d, err := l.drain(ctx, ours, s.backlog)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", c.x, s.label(), err)
		}
		g.Points = append(g.Points, Grown{X: s.X, Line: s.line, Drain: d})
		l.progress.step("%s %s: %.0f strands/s, Postgres %.1f us", c.x, s.label(), d.Rate, d.Cost.PostgresCPU)
	}
	return g, nil
}

// growthColumns are those of drainColumns that a curve shows and draws.
var growthColumns = []figure[Grown]{
	{"strands", "%.0f", func(d Grown) float64 { return float64(d.Jobs) }},
	{"strands/s", "%.0f", func(d Grown) float64 { return d.Rate }},
	{"Postgres CPU, us/strand", "%.1f", func(d Grown) float64 { return d.Cost.PostgresCPU }},
	{"broker CPU, us/strand", "%.1f", func(d Grown) float64 { return d.Cost.BrokerCPU }},
	{"worker CPU, us/strand", "%.1f", func(d Grown) float64 { return d.Cost.WorkerCPU }},
	{"WAL, bytes/strand", "%.0f", func(d Grown) float64 { return d.Cost.WAL }},
	{"connections", "%.0f", func(d Grown) float64 { return float64(d.Connections) }},
}

// chart is the report as a table and as a figure.
func (c curve) chart(g *Growth) chart {
	return newChart(c.title, c.x, slices.Concat(growthColumns, c.extra), g.Points, func(p Grown) mark { return mark{x: p.X, line: p.Line} })
}
