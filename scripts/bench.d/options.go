package main

import (
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/respirated/respirated/scripts/bench.d/system"
)

// place is where things are.
type place struct {
	work string // the built respirated, and everything that is made
	root string // the repository
}

func (p place) here() string { return filepath.Join(p.root, "scripts", "bench.d") }

// slots is how many strands each of our workers runs at once.
const slots = 10

func (p place) respirate(history bool) system.Respirate {
	return system.Respirate{
		Binary: filepath.Join(p.work, "respirated"), Root: p.root, History: history, Slots: slots, Daemons: 1,
	}
}

// peer is a system by the name that --against knows.
func (p place) peer(name string) (system.System, error) {
	switch name {
	case "river":
		return system.River{}, nil
	case "graphile":
		return system.Graphile(p.here()), nil
	case "pgboss":
		return system.PgBoss(p.here()), nil
	}
	return nil, fmt.Errorf("--against knows river, graphile and pgboss, not %q", name)
}

// options are those of the comparison.
type options struct {
	quick   bool
	against []string
	procs   []int
	jobs    int
	runs    int
	json    string

	// what quick makes smaller
	idleProcs int
	idleFor   time.Duration
	singles   int
	gap       time.Duration
	loadFor   time.Duration
}

func parseOptions(args []string) (o options, err error) {
	flags := flag.NewFlagSet("scripts/bench", flag.ContinueOnError)
	against := flags.String("against", "river,graphile,pgboss", "the `peers` to compare with")
	procs := flags.String("procs", "1,4,16", "the `numbers` of worker processes")
	flags.BoolVar(&o.quick, "quick", false, "within 50 s: 20,000 jobs, 4 processes, one run, unless flags say otherwise")
	flags.IntVar(&o.jobs, "jobs", 100_000, "the `number` of jobs in a backlog")
	flags.IntVar(&o.runs, "runs", 3, "the `number` of runs, of which the median counts")
	flags.StringVar(&o.json, "json", "", "write everything to this `file`")
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "usage: scripts/bench [flags], or scripts/bench MODE [flags] with one of %s\n", words())
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("there is no mode %q; there are: %s", flags.Arg(0), words())
	}
	given := make(map[string]bool)
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	o.idleProcs, o.idleFor, o.singles, o.gap, o.loadFor = 16, 10*time.Second, 500, 10*time.Millisecond, 5*time.Second
	if o.quick {
		o.makeQuick(given, procs)
	}
	if *against != "" {
		o.against = strings.Split(*against, ",")
	}
	o.procs, err = parseNumbers("--procs", *procs)
	return o, errors.Join(err, positive("--jobs", o.jobs), positive("--runs", o.runs))
}

// makeQuick shrinks what no flag has set.
func (o *options) makeQuick(given map[string]bool, procs *string) {
	if !given["procs"] {
		*procs = "4"
	}
	if !given["jobs"] {
		o.jobs = 20_000
	}
	if !given["runs"] {
		o.runs = 1
	}
	o.idleProcs, o.idleFor, o.singles, o.gap, o.loadFor = 4, time.Second, 100, 5*time.Millisecond, time.Second
}

// latencyProcs is the number of processes that latency is measured with.
func (o options) latencyProcs() int {
	if slices.Contains(o.procs, 4) {
		return 4
	}
	return o.procs[0]
}

func parseNumbers(flag, list string) (numbers []int, err error) {
	for _, word := range strings.Split(list, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%s wants numbers from 1 on, such as 1,4,16, not %q", flag, list)
		}
		numbers = append(numbers, n)
	}
	return numbers, nil
}

func positive(flag string, n int) error {
	if n < 1 {
		return fmt.Errorf("%s wants a number from 1 on, not %d", flag, n)
	}
	return nil
}
