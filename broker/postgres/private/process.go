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

// patience is how long a server may take to end before it gets a ruder signal.
const patience = 10 * time.Second

// process is a child that is reaped by asking, not by a waiting goroutine: see the package comment.
type process struct {
	pid int // 0 once reaped; until then it is ours, so that a signal cannot hit a stranger
}

// startProcess starts a command whose output goes to a file.
func startProcess(cmd *exec.Cmd, logFile string) (*process, error) {
	out, err := os.OpenFile(logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the server's log: %w", err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	return begin(cmd)
}

func begin(cmd *exec.Cmd) (*process, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{pid: cmd.Process.Pid}
	return p, cmd.Process.Release()
}

// ended reaps the process if it has ended.
func (p *process) ended() bool {
	if p.pid == 0 {
		return true
	}
	pid, err := syscall.Wait4(p.pid, nil, syscall.WNOHANG, nil)
	// ECHILD: somebody in this program who reaps every child was faster.
	if pid == p.pid || errors.Is(err, syscall.ECHILD) {
		p.pid = 0
	}
	return p.pid == 0
}

// end signals the process and returns once it is reaped, by ruder means if need be.
func (p *process) end(sig syscall.Signal) {
	for _, s := range []syscall.Signal{sig, syscall.SIGQUIT, syscall.SIGKILL} {
		if p.ended() {
			return
		}
		_ = syscall.Kill(p.pid, s) // not reaped, so it is there
		if p.endedWithin(patience) {
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
