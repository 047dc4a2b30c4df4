package private

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// pollEvery is how often we look whether a server has started or ended. Both take tens of milliseconds.
const pollEvery = 5 * time.Millisecond

// process is a child that is reaped by asking, not by a waiting goroutine: see the package comment.
type process struct {
	pid int // ours until reaped, so that a signal can never hit a stranger
}

func startProcess(cmd *exec.Cmd, logFile string) (*process, error) {
	out, err := os.OpenFile(logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the server's log: %w", err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	pid := cmd.Process.Pid
	return &process{pid: pid}, cmd.Process.Release()
}

// ended reaps the process if it has ended. Once it has said true it does so for ever.
func (p *process) ended() bool {
	if p.pid == 0 {
		return true
	}
	pid, err := syscall.Wait4(p.pid, nil, syscall.WNOHANG, nil)
	// ECHILD: a supervisor in the same program, which reaps every child, was faster.
	if pid == p.pid || errors.Is(err, syscall.ECHILD) {
		p.pid = 0
	}
	return p.pid == 0
}

// end signals the process and returns once it is reaped. A server that does not end in time gets a ruder signal.
func (p *process) end(sig syscall.Signal) {
	for _, s := range []syscall.Signal{sig, syscall.SIGQUIT, syscall.SIGKILL} {
		if p.ended() {
			return
		}
		_ = syscall.Kill(p.pid, s) // it is not reaped, so it is there
		if p.endedWithin(10 * time.Second) {
			return
		}
	}
}

func (p *process) endedWithin(d time.Duration) bool {
	for deadline := time.Now().Add(d); !p.ended(); time.Sleep(pollEvery) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}
