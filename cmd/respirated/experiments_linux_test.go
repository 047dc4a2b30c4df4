package main

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/respirated/respirated/broker/supervisor"
	"github.com/respirated/respirated/client"
	"github.com/respirated/respirated/cmd/internal/demo"
)

// Experiments are longer and rougher than tests, and measure. scripts/faults runs them; each prints a line with its figures.
// The ledger is the witness: a file to which each strand adds a line at its end, so that lost = inserted and not there,
// duplicated = there twice, unexpected = there and not inserted.

// experimentsVar says how long experiments are: quick or full. Without it they are skipped.
const experimentsVar = "RESPIRATE_FAULTS"

// experiment is one of them.
type experiment struct {
	*host
	name   string
	full   bool
	seed   uint64
	chance *rand.Rand
	began  time.Time
}

func newExperiment(t *testing.T, name string, flags ...string) *experiment {
	t.Helper()
	length := os.Getenv(experimentsVar)
	if length == "" {
		t.Skip("scripts/faults runs it")
	}
	seed := rand.Uint64()
	if text := os.Getenv("RESPIRATE_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	return &experiment{
		host: newHost(t, migrated(t), flags...), name: name, full: length == "full",
		seed: seed, chance: rand.New(rand.NewPCG(seed, 0)), began: time.Now(),
	}
}

// times is so many in full, or in short.
func (x *experiment) times(full, quick int) int {
	if x.full {
		return full
	}
	return quick
}

// ok prints the line of an experiment that has not failed.
func (x *experiment) ok(figures string, args ...any) {
	x.t.Helper()
	if x.t.Failed() {
		x.t.Logf("%s failed, seed %d", x.name, x.seed)
		return
	}
	fmt.Printf("%s ok: %s; %.0f s, seed %d\n", x.name, fmt.Sprintf(figures, args...), time.Since(x.began).Seconds(), x.seed)
}

// judge compares the ledger with what was inserted. explained says of a strand that ran twice why that may be.
func (x *experiment) judge(ids []string, explained func(id string, pids []int) bool) (twice int) {
	x.t.Helper()
	ran := x.lines()
	for _, id := range ids {
		switch pids := ran[id]; {
		case len(pids) == 0:
			x.t.Errorf("strand %s is lost", id)
		case len(pids) > 1 && explained(id, pids):
			twice++
		case len(pids) > 1:
			x.t.Errorf("strand %s ran %d times, in %v", id, len(pids), pids)
		}
		delete(ran, id)
	}
	for id := range ran {
		x.t.Errorf("strand %s ran, and nobody has inserted it", id)
	}
	return twice
}

func never(string, []int) bool { return false }

// reconnected waits until all of these workers are connected, and returns how long after began each was.
func (x *experiment) reconnected(pids []int, began time.Time) (took []time.Duration) {
	x.t.Helper()
	left := slices.Clone(pids)
	x.eventually("all workers are back", func() bool {
		var workers []workerStatus
		if err := askDaemon(x.t.Context(), x.socket(), "/api/v1/workers", &workers); err != nil {
			x.t.Fatal(err)
		}
		left = slices.DeleteFunc(left, func(pid int) bool {
			back := slices.ContainsFunc(workers, func(w workerStatus) bool { return w.PID == pid && w.Connected })
			if back {
				took = append(took, time.Since(began))
			}
			return back
		})
		return len(left) == 0
	})
	return took
}

// p99 is the nearest above.
func p99(of []time.Duration) time.Duration {
	if len(of) == 0 {
		return 0
	}
	slices.Sort(of)
	return of[min(len(of)-1, len(of)*99/100)].Round(time.Millisecond)
}

// TestF1: kill -9 of the broker, again and again.
func TestF1(t *testing.T) {
	x := newExperiment(t, "F1", demoWorkers(t, 4)...)
	x.start()
	before := x.workers(4)
	kills := x.times(60, 5)
	n := kills * 300
	ids := x.insertLedger(n, 100*time.Millisecond)
	var took []time.Duration
	for range kills {
		time.Sleep(2*time.Second - time.Duration(x.chance.Int64N(int64(time.Second/2))))
		x.kill()
		restart := time.Now()
		x.start()
		took = append(took, x.reconnected(before, restart)...)
	}
	x.awaitDone(n)
	x.judge(ids, never)
	if after := x.workers(4); !slices.Equal(after, before) {
		t.Errorf("workers are %v, were %v: some were restarted", after, before)
	}
	if failed := x.count("select count(*) from respirate.attempts"); failed != 0 {
		t.Errorf("%d runs failed, want none", failed)
	}
	x.ok("%d kills of the daemon, %d strands, 0 lost, 0 duplicated, 0 worker restarts; workers back after its restart: p99 %v, most %v",
		kills, n, p99(took), slices.Max(took).Round(time.Millisecond))
}

