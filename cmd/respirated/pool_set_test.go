package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/respirated/respirated/broker/supervisor"
	"github.com/respirated/respirated/client"
	"github.com/respirated/respirated/cmd/internal/demo"
)

// pidsOf asks for the processes of a pool that are connected, and whether all of them are as the broker shall know them.
func (h *host) pidsOf(pool string, as func(workerStatus) bool) (pids []int, all bool) {
	h.t.Helper()
	var p poolStatus
	if err := askDaemon(h.t.Context(), h.socket(), poolPath(pool), &p); err != nil {
		return nil, false // a worker may have connected before its pool is listed
	}
	all = true
	for _, w := range p.Workers {
		if w.Connected {
			pids = append(pids, w.PID)
			all = all && as(w)
		}
	}
	return pids, all && len(pids) == p.Procs
}

// awaitPaused waits until the workers of a pool get nothing, or something again.
func (h *host) awaitPaused(pool string, paused bool) (pids []int) {
	h.t.Helper()
	h.eventually(fmt.Sprintf("workers of %s are paused: %v", pool, paused), func() (all bool) {
		pids, all = h.pidsOf(pool, func(w workerStatus) bool { return w.Paused == paused })
		return all
	})
	return pids
}

// ranIn fails if any of these strands has been run by another process.
func (h *host) ranIn(ids []string, pids []int) {
	h.t.Helper()
	lines := h.lines()
	for _, id := range ids {
		for _, pid := range lines[id] {
			if !slices.Contains(pids, pid) {
				h.t.Errorf("strand %s has been run by process %d, want one of %v", id, pid, pids)
			}
		}
	}
}

func TestAPausedPoolGetsNothingUntilItIsResumedEvenByALaterDaemon(t *testing.T) {
	t.Parallel()
	worker := filepath.Join(programs(t), "demo-worker")
	config := filepath.Join(t.TempDir(), "daemon.yaml")
	replaceFile(t, config, fmt.Sprintf("pools:\n- {name: a, worker: %[1]s, procs: 2}\n- {name: b, worker: %[1]s, procs: 1}\n", worker), 0o600)
	h := newHost(t, migrated(t), "--config", config)
	h.start()
	h.awaitPool("runs", "a", has("running", 2))
	h.awaitPool("runs", "b", has("running", 1))

	held := h.insertLedger(30, 200*time.Millisecond)
	h.cli("pool", "pause", "a")
	before := h.awaitPaused("a", true)
	after := h.insertLedger(30, 0)
	h.awaitDone(len(held) + len(after)) // those that were held by a are finished, too
	b, _ := h.pidsOf("b", func(workerStatus) bool { return true })
	h.ranIn(after, b)
	if now := h.awaitPaused("a", true); !slices.Equal(now, before) {
		t.Errorf("its processes are %v, want %v as before", now, before)
	}
	if out := h.cli("pool", "list"); !strings.Contains(out, "paused") {
		t.Errorf("pool list says %s", out)
	}
	if out := h.cli("pool", "show", "a"); !strings.Contains(out, "its workers get no new strands") {
		t.Errorf("pool show says %s", out)
	}

	h.stop(h.daemon)
	h.start()
	h.awaitPaused("a", true)
	h.awaitPool("runs", "b", has("running", 1))
	h.cli("pool", "pause", "b", "--json")
	h.awaitPaused("b", true)
	last := h.insertLedger(1, 0)
	h.cli("pool", "resume", "a")
	resumed := h.awaitPaused("a", false)
	h.awaitDone(len(held) + len(after) + len(last))
	h.ranIn(last, resumed)
	h.exactlyOnce(slices.Concat(held, after, last))
	if code, _, stderr := call("pool", "pause", "none", "--socket", h.socket()); code != exitNotFound || !strings.Contains(stderr, "there is no such pool") {
		t.Errorf("pool pause of a pool that is not there: code %d, %s", code, stderr)
	}
}

