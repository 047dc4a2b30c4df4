package main

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/respirated/respirated/broker/supervisor"
	"github.com/respirated/respirated/client"
	"github.com/respirated/respirated/cmd/internal/demo"
)

// configured are the flags for a configuration file of one pool of the demo's worker with these settings, one a line.
func configured(t *testing.T, settings ...string) []string {
	text := "lease: 60s\npools:\n- worker: " + filepath.Join(programs(t), "demo-worker") + "\n"
	for _, s := range settings {
		text += "  " + s + "\n"
	}
	return []string{"--config", writeConfig(t, text)}
}

func TestAWorkerThatMisbehavesDiesAloneAndTheReasonIsTold(t *testing.T) {
	t.Parallel()
	h := newHost(t, migrated(t), configured(t, "procs: 5", "slots: 1",
		"limits: {memory: 150MiB, pids: 80, nofile: 256, core: 0, nice: 1, no_new_privs: true}")...)
	h.start()
	before := h.workers(5)

	const briefly = demo.Duration(20 * time.Second)
	bad := map[string]string{ // by strand: how its worker has to end
		h.insertOne(demo.Leak{For: briefly, Crash: true}, once):                  `^signal: killed$`,
		h.insertOne(demo.Alloc{MiB: 300, For: demo.Duration(time.Minute)}, once): `^signal: killed \(oom`,
		h.insertOne(demo.Leak{Children: 100, For: briefly}, once):                `^signal: killed \(pids`,
	}
	h.eventually("all of them run, or have", func() bool {
		return h.count("select count(*) from respirate.strands where state = 'ready' or state = 'deferred'") == 0
	})
	const n = 50
	ids := h.insertLedger(n, 20*time.Millisecond)
	chatter := h.insertOne(demo.Chatter{MiB: 20}, once)

	for id, want := range bad {
		h.awaitState(id, client.Dead)
		row, err := h.db.StrandGet(t.Context(), id)
		if err != nil || len(row.Attempts) != 1 {
			t.Fatalf("strand %s: %v, attempts %+v; want one", id, err, row.Attempts)
		}
		a := row.Attempts[0]
		if !regexp.MustCompile(want).MatchString(a.Exit) || a.Outcome != "crashed" || a.CPUMS == 0 {
			t.Errorf("its worker ended as %q after %d ms of CPU, outcome %s: %s; want %s", a.Exit, a.CPUMS, a.Outcome, a.Message, want)
		}
	}
	h.awaitState(chatter, client.Done)
	h.reaches(n+1, "strands that are done", h.doneHere)
	h.exactlyOnce(ids)
	if failed := h.count("select count(*) from respirate.attempts"); failed != len(bad) {
		t.Errorf("%d runs failed, want the %d bad ones alone", failed, len(bad))
	}
	survivors := 0
	for _, pid := range h.workers(5) {
		if slices.Contains(before, pid) {
			survivors++
		}
	}
	if survivors != len(before)-len(bad) {
		t.Errorf("%d of %d workers have survived %d deaths", survivors, len(before), len(bad))
	}
	text, err := os.ReadFile(h.log.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`msg="worker is killed: it is above its limit" pool=default .*why="oom: it used [0-9.]+ MiB of memory, its limit is 150\.0 MiB"`,
		`msg="worker is killed: it is above its limit" pool=default .*why="pids: it had [0-9]+ processes and threads, its limit is 80"`,
	} {
		if unlimited := strings.Contains(string(text), "is not enforced by the kernel"); unlimited && !regexp.MustCompile(want).Match(text) {
			t.Errorf("the log lacks %s", want)
		}
	}
}

// TestDeathsAreSettledSoon measures, and prints, how long after a worker is killed its strand is given back: see scripts/deaths.
func TestDeathsAreSettledSoon(t *testing.T) {
	deaths := 10
	if text := os.Getenv("DEATHS"); text != "" {
		var err error
		if deaths, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		args client.Args
	}{
		{"killed", demo.Hang{}},
		{"killed, its socket held by a grandchild", demo.Leak{For: demo.Duration(time.Minute)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t, migrated(t), configured(t, fmt.Sprintf("procs: %d", deaths), "slots: 1")...)
			h.start()
			pids := h.workers(deaths)
			for range deaths {
				h.insertOne(c.args, once)
			}
			h.eventually("each has a strand", func() bool {
				return h.count("select count(*) from respirate.strands where state = 'leased'") == deaths
			})
			if _, leaks := c.args.(demo.Leak); leaks {
				for _, pid := range pids {
					h.eventually("it has a child", func() bool { return hasChild(pid) })
				}
			}
			var took []time.Duration
			for i, pid := range pids {
				killed := time.Now()
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				h.eventually("its strand is settled", func() bool {
					return h.count("select count(*) from respirate.attempts where outcome = 'crashed'") == i+1
				})
				took = append(took, time.Since(killed))
			}
			slices.Sort(took)
			fmt.Printf("%s: %d deaths, until their strands were given back: p50 %v, p99 %v\n", c.name, deaths, took[deaths/2], took[(deaths-1)*99/100])
		})
	}
}

