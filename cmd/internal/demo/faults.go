package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/respirated/respirated/worker"
)

// Fail returns an error, in its first runs or in all.
type Fail struct {
	Times   int    `json:"times,omitempty"`   // fails so often and then succeeds; 0 = never succeeds
	Message string `json:"message,omitempty"` // of the error
	Final   bool   `json:"final,omitempty"`   // no retry makes sense
}

// Kind is "fail".
func (Fail) Kind() string { return "fail" }

func fail(_ context.Context, s *worker.Strand[Fail]) error {
	if s.Args.Times > 0 && s.Try > s.Args.Times {
		return nil
	}
	err := errors.New(cmp.Or(s.Args.Message, "failed as it was told to"))
	if s.Args.Final {
		return worker.Dead(err)
	}
	return err
}

// Panic panics.
type Panic struct {
	Message string `json:"message,omitempty"`
}

// Kind is "panic".
func (Panic) Kind() string { return "panic" }

func doPanic(_ context.Context, s *worker.Strand[Panic]) error {
	panic(cmp.Or(s.Args.Message, "panicked as it was told to"))
}

// Crash ends its whole process.
type Crash struct {
	Exit int `json:"exit,omitempty"` // exit status; 0 = by SIGKILL
}

// Kind is "crash".
func (Crash) Kind() string { return "crash" }

func crash(_ context.Context, s *worker.Strand[Crash]) error {
	fmt.Fprintf(os.Stderr, "strand %s ends its process as it was told to\n", s.ID)
	if s.Args.Exit != 0 {
		os.Exit(s.Args.Exit)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill myself: %w", err)
	}
	select {} // the signal is on its way
}

// Hang sleeps, and does not care who asks it to stop.
type Hang struct {
	For Duration `json:"for"` // 0 = a day
}

// Kind is "hang".
func (Hang) Kind() string { return "hang" }

func hang(_ context.Context, s *worker.Strand[Hang]) error {
	time.Sleep(s.Args.For.or(24 * time.Hour))
	return nil
}

// Spin keeps one processor busy, and stops when it is asked to.
type Spin struct {
	For Duration `json:"for"` // 0 = 1 s
}

// Kind is "spin".
func (Spin) Kind() string { return "spin" }

func spin(ctx context.Context, s *worker.Strand[Spin]) error {
	end := time.Now().Add(s.Args.For.or(time.Second))
	for time.Now().Before(end) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		runtime.KeepAlive(fibonacci(18)) // the sum is not wanted, its work is
	}
	return nil
}

// Alloc takes memory, holds it for a while and gives it back.
type Alloc struct {
	MiB int      `json:"mib"`
	For Duration `json:"for"` // 0 = 1 s
}

// Kind is "alloc".
func (Alloc) Kind() string { return "alloc" }

func alloc(ctx context.Context, s *worker.Strand[Alloc]) error {
	const mib = 1 << 20
	taken := make([][]byte, s.Args.MiB)
	for i := range taken {
		taken[i] = make([]byte, mib)
		for page := 0; page < mib; page += 4096 {
			taken[i][page] = 1 // memory that was never written to is not taken
		}
	}
	err := pause(ctx, s.Args.For.or(time.Second))
	clear(taken)
	debug.FreeOSMemory()
	return err
}
