package demo

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"time"

	"github.com/respirated/respirated/worker"
)

// Smoke goes through the labels 3, 2 and 1. Each of them burns some processor time, does some I/O, prints its digit to
// the worker's output, naps for up to a second, and then hops to the next; 1 exits. So the outputs of all workers hold
// each digit exactly as often as there were strands, if every label ran once.
type Smoke struct {
	Printed bool `json:"printed,omitempty"` // this label has done its work and comes back from its nap
}

// Kind is "smoke".
func (Smoke) Kind() string { return "smoke" }

func smokeProg(out io.Writer) worker.Prog[Smoke] {
	return worker.Prog[Smoke]{Start: "3", Labels: map[string]worker.Label[Smoke]{
		"3": smokeLabel(out, "3", worker.Hop("2")),
		"2": smokeLabel(out, "2", worker.Hop("1")),
		"1": smokeLabel(out, "1", worker.Exit(nil)),
	}}
}

// smokeLabel is one label; next is what follows its nap.
func smokeLabel(out io.Writer, digit string, next worker.Outcome) worker.Label[Smoke] {
	if digit != "1" {
		next = next.With(Smoke{})
	}
	return func(_ context.Context, s *worker.Strand[Smoke]) (worker.Outcome, error) {
		if s.Args.Printed {
			return next, nil
		}
		runtime.KeepAlive(fibonacci(15 + rand.IntN(10))) // the sum is not wanted, its work is
		if err := writeNowhere(rand.IntN(20)); err != nil {
			return worker.Outcome{}, err
		}
		if _, err := io.WriteString(out, digit); err != nil {
			return worker.Outcome{}, fmt.Errorf("print %s: %w", digit, err)
		}
		return worker.Nap(rand.N(time.Second)).With(Smoke{Printed: true}), nil
	}
}

// writeNowhere writes so many MiB to where they cost nothing but the way.
func writeNowhere(mib int) error {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	block := make([]byte, 1<<20)
	for range mib {
		if _, err := null.Write(block); err != nil {
			return err
		}
	}
	return nil
}

// fibonacci takes its time, which grows by 1.6 with each n; 24 takes a fraction of a millisecond.
func fibonacci(n int) int {
	if n < 2 {
		return n
	}
	return fibonacci(n-1) + fibonacci(n-2)
}
