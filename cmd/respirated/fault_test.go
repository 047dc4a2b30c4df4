package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/respirated/respirated/broker/postgres/private/privatetest"
	"github.com/respirated/respirated/client"
	"github.com/respirated/respirated/cmd/internal/demo"
	"github.com/respirated/respirated/worker"
)

// demoWorkers are flags for so many processes of the demo's worker. Leases are longer than a daemon that was killed is away, on a
// busy machine too: strands whose lease is over run again, and rightly so.
func demoWorkers(t *testing.T, procs int) []string {
	return []string{"--worker", filepath.Join(programs(t), "demo-worker"), "--procs", fmt.Sprint(procs), "--lease", "30s"}
}

func TestKilledDaemonLosesNothingAndItsWorkersGoOn(t *testing.T) {
	t.Parallel()
	h := newHost(t, migrated(t), demoWorkers(t, 4)...)
	h.start()
	before := h.workers(4)
	n := inShort(8000)
	ids := h.insertLedger(n, 20*time.Millisecond)

	for _, part := range []int{n / 8, n / 2} {
		h.awaitLines(part)
		h.kill()
		if left := h.leftWorkers(); !slices.Equal(left, before) {
			t.Errorf("after the kill the workers are %v, want %v", left, before)
		}
		h.start()
	}

	h.awaitDone(n)
	h.exactlyOnce(ids)
	if after := h.workers(4); !slices.Equal(after, before) {
		t.Errorf("workers are %v, were %v: some were restarted", after, before)
	}
	if failed := h.count("select count(*) from respirate.attempts"); failed != 0 {
		t.Errorf("%d runs failed, want none", failed)
	}
}

func TestKilledWorkersLeaveEvidenceAndTheirStrandsFinish(t *testing.T) {
	t.Parallel()
	h := newHost(t, migrated(t), demoWorkers(t, 4)...)
	h.start()
	n := inShort(6000)
	ids := h.insertLedger(n, 20*time.Millisecond)
	seed := rand.Uint64()
	chance := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)

	const kills = 4 // with five in a minute the pool would be in a crash loop, which is another test's matter, too
	for i := range kills {
		h.awaitLines((i + 1) * n / (kills + 2))
		// A strand that was held at three deaths is dead, which is another test's matter: all suspects have finished.
		h.eventually("no strand is a suspect", func() bool {
			return h.count("select count(*) from respirate.strands where crashes > 0") == 0
		})
		pids := h.workers(4)
		if err := syscall.Kill(pids[chance.IntN(len(pids))], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}

	h.awaitDone(n)
	ran := h.lines()
	suspects := h.list("select distinct strand::text from respirate.attempts where outcome = 'crashed'")
	for _, id := range ids {
		if times := len(ran[id]); times == 0 || times > 1 && !slices.Contains(suspects, id) {
			t.Errorf("strand %s ran %d times; suspect: %v", id, times, slices.Contains(suspects, id))
		}
	}
	if len(suspects) == 0 {
		t.Error("no worker held anything when it was killed, so this shows nothing")
	}
	const good = "select count(*) from respirate.attempts where outcome = 'crashed' and exit = 'signal: killed' and stderr like '%broker found%'"
	if evident, all := h.count(good), h.count("select count(*) from respirate.attempts"); evident != all {
		t.Errorf("%d of %d failures tell signal and last words of the worker", evident, all)
	}
}

func TestRestartOfPostgresUnderLoadLosesNothingAndNobodyElseRestarts(t *testing.T) {
	t.Parallel()
	server := privatetest.Server(t)
	h := newHost(t, server.URL(), demoWorkers(t, 4)...)
	h.start()
	before := h.workers(4)
	daemon := h.daemon.Process.Pid
	n := inShort(8000)
	ids := h.insertLedger(n, 20*time.Millisecond)

	h.awaitLines(n / 8)
	server.Kill()
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.connect()
	h.awaitLines(n / 2)
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.connect()

	h.awaitDone(n)
	h.exactlyOnce(ids)
	if after := h.workers(4); !slices.Equal(after, before) {
		t.Errorf("workers are %v, were %v: some were restarted", after, before)
	}
	var status daemonStatus
	if err := askDaemon(t.Context(), h.socket(), "/api/v1/status", &status); err != nil || status.PID != daemon {
		t.Errorf("the daemon is %d, was %d: %v", status.PID, daemon, err)
	}
}

