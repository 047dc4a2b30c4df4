package broker_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/brokertest"
	"github.com/respirated/respirated/worker"
)

// part is what a broker believes of the partitions.
func (h *host) part() broker.PartitionSnapshot {
	h.t.Helper()
	snap, err := h.broker.Snapshot(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return *snap.Partition
}

// agreed says whether these hosts divide the ids among them, and scan.
func agreed(hosts ...*host) func() bool {
	return func() bool {
		ranges := map[string]bool{}
		for _, h := range hosts {
			p := h.part()
			ranges[p.Range] = true
			if p.Of != len(hosts) || !p.Ready {
				return false
			}
		}
		return len(ranges) == len(hosts)
	}
}

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func echoes() *worker.Mux {
	mux := worker.NewMux()
	worker.AddProg(mux, worker.Prog[echoArgs]{Start: "start", Labels: map[string]worker.Label[echoArgs]{
		"start": func(context.Context, *worker.Strand[echoArgs]) (worker.Outcome, error) { return worker.Exit(nil), nil },
	}})
	return mux
}

func TestPartitionedHostsShareTheStrandsAndHandOverAtOnce(t *testing.T) {
	for _, gaps := range []broker.Gaps{broker.GapsRank, broker.GapsOverdue} {
		t.Run(gaps.String(), func(t *testing.T) {
			store := brokertest.NewStore(time.Now)
			cfg := broker.Config{Partition: broker.Partition{Number: broker.Auto, Gaps: gaps}}
			var hosts []*host
			var logs [3]lockedBuffer
			for i := range logs {
				cfg.Logger = slog.New(slog.NewTextHandler(&logs[i], nil))
				h := serve(t, store.Peer(), filepath.Join(socketDir(t), "d", "s.sock"), cfg)
				h.work(echoes(), 2)
				hosts = append(hosts, h)
				brokertest.Eventually(t, "the hosts agree", agreed(hosts...))
			}
			brokertest.Eventually(t, "all strands are done", allFinished(store, insert(t, store, "echo", 300), brokertest.Done))

			left := fmt.Sprint(hosts[2].part().Number, " has left")
			hosts[2].stop()
			brokertest.Eventually(t, "the rest agree", agreed(hosts[0], hosts[1]))
			for i := range hosts[:2] {
				if log := logs[i].String(); !strings.Contains(log, left) {
					t.Errorf("host %d has not heard that %s: it has noticed the silence\n%s", i, left, log)
				}
			}
			brokertest.Eventually(t, "all strands are done", allFinished(store, insert(t, store, "echo", 300), brokertest.Done))
		})
	}
}

// TestPartitionOfADeadHostIsServedByTheOverdueScanAlone: by respirate's rule nobody takes over the part of number 1, which
// never was.
func TestPartitionOfADeadHostIsServedByTheOverdueScanAlone(t *testing.T) {
	store := brokertest.NewStore(time.Now)
	inserts := make([]broker.Insert, 40)
	for i := range inserts {
		inserts[i] = broker.Insert{ID: broker.ID{0: byte(3 * i), 15: 1}, Kind: "echo", Args: []byte("{}")} // in the lower half
	}
	ids, err := store.Insert(t.Context(), inserts)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		store.Age(id, time.Minute)
	}
	cfg := broker.Config{Partition: broker.Partition{Number: 2, Gaps: broker.GapsOverdue}}
	h := serve(t, store, filepath.Join(socketDir(t), "d", "s.sock"), cfg)
	h.work(echoes(), 2)
	brokertest.Eventually(t, "all strands are done", allFinished(store, ids, brokertest.Done))
	if p := h.part(); p.Rank != 2 || p.Of != 2 || !p.Ready {
		t.Errorf("partition %+v, want the second of two", p)
	}
}
