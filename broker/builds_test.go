package broker_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/brokertest"
	"github.com/respirated/respirated/worker"
)

// TestStrandAtALabelOfTheNextBuildWaitsForItAndNoLonger: the build that is there neither runs it nor holds it up.
func TestStrandAtALabelOfTheNextBuildWaitsForItAndNoLonger(t *testing.T) {
	store := brokertest.NewStore(time.Now)
	ahead := insert(t, store, "echo", 1)[0]
	leased, err := store.Lease(t.Context(), []broker.Pair{{ID: ahead, Token: broker.Token{1}}}, time.Minute)
	if err != nil || len(leased) != 1 {
		t.Fatal(leased, err)
	}
	verdicts, err := store.Commit(t.Context(), []broker.Report{{Pair: broker.Pair{ID: ahead, Token: broker.Token{1}}, Seq: 1, Act: broker.Hop, Label: "pack"}})
	if err != nil || verdicts[0].State != broker.Applied {
		t.Fatal(verdicts, err)
	}
	h := serve(t, store, filepath.Join(socketDir(t), "d", "s.sock"), broker.Config{})
	h.work(building(), 2)
	for range 3 { // a hint, a scan and perhaps a take for each
		others := insert(t, store, "echo", 1)
		brokertest.Eventually(t, "the other strand is done", allFinished(store, others, brokertest.Done))
		brokertest.Eventually(t, "what was leased is settled", func() bool {
			snap, err := h.broker.Snapshot(t.Context())
			return err == nil && snap.Held+snap.Unsettled == 0
		})
	}
	if row, live := store.Row(ahead); !live || row.Leased || row.Due > 0 || row.Label != "pack" {
		t.Fatalf("live %v, %+v; want it at pack, and due", live, row)
	}
	began := time.Now()
	h.work(building("pack"), 2)
	brokertest.Eventually(t, "it is done", allFinished(store, []broker.ID{ahead}, brokertest.Done))
	if took := time.Since(began); took >= worker.ParkTime {
		t.Errorf("it took %v", took)
	}
}

// building is a build of a program that has these labels besides start.
func building(labels ...string) *worker.Mux {
	mux := worker.NewMux()
	exit := func(context.Context, *worker.Strand[echoArgs]) (worker.Outcome, error) { return worker.Exit(nil), nil }
	all := map[string]worker.Label[echoArgs]{worker.StartLabel: exit}
	for _, label := range labels {
		all[label] = exit
	}
	worker.AddProg(mux, worker.Prog[echoArgs]{Labels: all})
	return mux
}
