package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/respirated/respirated/scripts/bench.d/hub"
	"github.com/respirated/respirated/scripts/bench.d/system"
)

// turnsMode drains backlogs with builds of ours, in turns: what a change gives on a machine that others use, too.
const turnsMode = "turns"

// build is one of the compared: NAME=RESPIRATED,WORKER, two programs, of which the second is this one as it was built
// elsewhere. What is left out is as in this build.
type build struct {
	system.Respirate
	name string
}

// Name implements system.System.
func (b build) Name() string { return b.name }

func parseBuild(ours system.Respirate, text string) (build, error) {
	name, programs, ok := strings.Cut(text, "=")
	if !ok || name == "" {
		return build{}, fmt.Errorf("%q is not NAME=RESPIRATED,WORKER", text)
	}
	b := build{ours, name}
	daemon, worker, _ := strings.Cut(programs, ",")
	if daemon != "" {
		b.Binary = daemon
	}
	b.Worker = worker
	return b, nil
}

func runTurns(ctx context.Context, at place, args []string) (err error) {
	flags := flag.NewFlagSet("scripts/bench turns", flag.ContinueOnError)
	jobs := flags.Int("jobs", 60_000, "the `number` of jobs in each backlog")
	procs := flags.Int("procs", usual, "the `number` of worker processes")
	runs := flags.Int("runs", 5, "the `number` of turns")
	history := flags.Bool("history", false, "keep finished jobs")
	starts := flags.Int("starts", 0, "measure instead how long after its commit each of so many `jobs` begins while nothing else is to be done")
	against := flags.String("against", "", "with --starts: `peers` that take turns, too")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var builds []build
	for _, text := range flags.Args() {
		b, err := parseBuild(at.respirate(*history), text)
		if err != nil {
			return err
		}
		builds = append(builds, b)
	}
	if len(builds) == 0 {
		return errors.New("turns takes builds, each as NAME=RESPIRATED,WORKER")
	}
	l, err := openLab(ctx, at.work, newProgress(os.Stderr))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	if *starts > 0 {
		systems, err := startSystems(at, builds, *against)
		if err != nil {
			return err
		}
		return l.starts(ctx, systems, *starts, *procs, *runs)
	}
	drains := make([][]Drain, len(builds))
	for run := range *runs {
		for i := range builds {
			i = (i + run) % len(builds)
			d, err := l.drain(ctx, builds[i], backlog{jobs: *jobs, size: hub.SmallArgs, processes: *procs})
			if err != nil {
				return err
			}
			drains[i] = append(drains[i], d)
			l.progress.step("turn %d, %s: %s", run+1, builds[i].name, turnsLine([]Drain{d}))
		}
	}
	for i, b := range builds {
		fmt.Printf("%-12s %s\n", b.name, turnsLine(drains[i]))
	}
	return nil
}

// turnsLine has the median and the least of each figure.
func turnsLine(drains []Drain) string {
	var words []string
	for _, f := range []struct {
		name string
		of   func(Drain) float64
	}{
		{"strands/s", func(d Drain) float64 { return d.Rate }},
		{"Postgres us", func(d Drain) float64 { return d.Cost.PostgresCPU }},
		{"broker us", func(d Drain) float64 { return d.Cost.BrokerCPU }},
		{"workers us", func(d Drain) float64 { return d.Cost.WorkerCPU }},
		{"all us", func(d Drain) float64 { return d.Cost.PostgresCPU + d.Cost.Clients() }},
	} {
		all := make([]float64, len(drains))
		for i, d := range drains {
			all[i] = f.of(d)
		}
		slices.Sort(all)
		words = append(words, fmt.Sprintf("%s %.1f (%.1f)", f.name, all[len(all)/2], all[0]))
	}
	return strings.Join(words, ", ")
}
