package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/respirated/respirated/client"
	"github.com/respirated/respirated/cmd/internal/demo"
)

// status is what the daemon tells of itself.
func (h *host) status() daemonStatus {
	h.t.Helper()
	var status daemonStatus
	if err := askDaemon(h.t.Context(), h.socket(), "/api/v1/status", &status); err != nil {
		h.t.Fatal(err)
	}
	return status
}

// upgrade has the daemon become the build at a path, "" for the same.
func (h *host) upgrade(binary string) {
	h.t.Helper()
	if code, out, errOut := h.askUpgrade(binary); code != 0 || !strings.Contains(out, fmt.Sprintf("pid %d\n", h.daemon.Process.Pid)) {
		h.t.Fatalf("upgrade: exit status %d, %s%s", code, out, errOut)
	}
}

func (h *host) askUpgrade(binary string) (code int, stdout, stderr string) {
	return call("broker", "upgrade", "--socket", h.socket(), "--binary="+binary)
}

// limits are those of the daemon's process.
func (h *host) limits() string {
	h.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", h.daemon.Process.Pid))
	if err != nil {
		h.t.Fatal(err)
	}
	return string(text)
}

// isParentOf says whether a process is the daemon's child.
func (h *host) isParentOf(pid int) bool {
	h.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.Contains(string(text), fmt.Sprintf("\nPPid:\t%d\n", h.daemon.Process.Pid))
}

