package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
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

// Leak has children that hold all this process has open, its connection to the broker included, each in a session of its own.
// Then it may end its process.
type Leak struct {
	Children int      `json:"children,omitempty"` // 0 = one
	For      Duration `json:"for"`                // they live so long; 0 = a minute
	Crash    bool     `json:"crash,omitempty"`    // by SIGKILL, once they run
}

// Kind is "leak".
func (Leak) Kind() string { return "leak" }

func leak(ctx context.Context, s *worker.Strand[Leak]) error {
	sockets := openSockets()
	defer func() {
		for _, f := range sockets {
			f.Close()
		}
	}()
	for range max(1, s.Args.Children) {
		child := exec.Command("sleep", fmt.Sprint(s.Args.For.or(time.Minute).Seconds()))
		child.Env = []string{"PATH=" + os.Getenv("PATH")} // nothing by which it would be taken for a worker
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		child.ExtraFiles = sockets
		if err := child.Start(); err != nil {
			return fmt.Errorf("start a child: %w", err)
		}
	}
	if s.Args.Crash {
		return crash(ctx, &worker.Strand[Crash]{Row: s.Row})
	}
	return pause(ctx, s.Args.For.or(time.Minute))
}

// openSockets are the sockets that this process has open, once more.
func openSockets() (files []*os.File) {
	const most = 1024
	var open []int
	for fd := range most {
		var stat syscall.Stat_t
		if syscall.Fstat(fd, &stat) == nil && stat.Mode&syscall.S_IFMT == syscall.S_IFSOCK {
			open = append(open, fd)
		}
	}
	for _, fd := range open {
		if again, err := syscall.Dup(fd); err == nil {
			files = append(files, os.NewFile(uintptr(again), "socket"))
		}
	}
	return files
}

// Bomb takes more and more of something, and goes on asking when it is refused. It gives all of it back.
type Bomb struct {
	Of  string   `json:"of"`  // processes, or files: open descriptors
	For Duration `json:"for"` // 0 = a minute
}

// Kind is "bomb".
func (Bomb) Kind() string { return "bomb" }

func bomb(ctx context.Context, s *worker.Strand[Bomb]) error {
	var take func() (back func(), err error)
	switch s.Args.Of {
	case "processes":
		take = func() (func(), error) { return takeProcess("BOMB=" + s.ID) }
	case "files":
		take = takeFile
	default:
		return worker.Dead(fmt.Errorf("there are bombs of processes and of files, not of %.40q", s.Args.Of))
	}
	// A pause, or a host without limits would be lost before the daemon looks.
	const apart = 5 * time.Millisecond
	var taken []func()
	defer func() {
		for _, back := range taken {
			back()
		}
	}()
	var refused error
	for end := time.Now().Add(s.Args.For.or(time.Minute)); time.Now().Before(end); {
		if back, err := take(); err != nil {
			refused = err
		} else {
			taken = append(taken, back)
		}
		if err := pause(ctx, apart); err != nil {
			return err
		}
	}
	if refused != nil {
		return fmt.Errorf("it has taken %d %s, and was refused more: %w", len(taken), s.Args.Of, refused)
	}
	return nil
}

// takeProcess starts a child in the session of this process. It can be told by a mark in its environment.
func takeProcess(mark string) (back func(), err error) {
	child := exec.Command("sleep", "3600")
	child.Env = []string{"PATH=" + os.Getenv("PATH"), mark}
	if err := child.Start(); err != nil {
		return nil, err
	}
	return func() {
		_ = child.Process.Kill() // it may have been killed
		_ = child.Wait()
	}, nil
}

func takeFile() (back func(), err error) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}

// Chatter fills the log of its process.
type Chatter struct {
	MiB int `json:"mib"`
}

// Kind is "chatter".
func (Chatter) Kind() string { return "chatter" }

func chatter(ctx context.Context, s *worker.Strand[Chatter]) error {
	line := strings.Repeat("chatter ", 128) + "\n"
	for written := 0; written < s.Args.MiB<<20 && ctx.Err() == nil; written += len(line) {
		if _, err := os.Stderr.WriteString(line); err != nil {
			return fmt.Errorf("fill the log: %w", err)
		}
	}
	return context.Cause(ctx)
}