// TestF2: kill -9 of workers, in every other round between the effect of their strands and their result.
func TestF2(t *testing.T) {
	x := newExperiment(t, "F2", demoWorkers(t, 4)...)
	x.start()
	x.workers(4)
	kills := x.times(40, 4)
	var ids []string
	var took []time.Duration
	tenth := demo.Duration(100 * time.Millisecond)
	for i := range kills {
		x.eventually("no strand is a suspect", func() bool {
			return x.count("select count(*) from respirate.strands where crashes > 0") == 0
		})
		pids := x.workers(4)
		victim := pids[x.chance.IntN(len(pids))]
		name := fmt.Sprintf("pid %d", victim)
		ids = append(ids, x.insertLedgers(400, []demo.Ledger{{For: tenth}, {For: tenth / 2, After: tenth / 2}}[i%2])...)
		x.awaitLines(len(ids) - 360) // all slots are taken
		began := time.Now()
		if err := syscall.Kill(victim, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		x.eventually("what it held is given back", func() bool {
			var workers []workerStatus
			err := askDaemon(x.t.Context(), x.socket(), "/api/v1/workers", &workers)
			held := slices.ContainsFunc(workers, func(w workerStatus) bool { return w.Name == name })
			return err == nil && !held && x.status().Databases[0].Unsettled == 0
		})
		took = append(took, time.Since(began))
	}
	x.awaitDone(len(ids))
	suspects := x.list("select distinct strand::text from respirate.attempts where outcome = 'crashed'")
	twice := x.judge(ids, func(id string, _ []int) bool { return slices.Contains(suspects, id) })
	x.ok("%d kills of workers, %d strands, 0 lost, %d of %d held ones ran twice; given back: p99 %v, most %v",
		kills, len(ids), twice, len(suspects), p99(took), slices.Max(took).Round(time.Millisecond))
}

// stopped runs strands while a process is stopped for twice a lease, and returns their ids.
func (x *experiment) stopped(pid, n int, lease time.Duration) []string {
	x.t.Helper()
	ids := x.insertLedger(n, 20*time.Millisecond)
	x.awaitLines(n / 8)
	for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT} {
		if err := syscall.Kill(pid, sig); err != nil {
			x.t.Fatal(err)
		}
		if sig == syscall.SIGSTOP {
			time.Sleep(2 * lease)
		}
	}
	x.awaitDone(n)
	return ids
}

// TestF5: a worker is stopped for twice a lease. What it held runs elsewhere; what it says afterwards is stale.
func TestF5(t *testing.T) {
	lease := 4 * time.Second
	x := newExperiment(t, "F5", append(demoWorkers(t, 4), "--lease", lease.String())...)
	x.start()
	pids := x.workers(4)
	victim := pids[x.chance.IntN(len(pids))]
	n := x.times(8000, 2000)
	ids := x.stopped(victim, n, lease)
	twice := x.judge(ids, func(_ string, by []int) bool { return len(by) == 2 && slices.Contains(by, victim) })
	if failed := x.count("select count(*) from respirate.attempts"); failed != 0 {
		t.Errorf("%d runs failed, want none", failed)
	}
	x.ok("%d strands, each accepted once; 0 lost, %d of those that the stopped worker held ran to their end in both", n, twice)
}

// TestF6: the broker is stopped for twice a lease.
func TestF6(t *testing.T) {
	lease := 4 * time.Second
	x := newExperiment(t, "F6", append(demoWorkers(t, 4), "--lease", lease.String())...)
	x.start()
	x.workers(4)
	n := x.times(8000, 2000)
	ids := x.stopped(x.daemon.Process.Pid, n, lease)
	twice := x.judge(ids, never)
	x.workers(4)
	x.ok("%d strands, 0 lost, %d duplicated", n, twice)
}

