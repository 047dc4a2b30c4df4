package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/respirated/respirated/client"
	"github.com/respirated/respirated/cmd/internal/demo"
	"github.com/respirated/respirated/worker"
)

// leaseAsKilled leases strands for an hour, as the daemon that was killed would have just before, under its mark.
func (h *host) leaseAsKilled(ids []string) {
	h.t.Helper()
	text, err := os.ReadFile(filepath.Join(filepath.Dir(h.socket()), marksFile))
	if err != nil {
		h.t.Fatal(err)
	}
	var runs []pastRun
	if err := json.Unmarshal(text, &runs); err != nil {
		h.t.Fatal(err)
	}
	own, err := runs[len(runs)-1].Mark.MarshalText()
	if err != nil {
		h.t.Fatal(err)
	}
	tag, err := h.db.conn.Exec(h.t.Context(), `update respirate.strand
		set lease = now() + interval '1 hour', token = ($1 || right(replace(gen_random_uuid()::text, '-', ''), 16))::uuid where id = any ($2::uuid[])`,
		string(own), ids)
	if err != nil || int(tag.RowsAffected()) != len(ids) {
		h.t.Fatalf("lease %d strands: %v, %v", len(ids), tag, err)
	}
}

func TestWhatAKilledDaemonHadLeasedAndNotHandedOutRunsSoon(t *testing.T) {
	t.Parallel()
	h := newHost(t, migrated(t), demoWorkers(t, 2)...)
	h.start()
	h.workers(2)
	h.kill()
	ids := h.insertLedger(20, time.Millisecond)
	h.leaseAsKilled(ids)
	h.start()
	h.awaitDone(20)
	h.exactlyOnce(ids)
}

func TestWhatAKilledDaemonHadLeasedRunsOutIfItHadWorkersOfOthers(t *testing.T) {
	t.Parallel()
	h := newHost(t, migrated(t), demoWorkers(t, 2)...)
	h.start()
	h.workers(2)
	stranger := h.external()
	h.workers(3)
	h.kill()
	left := h.insertLedger(1, time.Millisecond)
	h.leaseAsKilled(left)
	h.start()
	ids := h.insertLedger(100, 20*time.Millisecond)
	h.awaitLines(len(ids))
	h.eventually("the workers are back", func() bool { return len(h.workers(3)) == 3 })
	if row, err := h.db.StrandGet(t.Context(), left[0]); err != nil || row.State != client.Leased {
		t.Errorf("the strand that the other worker may hold is %v (%v), want it leased", row, err)
	}
	stranger()
}

// external starts a worker that is not in workers.json, and returns what ends it.
func (h *host) external() (stop func()) {
	ctx, cancel := context.WithCancel(h.t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := worker.Run(ctx, demo.Mux(), worker.Config{Socket: h.socket(), Slots: 1, Logger: slog.New(slog.DiscardHandler)}); err != nil {
			h.t.Errorf("worker: %v", err)
		}
	})
	stop = func() { cancel(); running.Wait() }
	h.t.Cleanup(stop)
	return stop
}
