// Package demo has the kinds that show what respirate does: plain ones here, steps in smoke.go, children, signals and
// deadlines in provision.go, misbehaviour in faults.go, in ledger.go one that leaves proof of each run, and in batch.go a
// workflow of them.
// cmd/demo-worker serves them, and so does the hidden verb demo-worker of respirated, so that `respirated dev` needs no
// second program.
package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/respirated/respirated/worker"
	"github.com/respirated/respirated/worker/workflow"
)

// Mux serves every kind of this package.
func Mux() *worker.Mux {
	mux := worker.NewMux()
	worker.AddFunc(mux, noop)
	worker.AddProg(mux, one(echo))
	worker.AddProg(mux, one(ping))
	worker.AddFunc(mux, sleep)
	worker.AddFunc(mux, fail)
	worker.AddFunc(mux, doPanic)
	worker.AddFunc(mux, crash)
	worker.AddFunc(mux, hang)
	worker.AddFunc(mux, spin)
	worker.AddFunc(mux, alloc)
	worker.AddFunc(mux, leak)
	worker.AddFunc(mux, bomb)
	worker.AddFunc(mux, chatter)
	worker.AddProg(mux, smokeProg(os.Stdout))
	worker.AddFunc(mux, ledger)
	worker.AddProg(mux, provisionProg())
	worker.AddProg(mux, partProg())
	workflow.Add(mux, batch())
	return mux
}

// one is a program of a single label.
func one[T worker.Args](label worker.Label[T]) worker.Prog[T] {
	return worker.Prog[T]{Labels: map[string]worker.Label[T]{worker.StartLabel: label}}
}

// Noop does nothing.
type Noop struct{}

// Kind is "noop".
func (Noop) Kind() string { return "noop" }

func noop(context.Context, *worker.Strand[Noop]) error { return nil }

// Echo exits with its args, whatever they are.
type Echo struct{ json.RawMessage }

// Kind is "echo".
func (Echo) Kind() string { return "echo" }

func echo(_ context.Context, s *worker.Strand[Echo]) (worker.Outcome, error) {
	return worker.Exit(s.Args), nil
}

// Ping exits with a Pong.
type Ping struct{}

// Kind is "ping".
func (Ping) Kind() string { return "ping" }

// Pong tells when a handler began, by the host's clock.
type Pong struct {
	Began time.Time `json:"began"`
}

func ping(context.Context, *worker.Strand[Ping]) (worker.Outcome, error) {
	return worker.Exit(Pong{time.Now()}), nil
}

// Sleep sleeps, and stops when it is asked to.
type Sleep struct {
	For Duration `json:"for"` // 0 = 1 s
}

// Kind is "sleep".
func (Sleep) Kind() string { return "sleep" }

func sleep(ctx context.Context, s *worker.Strand[Sleep]) error {
	return pause(ctx, s.Args.For.or(time.Second))
}

// pause waits for d, unless ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Duration is a time.Duration that is written "1.5s".
type Duration time.Duration

// MarshalText writes it as time.Duration does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%.40q is not a duration such as 1.5s", text)
	}
	*d = Duration(parsed)
	return nil
}

func (d Duration) or(otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return time.Duration(d)
}
