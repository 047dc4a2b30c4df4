package broker_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/brokertest"
	"github.com/respirated/respirated/worker"
)

// Programs of the worker library, with the real broker and a store in memory.

// tower pushes another upon itself until it is high enough.
type tower struct {
	Level int `json:"level"`
	Top   int `json:"top"`
}

func (tower) Kind() string { return "tower" }

// TestPushesReturnThroughAllTheirFrames: each frame adds its level to what the one above has returned.
func TestPushesReturnThroughAllTheirFrames(t *testing.T) {
	mux := worker.NewMux()
	worker.AddProg(mux, worker.Prog[tower]{Labels: map[string]worker.Label[tower]{
		"start": func(_ context.Context, s *worker.Strand[tower]) (worker.Outcome, error) {
			if s.Args.Level == s.Args.Top {
				return worker.Pop([]int{s.Args.Level}), nil
			}
			return worker.Push(tower{s.Args.Level + 1, s.Args.Top}).Then("down"), nil
		},
		"down": func(_ context.Context, s *worker.Strand[tower]) (worker.Outcome, error) {
			above, err := worker.Returned[[]int](s)
			if err != nil || above == nil {
				return worker.Outcome{}, worker.Dead(fmt.Errorf("returned %v, %v", above, err))
			}
			return worker.Pop(append(*above, s.Args.Level)), nil
		},
	}})
	store := brokertest.NewStore(time.Now)
	serve(t, store, filepath.Join(socketDir(t), "s"), broker.Config{}).work(mux, 2)
	ids, err := store.Insert(t.Context(), []broker.Insert{
		{Kind: "tower", Args: []byte(`{"level":1,"top":5}`), Opts: []byte(`{"keep":true}`)},
		{Kind: "tower", Args: []byte(`{"level":1,"top":65}`), Opts: []byte(`{"keep":true,"max_tries":1}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, "both have ended", func() bool { return allFinished(store, ids[:1], "done")() && allFinished(store, ids[1:], "dead")() })
	if f, _ := store.Finished(ids[0]); string(f.Value) != "[5,4,3,2,1]" {
		t.Errorf("exit value %s, want [5,4,3,2,1]", f.Value)
	}
	if a := store.Attempts(ids[1]); len(a) != 1 || !strings.Contains(a[0].Message, `push "tower": the stack has 64 frames already`) {
		t.Errorf("failures %+v, want one that says that 64 frames are the most", a)
	}
}

// family has many children, which end at about the same time.
type family struct {
	Size int `json:"size"`
	Met  int `json:"met"`
}

func (family) Kind() string { return "family" }

type member struct{ N int }

func (member) Kind() string { return "member" }

// TestAParentMeetsEveryChildOnce: more end than fit into an inbox, several in each batch, while the parent reaps and naps.
func TestAParentMeetsEveryChildOnce(t *testing.T) {
	const size = 2000
	var mu sync.Mutex // guards met
	met := make(map[string]int)
	mux := worker.NewMux()
	worker.AddFunc(mux, func(context.Context, *worker.Strand[member]) error { return nil })
	worker.AddProg(mux, worker.Prog[family]{Labels: map[string]worker.Label[family]{
		"start": func(ctx context.Context, s *worker.Strand[family]) (worker.Outcome, error) {
			f := s.Args
			for range min(500, f.Size) {
				if _, err := worker.Bud(ctx, member{}, nil); err != nil {
					return worker.Outcome{}, err
				}
				f.Size--
			}
			if f.Size > 0 {
				return worker.Hop("start").With(f), nil
			}
			return worker.Hop("reap").With(f), nil
		},
		"reap": func(_ context.Context, s *worker.Strand[family]) (worker.Outcome, error) {
			f := s.Args
			o, wait := s.Reap(worker.ReapOpts{Each: func(c worker.Child) {
				mu.Lock()
				defer mu.Unlock()
				met[c.ID]++
				f.Met++
			}})
			if wait {
				return o.With(f), nil
			}
			return worker.Exit(f.Met), nil
		},
	}})
	store := brokertest.NewStore(time.Now)
	h := serve(t, store, filepath.Join(socketDir(t), "s"), broker.Config{})
	h.work(mux, 4)
	h.work(mux, 4)
	ids, err := store.Insert(t.Context(), []broker.Insert{{Kind: "family", Args: fmt.Appendf(nil, `{"size":%d}`, size), Opts: []byte(`{"keep":true}`)}})
	if err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, "the parent has ended", allFinished(store, ids, "done"))
	mu.Lock()
	defer mu.Unlock()
	if f, _ := store.Finished(ids[0]); string(f.Value) != fmt.Sprint(size) || len(met) != size {
		t.Errorf("exit with %s, %d children met, want %d", f.Value, len(met), size)
	}
}

// adder adds what signals bring until it has seen them all.
type adder struct {
	Sum  int `json:"sum"`
	Seen int `json:"seen"`
	Want int `json:"want"`
}

func (adder) Kind() string { return "adder" }

// TestNoSignalIsLost: they come while their strand runs, while its nap is being stored, and while it sleeps. It hibernates
// each time, so that one lost wake would be the end of it.
func TestNoSignalIsLost(t *testing.T) {
	const strands, each = 20, 100
	mux := worker.NewMux()
	worker.AddProg(mux, worker.Prog[adder]{Labels: map[string]worker.Label[adder]{
		"start": func(_ context.Context, s *worker.Strand[adder]) (worker.Outcome, error) {
			a := s.Args
			for sem, ok := s.Take("add"); ok; sem, ok = s.Take("add") {
				n, err := worker.Decode[int](sem.Value)
				if err != nil {
					return worker.Outcome{}, err
				}
				a.Sum, a.Seen = a.Sum+n, a.Seen+1
			}
			if a.Seen == a.Want {
				return worker.Exit(a.Sum), nil
			}
			return worker.Hibernate().With(a), nil
		},
	}})
	store := brokertest.NewStore(time.Now)
	h := serve(t, store, filepath.Join(socketDir(t), "s"), broker.Config{})
	h.work(mux, 4)
	inserts := slices.Repeat([]broker.Insert{{Kind: "adder", Args: fmt.Appendf(nil, `{"want":%d}`, each), Opts: []byte(`{"keep":true}`)}}, strands)
	ids, err := store.Insert(t.Context(), inserts)
	if err != nil {
		t.Fatal(err)
	}
	var senders sync.WaitGroup
	for _, id := range ids {
		senders.Go(func() {
			for n := range each {
				if _, err := store.Signal(t.Context(), []broker.Signal{{ID: id, Name: "add", Value: fmt.Append(nil, n)}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	senders.Wait()
	brokertest.Eventually(t, "every strand has seen every signal", allFinished(store, ids, "done"))
	for _, id := range ids {
		if f, _ := store.Finished(id); string(f.Value) != fmt.Sprint(each*(each-1)/2) {
			t.Errorf("sum %s, want %d", f.Value, each*(each-1)/2)
		}
	}
}

// patient waits for what never comes.
type patient struct{}

func (patient) Kind() string { return "patient" }

// TestAwaitCountsFromItsBeginning: signals of another name wake the strand again and again, and do not prolong its wait.
func TestAwaitCountsFromItsBeginning(t *testing.T) {
	const limit = 300 * time.Millisecond
	mux := worker.NewMux()
	worker.AddProg(mux, worker.Prog[patient]{Labels: map[string]worker.Label[patient]{
		"start": func(_ context.Context, s *worker.Strand[patient]) (worker.Outcome, error) {
			s.Decr("other")
			if came, left := s.Await("never", limit); came != nil || left > 0 {
				return worker.Nap(left), nil
			}
			return worker.Exit(nil), nil
		},
	}})
	store := brokertest.NewStore(time.Now)
	serve(t, store, filepath.Join(socketDir(t), "s"), broker.Config{}).work(mux, 1)
	began := time.Now()
	ids, err := store.Insert(t.Context(), []broker.Insert{{Kind: "patient", Args: []byte("{}"), Opts: []byte(`{"keep":true}`)}})
	if err != nil {
		t.Fatal(err)
	}
	brokertest.Eventually(t, "its wait is over", func() bool {
		if _, err := store.Signal(t.Context(), []broker.Signal{{ID: ids[0], Name: "other"}}); err != nil {
			t.Error(err)
		}
		return allFinished(store, ids, "done")()
	})
	if took := time.Since(began); took < limit-10*time.Millisecond {
		t.Errorf("it waited %v, want %v", took, limit)
	}
}
