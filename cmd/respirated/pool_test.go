package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/respirated/respirated/broker/supervisor"
)

// cli runs a verb against the daemon, and has to succeed.
func (h *host) cli(args ...string) string {
	h.t.Helper()
	code, stdout, stderr := call(append(args, "--socket", h.socket())...)
	if code != 0 {
		h.t.Fatalf("respirated %s: code %d, %s", strings.Join(args, " "), code, stderr)
	}
	return stdout
}

// pools asks the command line for all pools, by name.
func (h *host) pools() map[string]supervisor.PoolInfo {
	h.t.Helper()
	var list []supervisor.PoolInfo
	if err := json.Unmarshal([]byte(h.cli("pool", "list", "--json")), &list); err != nil {
		h.t.Fatal(err)
	}
	pools := make(map[string]supervisor.PoolInfo)
	for _, p := range list {
		pools[p.Name] = p
	}
	return pools
}

func (h *host) awaitPool(what, name string, ok func(supervisor.PoolInfo) bool) {
	h.t.Helper()
	h.eventually(fmt.Sprintf("pool %s %s", name, what), func() bool { return ok(h.pools()[name]) })
}

func has(state string, connected int) func(supervisor.PoolInfo) bool {
	return func(p supervisor.PoolInfo) bool { return p.State == state && p.Connected == connected }
}

// awaitLog waits until the daemon has said something.
func (h *host) awaitLog(words string) {
	h.t.Helper()
	h.eventually("the log says "+words, func() bool {
		text, err := os.ReadFile(h.log.Name())
		return err == nil && strings.Contains(string(text), words)
	})
}

// replaceFile puts a file at its path as editors and deployments do.
func replaceFile(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := errors.Join(writeProgram(path+".new", []byte(text), mode), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}

// writeProgram writes a file that can be run at once. A process that another test starts meanwhile would hold it open for writing
// until it has become its own program, and nobody can run a file that is open so.
func writeProgram(path string, text []byte, mode os.FileMode) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, text, mode)
}

func TestPoolsChangeWhileTheDaemonRuns(t *testing.T) {
	t.Parallel()
	worker := filepath.Join(programs(t), "demo-worker")
	config := filepath.Join(t.TempDir(), "daemon.yaml")
	replaceFile(t, config, fmt.Sprintf("pools:\n- {name: a, worker: %s, procs: 2}\n", worker), 0o600)
	h := newHost(t, migrated(t), "--config", config)
	h.start()
	h.awaitPool("runs", "a", has("running", 2))

	if out := h.cli("pool", "set", "a", "--procs", "3"); !strings.Contains(out, "pool a is set") {
		t.Errorf("pool set says %q", out)
	}
	h.awaitPool("has 3", "a", has("running", 3))
	if code, _, stderr := call("pool", "set", "none", "--procs", "3", "--socket", h.socket()); code != exitNotFound || !strings.Contains(stderr, "there is no such pool") {
		t.Errorf("pool set of a pool that is not there: code %d, %s", code, stderr)
	}
	if code, _, stderr := call("pool", "set", "a", "--procs", "0", "--socket", h.socket()); code != exitUsage || !strings.Contains(stderr, "must be 1 at least") {
		t.Errorf("pool set --procs 0: code %d, %s", code, stderr)
	}

	replaceFile(t, config, fmt.Sprintf("lease: 3m\npools:\n- {name: a, worker: %[1]s, procs: 1}\n- {name: b, worker: %[1]s, procs: 1}\n", worker), 0o600)
	h.awaitPool("is new", "b", has("running", 1))
	h.awaitPool("has 1", "a", has("running", 1))
	h.awaitLog("changed settings wait for a restart of the daemon\" settings=lease")

	replaceFile(t, config, "pools:\n- {name: a, proc: 1}\n", 0o600)
	h.awaitLog("configuration cannot be taken: the former one stays")
	if pools := h.pools(); len(pools) != 2 {
		t.Errorf("got %v after a bad configuration, want the two pools", pools)
	}
	replaceFile(t, config, "", 0o600)
	h.awaitLog("configuration is empty now, which changes nothing")
	if err := h.daemon.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	h.eventually("no pool is left", func() bool { return len(h.pools()) == 0 })
	h.workers(0)
}

func TestWorkersAreRecycledAndStoppedByHand(t *testing.T) {
	t.Parallel()
	h := newHost(t, migrated(t), "--worker", filepath.Join(programs(t), "demo-worker"), "--procs", "2")
	h.start()
	h.awaitPool("runs", "default", has("running", 2))
	first := h.workers(2)
	ids := h.insertLedger(40, 20*time.Millisecond)

	h.cli("worker", "recycle", strconv.Itoa(first[0]))
	h.eventually("one worker has another place", func() bool {
		now := h.workers(2)
		return !slices.Contains(now, first[0]) && slices.Contains(now, first[1])
	})
	h.cli("worker", "stop", strconv.Itoa(first[1]), "--json")
	h.eventually("so has the other", func() bool { return !slices.Contains(h.workers(2), first[1]) })
	second := h.workers(2)
	h.cli("pool", "recycle", "default")
	h.eventually("all have", func() bool {
		now := h.workers(2)
		return !slices.Contains(now, second[0]) && !slices.Contains(now, second[1])
	})
	h.awaitDone(len(ids))
	h.exactlyOnce(ids) // nobody was ended before its strands were

	if code, _, stderr := call("worker", "stop", "1", "--socket", h.socket()); code != exitNotFound || !strings.Contains(stderr, "no pool of this daemon has a worker with this pid") {
		t.Errorf("worker stop of a stranger: code %d, %s", code, stderr)
	}
	if out := h.cli("pool", "show", "default"); !strings.Contains(out, "2 connected of 2") || !strings.Contains(out, "ledger") {
		t.Errorf("pool show says %s", out)
	}
}

func TestDroppedInBinaryIsRolledAndABadOneHeldBack(t *testing.T) {
	t.Parallel()
	worker := filepath.Join(programs(t), "demo-worker")
	folder := t.TempDir()
	if err := os.Chmod(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	script := func(line string) string { return fmt.Sprintf("#!/bin/sh\n%s\nexec %s\n", line, worker) }
	replaceFile(t, filepath.Join(folder, "jobs"), script("# 1"), 0o700)
	h := newHost(t, migrated(t), "--workers-dir", folder)
	h.start()
	h.awaitPool("runs", "jobs", has("running", 4))
	build := h.pools()["jobs"].Build

	ids := h.insertLedger(inShort(2000), 5*time.Millisecond)
	h.awaitLines(10)
	replaceFile(t, filepath.Join(folder, "jobs"), script("# 2"), 0o700)
	h.awaitPool("has rolled", "jobs", func(p supervisor.PoolInfo) bool { return p.State == "running" && p.Build != build && p.Connected == 4 })
	h.awaitDone(len(ids))
	h.exactlyOnce(ids)

	replaceFile(t, filepath.Join(folder, "jobs"), script("exit 3"), 0o700)
	h.awaitPool("keeps the old build", "jobs", has("old build", 4))
	h.insertLedger(1, 0)
	h.awaitDone(len(ids) + 1)
	if err := os.Remove(filepath.Join(folder, "jobs")); err != nil {
		t.Fatal(err)
	}
	h.workers(0)
}
