// Bench measures respirate against what people would take instead, on one PostgreSQL in one run; and how its cost grows.
// scripts/bench builds and starts it. README.md tells how to read what it prints.
//
//	bench FOLDER ROOT [flags]            the comparison
//	bench FOLDER ROOT MODE [flags]       a growth curve, programs, or layouts of the hot table
//
// The folder holds the built respirated, and is removed at the end, however that comes; root is the repository.
//
// The files, in the order in which a comparison meets them: options.go; lab.go, the server; visit.go, one system at work
// in a database of its own; versus.go, who is visited when; limit.go, the raw loop; figures.go, targets.go and report.go,
// what comes out; sleepers.go, children.go and hops.go, programs of several steps; roll.go, hosts.go and daemon.go, a daemon as the host of its
// workers. The rooms: system has the compared systems, hub is where their processes meet the harness (node/ is its
// other half for Node), meter reads costs, stat sums up, plot draws; layout is a comparison of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/respirated/respirated/scripts/bench.d/layout"
	"github.com/respirated/respirated/scripts/bench.d/system"
)

func main() {
	if isChild, err := system.Child(os.Args[1:]); isChild {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := bench(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, args []string) (err error) {
	if len(args) < 2 {
		return errors.New("it is started by scripts/bench")
	}
	place := place{work: args[0], root: args[1]}
	defer func() { err = errors.Join(err, os.RemoveAll(place.work)) }()
	err = measure(ctx, place, args[2:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err != nil && ctx.Err() != nil:
		return errors.New("interrupted") // what broke by that is no news
	}
	return err
}

// measure does what the first word says: a mode, or without one the comparison.
func measure(ctx context.Context, at place, args []string) error {
	for _, m := range modes() {
		if len(args) > 0 && args[0] == m.word {
			return m.run(ctx, at, args[1:])
		}
	}
	return runComparison(ctx, at, args)
}

// mode is what is measured when its word comes first.
type mode struct {
	word string
	run  func(ctx context.Context, at place, args []string) error
}

func modes() []mode {
	all := []mode{
		{layoutMode, func(_ context.Context, at place, args []string) error { return runLayout(at, args) }},
		{partitionsMode, runPartitions},
		{sleepersMode, runSleepers},
		{childrenMode, runChildren},
		{hopsMode, runHops},
		{turnsMode, runTurns},
		{rollMode, runRoll},
		{hostsMode, runHosts},
	}
	for _, c := range curves {
		all = append(all, mode{c.name, func(ctx context.Context, at place, args []string) error { return runCurve(ctx, at, c, args) }})
	}
	return all
}

// words are those of all modes.
func words() string {
	var all []string
	for _, m := range modes() {
		all = append(all, m.word)
	}
	return strings.Join(all, ", ")
}

// layoutMode compares layouts of the hot table, in raw SQL. It has a server of its own.
const layoutMode = "layout"

func runLayout(at place, args []string) error {
	if err := os.Chdir(at.root); err != nil { // it reads the product's statements from there
		return err
	}
	return layout.Main(args)
}