func TestPoolsTakeStrandsOfTheirQueuesAlone(t *testing.T) {
	t.Parallel()
	worker := filepath.Join(programs(t), "demo-worker")
	config := filepath.Join(t.TempDir(), "daemon.yaml")
	pools := "pools:\n- {name: a, worker: %[1]s, procs: 1, queues: [default, acme/mail]}\n- {name: b, worker: %[1]s, procs: 1, queues: [%[2]s]}\n"
	replaceFile(t, config, fmt.Sprintf(pools, worker, "mail"), 0o600)
	h := newHost(t, migrated(t), "--config", config)
	h.start()
	h.awaitPool("runs", "a", has("running", 1))
	h.awaitPool("runs", "b", has("running", 1))
	a, b := h.awaitPaused("a", false), h.awaitPaused("b", false)
	insert := func(n int, opts client.InsertOpts) (ids []string) {
		for range n {
			ids = append(ids, h.insertOne(demo.Ledger{Path: h.ledger}, &opts))
		}
		return ids
	}
	toA := insert(10, client.InsertOpts{})
	toB := insert(10, client.InsertOpts{Queue: "mail"})
	toA = append(toA, insert(10, client.InsertOpts{Queue: "mail", Tenant: "acme"})...)
	h.awaitDone(30)
	h.ranIn(toA, a)
	h.ranIn(toB, b)

	// What nobody may take waits, without being in the way, until somebody may.
	waiting := insert(5, client.InsertOpts{Queue: "reports"})
	toA = append(toA, insert(5, client.InsertOpts{})...)
	h.eventually("all but those are done", func() bool { return h.doneHere() == 35 })
	h.eventually("no candidates are at hand", func() bool { return h.status().Candidates == 0 })
	h.cli("pool", "set", "b", "--queues", "mail,reports")
	h.awaitDone(40)
	h.ranIn(toA, a)
	h.ranIn(waiting, b)
	if now := h.awaitPaused("b", false); !slices.Equal(now, b) {
		t.Errorf("the processes of b are %v, want %v as before", now, b)
	}
	if out := h.cli("pool", "show", "b"); !strings.Contains(out, "mail reports") {
		t.Errorf("pool show says %s", out)
	}

	replaceFile(t, config, fmt.Sprintf(pools, worker, "acme/reports"), 0o600)
	h.awaitPool("has other queues", "b", func(p supervisor.PoolInfo) bool { return slices.Equal(p.Queues, []string{"acme/reports"}) })
	last := insert(3, client.InsertOpts{Queue: "reports", Tenant: "acme"})
	h.awaitDone(43)
	h.ranIn(last, b)
	if code, _, stderr := call("pool", "set", "b", "--queues", "/mail", "--socket", h.socket()); code != exitUsage || !strings.Contains(stderr, "tenant/queue") {
		t.Errorf("pool set --queues /mail: code %d, %s", code, stderr)
	}
}

func TestStrandsOfAKindThatAPoolIsolatesRunOneByOneInAProcess(t *testing.T) {
	t.Parallel()
	worker := filepath.Join(programs(t), "demo-worker")
	config := filepath.Join(t.TempDir(), "daemon.yaml")
	replaceFile(t, config, fmt.Sprintf("pools:\n- {name: a, worker: %s, procs: 1, isolate: [ledger]}\n", worker), 0o600)
	h := newHost(t, migrated(t), "--config", config)
	h.start()
	h.awaitPool("runs", "a", has("running", 1))
	ids := h.insertLedger(5, 200*time.Millisecond)
	h.eventually("all are done", func() bool {
		h.pidsOf("a", func(w workerStatus) bool {
			if w.Held > 1 {
				t.Errorf("the worker holds %d strands at once", w.Held)
			}
			return true
		})
		return h.doneHere() == len(ids) || t.Failed()
	})
	if out := h.cli("pool", "show", "a"); !strings.Contains(out, "isolate") || !strings.Contains(out, "ledger") {
		t.Errorf("pool show says %s", out)
	}

	h.cli("pool", "set", "a", "--isolate", "")
	more := h.insertLedger(10, time.Second)
	h.eventually("several run at once", func() bool {
		most := 0
		h.pidsOf("a", func(w workerStatus) bool { most = max(most, w.Held); return true })
		return most > 1
	})
	h.awaitDone(len(ids) + len(more))
}

