package broker_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/brokertest"
	"github.com/respirated/respirated/worker"
)

// TestWorkerThatWantsMoreThanAnOutboxHoldsIsNotCutOff: what is leased at once is more than the broker may queue for a
// worker, and the worker reads as fast as it can.
func TestWorkerThatWantsMoreThanAnOutboxHoldsIsNotCutOff(t *testing.T) {
	store := brokertest.NewStore(time.Now)
	h := serve(t, store, filepath.Join(socketDir(t), "d", "s.sock"), broker.Config{MaxFrame: 128 << 10, MaxBytes: 1 << 20})
	mux := worker.NewMux()
	worker.AddFunc(mux, func(context.Context, *worker.Strand[echoArgs]) error { return nil })
	var ids []broker.ID
	for range 200 {
		made, err := store.Insert(t.Context(), []broker.Insert{{Kind: "echo", Args: []byte(`{"x":"` + strings.Repeat("x", 50<<10) + `"}`)}})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, made...)
	}
	h.work(mux, 200)
	brokertest.Eventually(t, "every strand is done", allFinished(store, ids, brokertest.Done))
}