// TestF19: a second daemon in the same folder, and the same number on two hosts.
func TestF19(t *testing.T) {
	x := newExperiment(t, "F19", append(demoWorkers(t, 2), "--partition", "1")...)
	x.start()
	x.workers(2)
	second := exec.Command(filepath.Join(programs(t), "respirated"), "run", "--database-url", x.url, "--socket", x.socket())
	out, err := second.CombinedOutput()
	if want := fmt.Sprintf("another respirated (pid %d)", x.daemon.Process.Pid); err == nil || !strings.Contains(string(out), want) {
		t.Errorf("the second daemon ended with %v and said %s; want it to tell of %s", err, out, want)
	}
	twin := newHost(t, x.url, append(demoWorkers(t, 2), "--partition", "1")...)
	twin.ledger = x.ledger
	twin.start()
	twin.workers(2)
	n := x.times(8000, 1000)
	ids := x.insertLedger(n, 10*time.Millisecond)
	x.awaitDone(n)
	x.judge(ids, never)
	const warning = "another broker has the same partition number"
	x.eventually("a host tells of its twin", func() bool { return strings.Contains(x.said()+twin.said(), warning) })
	x.ok("the second daemon in a folder is refused; %d strands on two hosts with one number, 0 lost, 0 duplicated", n)
}

// upgradesUnderLoad upgrades the daemon so often while strands run.
func upgradesUnderLoad(x *experiment, upgrades int) {
	t, name := x.t, x.name
	x.start()
	before := x.workers(4)
	n := upgrades * 100
	ids := x.insertLedger(n, 50*time.Millisecond)
	var took []time.Duration
	for i := range upgrades {
		x.awaitLines((i + 1) * n / (upgrades + 2))
		began := time.Now()
		x.upgrade("")
		took = append(took, time.Since(began))
		x.reconnected(before, began)
	}
	if code, _, errOut := x.askUpgrade(x.script("crash", "exit 2")); code != 1 {
		t.Errorf("a build that crashes at its start: exit status %d, %s; want it refused", code, errOut)
	}
	x.awaitDone(n)
	x.judge(ids, never)
	restarts := 0
	for _, pid := range x.workers(4) {
		if !slices.Contains(before, pid) {
			restarts++
		}
	}
	failed := x.count("select count(distinct strand) from respirate.attempts")
	if failed != 0 || restarts != 0 || x.status().Upgrades != upgrades || x.status().PID != x.daemon.Process.Pid {
		t.Errorf("%d upgrades, %d failed strands, %d worker restarts, status %+v", upgrades, failed, restarts, x.status())
	}
	if name != "F20" {
		fmt.Printf("%d upgrades, %d failed strands, %d worker restarts\n", upgrades, failed, restarts)
		return
	}
	x.ok("%d upgrades, %d strands, 0 failed strands, 0 worker restarts, 0 lost, 0 duplicated; with the check of the new build: p99 %v",
		upgrades, n, p99(took))
}

// TestF20: upgrades in place under load, and one to a build that crashes.
func TestF20(t *testing.T) {
	x := newExperiment(t, "F20", demoWorkers(t, 4)...)
	upgradesUnderLoad(x, x.times(50, 5))
}

// TestUpgradeUnderLoad is what scripts/upgrade-under-load runs.
func TestUpgradeUnderLoad(t *testing.T) {
	upgrades, _ := strconv.Atoi(os.Getenv("RESPIRATE_UPGRADES"))
	upgradesUnderLoad(newExperiment(t, "upgrade-under-load", demoWorkers(t, 4)...), cmp.Or(upgrades, 50))
}

