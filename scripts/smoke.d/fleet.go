package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// fleet is all daemons of a run. Each is a host of its own, as far as it can tell: it shares nothing with the others but
// the database.
type fleet struct {
	plan  plan
	work  string // the folder of the binaries, and of a folder for each host
	url   string // of the database
	hosts []*host
}

func newFleet(work, url string, p plan) *fleet {
	f := &fleet{plan: p, work: work, url: url}
	for i := range p.daemons {
		f.hosts = append(f.hosts, newHost(f, strconv.Itoa(i+1), p.partition(i)))
	}
	return f
}

// respirated runs a verb to its end, as an operator on the first host would, and returns what it printed.
func (f *fleet) respirated(ctx context.Context, args ...string) ([]byte, error) {
	return f.hosts[0].respirated(ctx, args...)
}

// run starts the daemons, has the strands done, and stops them.
func (f *fleet) run(ctx context.Context) (took time.Duration, err error) {
	defer func() { err = errors.Join(err, f.stop()) }()
	for _, h := range f.hosts {
		if err := h.start(); err != nil {
			return 0, err
		}
	}
	if err := f.awaitWorkers(ctx); err != nil {
		return 0, err
	}
	if err := f.awaitParts(ctx); err != nil {
		return 0, err
	}
	began := time.Now()
	ids, err := f.insert(ctx)
	if err != nil {
		return 0, err
	}
	if err := f.awaitEnd(ctx); err != nil {
		return 0, err
	}
	took = time.Since(began)
	if f.plan.gapStays() && took < overdue {
		return took, fmt.Errorf("all was done after %v: nobody should have looked for the strands in the gap before %v", took, overdue)
	}
	return took, f.judgeStrands(ctx, ids)
}

// stop stops all daemons at once, and makes sure that they and their workers are gone.
func (f *fleet) stop() error {
	var errs []error
	for _, h := range f.hosts {
		h.interrupt()
	}
	for _, h := range f.hosts {
		errs = append(errs, h.awaitEnd())
	}
	return errors.Join(append(errs, f.endLeft())...)
}

// awaitWorkers waits until all workers have connected.
func (f *fleet) awaitWorkers(ctx context.Context) error {
	want := f.plan.workers()
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("%d daemons did not have %d workers each within %v", len(f.hosts), want, patience))
	defer cancel()
	for _, h := range f.hosts {
		err := f.poll(ctx, func() (bool, error) {
			n, err := h.connected(ctx)
			return n == want, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// awaitParts waits until the database says of each daemon the part that it should look after.
func (f *fleet) awaitParts(ctx context.Context) error {
	if f.plan.partitions == -1 {
		return nil
	}
	want := f.parts()
	var got []part
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("the daemons did not divide the strands within %v", patience))
	defer cancel()
	err := f.poll(ctx, func() (bool, error) {
		out, err := f.respirated(ctx, "broker", "list", "--json")
		if err != nil {
			return false, err
		}
		var list struct {
			Brokers []struct {
				Alive bool `json:"alive"`
				part
			} `json:"brokers"`
		}
		if err := json.Unmarshal(out, &list); err != nil {
			return false, fmt.Errorf("read the list of brokers: %w", err)
		}
		got = got[:0]
		for _, b := range list.Brokers {
			if b.Alive {
				got = append(got, b.part)
			}
		}
		slices.SortFunc(got, func(a, b part) int { return a.Partition - b.Partition })
		return slices.Equal(got, want), nil
	})
	if err != nil {
		return fmt.Errorf("%w: got %+v, want %+v", err, got, want)
	}
	return nil
}

// part is a number and the ids, by their first 32 bits, that go with it.
type part struct {
	Partition int   `json:"partition"`
	Lo        int64 `json:"lo"`
	Hi        int64 `json:"hi"`
}

// parts are those that the daemons should look after, in the order of their numbers.
func (f *fleet) parts() []part {
	var parts []part
	const ids = int64(1) << 32
	lowest, n := f.plan.partitions-len(f.hosts)+1, int64(len(f.hosts))
	if f.plan.gaps == "overdue" {
		n = int64(f.plan.partitions)
	}
	for i := range int64(len(f.hosts)) {
		rank := i + 1
		if f.plan.gaps == "overdue" {
			rank = int64(lowest) + i
		}
		switch {
		case f.plan.partitions == 0:
			parts = append(parts, part{0, 0, ids})
		default:
			parts = append(parts, part{lowest + int(i), (rank - 1) * ids / n, rank * ids / n})
		}
	}
	return parts
}

// poll asks until the answer is yes. It also ends with ctx, or when a daemon does.
func (f *fleet) poll(ctx context.Context, ask func() (bool, error)) error {
	for {
		if yes, err := ask(); yes || ctx.Err() == nil && err != nil {
			return err
		}
		for _, h := range f.hosts {
			select {
			case err := <-h.ended:
				return fmt.Errorf("daemon %s ended while it should run (%v)", h.name, err)
			default:
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pollEvery):
		}
	}
}

// tell shows the logs, since the folders that they are in are about to go.
func (f *fleet) tell(to io.Writer) {
	for _, h := range f.hosts {
		files, _ := filepath.Glob(filepath.Join(h.logs(), "*.err")) // the pattern is well-formed
		for _, file := range append(files, h.daemonLog()) {
			text, err := os.ReadFile(file)
			if err != nil || len(text) == 0 {
				continue
			}
			fmt.Fprintf(to, "-- daemon %s: the end of %s\n%s\n", h.name, filepath.Base(file), text[max(0, len(text)-4096):])
		}
	}
}
