package broker_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/brokertest"
	"github.com/respirated/respirated/worker"
)

func twoStores() []*brokertest.Store {
	return []*brokertest.Store{brokertest.NewStore(time.Now), brokertest.NewStore(time.Now)}
}

// counted runs strands that count how often they have run.
func counted(ran []atomic.Int64) *worker.Mux {
	mux := worker.NewMux()
	worker.AddFunc(mux, func(_ context.Context, s *worker.Strand[echoArgs]) error {
		ran[s.Args.N].Add(1)
		return nil
	})
	return mux
}

func eachRan(t *testing.T, ran []atomic.Int64, times int64) {
	t.Helper()
	for n := range ran {
		if got := ran[n].Load(); got != times {
			t.Errorf("strands %d ran %d times together, want %d", n, got, times)
		}
	}
}

func TestSeveralDatabasesShareABrokerAndItsWorkers(t *testing.T) {
	stores := twoStores()
	h := serveSeveral(t, stores, filepath.Join(socketDir(t), "d", "s.sock"), broker.Config{Partition: broker.Partition{Number: broker.Auto}})
	ran := make([]atomic.Int64, 800)
	h.work(counted(ran), 4)
	first, second := insert(t, stores[0], "echo", len(ran)), insert(t, stores[1], "echo", len(ran))
	brokertest.Eventually(t, "the strands of the first are done", allFinished(stores[0], first, brokertest.Done))
	brokertest.Eventually(t, "the strands of the second are done", allFinished(stores[1], second, brokertest.Done))
	eachRan(t, ran, 2)
	snap, err := h.broker.Snapshot(t.Context())
	if err != nil || len(snap.Databases) != 2 {
		t.Fatalf("snapshot %+v, error %v; want two databases", snap, err)
	}
	for i, d := range snap.Databases {
		if d.Away || d.Partition == nil || d.Partition.Number != 1 || d.Name != []string{"db0", "db1"}[i] {
			t.Errorf("database %d is told as %+v (partition %+v)", i, d, d.Partition)
		}
	}
}

// TestDatabaseThatIsAwayHoldsUpNoOther: whatever the database does that is away, the other's strands go on, even if results
// for the former have taken every slot. When it is back, it goes on with them, and nothing has run twice.
func TestDatabaseThatIsAwayHoldsUpNoOther(t *testing.T) {
	for name, fault := range map[string]func(back <-chan struct{}) brokertest.Fault{
		"it refuses":         func(<-chan struct{}) brokertest.Fault { return brokertest.Fault{Before: broker.ErrAway} },
		"it does not answer": func(back <-chan struct{}) brokertest.Fault { return brokertest.Fault{Until: back} },
	} {
		t.Run(name, func(t *testing.T) {
			stores := twoStores()
			h := serveSeveral(t, stores, filepath.Join(socketDir(t), "d", "s.sock"), broker.Config{})
			ran := make([]atomic.Int64, 300)
			gone, back := make(chan struct{}), make(chan struct{})
			mux := worker.NewMux()
			var begun atomic.Int64
			worker.AddFunc(mux, func(_ context.Context, s *worker.Strand[echoArgs]) error {
				ran[s.Args.N].Add(1)
				begun.Add(1)
				<-gone // until then nothing ends
				return nil
			})
			first := insert(t, stores[0], "echo", len(ran))
			h.work(mux, 4)
			brokertest.Eventually(t, "the first has all slots", func() bool { return begun.Load() == 4 })
			stores[0].Disturb(func(brokertest.Method) brokertest.Fault {
				select {
				case <-back:
					return brokertest.Fault{}
				default:
					return fault(back)
				}
			})
			close(gone)
			second := insert(t, stores[1], "echo", len(ran))
			brokertest.Eventually(t, "the strands of the second are done while the first is away", allFinished(stores[1], second, brokertest.Done))
			for i := range first {
				if allFinished(stores[0], first[i:i+1], brokertest.Done)() {
					t.Fatalf("strand %d of the first is done: it was not away", i)
				}
			}
			close(back)
			brokertest.Eventually(t, "the strands of the first are done", allFinished(stores[0], first, brokertest.Done))
			eachRan(t, ran, 2)
		})
	}
}

// TestFaultsInOneDatabaseAreNotTheOthers: statements of the first fail now and then, before or after their work.
func TestFaultsInOneDatabaseAreNotTheOthers(t *testing.T) {
	stores := twoStores()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	ran := make([]atomic.Int64, 400)
	first, second := insert(t, stores[0], "echo", len(ran)), insert(t, stores[1], "echo", len(ran))
	stores[0].Disturb(func(m brokertest.Method) brokertest.Fault {
		if m == brokertest.Leave {
			return brokertest.Fault{} // the last word is said once, and its failure is told
		}
		switch chance.IntN(8) {
		case 0:
			return brokertest.Fault{Before: broker.ErrAway}
		case 1:
			return brokertest.Fault{After: errors.New("no answer")}
		case 2:
			return brokertest.Fault{Delay: 20 * time.Millisecond}
		}
		return brokertest.Fault{}
	})
	h := serveSeveral(t, stores, filepath.Join(socketDir(t), "d", "s.sock"), broker.Config{})
	h.work(counted(ran), 4)
	brokertest.Eventually(t, "the strands of the second are done", allFinished(stores[1], second, brokertest.Done))
	brokertest.Eventually(t, "the strands of the first are done", allFinished(stores[0], first, brokertest.Done))
	eachRan(t, ran, 2)
}
