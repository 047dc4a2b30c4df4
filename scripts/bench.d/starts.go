package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/respirated/respirated/scripts/bench.d/stat"
	"github.com/respirated/respirated/scripts/bench.d/system"
)

// startGap is how far apart the jobs of turns --starts are: as in the comparison.
const startGap = 10 * time.Millisecond

// startSystems are the builds and the peers.
func startSystems(at place, builds []build, against string) (all []system.System, err error) {
	for _, b := range builds {
		all = append(all, b)
	}
	if against == "" {
		return all, nil
	}
	for name := range strings.SplitSeq(against, ",") {
		peer, err := at.peer(name)
		if err != nil {
			return nil, err
		}
		all = append(all, peer)
	}
	return all, nil
}

// starts has all systems work side by side, and one after the other start jobs from idle, in turns that are short: what is
// slow for a while on this machine meets all of them.
func (l *lab) starts(ctx context.Context, systems []system.System, jobs, processes, turns int) (err error) {
	visits := make([]*visit, len(systems))
	defer func() {
		for _, v := range visits {
			if v != nil {
				_, closeErr := v.close()
				err = errors.Join(err, closeErr)
			}
		}
	}()
	for i, s := range systems {
		if visits[i], err = l.awake(ctx, s, processes); err != nil {
			return err
		}
	}
	if err := pause(ctx, settle); err != nil {
		return err
	}
	delays := make([][]time.Duration, len(systems))
	for turn := range turns {
		for i := range visits {
			i = (i + turn) % len(visits)
			some, err := visits[i].delays(options{singles: jobs, gap: startGap}, 0)
			if err != nil {
				return err
			}
			delays[i] = append(delays[i], some...)
			l.progress.step("turn %d, %s: %s", turn+1, systems[i].Name(), startsLine(some))
		}
	}
	for i, s := range systems {
		fmt.Printf("%-12s %s\n", s.Name(), startsLine(delays[i]))
	}
	return nil
}

// startsLine has some percentiles, in milliseconds.
func startsLine(delays []time.Duration) string {
	var words []string
	for _, p := range []float64{5, 25, 50, 75, 95, 99} {
		words = append(words, fmt.Sprintf("p%g %.3f", p, stat.Percentile(delays, p).Seconds()*1000))
	}
	return strings.Join(words, " ")
}
