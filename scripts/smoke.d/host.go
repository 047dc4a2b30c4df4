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
	work   string // the folder of the binaries, the socket and the logs
	url    string // of the database
	daemon *exec.Cmd
	ended  chan error // what the daemon ended with; closed after that
}

func newHost(work, url string) *host {
	return &host{work: work, url: url, ended: make(chan error, 1)}
}

func (h *host) socket() string    { return filepath.Join(h.work, "run", "respirate.sock") }
func (h *host) logs() string      { return filepath.Join(h.work, "run", "log") }
func (h *host) daemonLog() string { return filepath.Join(h.work, "daemon.log") }

// command is a verb of the built respirated. It gets a process group, so that Ctrl-C is for us alone and the order in
// which things stop stays ours.
func (h *host) command(ctx context.Context, args ...string) *exec.Cmd {
	args = append(args, "--database-url", h.url, "--socket", h.socket())
	cmd := exec.CommandContext(ctx, filepath.Join(h.work, "respirated"), args...)
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
	log, err := os.Create(h.daemonLog())
	if err != nil {
		return err
	}
	defer log.Close()
	// No context: it is stopped in order, by stop.
	h.daemon = h.command(context.Background(), "run", "--worker", filepath.Join(h.work, "demo-worker"), "--procs", strconv.Itoa(processes))
	h.daemon.Stdout, h.daemon.Stderr = log, log
	if err := h.daemon.Start(); err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	go func() {
		h.ended <- h.daemon.Wait()
		close(h.ended)
	}()
	return nil
}

// stop stops the daemon and makes sure that it and its workers are gone. It is an error if that took force.
func (h *host) stop() error {
	_ = h.daemon.Process.Signal(syscall.SIGTERM) // it may have ended by itself, which its status tells
	var err error
	select {
	case err = <-h.ended:
		if err != nil {
			err = fmt.Errorf("the daemon ended: %w", err)
		}
	case <-time.After(stopTime):
		err = fmt.Errorf("the daemon did not stop within %v of SIGTERM", stopTime)
		_ = h.daemon.Process.Kill() // its end is awaited
		<-h.ended
	}
	for _, pid := range h.left() {
		err = errors.Join(err, fmt.Errorf("process %d outlived its daemon", pid))
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may be ending just now
	}
	return err
}

// left finds the processes that run the built binaries, ourselves apart. It needs a /proc, and finds none elsewhere.
func (h *host) left() []int {
	var pids []int
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is well-formed
	for _, file := range files {
		text, err := os.ReadFile(file)
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err == nil && pid != os.Getpid() && bytes.HasPrefix(text, []byte(h.work+"/")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// awaitWorkers waits until all workers have connected.
func (h *host) awaitWorkers(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("%d workers were not connected within %v", processes, patience))
	defer cancel()
	return h.poll(ctx, func() (bool, error) {
		out, err := h.respirated(ctx, "worker", "list", "--json")
		if err != nil {
			return false, nil // the daemon does not listen yet
		}
		var list struct {
			Workers []struct {
				Connected bool `json:"connected"`
			} `json:"workers"`
		}
		if err := json.Unmarshal(out, &list); err != nil {
			return false, fmt.Errorf("read the list of workers: %w", err)
		}
		connected := 0
		for _, w := range list.Workers {
			if w.Connected {
				connected++
			}
		}
		return connected == processes, nil
	})
}

// poll asks until the answer is yes. It also ends with ctx, or when the daemon does.
func (h *host) poll(ctx context.Context, ask func() (bool, error)) error {
	for {
		if yes, err := ask(); yes || ctx.Err() == nil && err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-h.ended:
			return fmt.Errorf("the daemon ended while it should run (%v)", err)
		case <-time.After(pollEvery):
		}
	}
}