func hasChild(pid int) bool {
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		more, _ := os.ReadFile(task)
		children = append(children, more...)
	}
	return len(strings.TrimSpace(string(children))) > 0
}

func TestWorkersMayRunAsAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can start them")
	}
	t.Parallel()
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip(err)
	}
	h := newHost(t, migrated(t))
	if err := os.Chmod(h.dir, 0o711); err != nil { // as /run is
		t.Fatal(err)
	}
	binary := filepath.Join(h.dir, "demo-worker")
	text, err := os.ReadFile(filepath.Join(programs(t), "demo-worker"))
	if err == nil {
		err = writeProgram(binary, text, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	h.flags = []string{"--config", writeConfig(t, "lease: 20s\npools:\n- {worker: "+binary+", procs: 2, user: nobody}\n")}
	h.start()
	before := h.workers(2)
	for _, pid := range before {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			t.Fatal(err)
		}
		if want := "\nUid:\t" + strings.Repeat(nobody.Uid+"\t", 3) + nobody.Uid + "\n"; !strings.Contains(string(status), want) {
			t.Errorf("worker %d runs as\n%s\nwant%s", pid, status, want)
		}
	}
	h.insertOne(demo.Noop{}, nil)
	h.awaitDone(1)

	h.kill()
	h.start()
	if after := h.workers(2); !slices.Equal(after, before) {
		t.Errorf("workers are %v, were %v: they could not come back to the next daemon", after, before)
	}
	h.insertOne(demo.Noop{}, nil)
	h.awaitDone(2)
	h.stop(h.daemon)
	if _, err := os.Stat(filepath.Dir(h.socket()) + "-" + nobody.Uid); !os.IsNotExist(err) {
		t.Errorf("their folder is left behind (%v)", err)
	}
}

func TestBadBinariesAreNamedInTheLogAndTheListAndDisturbNobody(t *testing.T) {
	t.Parallel()
	h := newHost(t, migrated(t))
	demoWorker := filepath.Join(programs(t), "demo-worker")
	bad := map[string]struct{ program, settings, log, state, note string }{
		"exits":   {"exit 1", "procs: 4", "pool is crash-looping", "crash-looping", "5 processes died within 1m0s"},
		"refuses": {"exit 78", "procs: 1", "pool starts nothing more", "halted", "exit status 78"},
		"mute":    {"exec sleep 1000", "procs: 1, boot_timeout: 1s", "worker never said hello and is ended", "starting", "did not say hello"},
		"deaf":    {"trap '' TERM\nwhile :; do sleep 1; done", "procs: 1, boot_timeout: 1s", "worker is killed: it did not end in time", "starting", "did not say hello"},
		"foreign": {"RESPIRATE_WORKER_KEY=" + strings.Repeat("0", 32) + " exec " + demoWorker, "procs: 1, slots: 1", "worker is not what it should be", "starting", "says hello without the key"},
		"lies":    {"exec " + demoWorker, "procs: 1, kinds: [echo]", "worker is not what it should be", "running", "announces kinds that the pool may not take"},
	}
	text := "drain_timeout: 5s\npools:\n- {name: good, worker: " + demoWorker + ", procs: 1}\n"
	for name, b := range bad {
		text += fmt.Sprintf("- {name: %s, worker: %s, %s}\n", name, h.script(name, b.program), b.settings)
	}
	h.flags = []string{"--config", writeConfig(t, text)}
	ids := h.insertLedger(200, 20*time.Millisecond)
	h.start()
	h.awaitPool("runs", "good", has("running", 1))
	good := h.pidIn("good")
	for name, b := range bad {
		told := regexp.MustCompile(`msg="?` + b.log + `.* pool=` + name + ` `)
		h.eventually("the log tells of pool "+name, func() bool { return told.MatchString(h.said()) })
		h.awaitPool("is shown for what it is", name, func(p supervisor.PoolInfo) bool {
			return p.State == b.state && strings.Contains(p.Note, b.note)
		})
	}
	h.awaitDone(len(ids))
	ids = append(ids, h.insertLedger(50, 20*time.Millisecond)...)
	h.awaitDone(len(ids))
	h.exactlyOnce(ids)
	if now := h.pidIn("good"); now != good {
		t.Errorf("the good worker is %d, was %d", now, good)
	}
	// The foreign one has a slot, as a worker has that nobody here has started. So the good one has run some of them, not all.
	ran, liar := map[int]int{}, h.pidIn("lies")
	for _, pids := range h.lines() {
		for _, pid := range pids {
			ran[pid]++
		}
	}
	if ran[good] == 0 || ran[liar] > 0 {
		t.Errorf("of %d strands each process has run %v; want some by %d, and none by %d, which may not", len(ids), ran, good, liar)
	}
}

// pidIn is the only process of a pool.
func (h *host) pidIn(pool string) int {
	h.t.Helper()
	var p poolStatus
	if err := askDaemon(h.t.Context(), h.socket(), poolPath(pool), &p); err != nil || len(p.Workers) != 1 {
		h.t.Fatalf("pool %s is %+v (%v), want one worker", pool, p, err)
	}
	return p.Workers[0].PID
}