func TestTwoHundredWorkersCostFiveDatabaseConnections(t *testing.T) {
	t.Parallel()
	h := newHost(t, migrated(t))
	h.start()
	const workers = 200
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			err := worker.Run(ctx, demo.Mux(), worker.Config{Socket: h.socket(), Slots: 1, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Errorf("worker: %v", err)
			}
		})
	}
	defer running.Wait()
	defer cancel()
	h.workers(workers)

	n := inShort(20_000)
	params := make([]client.InsertManyParams, n)
	for i := range params {
		params[i].Args = demo.Noop{}
	}
	if _, err := h.db.InsertManyFast(t.Context(), params); err != nil {
		t.Fatal(err)
	}
	most := 0
	h.reaches(n, "strands that are done", func() int {
		most = max(most, h.count(`select count(*) from pg_stat_activity
			where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()`))
		return h.doneHere()
	})
	if most > 5 {
		t.Errorf("%d workers cost %d database connections, want 5 at most", workers, most)
	}
	t.Logf("%d workers, %d database connections", workers, most)
}

func TestStrandThatDoesNotStopIsEndedWithItsWorkerAndGivenBack(t *testing.T) {
	t.Parallel()
	h := newHost(t, migrated(t), append(demoWorkers(t, 1), "--drain-timeout", "1s")...)
	h.start()
	inserted, err := h.db.Insert(t.Context(), demo.Hang{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	h.awaitState(inserted.ID, client.Leased)
	h.stop(h.daemon)
	row, err := h.db.StrandGet(t.Context(), inserted.ID)
	if err != nil {
		t.Fatal(err)
	}
	if row.State == client.Leased || row.FinishedAt != nil {
		t.Errorf("the strand is %s, want it given back", row.State)
	}
}

func TestSecondSignalEndsTheDaemonAtOnce(t *testing.T) {
	t.Parallel()
	h := newHost(t, migrated(t), demoWorkers(t, 1)...)
	h.start()
	runs := time.Duration(20_000+rand.IntN(10_000)) * time.Millisecond // by this time the handler's child is known
	if _, err := h.db.Insert(t.Context(), demo.Leak{For: demo.Duration(runs)}, nil); err != nil {
		t.Fatal(err)
	}
	h.eventually("the handler runs", func() bool { return len(processesWith("sleep\x00"+fmt.Sprint(runs.Seconds()))) > 0 })
	if err := h.daemon.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	h.eventually("the daemon drains", func() bool {
		var status daemonStatus
		return askDaemon(t.Context(), h.socket(), "/api/v1/status", &status) == nil && status.Draining
	})
	time.Sleep(2 * oneSignal) // one that comes with the first counts as the same
	if err := h.daemon.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = h.daemon.Wait() // by the signal
	if got := h.daemon.ProcessState.Sys().(syscall.WaitStatus); got.Signal() != syscall.SIGTERM {
		t.Errorf("the daemon ended with %v, want the signal", h.daemon.ProcessState)
	}
	for _, pid := range h.leftWorkers() {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone
	}
}

func TestNextDaemonTakesTheSocketOfAKilledOneAndACancelReachesARunningStrand(t *testing.T) {
	t.Parallel()
	h := newHost(t, migrated(t), demoWorkers(t, 1)...)
	h.start()
	inserted, err := h.db.Insert(t.Context(), demo.Sleep{For: demo.Duration(time.Hour)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	h.awaitState(inserted.ID, client.Leased)
	h.kill()
	h.start()
	h.workers(1)
	if _, err := h.db.StrandCancel(t.Context(), inserted.ID); err != nil {
		t.Fatal(err)
	}
	h.awaitState(inserted.ID, client.Cancelled)
}

// Its log may be a pipe to a program that ends.
func TestDaemonOutlivesWhoReadsItsLog(t *testing.T) {
	t.Parallel()
	h := newHost(t, migrated(t), demoWorkers(t, 1)...)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	h.stderr = writer
	h.start()
	h.workers(1)
	if err := errors.Join(reader.Close(), writer.Close()); err != nil {
		t.Fatal(err)
	}
	h.upgrade("")
	h.workers(1)
	ids := h.insertLedger(10, time.Millisecond) // each is logged
	h.awaitDone(len(ids))
	h.exactlyOnce(ids)
}

// By itself the number of a killed broker would be held until its time is over, thirty seconds after its last sign of life.
func TestNextDaemonHasThePartitionOfAKilledOneAtOnce(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	first, second := newHost(t, url, demoWorkers(t, 1)...), newHost(t, url, demoWorkers(t, 1)...)
	first.start()
	second.start()
	shared := func(of *host) bool {
		n := of.count(fmt.Sprintf(`select count(*) from respirate.brokers b where b.partition = b.rank and b.members = 2 and b.alive
			and b.pid in (%d, %d)`, first.daemon.Process.Pid, second.daemon.Process.Pid))
		return n == 2 && of.count("select count(*) from respirate.brokers b where b.alive") == 2
	}
	second.eventually("both share the ids", func() bool { return shared(second) })
	for range 3 {
		second.kill()
		const left = "select (extract(epoch from alive_until - now()) * 1000)::int from respirate.brokers where pid = $1 and alive"
		held := time.Duration(first.count(left, second.daemon.Process.Pid)) * time.Millisecond
		killed := time.Now()
		second.start()
		second.eventually("both share the ids again", func() bool { return shared(second) })
		if took := time.Since(killed); took >= held {
			t.Errorf("both shared the ids again after %v, when the time of the killed one, %v, was over", took, held)
		} else {
			t.Logf("both shared the ids again after %v", took)
		}
	}
}

func TestDaemonIsNotHeldUpByWhatItsFormerHasLeft(t *testing.T) {
	t.Parallel()
	h := newHost(t, migrated(t))
	former := filepath.Join(filepath.Dir(h.socket()), formerFile)
	if err := os.Mkdir(filepath.Dir(former), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "no id", strings.Repeat("x", 1<<20), "\x00\xff", "00000000-0000-0000-0000-000000000000"} {
		if err := os.WriteFile(former, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		h.start()
		id, err := os.ReadFile(former)
		if err != nil {
			t.Fatal(err)
		}
		h.eventually(fmt.Sprintf("after %.20q the broker is there that is written down", text), func() bool {
			return h.count("select count(*) from respirate.brokers b where b.alive and b.broker::text = $1", strings.TrimSpace(string(id))) == 1
		})
		h.stop(h.daemon)
	}
}

func TestFolderThatSomebodyRemovesIsMadeAnewAndTheNextDaemonKnowsItsWorkers(t *testing.T) {
	t.Parallel()
	h := newHost(t, migrated(t), demoWorkers(t, 2)...)
	run := filepath.Dir(h.socket())
	h.start()
	before := h.workers(2)
	gone := run + ".gone" // renamed first: the daemon may be about to put something there
	if err := errors.Join(os.Rename(run, gone), os.RemoveAll(gone)); err != nil {
		t.Fatal(err)
	}
	h.eventually("workers.json is there again", func() bool {
		_, err := os.Stat(filepath.Join(run, "workers.json"))
		return err == nil
	})
	if got := h.workers(2); !slices.Equal(got, before) {
		t.Errorf("workers are %v, were %v", got, before)
	}
	h.kill()
	h.start()
	if after := h.workers(2); !slices.Equal(after, before) {
		t.Errorf("workers are %v, were %v: the next daemon did not know them", after, before)
	}
}