// TestF21: a broken binary takes the place of the workers'.
func TestF21(t *testing.T) {
	x := newExperiment(t, "F21")
	binary := filepath.Join(x.dir, "worker")
	text, err := os.ReadFile(filepath.Join(programs(t), "demo-worker"))
	if err != nil {
		t.Fatal(err)
	}
	replace := func(with []byte) {
		if err := os.WriteFile(binary+".new", with, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(binary+".new", binary); err != nil {
			t.Fatal(err)
		}
	}
	replace(text)
	x.flags = []string{"--worker", binary, "--procs", "4", "--lease", "8s"}
	x.start()
	before := x.workers(4)
	n := x.times(8000, 2000)
	ids := x.insertLedger(n, 20*time.Millisecond)
	x.awaitLines(n / 8)
	replace([]byte("#!/bin/sh\nexit 1\n"))
	if code, _, errOut := call("pool", "roll", "default", "--socket", x.socket()); code != 0 {
		t.Fatalf("roll: exit status %d, %s", code, errOut)
	}
	var pool supervisor.PoolInfo
	x.eventually("the roll has stopped", func() bool {
		var pools []supervisor.PoolInfo
		if err := askDaemon(t.Context(), x.socket(), "/api/v1/pools", &pools); err != nil || len(pools) != 1 {
			t.Fatalf("pools: %+v, %v", pools, err)
		}
		pool = pools[0]
		return pool.State == "old build"
	})
	x.awaitDone(n)
	x.judge(ids, never)
	if after := x.workers(4); !slices.Equal(after, before) {
		t.Errorf("workers are %v, were %v: some of the old build were ended", after, before)
	}
	x.ok("the roll stopped at its canary (%s), all 4 workers of the old build stayed; %d strands, 0 lost, 0 duplicated", pool.Note, n)
}

// TestF22: a worker's socket is held open by somebody else when it dies.
func TestF22(t *testing.T) {
	x := newExperiment(t, "F22", demoWorkers(t, 1)...)
	x.start()
	victim := x.workers(1)[0]
	inserted, err := x.db.Insert(t.Context(), demo.Sleep{For: demo.Duration(time.Hour)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	x.awaitState(inserted.ID, client.Leased)
	if n := x.leakSockets(victim); n == 0 {
		t.Fatal("the worker has no socket to leak")
	}
	began := time.Now()
	if err := syscall.Kill(victim, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	x.eventually("its death is seen", func() bool {
		var workers []workerStatus
		err := askDaemon(t.Context(), x.socket(), "/api/v1/workers", &workers)
		return err == nil && slices.ContainsFunc(workers, func(w workerStatus) bool { return w.LastExit == "signal: killed" })
	})
	seen := time.Since(began)
	x.eventually("what it held is given back", func() bool { return x.count("select count(*) from respirate.attempts where outcome = 'crashed'") == 1 })
	x.ok("death seen after %v, what it held given back after %v, with its socket still open", seen.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
}

// leakSockets copies the sockets of a process into this one, as a child that inherits them would have them.
func (x *experiment) leakSockets(pid int) (n int) {
	x.t.Helper()
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		x.t.Fatal(err)
	}
	defer unix.Close(pidfd)
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(target, "socket:") {
			continue
		}
		number, _ := strconv.Atoi(filepath.Base(link))
		fd, err := unix.PidfdGetfd(pidfd, number, 0)
		if err != nil {
			x.t.Skipf("F22 skipped: sockets of others cannot be copied here: %v", err)
		}
		x.t.Cleanup(func() { _ = unix.Close(fd) })
		n++
	}
	return n
}

// TestF23: strands take more than their pool allows, of memory, of processes and of descriptors, beside others.
func TestF23(t *testing.T) {
	x := newExperiment(t, "F23")
	config := filepath.Join(x.dir, "config.yaml")
	pools := fmt.Sprintf("pools:\n  - {worker: %s, procs: 4, slots: 1, limits: {memory: 192MiB, pids: 200, nofile: 256}}\n", filepath.Join(programs(t), "demo-worker"))
	if err := os.WriteFile(config, []byte(pools), 0o600); err != nil {
		t.Fatal(err)
	}
	x.flags = []string{"--config", config, "--lease", "8s"}
	x.start()
	before := x.workers(4)
	n := x.times(2000, 500)
	ids := x.insertLedger(n, 20*time.Millisecond)

	// That of descriptors is refused more, fails by itself, and leaves even its worker alive.
	files := x.insertOne(demo.Bomb{Of: "files", For: demo.Duration(3 * time.Second)}, once)
	x.awaitState(files, client.Dead)
	if row, err := x.db.StrandGet(t.Context(), files); err != nil || len(row.Attempts) != 1 || !strings.Contains(row.Attempts[0].Message, "too many open files") {
		t.Errorf("the bomb of files: %v, attempts %+v; want one that tells of too many", err, row.Attempts)
	}
	if after := x.workers(4); !slices.Equal(after, before) {
		t.Errorf("workers are %v, were %v: a bomb of files has ended some", after, before)
	}

	// Those of memory and of processes are worth their worker's death, and are dead at the third.
	deaths := x.times(3, 1)
	forks := x.insertOne(demo.Bomb{Of: "processes", For: demo.Duration(30 * time.Second)}, nil)
	bombs := map[string]string{ // by strand: what its worker's end is told to be
		x.insertOne(demo.Alloc{MiB: 400, For: demo.Duration(time.Minute)}, nil): "oom", forks: "pids",
	}
	for id, label := range bombs {
		x.eventually("the worker dies of what a strand takes: "+label, func() bool {
			return x.count("select count(*) from respirate.attempts where strand = $1::uuid and exit like '%('||$2||'%'", id, label) >= deaths
		})
		if x.full {
			x.awaitState(id, client.Dead)
		}
	}
	x.reaches(n, "others that are done", x.doneHere)
	x.judge(ids, never)
	if x.full {
		x.eventually("the bomb's children are gone with its workers", func() bool { return len(processesWith("BOMB="+forks+"\x00")) == 0 })
	}
	if hurt := x.count("select count(*) from respirate.attempts where strand <> all ($1::uuid[])", append(slices.Collect(maps.Keys(bombs)), files)); hurt != 0 {
		t.Errorf("%d runs of their neighbours failed, too", hurt)
	}
	x.ok("bombs of memory, processes and descriptors; %d deaths each of the first two, labelled oom and pids, none of the third; %d strands beside them, 0 lost, 0 duplicated, 0 failed",
		deaths, n)
}

// TestF24: the build of another commit as the daemon of this one's workers, and the other way round.
func TestF24(t *testing.T) {
	x := newExperiment(t, "F24")
	old, rev := x.otherBuild()
	n := x.times(4000, 500)
	total := 0
	for _, c := range []struct{ daemon, worker string }{{old, programs(t)}, {programs(t), old}} {
		x.bin, x.flags = c.daemon, []string{"--worker", filepath.Join(c.worker, "demo-worker"), "--procs", "2", "--lease", "8s"}
		if err := os.RemoveAll(x.ledger); err != nil {
			t.Fatal(err)
		}
		x.start()
		x.eventually("workers have connected", func() bool {
			var workers []struct {
				Connected bool `json:"connected"`
			}
			return askDaemon(t.Context(), x.socket(), "/api/v1/workers", &workers) == nil && len(workers) == 2 && workers[0].Connected && workers[1].Connected
		})
		ids := x.insertLedger(n, 5*time.Millisecond)
		total += n
		x.awaitDone(total)
		x.judge(ids, never)
		x.stop(x.daemon)
	}
	x.ok("daemon of %s with workers of this build, and the reverse, on this build's schema: %d strands, 0 lost, 0 duplicated", rev, total)
}

// otherBuild builds the programs of the newest tag, or else of the commit before this one.
func (x *experiment) otherBuild() (dir, rev string) {
	x.t.Helper()
	git := func(args ...string) (string, error) {
		out, err := exec.Command("git", append([]string{"-C", "../.."}, args...)...).CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	rev, err := git("describe", "--tags", "--abbrev=0")
	if err != nil {
		rev, err = git("rev-parse", "--short", "HEAD~1")
	}
	if err != nil {
		fmt.Println("F24 skipped: no other commit is here to build: " + rev)
		x.t.Skip(rev)
	}
	tree := filepath.Join(x.dir, "tree")
	if out, err := git("worktree", "add", "--detach", tree, rev); err != nil {
		x.t.Fatalf("worktree of %s: %s", rev, out)
	}
	x.t.Cleanup(func() { _, _ = git("worktree", "remove", "--force", tree) })
	dir = filepath.Join(x.dir, "other")
	build := exec.Command("go", "build", "-o", dir+"/", "./cmd/respirated", "./cmd/demo-worker")
	build.Dir = tree
	if out, err := build.CombinedOutput(); err != nil {
		x.t.Fatalf("build %s: %v\n%s", rev, err, out)
	}
	return dir, rev
}
