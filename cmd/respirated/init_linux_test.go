package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// inContainer is a command that makes what follows it process 1, as a container's engine does.
func inContainer(t *testing.T) []string {
	t.Helper()
	unshare := []string{"unshare", "--pid", "--fork", "--mount-proc"}
	if out, err := exec.Command(unshare[0], append(unshare[1:], "true")...).CombinedOutput(); err != nil {
		t.Skipf("cannot make a namespace of processes, so that process 1 is not tested: %v: %s", err, out)
	}
	return unshare
}

func TestProcessOneEndsAsItsChildDoes(t *testing.T) {
	under := inContainer(t)
	for verb, want := range map[string]int{"version": 0, "no-such-verb": exitUsage} {
		args := append(under[1:len(under):len(under)], filepath.Join(programs(t), "respirated"), verb)
		cmd := exec.Command(under[0], args...)
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != want || !strings.Contains(string(out), "respirated") {
			t.Errorf("%s: got exit code %d, want %d: %s", verb, got, want, out)
		}
	}
}

// childrenOf are the children of a process, those that have ended but were not reaped included.
func childrenOf(t *testing.T, pid int) (pids []int) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // each thread has its own
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, _ := os.ReadFile(file) // the thread may have ended
		for _, word := range strings.Fields(string(text)) {
			child, err := strconv.Atoi(word)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, child)
		}
	}
	return pids
}

func TestProcessOneReapsOrphansAndHandsOnSignals(t *testing.T) {
	t.Parallel()
	under := inContainer(t)
	dir := t.TempDir()
	// A worker that leaves an orphan behind, which ends when its pipe does: the worker holds the other end of it.
	script := filepath.Join(dir, "worker")
	text := fmt.Sprintf("#!/bin/sh\n(setsid cat %s/pipe >/dev/null &)\nexec %s\n", dir, filepath.Join(programs(t), "demo-worker"))
	if err := writeProgram(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := newHost(t, migrated(t), "--worker", script, "--procs", "1")
	h.under = under
	h.start()
	h.workers(1)
	first := childrenOf(t, h.daemon.Process.Pid)
	if len(first) != 1 {
		t.Fatalf("unshare has the children %v", first)
	}
	t.Cleanup(func() {
		if h.daemon.ProcessState == nil { // unshare does not hand on signals
			_ = syscall.Kill(first[0], syscall.SIGKILL)
		}
	})
	h.eventually("process 1 has the daemon and the orphan", func() bool { return len(childrenOf(t, first[0])) == 2 })
	pipe, err := os.OpenFile(filepath.Join(dir, "pipe"), os.O_WRONLY, 0) // opens when the orphan reads
	if err != nil {
		t.Fatal(err)
	}
	pipe.Close()
	h.eventually("the orphan is reaped", func() bool { return len(childrenOf(t, first[0])) == 1 })
	if err := syscall.Kill(first[0], syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := h.daemon.Wait(); err != nil { // what unshare ends with is what process 1 does
		t.Errorf("the daemon ended with %v, want it to drain and end in peace", err)
	}
	for _, w := range h.leftWorkers() {
		t.Errorf("worker %d is left behind", w)
	}
}
