package system

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/respirated/respirated/scripts/bench.d/hub"
	"github.com/respirated/respirated/worker"
)

// What measures a daemon as the host of many workers, or of workers that change.

// Socket is that of the first daemon.
func (r Respirate) Socket(at Place) string { return filepath.Join(at.Dir, "0", "respirate.sock") }

// Pool is how a daemon's configuration calls its workers.
const Pool = "bench"

// Lasting takes its time.
type Lasting struct {
	MS int `json:"ms"`
}

// Kind implements worker.Args.
func (Lasting) Kind() string { return "lasting" }

func lasting(line *hub.Line) func(context.Context, *worker.Strand[Lasting]) error {
	return func(_ context.Context, s *worker.Strand[Lasting]) error {
		time.Sleep(time.Duration(s.Args.MS) * time.Millisecond)
		line.Handle(hub.Args{})
		return nil
	}
}

// Crowd is respirate whose daemon starts no workers: its worker processes are started by somebody else, and each of them has many
// connections.
type Crowd struct {
	Respirate
	Connections int // of each process
}

// crowdVar tells a process of a crowd how many connections it has.
const crowdVar = "BENCH_CONNECTIONS"

// Workers implements System.
func (c Crowd) Workers(at Place, processes int) ([]*exec.Cmd, error) {
	cmds, err := c.Respirate.Workers(at, 0)
	for range processes {
		cmd := child("respirate", "crowd", at)
		cmd.Env = append(os.Environ(), "RESPIRATE_SOCKET="+c.Socket(at), fmt.Sprint("RESPIRATE_SLOTS=", c.Slots), fmt.Sprint(crowdVar, "=", c.Connections))
		cmds = append(cmds, cmd)
	}
	return cmds, err
}

func respirateCrowd(_, socket string) error {
	connections, err := strconv.Atoi(os.Getenv(crowdVar))
	if err != nil {
		return fmt.Errorf("%s: %w", crowdVar, err)
	}
	line, err := hub.Dial(socket, "worker")
	if err != nil {
		return err
	}
	if err := line.Await(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ended := make([]error, connections)
	var running sync.WaitGroup
	for i := range connections {
		running.Go(func() { ended[i] = worker.Run(ctx, kinds(line), worker.Config{Logger: slog.New(slog.DiscardHandler)}) })
	}
	running.Wait()
	for _, err := range ended {
		if err != nil {
			return err
		}
	}
	return nil
}

// Rolling is respirate whose worker processes run a file that can be replaced.
type Rolling struct {
	Respirate
	builds [2]string // the same program twice, each of which takes the other's place
	next   int
}

// NewRolling copies this program into a folder.
func NewRolling(r Respirate, dir string) (*Rolling, error) {
	roll := &Rolling{Respirate: r}
	roll.Worker = filepath.Join(dir, "worker")
	for i := range roll.builds {
		roll.builds[i] = fmt.Sprint(roll.Worker, i)
		if err := copyProgram(os.Args[0], roll.builds[i]); err != nil {
			return nil, fmt.Errorf("copy the program of the workers: %w", err)
		}
	}
	return roll, roll.Replace()
}

// Replace puts another build where the workers' program is, as a deployment does.
func (r *Rolling) Replace() error {
	fresh := r.Worker + ".new"
	if err := os.Link(r.builds[r.next], fresh); err != nil {
		return fmt.Errorf("replace the program of the workers: %w", err)
	}
	r.next = 1 - r.next
	if err := os.Rename(fresh, r.Worker); err != nil {
		return fmt.Errorf("replace the program of the workers: %w", err)
	}
	return nil
}

func copyProgram(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o700)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close() // the copy has failed anyway
		return err
	}
	return out.Close()
}