func TestUpgradeInPlaceKeepsTheProcessItsWorkersAndEveryStrand(t *testing.T) {
	t.Parallel()
	h := newHost(t, migrated(t), demoWorkers(t, 4)...)
	h.start()
	before, broker := h.workers(4), h.status().Broker
	n := inShort(8000)
	ids := h.insertLedger(n, 20*time.Millisecond)

	h.awaitLines(n / 8)
	h.upgrade("")
	h.awaitLines(n / 4)
	h.upgrade(filepath.Join(programs(t), "respirated"))
	if err := h.daemon.Process.Signal(syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	h.eventually("the third upgrade is done", func() bool {
		var status daemonStatus // it may be between two builds
		return askDaemon(t.Context(), h.socket(), "/api/v1/status", &status) == nil && status.Upgrades == 3
	})

	h.awaitDone(n)
	h.exactlyOnce(ids)
	if after := h.workers(4); !slices.Equal(after, before) {
		t.Errorf("workers are %v, were %v: some were restarted", after, before)
	}
	if failed := h.count("select count(*) from respirate.attempts"); failed != 0 {
		t.Errorf("%d runs failed, want none", failed)
	}
	if after := h.status(); after.PID != h.daemon.Process.Pid || after.Broker != broker {
		t.Errorf("broker %s in process %d, was %s in %d", after.Broker, after.PID, broker, h.daemon.Process.Pid)
	}
	for _, pid := range before {
		if !h.isParentOf(pid) {
			t.Errorf("worker %d is the daemon's child no more", pid)
		}
	}

	// It is told how its children end.
	if err := syscall.Kill(before[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	h.eventually("the death of a worker is seen, and how", func() bool {
		var workers []workerStatus
		if err := askDaemon(t.Context(), h.socket(), "/api/v1/workers", &workers); err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(workers, func(w workerStatus) bool { return w.LastExit == "signal: killed" })
	})
}

func TestUpgradeIsNoNewsToOtherHosts(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	first, second := newHost(t, url, demoWorkers(t, 1)...), newHost(t, url, demoWorkers(t, 1)...)
	first.start()
	first.workers(1)
	second.start()
	second.workers(1)
	places := func() string {
		return strings.Join(second.list("select concat_ws(' ', b.broker, b.partition, b.rank, b.members, b.lo, b.hi) from respirate.brokers b where b.alive order by 1"), "; ")
	}
	second.eventually("both have half of the ids", func() bool { return strings.Count(places(), " 2 ") >= 2 && strings.Count(places(), "2147483648") == 2 })
	for _, h := range []*host{first, second} { // what they say is written down a little later
		h.eventually("it has settled", func() bool { return strings.Contains(h.said(), "of=2") })
	}
	before, news := places(), strings.Count(second.said(), "partition changed")
	longest := time.Duration(0)
	for range 3 {
		began := time.Now()
		first.upgrade("")
		longest = max(longest, time.Since(began))
		first.workers(1)
	}
	second.eventually("the database knows what it did", func() bool { return places() == before })
	// A machine that takes so long for it keeps the first silent for as long as it takes to miss a broker.
	const missed = 4 * time.Second
	if now := strings.Count(second.said(), "partition changed"); now != news && longest < missed/2 {
		t.Errorf("the other host has divided the ids %d times anew, want never; the longest upgrade took %v", now-news, longest)
	}
}

// said is what the host's daemons have logged.
func (h *host) said() string {
	h.t.Helper()
	text, err := os.ReadFile(h.log.Name())
	if err != nil {
		h.t.Fatal(err)
	}
	return string(text)
}

// script writes a program of the shell and returns its path.
func (h *host) script(name, text string) string {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	if err := writeProgram(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		h.t.Fatal(err)
	}
	return path
}

func TestUpgradeThatCannotBeIsRefusedAndTheOldBuildGoesOn(t *testing.T) {
	t.Parallel()
	h := newHost(t, migrated(t), demoWorkers(t, 2)...)
	h.under = []string{"sh", "-c", `ulimit -Sn 512; exec "$@"`, "sh"}
	h.start()
	before, limits := h.workers(2), h.limits()
	n := inShort(2000)
	ids := h.insertLedger(n, 10*time.Millisecond)
	good := filepath.Join(programs(t), "respirated")
	text := filepath.Join(h.dir, "text")
	if err := writeProgram(text, []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ binary, want string }{
		"missing":          {filepath.Join(h.dir, "missing"), "no such file"},
		"folder":           {h.dir, "permission denied"},
		"no program":       {text, "exec format error"},
		"crash at start":   {h.script("crash", "echo cannot start >&2; kill -SEGV $$"), "cannot start"},
		"another program":  {"/bin/true", "is no respirated"},
		"another format":   {h.script("newer", `echo '{"respirated": "v9", "handover": 99}'`), "version 99"},
		"schema too new":   {h.script("schema", "exec "+good+` "$@" --schema other`), "migrate up"},
		"database is away": {h.script("away", `shift; exec `+good+` run --database-url postgres://127.0.0.1:1/x "$@" --database-url postgres://127.0.0.1:1/y`), "cannot connect"},
		"another socket":   {h.script("elsewhere", "exec "+good+` "$@" --socket `+filepath.Join(h.dir, "other", "respirate.sock")), "would serve the socket"},
		"hook is missing":  {h.script("hook", "exec "+good+` "$@" --config `+writeConfig(t, "hooks: [{command: [/no/hook]}]\n")), `command "/no/hook" of a hook cannot be run`},
		// It passes the check, and is another one when the process is to become it.
		"replaced by then": {h.script("replaced", "cp $0 $0.new; mv $0.new $0; exec "+good+` "$@"`), "another file now"},
		// It passes the check, and is gone when the process is to become it.
		"gone by then": {h.script("gone", "rm $0; exec "+good+` "$@"`), "no such file"},
	} {
		code, out, errOut := h.askUpgrade(c.binary)
		if code != 1 || !strings.Contains(errOut, c.want) || !strings.Contains(errOut, "the daemon refuses: ") {
			t.Errorf("%s: exit status %d, %s%s; want a refusal with %q", name, code, out, errOut, c.want)
		}
	}
	h.awaitDone(n)
	h.exactlyOnce(ids)
	if after := h.workers(2); !slices.Equal(after, before) {
		t.Errorf("workers are %v, were %v: some were restarted", after, before)
	}
	if now := h.status(); now.PID != h.daemon.Process.Pid || now.Upgrades != 0 {
		t.Errorf("got process %d after %d upgrades, want %d after none", now.PID, now.Upgrades, h.daemon.Process.Pid)
	}
	if now := h.limits(); now != limits {
		t.Errorf("the daemon has limits\n%s\nwant\n%s", now, limits)
	}
	h.upgrade("") // what was refused keeps nothing from going well
	if after := h.workers(2); !slices.Equal(after, before) {
		t.Errorf("workers are %v, were %v: some were restarted", after, before)
	}
}

func TestUpgradeIsRefusedWhileAResultCannotBeWritten(t *testing.T) {
	t.Parallel()
	h := newHost(t, migrated(t), demoWorkers(t, 1)...)
	h.start()
	before := h.workers(1)
	inserted, err := h.db.Insert(t.Context(), demo.Sleep{For: demo.Duration(time.Second)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	h.awaitState(inserted.ID, client.Leased)
	tx, err := h.db.conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "select from respirate.strand where id = $1 for update", inserted.ID); err != nil {
		t.Fatal(err)
	}
	h.eventually("the result waits for the row", func() bool {
		d := h.status().Databases
		return len(d) == 1 && d[0].Unsettled > 0
	})
	code, _, errOut := h.askUpgrade("")
	if code != 1 || !strings.Contains(errOut, "does not arrive") {
		t.Errorf("exit status %d, %s; want it refused", code, errOut)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.awaitDone(1)
	h.upgrade("")
	if after := h.workers(1); !slices.Equal(after, before) {
		t.Errorf("workers are %v, were %v", after, before)
	}
}

func TestUpgradeKeepsTheWorkerThatHasTakenOverFromOneThatFinishes(t *testing.T) {
	t.Parallel()
	h := newHost(t, migrated(t), demoWorkers(t, 1)...)
	h.start()
	old := h.workers(1)[0]
	inserted, err := h.db.Insert(t.Context(), demo.Sleep{For: demo.Duration(time.Hour)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	h.awaitState(inserted.ID, client.Leased)
	h.cli("worker", "recycle", strconv.Itoa(old))
	h.eventually("the old one finishes", func() bool {
		p := poolStatus{}
		err := askDaemon(t.Context(), h.socket(), poolPath("default"), &p)
		return err == nil && p.Connected == 1 && len(p.Workers) == 2 && p.Workers[1].State == "ending"
	})
	h.upgrade("")
	if _, err := h.db.StrandCancel(t.Context(), inserted.ID); err != nil {
		t.Fatal(err)
	}
	h.awaitState(inserted.ID, client.Cancelled)
	if now := h.workers(1); now[0] == old {
		t.Errorf("worker %d is still there", old)
	}
	h.awaitLog("worker ended")
	if text := h.said(); strings.Count(text, "worker ended") != 1 {
		t.Errorf("more than one worker has ended: %s", text)
	}
}

func TestHangupsDuringAnUpgradeEndNoDaemon(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "daemon.yaml")
	replaceFile(t, config, fmt.Sprintf("pools:\n- {name: a, worker: %s, procs: 1}\n", filepath.Join(programs(t), "demo-worker")), 0o600)
	h := newHost(t, migrated(t), "--config", config)
	h.start()
	before := h.workers(1)
	var storm sync.WaitGroup
	over := make(chan struct{})
	storm.Go(func() {
		for {
			select {
			case <-over:
				return
			case <-time.After(time.Millisecond): // so that one of them meets the exec
				_ = h.daemon.Process.Signal(syscall.SIGHUP)
			}
		}
	})
	for range 3 {
		h.upgrade("")
	}
	close(over)
	storm.Wait()
	if after := h.workers(1); !slices.Equal(after, before) {
		t.Errorf("workers are %v, were %v", after, before)
	}
	if code, _, errOut := h.askUpgrade(h.script("gone", "rm $0; exec "+filepath.Join(programs(t), "respirated")+` "$@"`)); code != 1 {
		t.Errorf("exit status %d, %s; want a refusal", code, errOut)
	}
	replaceFile(t, config, "pools: []\n#", 0o600)
	if err := h.daemon.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	h.workers(0)
}
