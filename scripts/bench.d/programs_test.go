package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/respirated/respirated/scripts/bench.d/system"
)

// This program is also its own workers and inserters.
func TestMain(m *testing.M) {
	if isChild, err := system.Child(os.Args[1:]); isChild {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// built is a place with respirated.
func built(t *testing.T) place {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	work, err := os.MkdirTemp("", "bench-") // t.TempDir's path is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(work) })
	build := exec.Command("go", "build", "-o", filepath.Join(work, "respirated"), "./cmd/respirated")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return place{work: work, root: root}
}

// measured runs a mode with small numbers, and reads its report.
func measured[R any](t *testing.T, at place, run func(context.Context, place, []string) error, args ...string) (r R) {
	t.Helper()
	file := filepath.Join(at.work, "report.json")
	if err := run(t.Context(), at, append(args, "--json", file)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	entries, err := filepath.Glob(filepath.Join(at.work, "v*"))
	if err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	return r
}

// The modes that measure programs, or a daemon as the host of its workers, small and through real daemons and workers. What they
// measure is not judged.
func TestProgramsAndHostsAreMeasured(t *testing.T) {
	at := built(t)
	t.Run("hops", func(t *testing.T) {
		r := measured[Hops](t, at, runHops, "--hops", "200", "--most", "10", "--procs", "1")
		if len(r.Points) != 2 || r.Points[1].Strands != 10 || r.Points[1].Hops != 200 || r.Points[1].Rate <= 0 {
			t.Errorf("got %+v", r.Points)
		}
	})
	t.Run("children", func(t *testing.T) {
		r := measured[Family](t, at, runChildren, "--children", "600", "--portion", "250", "--procs", "1")
		if r.Rate <= 0 || r.Reaps < 3 || r.Waits > r.Reaps || r.Broker < 1<<20 || r.Worker < 1<<20 || r.Cancelled <= 0 {
			t.Errorf("got %+v", r)
		}
	})
	t.Run("sleepers", func(t *testing.T) {
		r := measured[Sleepers](t, at, runSleepers, "--rows", "2000", "--signals", "10", "--jobs", "200", "--runs", "1", "--scans", "5")
		for i, rows := range []int{10, 2000} {
			p := r.Points[i]
			if p.Rows != rows || p.Signal.Samples != 10 || p.Idle.Pages <= 0 || p.Busy.Found != scanLimit || p.Rates.Median <= 0 {
				t.Errorf("beside %d: got %+v", rows, p)
			}
		}
	})
	t.Run("roll", func(t *testing.T) {
		r := measured[Roll](t, at, runRoll, "--procs", "3", "--takes", "10", "--backlog", "20000", "--windows", "1", "--window", "500ms")
		if len(r.Windows) != 2 || r.Still.Median <= 0 || r.Rolling.Median <= 0 || r.Each.Min <= 0 || r.Failed != 0 {
			t.Errorf("got %+v", r)
		}
	})
	t.Run("hosts", func(t *testing.T) {
		r := measured[Hosts](t, at, runHosts, "--crowd", "2", "--connections", "5", "--procs", "3", "--jobs", "500", "--idle", "100ms")
		for i, connections := range []int{10, 3} {
			p := r.Points[i]
			if p.Connections != connections || p.Rate <= 0 || p.Peak < p.Spent.Resident || p.Spent.Resident < 1<<20 || p.Spent.Largest < 1<<20 {
				t.Errorf("%d connections: got %+v", connections, p)
			}
		}
	})
}
