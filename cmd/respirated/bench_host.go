package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/respirated/respirated/broker"
)

const benchHostVerb = "bench-host"

// benchSetup is what the daemon of a measurement is told, on its standard input: a URL may hold a password, which has no
// place among arguments or in a file.
type benchSetup struct {
	URL    string `json:"url"`
	Schema string `json:"schema"`
	Socket string `json:"socket"`
	Procs  int    `json:"procs"`
	Slots  int    `json:"slots"`
	// Profile is the folder for CPU profiles of the daemon and its workers; "" = none.
	Profile string `json:"profile"`
}

// benchHostCommand is the daemon of a measurement, a process of its own so that its memory and CPU are its own. It ends
// when its standard input does: so it does not outlive whoever measures, whatever becomes of them.
func benchHostCommand() *cobra.Command {
	return &cobra.Command{
		Use:    benchHostVerb,
		Short:  "Be the daemon of respirated bench",
		Hidden: true,
		Args:   takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var setup benchSetup
			in := json.NewDecoder(cmd.InOrStdin())
			if err := in.Decode(&setup); err != nil {
				return fmt.Errorf("read what to do: %w", err)
			}
			defer func() { _ = os.RemoveAll(filepath.Dir(setup.Socket)) }() // for when nobody else is left to do it
			cfg, err := setup.config()
			if err != nil {
				return err
			}
			log, flush := newLogger(cmd.ErrOrStderr(), "text", "error")
			defer flush()
			d, err := newDaemon(cmd.Context(), cfg, broker.Partition{}, nil, log)
			if err != nil {
				return err
			}
			return profiled(setup.Profile, "daemon", func() error {
				return d.run(cmd.Context(), func(ctx context.Context) error {
					ended := make(chan struct{})
					go func() { _, _ = io.Copy(io.Discard, cmd.InOrStdin()); close(ended) }()
					select {
					case <-ended:
					case <-ctx.Done():
					}
					return nil
				})
			})
		},
	}
}

// config has this program's demo kinds as workers.
func (s benchSetup) config() (fileConfig, error) {
	self, err := os.Executable()
	if err != nil {
		return fileConfig{}, fmt.Errorf("find this program, to start workers from it: %w", err)
	}
	return fileConfig{
		DatabaseURLs: urls{s.URL}, Schema: s.Schema, Socket: s.Socket, DrainTimeout: duration(5 * time.Second),
		Pools: []poolConfig{{Name: "bench", Worker: self, Args: []string{demoWorkerVerb, "--profile=" + s.Profile}, Procs: s.Procs, Slots: s.Slots}},
	}, nil
}

// benchHost is that daemon as who measures sees it.
type benchHost struct {
	cmd    *exec.Cmd
	input  io.Closer // its end is the daemon's
	stderr bytes.Buffer
	dir    string
	socket string
	ended  chan struct{} // closed when the process is gone; err is set before
	err    error
}

// brokerName is what the daemon's connections are called.
func brokerName(schema string) string { return schema + "_broker" }

func (b *benchRun) startHost() (*benchHost, error) {
	dir, err := os.MkdirTemp("", "respirate-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the socket: %w", err)
	}
	h := &benchHost{dir: dir, socket: filepath.Join(dir, "respirate.sock"), ended: make(chan struct{})}
	setup := benchSetup{URL: withApplicationName(b.url, brokerName(b.schema)), Schema: b.schema, Socket: h.socket, Procs: b.procs, Slots: b.slots, Profile: b.profile}
	if err := h.start(b.program, setup); err != nil {
		return nil, errors.Join(fmt.Errorf("start a daemon: %w", err), os.RemoveAll(dir))
	}
	return h, nil
}

func (h *benchHost) start(program string, setup benchSetup) error {
	h.cmd = exec.Command(program, benchHostVerb)
	h.cmd.Stderr = &h.stderr
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us: it stops in our order
	input, err := h.cmd.StdinPipe()
	if err != nil {
		return err
	}
	h.input = input
	if err := h.cmd.Start(); err != nil {
		return err
	}
	go func() { h.err = h.cmd.Wait(); close(h.ended) }()
	if err := json.NewEncoder(input).Encode(setup); err != nil {
		return errors.Join(err, h.stop())
	}
	return nil
}

// stopWithin is longer than a daemon takes that has nothing to do any more.
const stopWithin = 15 * time.Second

// stop ends the daemon, unless it has ended already, and says what was wrong with it.
func (h *benchHost) stop() error {
	alone := h.over()
	_ = h.input.Close() // it fails only if that is done
	select {
	case <-h.ended:
	case <-time.After(stopWithin):
		_ = h.cmd.Process.Kill() // it fails only if it has just ended
		<-h.ended
	}
	if h.err == nil && !alone {
		return os.RemoveAll(h.dir)
	}
	why := strings.TrimPrefix(strings.TrimSpace(h.stderr.String()), "respirated "+benchHostVerb+": ")
	return errors.Join(fmt.Errorf("the daemon of the measurement has ended: %s", cmp.Or(why, fmt.Sprint(h.err))), os.RemoveAll(h.dir))
}

func (h *benchHost) over() bool {
	select {
	case <-h.ended:
		return true
	default:
		return false
	}
}

func (h *benchHost) pid() int { return h.cmd.Process.Pid }

// withHost does something while a daemon runs whose workers have all connected.
func (b *benchRun) withHost(ctx context.Context, o *observer, do func(context.Context, *database, *benchHost) error) error {
	b.progress.phase("starting a daemon", -1)
	host, err := b.startHost()
	if err != nil {
		return err
	}
	// A daemon that ends by itself ends what waits for it.
	hostCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { <-host.ended; cancel() }()
	err = b.within(hostCtx, func(ctx context.Context, db *database) error {
		if err := b.awaitWorkers(ctx, o, db); err != nil {
			return err
		}
		return do(ctx, db, host)
	})
	b.progress.phase("stopping the daemon", -1)
	if host.over() {
		return host.stop() // which says more than what it has cut off
	}
	return errors.Join(err, host.stop())
}

// awaitWorkers waits until the daemon has announced that all of its workers are there: before, nobody would tell it of
// strands.
func (b *benchRun) awaitWorkers(ctx context.Context, o *observer, db *database) error {
	for {
		var ready bool
		if err := o.one(ctx, db, "select exists (select from "+b.table("broker")+" where workers >= $1 and alive_until > now())", []any{b.procs}, &ready); err != nil {
			return fmt.Errorf("look for the daemon's announcement: %w", err)
		}
		if ready {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// hostCPU is what the processes of a host have used; nil = this system does not tell.
type hostCPU struct{ broker, workers *time.Duration }

func (h *benchHost) cpu(ctx context.Context) (used hostCPU) {
	used.broker = cpuTime(h.pid())
	var workers []workerStatus
	if askDaemon(ctx, h.socket, "/api/v1/workers", &workers) != nil {
		return used
	}
	var sum time.Duration
	for _, w := range workers {
		one := cpuTime(w.PID)
		if one == nil {
			return used
		}
		sum += *one
	}
	used.workers = &sum
	return used
}
