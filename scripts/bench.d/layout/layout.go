// Package layout asks which index, and which statements along it, serve the hot table best. It runs raw SQL loops on the
// product's own table in a private server, exchanging only the index that carries the scan:
//
//	present     (lane, schedule, id), with the product's statements as they stand in broker/postgres/sql
//	a           the same index, read stripe by stripe
//	a tid       as a, but rows are leased and deleted at the place where they were seen
//	a owned     as a, but no lease is written: the deletion is fenced by the epoch in a row that owns the slice
//	a owned id  the same, deleted by id
//	b           (bucket, schedule, id), lanes filtered in the heap
//	c           (bucket, lane, schedule, id)
//	d           (schedule, id), lanes filtered in the heap
//	d+          the same, with lane and bucket included
//	e           (lane, bucket, schedule, id)
//
// A stripe is what has one value in all columns before schedule: a lane in a, a lane of a bucket in c, everything in d.
// A scanner (scanner.go) lists the stripes that have something due, keeps a cursor in each, and asks for some of them at
// a time. So no layout is slow only because too much is asked of it at once.
//
// Three things are measured: what it costs to find 1,000 candidates in a large backlog (scans.go), what whole lives
// cost, from insert through scan and lease to the deletion (drains.go), and what the column bucket adds to an insert
// (bucket.go). The designs take turns in each load, so that what the machine does otherwise hits all of them.
package layout

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// limit is how many strands are looked for, leased or ended in one statement.
const limit = 1000

// config is what the command line says.
type config struct {
	rows    int      // backlog that is scanned
	drain   int      // strands of a drain
	pinned  int      // strands of a drain with a pinned horizon
	queues  int      // of the loads with many
	rounds  int      // each design's turns in each load
	designs []design // which take part
	loads   []string // names of loads that take part
	json    string   // file; "" = none
}

// Main runs the comparison. What it is told stands in the usage of `layout -h`. It is run in the root of the repository,
// since it reads the product's statements.
func Main(args []string) error {
	cfg, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r := &report{Settings: settings, Rows: cfg.rows, Drain: cfg.drain, Pinned: cfg.pinned, Queues: cfg.queues, Rounds: cfg.rounds}
	err = run(ctx, cfg, r)
	r.print(os.Stdout) // what was measured before an error, too
	if cfg.json != "" {
		err = errors.Join(err, r.save(cfg.json))
	}
	return err
}

func parse(args []string) (config, error) {
	cfg := config{}
	flags := flag.NewFlagSet("layout", flag.ContinueOnError)
	quick := flags.Bool("quick", false, "small sizes, done within a minute")
	flags.IntVar(&cfg.rows, "rows", 1_000_000, "backlog in which candidates are looked for")
	flags.IntVar(&cfg.drain, "drain", 100_000, "strands that are inserted and drained")
	flags.IntVar(&cfg.pinned, "pinned", 200_000, "strands that are drained while a snapshot is held")
	flags.IntVar(&cfg.queues, "queues", 10_000, "queues of the loads with many")
	flags.IntVar(&cfg.rounds, "rounds", 3, "turns of each design in each load")
	names := flags.String("designs", strings.Join(designNames(), ","), "which designs take part")
	loads := flags.String("loads", strings.Join(loadNames(), ","), "which loads take part")
	flags.StringVar(&cfg.json, "json", "", "write the figures to this file, too")
	if err := flags.Parse(args); err != nil {
		return config{}, err
	}
	if flags.NArg() > 0 {
		return config{}, fmt.Errorf("layout takes flags only, got %q", flags.Args())
	}
	if *quick {
		cfg.rows, cfg.drain, cfg.pinned, cfg.queues, cfg.rounds = 20_000, 5_000, 10_000, 500, 1
	}
	return cfg, cfg.choose(strings.Split(*names, ","), strings.Split(*loads, ","))
}

// choose takes the named designs and loads into the configuration.
func (c *config) choose(names, loads []string) error {
	for _, name := range names {
		i := slices.IndexFunc(designs, func(d design) bool { return d.name == name })
		if i < 0 {
			return fmt.Errorf("no design %q; there are: %s", name, strings.Join(designNames(), ", "))
		}
		c.designs = append(c.designs, designs[i])
	}
	for _, name := range loads {
		if !slices.Contains(loadNames(), name) {
			return fmt.Errorf("no load %q; there are: %s", name, strings.Join(loadNames(), ", "))
		}
		c.loads = append(c.loads, name)
	}
	for name, n := range map[string]int{"rows": c.rows, "drain": c.drain, "pinned": c.pinned, "rounds": c.rounds} {
		if n < 1 {
			return fmt.Errorf("--%s %d: at least 1 is needed", name, n)
		}
	}
	if c.queues < 3 || c.queues > c.rows/10 {
		return fmt.Errorf("--queues %d: 3 at least, and at most a tenth of the rows", c.queues)
	}
	return nil
}

// run measures all loads, one table after the other.
func run(ctx context.Context, cfg config, r *report) (err error) {
	statements, err := readProduct()
	if err != nil {
		return err
	}
	w, err := newWorld(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	for _, queues := range []int{1, cfg.queues} {
		if err := w.runTable(ctx, cfg, queues, statements, r); err != nil {
			return err
		}
	}
	return nil
}

// runTable measures the loads on a table with so many queues.
func (w *world) runTable(ctx context.Context, cfg config, queues int, p statements, r *report) (err error) {
	t, err := w.newTable(ctx, queues, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close(context.WithoutCancel(ctx))) }()
	r.Server = w.version
	for _, measure := range []func(context.Context, config, *table, *report) error{measureScans, measureDrains, measureBucket} {
		if err := measure(ctx, cfg, t, r); err != nil {
			return err
		}
	}
	return nil
}

// progress tells somebody who waits what is going on.
func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