func TestAPoolIsSetByHand(t *testing.T) {
	t.Parallel()
	worker := filepath.Join(programs(t), "demo-worker")
	h := newHost(t, migrated(t), "--worker", worker, "--procs", "1")
	h.start()
	h.awaitPool("runs", "default", has("running", 1))
	first := h.workers(1)
	set := func(args ...string) (code int, stderr string) {
		code, _, stderr = call(append([]string{"pool", "set", "default", "--socket", h.socket()}, args...)...)
		return code, stderr
	}
	dir := t.TempDir()
	h.insertLedger(100, 200*time.Millisecond) // whoever runs one is believed at once, and not after ten seconds
	if code, stderr := set("--kinds", "ledger,echo", "--isolate", "echo", "--slots", "3", "--dir", dir, "--env", "LANG,TOKEN=secret", "--memory", "1GiB", "--pids", "200"); code != 0 {
		t.Fatalf("pool set: code %d, %s", code, stderr)
	}
	h.eventually("another process has taken over", func() bool { return !slices.Equal(h.workers(1), first) })
	out := h.cli("pool", "show", "default")
	for _, want := range []string{"ledger echo", "isolate", "3 slots", dir, "memory 1GiB", "LANG TOKEN\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("pool show does not say %q:\n%s", want, out)
		}
	}
	second := h.workers(1)
	again := filepath.Join(dir, "worker")
	if err := os.Symlink(worker, again); err != nil {
		t.Fatal(err)
	}
	h.insertLedger(100, 200*time.Millisecond)
	if code, stderr := set("--worker", again, "--args", "a,b c", "--nofile", "300", "--nice", "3", "--no-new-privs", "--core", "0", "--umask", "0027",
		"--stop-timeout", "5s", "--boot-timeout", "1m", "--recycle-age", "6h", "--recycle-rss", "1GiB"); code != 0 {
		t.Fatalf("pool set: code %d, %s", code, stderr)
	}
	h.eventually("another process has taken over", func() bool { return !slices.Equal(h.workers(1), second) })
	words, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", h.workers(1)[0]))
	if err == nil && string(words) != strings.Join([]string{again, "a", "b c", ""}, "\x00") { // where there is a /proc
		t.Errorf("the worker was started as %q", words)
	}
	out = h.cli("pool", "show", "default")
	for _, want := range []string{again, `["a" "b c"]`, "nofile 300, core 0, nice 3, umask 027, no_new_privs", "5s", "1m0s", "age 6h0m0s, rss 1GiB", "memory 1GiB"} {
		if !strings.Contains(out, want) {
			t.Errorf("pool show does not say %q:\n%s", want, out)
		}
	}
	for _, c := range []struct{ flag, value, want string }{
		{"--worker", "/none", "does not exist"},
		{"--worker", "", "no worker binary"},
		{"--stop-timeout", "1h", "at most"},
		{"--stop-timeout", "-1s", "must not be negative"},
		{"--umask", "9", "octal"},
		{"--recycle-age", "-1s", "recycle"},
		{"--nice", "20", "nice"},
		{"--slots", "0", "must be 1"},
		{"--dir", "/none", "working directory"},
		{"--user", "nobody-of-this-name", "nobody-of-this-name"},
		{"--isolate", "convert", "isolate"},
		{"--memory", "much", "want a size"},
		{"--pids", "-1", "pids"},
		{"--env", "=b", "env"},
	} {
		if code, stderr := set(c.flag, c.value); code != exitUsage || !strings.Contains(stderr, c.want) {
			t.Errorf("pool set %s %s: code %d, %s; want %q", c.flag, c.value, code, stderr, c.want)
		}
	}
	if code, stderr := set(); code != exitUsage || !strings.Contains(stderr, "say what to set") {
		t.Errorf("pool set of nothing: code %d, %s", code, stderr)
	}
}
