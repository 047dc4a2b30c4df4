package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/client"
	"github.com/respirated/respirated/cmd/internal/demo"
)

func (h *host) signal(sig syscall.Signal) {
	h.t.Helper()
	if err := h.daemon.Process.Signal(sig); err != nil {
		h.t.Fatal(err)
	}
}

// lockSchema has daemons wait that start, until the transaction is over. The database knows when one waits.
func (h *host) lockSchema() pgx.Tx {
	h.t.Helper()
	tx, err := h.db.conn.Begin(h.t.Context())
	if err == nil {
		_, err = tx.Exec(h.t.Context(), "lock table respirate.schema_version in access exclusive mode")
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return tx
}

func (h *host) awaitStarter(tx pgx.Tx) {
	h.t.Helper()
	h.eventually("a daemon that starts waits for the database", func() bool {
		var waits bool
		err := tx.QueryRow(h.t.Context(), "select exists (select from pg_locks where relation = 'respirate.schema_version'::regclass and not granted)").Scan(&waits)
		return err == nil && waits
	})
}

// drained waits for the daemon's end, and checks that it was one in order.
func (h *host) drained(id string) {
	h.t.Helper()
	if err := h.daemon.Wait(); err != nil {
		h.t.Errorf("the daemon ended with %v", err)
	}
	for _, pid := range h.leftWorkers() {
		h.t.Errorf("worker %d is left behind", pid)
	}
	row, err := h.db.StrandGet(h.t.Context(), id)
	if err != nil || row.State != client.Done || len(row.Attempts) > 0 {
		h.t.Errorf("the strand is %+v (%v), want it done, without a failure", row, err)
	}
}

// running has a handler run for a while. It has begun.
func (h *host) running(d time.Duration) string {
	h.t.Helper()
	id := h.insertOne(demo.Ledger{Path: h.ledger, After: demo.Duration(d)}, once)
	h.awaitLines(1)
	return id
}

func TestASignalToADaemonThatBecomesAnotherBuildDrainsIt(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			h := newHost(t, migrated(t), demoWorkers(t, 1)...)
			h.start()
			h.workers(1)
			id := h.running(2 * time.Second)
			// It passes the check, and then holds up the build that the process has become.
			held := filepath.Join(h.dir, "held")
			next := h.script("next", `case "$*" in *`+checkFlag+`*) ;; *) touch `+held+`; while [ -e `+held+` ]; do sleep 0.01; done;; esac
exec `+filepath.Join(programs(t), "respirated")+` "$@"`)
			done := make(chan struct{})
			go func() { defer close(done); h.askUpgrade(next) }()
			h.eventually("it is between two builds", func() bool { _, err := os.Stat(held); return err == nil })
			tx := h.lockSchema()
			if err := os.Remove(held); err != nil {
				t.Fatal(err)
			}
			h.awaitStarter(tx)
			h.signal(sig)
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			h.drained(id)
			<-done
		})
	}
}

func TestHangupOfADaemonWithoutAConfigurationDrainsIt(t *testing.T) {
	t.Parallel()
	h := newHost(t, migrated(t), demoWorkers(t, 1)...)
	h.start()
	h.workers(1)
	id := h.running(time.Second)
	h.signal(syscall.SIGHUP)
	h.drained(id)
}

func TestASecondSignalEndsADaemonThatHasBecomeAnotherBuildAtOnce(t *testing.T) {
	t.Parallel()
	h := newHost(t, migrated(t), demoWorkers(t, 1)...)
	h.start()
	worker := h.workers(1)[0]
	h.running(time.Minute)
	h.upgrade("")
	h.signal(syscall.SIGTERM)
	h.eventually("the first is taken in", func() bool {
		var workers []workerStatus
		return askDaemon(t.Context(), h.socket(), "/api/v1/workers", &workers) == nil && len(workers) == 1 && workers[0].State == "ending"
	})
	time.Sleep(2 * oneSignal) // one that comes with the first counts as the same
	h.signal(syscall.SIGTERM)
	err := h.daemon.Wait()
	if status, ok := h.daemon.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != syscall.SIGTERM {
		t.Errorf("the daemon ended with %v, want it ended by the signal", err)
	}
	_ = syscall.Kill(worker, syscall.SIGKILL)
	h.eventually("nobody is left", func() bool { return len(h.leftWorkers()) == 0 })
}

func TestASignalToADaemonThatStartsFreshEndsIt(t *testing.T) {
	t.Parallel()
	h := newHost(t, migrated(t), demoWorkers(t, 1)...)
	tx := h.lockSchema()
	defer func() { _ = tx.Rollback(t.Context()) }()
	h.launch()
	h.awaitStarter(tx)
	h.signal(syscall.SIGTERM)
	_ = h.daemon.Wait()
	if status, ok := h.daemon.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
		t.Errorf("it ended with %v, want it ended by the signal", h.daemon.ProcessState)
	}
}

func TestAnUpgradeThatIsAskedForTooEarlyIsDoneLater(t *testing.T) {
	t.Parallel()
	h := newHost(t, migrated(t), demoWorkers(t, 1)...)
	tx := h.lockSchema()
	h.launch()
	h.awaitStarter(tx)
	h.signal(syscall.SIGUSR2)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.eventually("it has become another build", func() bool {
		var status daemonStatus
		return askDaemon(t.Context(), h.socket(), "/api/v1/status", &status) == nil && status.Upgrades == 1
	})
}

// nofile is how many descriptors a process may have open.
func nofile(t *testing.T, pid int) string {
	t.Helper()
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		t.Skip(err)
	}
	return regexp.MustCompile(`Max open files.*`).FindString(string(limits))
}

func TestWorkersAfterARefusedUpgradeMayOpenAsManyFilesAsBefore(t *testing.T) {
	t.Parallel()
	h := newHost(t, migrated(t), demoWorkers(t, 1)...)
	h.under = []string{"sh", "-c", `ulimit -Sn 512; exec "$@"`, "sh"}
	h.start()
	old := h.workers(1)[0]
	want := nofile(t, old)
	gone := h.script("gone", "rm $0; exec "+filepath.Join(programs(t), "respirated")+` "$@"`)
	if code, _, errOut := h.askUpgrade(gone); code != 1 || !strings.Contains(errOut, "no such file") {
		t.Fatalf("exit status %d, %s; want it to fail at the last", code, errOut)
	}
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	h.eventually("another one has come", func() bool { return h.workers(1)[0] != old })
	if got := nofile(t, h.workers(1)[0]); got != want {
		t.Errorf("the next worker has\n%s\nwant\n%s", got, want)
	}
}
