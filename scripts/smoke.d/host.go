package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	pollEvery = 200 * time.Millisecond
	stopTime  = 45 * time.Second // for a daemon to drain, which takes 30 s at most
)

// host is a daemon with its workers, as `respirated run` makes them.
type host struct {
	fleet     *fleet
	name      string
	partition string // what the daemon is told to be; "" = nothing
	daemon    *exec.Cmd
	ended     chan error // what the daemon ended with; closed after that
}

func newHost(f *fleet, name, partition string) *host {
	return &host{fleet: f, name: name, partition: partition, ended: make(chan error, 1)}
}

func (h *host) dir() string       { return filepath.Join(h.fleet.work, h.name) }
func (h *host) socket() string    { return filepath.Join(h.dir(), "run", "respirate.sock") }
func (h *host) logs() string      { return filepath.Join(h.dir(), "run", "log") }
func (h *host) daemonLog() string { return filepath.Join(h.dir(), "daemon.log") }

// command is a verb of the built respirated. It gets a process group, so that Ctrl-C is for us alone and the order in
// which things stop stays ours.
func (h *host) command(ctx context.Context, args ...string) *exec.Cmd {
	args = append(args, "--database-url", h.fleet.url, "--socket", h.socket())
	cmd := exec.CommandContext(ctx, filepath.Join(h.fleet.work, "respirated"), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// respirated runs a verb to its end and returns what it printed.
func (h *host) respirated(ctx context.Context, args ...string) ([]byte, error) {
	cmd := h.command(ctx, args...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("respirated %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(complaint.Bytes()))
	}
	return out, nil
}

// start starts the daemon. Its log goes to a file.
func (h *host) start() error {
	if err := os.MkdirAll(h.dir(), 0o700); err != nil {
		return err
	}
	log, err := os.Create(h.daemonLog())
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"run", "--worker", filepath.Join(h.fleet.work, "demo-worker"), "--procs", strconv.Itoa(h.fleet.plan.workers())}
	if h.partition != "" {
		args = append(args, "--partition", h.partition, "--gaps", h.fleet.plan.gaps)
	}
	cmd := h.command(context.Background(), args...) // no context: it is stopped in order
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start daemon %s: %w", h.name, err)
	}
	h.daemon = cmd
	go func() {
		h.ended <- cmd.Wait()
		close(h.ended)
	}()
	return nil
}

// interrupt asks the daemon to stop.
func (h *host) interrupt() {
	if h.daemon != nil {
		_ = h.daemon.Process.Signal(syscall.SIGTERM) // it may have ended by itself, which its status tells
	}
}

// awaitEnd waits until the daemon has stopped. It is an error if that took force.
func (h *host) awaitEnd() error {
	if h.daemon == nil {
		return nil
	}
	select {
	case err := <-h.ended:
		if err != nil {
			return fmt.Errorf("daemon %s ended: %w", h.name, err)
		}
		return nil
	case <-time.After(stopTime):
		_ = h.daemon.Process.Kill() // its end is awaited
		<-h.ended
		return fmt.Errorf("daemon %s did not stop within %v of SIGTERM", h.name, stopTime)
	}
}

// endLeft ends the processes that run the built binaries, ourselves apart, which is an error. It needs a /proc, and finds
// none elsewhere.
func (f *fleet) endLeft() error {
	var errs []error
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is well-formed
	for _, file := range files {
		text, err := os.ReadFile(file)
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err == nil && pid != os.Getpid() && bytes.HasPrefix(text, []byte(f.work+"/")) {
			errs = append(errs, fmt.Errorf("process %d outlived its daemon", pid))
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may be ending just now
		}
	}
	return errors.Join(errs...)
}

// connected is how many workers the daemon has; 0 as well while it does not listen yet.
func (h *host) connected(ctx context.Context) (n int, err error) {
	out, err := h.respirated(ctx, "worker", "list", "--json")
	if err != nil {
		return 0, nil
	}
	var list struct {
		Workers []struct {
			Connected bool `json:"connected"`
		} `json:"workers"`
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return 0, fmt.Errorf("read the list of workers: %w", err)
	}
	for _, w := range list.Workers {
		if w.Connected {
			n++
		}
	}
	return n, nil
}
