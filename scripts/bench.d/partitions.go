package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/postgres"
	"github.com/respirated/respirated/scripts/bench.d/meter"
	"github.com/respirated/respirated/scripts/bench.d/system"
)

// partitionsMode draws what a scan costs one broker over the number of partitions.
const partitionsMode = "partitions"

// scanLimit is for how many strands each scan asks, as a broker with a few workers does.
const scanLimit = 64

// Scans is the report of the mode.
type Scans struct {
	Mode    string    `json:"mode"`
	Began   time.Time `json:"began"`
	Machine string    `json:"machine"`
	Server  []string  `json:"server"`
	Backlog int       `json:"backlog"`
	Points  []Scan    `json:"points"`
}

// Scan is what a scan from the bottom costs who has one of so many partitions.
type Scan struct {
	Partitions int     `json:"partitions"`
	Line       string  `json:"line"`
	Found      float64 `json:"found"` // strands
	Time       float64 `json:"us"`    // as the broker sees it
	CPU        float64 `json:"postgres_cpu_us"`
	Pages      float64 `json:"pages"`
}

// scanColumns are what the mode shows and draws.
var scanColumns = []figure[Scan]{
	{"strands found", "%.0f", func(s Scan) float64 { return s.Found }},
	{"time, us/scan", "%.0f", func(s Scan) float64 { return s.Time }},
	{"Postgres CPU, us/scan", "%.0f", func(s Scan) float64 { return s.CPU }},
	{"pages/scan", "%.0f", func(s Scan) float64 { return s.Pages }},
}

// partitionOptions are the flags of the mode.
type partitionOptions struct {
	jobs, most, scans int
	json, svg         string
}

func parsePartitions(args []string) (o partitionOptions, err error) {
	flags := flag.NewFlagSet("scripts/bench "+partitionsMode, flag.ContinueOnError)
	flags.IntVar(&o.jobs, "jobs", 100_000, "the `number` of jobs in the backlog")
	flags.IntVar(&o.most, "most", 256, "the `end` of the curve, in partitions")
	flags.IntVar(&o.scans, "scans", 500, "how `often` each scan is repeated")
	flags.StringVar(&o.json, "json", "", "write everything to this `file`")
	flags.StringVar(&o.svg, "svg", "", "draw the curve to this `file`")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 || o.jobs < 1 || o.most < 1 || o.scans < 1 {
		return o, fmt.Errorf("%s takes flags only, with numbers from 1 on", partitionsMode)
	}
	return o, nil
}

func runPartitions(ctx context.Context, at place, args []string) (err error) {
	o, err := parsePartitions(args)
	if err != nil {
		return err
	}
	l, err := openLab(ctx, at.work, newProgress(os.Stderr))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	r := &Scans{Mode: partitionsMode, Began: time.Now(), Machine: machine(), Server: l.settings(), Backlog: o.jobs}
	if err := l.scan(ctx, at.respirate(false), o, r); err != nil {
		return err
	}
	return errors.Join(r.save(o), table(os.Stdout, r.chart(), r.Machine))
}

// scan fills the report: first with nothing in the table, then with a backlog.
func (l *lab) scan(ctx context.Context, ours system.Respirate, o partitionOptions, r *Scans) (err error) {
	name, url, err := l.database(ctx, ours)
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
	sc := scans{store: store, server: l.meter, database: name, count: o.scans, kinds: []string{"bench"}}
	for _, fill := range []struct{ line, sql string }{
		{"idle", `select respirate.lane('', 'default', 5, 'bench')`},
		{"backlog", fmt.Sprintf(`insert into respirate.strand (id, lane, args, schedule)
			select gen_random_uuid(), (select lane from respirate.lane), '{}', now() - interval '5 min' * n / %[1]d
			from generate_series(1, %[1]d) n`, o.jobs)},
	} {
		if _, err := conn.Exec(ctx, fill.sql); err != nil {
			return fmt.Errorf("fill the table: %w", err)
		}
		if _, err := conn.Exec(ctx, "vacuum analyze"); err != nil {
			return fmt.Errorf("vacuum the table: %w", err)
		}
		for _, overdue := range []time.Duration{0, 10 * time.Minute} {
			line := fill.line
			if overdue > 0 {
				line += ", and what is overdue elsewhere"
			}
			for _, n := range grow(o.most, 1, 4, func(int) setting { return setting{} }) {
				p, err := sc.measure(ctx, n.X, overdue)
				if err != nil {
					return fmt.Errorf("scan one of %d partitions: %w", n.X, err)
				}
				p.Line = line
				r.Points = append(r.Points, p)
				l.progress.step("one of %d partitions, %s: %.0f us, %.0f pages", n.X, line, p.Time, p.Pages)
			}
		}
	}
	return nil
}

// scans repeats one scan through the product's store.
type scans struct {
	store    *postgres.Store
	server   *meter.Server
	database string
	count    int
	kinds    []string
}

// measure scans for the second of so many partitions, or for all.
func (sc scans) measure(ctx context.Context, partitions int, overdue time.Duration) (s Scan, err error) {
	req := broker.ScanRequest{Kinds: sc.kinds, Limit: scanLimit, Bottom: true, Overdue: overdue}
	if width := uint64(1) << 32 / uint64(partitions); partitions > 1 {
		req.Slice = broker.Slice{Lo: width, Hi: 2 * width}
	}
	if _, err := sc.store.Scan(ctx, req); err != nil { // which loads the lanes
		return s, err
	}
	req.Known = true
	s.Partitions = partitions
	before, err := sc.read(ctx)
	if err != nil {
		return s, err
	}
	began := time.Now()
	for range sc.count {
		got, err := sc.store.Scan(ctx, req)
		if err != nil {
			return s, err
		}
		s.Found += float64(len(got.Candidates)) / float64(sc.count)
	}
	took := time.Since(began)
	after, err := sc.read(ctx)
	each := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(sc.count) }
	s.Time, s.CPU = each(took), each(after.cpu-before.cpu)
	s.Pages = float64(after.pages-before.pages) / float64(sc.count)
	return s, err
}

// meters are how far the server's stand.
type meters struct {
	cpu   time.Duration
	pages int64
}

func (sc scans) read(ctx context.Context) (m meters, err error) {
	if m.pages, err = sc.server.Pages(ctx, sc.database); err != nil {
		return m, err
	}
	m.cpu, err = sc.server.CPU()
	return m, err
}

// save writes the files that were asked for.
func (r *Scans) save(o partitionOptions) error {
	return errors.Join(writeJSON(o.json, r), r.chart().draw(o.svg))
}

func (r *Scans) chart() chart {
	return newChart(fmt.Sprintf("A scan of one partition, %d strands in the backlog", r.Backlog), "partitions", scanColumns, r.Points,
		func(s Scan) mark { return mark{x: s.Partitions, line: s.Line} })
}
