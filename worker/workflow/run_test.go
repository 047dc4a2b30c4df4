package workflow_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/brokertest"
	"github.com/respirated/respirated/worker"
	"github.com/respirated/respirated/worker/workflow"
)

// host is a broker with a store in memory, and one worker.
type host struct {
	store *brokertest.Store
	stop  func() error
}

func newHost(mux *worker.Mux) (*host, error) {
	dir, err := os.MkdirTemp("", "flow") // short: t.TempDir can be too long for a socket
	if err != nil {
		return nil, err
	}
	l, err := broker.ListenSocket(filepath.Join(dir, "s"))
	if err != nil {
		return nil, err
	}
	quiet := slog.New(slog.DiscardHandler)
	h := &host{store: brokertest.NewStore(time.Now)}
	b, err := broker.New(h.store, nil, broker.Config{Logger: quiet})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	errs := make([]error, 3)
	all.Go(func() { errs[0] = b.Run(ctx, l) })
	all.Go(func() { errs[1] = b.Listen(ctx, h.store.Channel()) })
	all.Go(func() { errs[2] = worker.Run(ctx, mux, worker.Config{Socket: l.Path, Slots: 4, Logger: quiet}) })
	h.stop = func() error {
		cancel()
		all.Wait()
		errs = slices.DeleteFunc(errs, func(err error) bool { return errors.Is(err, context.Canceled) })
		return errors.Join(append(errs, os.RemoveAll(dir))...)
	}
	return h, nil
}

func (h *host) insert(kind, args, opts string) (broker.ID, error) {
	ids, err := h.store.Insert(context.Background(), []broker.Insert{{Kind: kind, Args: []byte(args), Opts: []byte(opts)}})
	if err != nil {
		return broker.ID{}, err
	}
	return ids[0], nil
}

// end waits for the end of a strand.
func (h *host) end(id broker.ID) (f brokertest.Finished, err error) {
	return f, brokertest.Until(func() (ok bool) {
		f, ok = h.store.Finished(id)
		return ok
	})
}

// trip is a workflow of steps.
type trip struct {
	Size int `json:"size"`
}

func (trip) Kind() string { return "trip" }

// step is a child: it exits with its name, and place.
type step struct {
	Name  string `json:"name"`
	Place int    `json:"place"`
}

func (step) Kind() string { return "step" }

// bench is a host with the kind step, whose strands a test may hold up and let fail.
type bench struct {
	t *testing.T
	*host
	mu     sync.Mutex     // guards what follows
	ran    map[string]int // runs of steps, by name and place
	broken map[string]int // how often a step is to fail yet
	open   chan struct{}  // closed by release: steps called "slow" go on

	release func()
}

func newBench(t *testing.T, define func(w *workflow.Workflow[trip])) *bench {
	b := &bench{t: t, ran: make(map[string]int), broken: make(map[string]int), open: make(chan struct{})}
	b.release = sync.OnceFunc(func() { close(b.open) })
	mux := worker.NewMux()
	worker.AddProg(mux, worker.Prog[step]{Labels: map[string]worker.Label[step]{"start": b.step}})
	w := workflow.New[trip]()
	define(w)
	workflow.Add(mux, w)
	var err error
	if b.host, err = newHost(mux); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.release()
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *bench) step(ctx context.Context, s *worker.Strand[step]) (worker.Outcome, error) {
	name := s.Args.Name
	if name == "slow" {
		select {
		case <-b.open:
		case <-ctx.Done():
			return worker.Outcome{}, ctx.Err()
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	key := fmt.Sprint(name, s.Args.Place)
	b.ran[key]++
	if b.broken[key] > 0 {
		b.broken[key]--
		return worker.Outcome{}, worker.RetryIn(0, errors.New("broken"))
	}
	return worker.Exit(key), nil
}

func (b *bench) begin(args string) broker.ID {
	b.t.Helper()
	id, err := b.insert("trip", args, `{"keep":true}`)
	if err != nil {
		b.t.Fatal(err)
	}
	return id
}

func (b *bench) wantEnd(id broker.ID, state, value string) {
	b.t.Helper()
	f, err := b.end(id)
	if err != nil {
		b.t.Fatalf("%v: the end of the workflow; its state is %s", err, b.state(id))
	}
	if f.State != state || string(f.Value) != value {
		b.t.Errorf("ended as %s with %s, want %s with %s", f.State, f.Value, state, value)
	}
}

// state is the frame of a live workflow.
func (b *bench) state(id broker.ID) string {
	row, _ := b.store.Row(id)
	return string(row.Stack)
}

// nodes waits until nodes are in these states, as "a=done b=running", and the workflow sleeps.
func (b *bench) nodes(id broker.ID, want string) {
	b.t.Helper()
	got := ""
	err := brokertest.Until(func() bool {
		row, ok := b.store.Row(id)
		var stack []struct {
			Nodes map[string]struct{ State string }
		}
		if !ok || row.Leased || json.Unmarshal(row.Stack, &stack) != nil || len(stack) == 0 {
			return false
		}
		var all []string
		for name, n := range stack[0].Nodes {
			all = append(all, name+"="+n.State)
		}
		slices.Sort(all)
		got = strings.Join(all, " ")
		return got == want
	})
	if err != nil {
		b.t.Fatalf("%v: nodes %s, want %s", err, got, want)
	}
}

func (b *bench) resume(id broker.ID) {
	b.t.Helper()
	if found, err := b.store.Signal(b.t.Context(), []broker.Signal{{ID: id, Name: workflow.Resume}}); err != nil || !found[0] {
		b.t.Fatalf("signal: %v, %v", found, err)
	}
}

// steps checks how often each step ran that is named, and that no other did.
func (b *bench) steps(want map[string]int) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, n := range b.ran {
		if n != want[key] {
			b.t.Errorf("step %s ran %d times, want %d", key, n, want[key])
		}
	}
	if len(b.ran) != len(want) {
		b.t.Errorf("%d steps ran, want %d", len(b.ran), len(want))
	}
}

// one is a node that is one step of that name.
func one(name string, tries int) func(context.Context, workflow.In[trip]) (worker.Args, *worker.InsertOpts, error) {
	return func(context.Context, workflow.In[trip]) (worker.Args, *worker.InsertOpts, error) {
		return step{Name: name}, &worker.InsertOpts{MaxTries: tries}, nil
	}
}

// many are as many steps of that name as the workflow's size.
func many(name string) func(context.Context, workflow.In[trip]) ([]workflow.Child, error) {
	return func(_ context.Context, in workflow.In[trip]) (all []workflow.Child, err error) {
		for place := range in.Args.Size {
			all = append(all, workflow.Child{Args: step{name, place}, Opts: &worker.InsertOpts{MaxTries: 2, Priority: 3}})
		}
		return all, nil
	}
}

// sum counts the results of a node before.
func sum(name, before string) func(context.Context, workflow.In[trip]) (worker.Args, *worker.InsertOpts, error) {
	return func(_ context.Context, in workflow.In[trip]) (worker.Args, *worker.InsertOpts, error) {
		results, err := workflow.Result[[]string](in, before)
		return step{name, len(results)}, nil, err
	}
}

func TestAWideFanOutComesTogetherAgain(t *testing.T) {
	t.Parallel()
	const size = 2500 // more than one run buds, and than one inbox holds
	b := newBench(t, func(w *workflow.Workflow[trip]) {
		w.Node("join", sum("join", "fan")).After("fan")
		w.Each("fan", many("fan")).After("first")
		w.Node("first", one("first", 1))
		w.Finally(func(_ context.Context, in workflow.In[trip]) (any, error) {
			all, err := workflow.Result[[]string](in, "fan")
			for place, name := range all {
				if name != fmt.Sprint("fan", place) {
					return nil, worker.Dead(fmt.Errorf("place %d has %s", place, name))
				}
			}
			join, err2 := workflow.Result[string](in, "join")
			return join, errors.Join(err, err2)
		})
	})
	id := b.begin(fmt.Sprintf(`{"size":%d}`, size))
	b.wantEnd(id, "done", fmt.Sprintf(`"join%d"`, size))
	want := map[string]int{"first0": 1, fmt.Sprint("join", size): 1}
	for place := range size {
		want[fmt.Sprint("fan", place)] = 1
	}
	b.steps(want)
}

// A branch goes on while another takes its time: the workflow hears of each node, not only of the last.
func TestANodeDoesNotWaitForWhatItDoesNotComeAfter(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(w *workflow.Workflow[trip]) {
		w.Node("slow", one("slow", 1))
		w.Node("a", one("a", 1))
		w.Node("b", one("b", 1)).After("a")
		w.Node("c", one("c", 1)).After("b")
	})
	id := b.begin(`{}`)
	b.nodes(id, "a=done b=done c=done slow=running")
	b.release()
	b.wantEnd(id, "done", `{"a":"a0","b":"b0","c":"c0","slow":"slow0"}`)
}

func TestANodesTriesAreThoseOfItsStrand(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(w *workflow.Workflow[trip]) { w.Node("a", one("a", 3)) })
	b.broken["a0"] = 2
	b.wantEnd(b.begin(`{}`), "done", `{"a":"a0"}`)
	b.steps(map[string]int{"a0": 3})
}

func TestAWorkflowThatFailsIsDeadAndNamesTheNode(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(w *workflow.Workflow[trip]) {
		w.Node("slow", one("slow", 1))
		w.Node("a", one("a", 2))
		w.Node("b", one("b", 1)).After("a")
		w.Node("c", one("c", 1)).After("slow")
	})
	b.broken["a0"] = 2
	id := b.begin(`{}`)
	b.nodes(id, "a=failed b=waiting c=waiting slow=running")
	b.release()
	b.wantEnd(id, "dead", "")
	if a := b.store.Attempts(id); len(a) != 1 || !strings.Contains(a[0].Message, `declared dead by its handler: node "a" failed: strand `) ||
		!strings.Contains(a[0].Message, `of kind "step" is dead; retry this strand to resume`) {
		t.Errorf("failures %+v", a)
	}
	b.steps(map[string]int{"a0": 2, "slow0": 1})
}

func TestADeadWorkflowThatIsRetriedRunsOnlyWhatHasFailed(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(w *workflow.Workflow[trip]) {
		w.Node("a", one("a", 1))
		w.Each("fan", many("fan"))
		w.Node("join", sum("join", "fan")).After("fan", "a")
	})
	// A retry brings it back at its label, with its frame, and without semaphores.
	id, err := b.insert("trip", `{"args":{"size":4},"nodes":{"a":{"state":"done","value":"kept"},"join":{"state":"waiting"},
		"fan":{"state":"failed","error":"2 of 4","size":4,"partial":{"0":"old","2":"old"}}}}`, `{"keep":true,"label":"failed"}`)
	if err != nil {
		t.Fatal(err)
	}
	b.wantEnd(id, "done", `{"a":"kept","fan":["old","fan1","old","fan3"],"join":"join4"}`)
	b.steps(map[string]int{"fan1": 1, "fan3": 1, "join4": 1})
}

func TestAWorkflowThatHoldsIsResumedByASignal(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(w *workflow.Workflow[trip]) {
		w.OnFailure(workflow.Hold)
		w.Each("fan", many("fan"))
		w.Node("join", sum("join", "fan")).After("fan")
	})
	b.broken["fan7"], b.broken["fan8"] = 4, 2 // two tries, twice and once
	id := b.begin(`{"size":20}`)
	want := map[string]int{"join20": 1, "fan7": 5, "fan8": 3}
	for place := range 20 {
		if place != 7 && place != 8 {
			want[fmt.Sprint("fan", place)] = 1
		}
	}
	for range 2 {
		b.nodes(id, "fan=failed join=waiting")
		b.resume(id)
		b.nodesPass(id)
	}
	f, err := b.end(id)
	if err != nil || f.State != "done" {
		t.Fatalf("%v: ended as %s with %s; %s", err, f.State, f.Value, b.state(id))
	}
	b.steps(want)
}

// nodesPass waits until the workflow has taken the signal to resume.
func (b *bench) nodesPass(id broker.ID) {
	b.t.Helper()
	if err := brokertest.Until(func() bool {
		waiting := b.store.Waiting(id)
		return !slices.ContainsFunc(waiting.Semaphores, func(s broker.Semaphore) bool { return s.Name == workflow.Resume })
	}); err != nil {
		b.t.Fatal(err, ": the signal is taken")
	}
}

// Thirty nodes get a large value each, which is more than fits into one result.
func TestALargeValueGoesToManyNodes(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(w *workflow.Workflow[trip]) {
		w.Node("large", func(context.Context, workflow.In[trip]) (worker.Args, *worker.InsertOpts, error) {
			return step{Name: strings.Repeat("v", 200<<10)}, nil, nil
		}).MaxValue(workflow.MostValue)
		for n := range 30 {
			w.Node(fmt.Sprint("n", n), func(_ context.Context, in workflow.In[trip]) (worker.Args, *worker.InsertOpts, error) {
				v, err := workflow.Result[string](in, "large")
				return step{"n", len(v)}, nil, err
			}).After("large")
		}
		w.Finally(func(context.Context, workflow.In[trip]) (any, error) { return nil, nil })
	})
	b.wantEnd(b.begin(`{}`), "done", "")
	b.steps(map[string]int{strings.Repeat("v", 200<<10) + "0": 1, fmt.Sprint("n", 200<<10+1): 30})
}

func TestWhatIsTooLargeIsSaid(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(w *workflow.Workflow[trip]) {
		w.OnFailure(workflow.Hold)
		w.Each("long", func(context.Context, workflow.In[trip]) ([]workflow.Child, error) {
			return slices.Repeat([]workflow.Child{{Args: step{Name: strings.Repeat("v", 1000)}}}, 1000), nil
		})
		w.Each("many", func(context.Context, workflow.In[trip]) ([]workflow.Child, error) {
			return make([]workflow.Child, workflow.MaxChildren+1), nil
		})
	})
	id := b.begin(`{}`)
	b.nodes(id, "long=failed many=failed")
	for _, want := range []string{`children of node \"long\" have more than 716800 bytes`, `node \"many\" has 10001 children, at most 10000`} {
		if !strings.Contains(b.state(id), want) {
			t.Errorf("state %s, want it to say %s", b.state(id), want)
		}
	}
	large := b.begin(`{"x":"` + strings.Repeat("v", workflow.MaxState) + `"}`)
	b.wantEnd(large, "dead", "")
	if a := b.store.Attempts(large); len(a) != 1 || !strings.Contains(a[0].Message, "the args of the workflow have 409608 bytes") {
		t.Errorf("failures %+v", a)
	}
}

func TestACompensationRunsWithTheResultsBeforeIt(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(w *workflow.Workflow[trip]) {
		w.Node("pay", one("pay", 1))
		w.Node("send", one("send", 1)).After("pay").Compensate("refund")
		w.Node("thank", one("thank", 1)).After("send")
		w.Node("refund", func(_ context.Context, in workflow.In[trip]) (worker.Args, *worker.InsertOpts, error) {
			paid, err := workflow.Result[string](in, "pay")
			if !strings.Contains(in.Failure, "is dead") {
				err = fmt.Errorf("failure %q", in.Failure)
			}
			return step{Name: "refund of " + paid}, nil, err
		}).After("pay")
	})
	b.broken["send0"] = 1
	b.wantEnd(b.begin(`{}`), "done", `{"pay":"pay0","refund":"refund of pay00"}`)
	b.steps(map[string]int{"pay0": 1, "send0": 1, "refund of pay00": 1})
}

func TestAFunctionThatFailsIsRetriedOnItsOwnAndFailsItsNode(t *testing.T) {
	t.Parallel()
	var calls int // of one strand, so one at a time
	b := newBench(t, func(w *workflow.Workflow[trip]) {
		w.OnFailure(workflow.Skip)
		w.Node("late", func(context.Context, workflow.In[trip]) (worker.Args, *worker.InsertOpts, error) {
			if calls++; calls < 3 {
				return nil, nil, worker.RetryIn(0, errors.New("not yet"))
			}
			return step{Name: "late"}, nil, nil
		})
		w.Node("never", func(context.Context, workflow.In[trip]) (worker.Args, *worker.InsertOpts, error) {
			return nil, nil, worker.RetryIn(0, errors.New("no"))
		})
		w.Node("dead", func(context.Context, workflow.In[trip]) (worker.Args, *worker.InsertOpts, error) {
			return nil, nil, worker.Dead(errors.New("never"))
		})
		w.Node("cancelled", func(context.Context, workflow.In[trip]) (worker.Args, *worker.InsertOpts, error) {
			return nil, nil, worker.Cancel(nil)
		})
		w.Node("nil", func(context.Context, workflow.In[trip]) (worker.Args, *worker.InsertOpts, error) {
			return nil, nil, nil
		})
		w.Node("with an id", func(context.Context, workflow.In[trip]) (worker.Args, *worker.InsertOpts, error) {
			return step{}, &worker.InsertOpts{ID: "6ba7b810-9dad-41d1-80b4-00c04fd430c8"}, nil
		})
		w.Node("stranger", sum("stranger", "late"))
		w.Node("panics", func(context.Context, workflow.In[trip]) (worker.Args, *worker.InsertOpts, error) { panic("oh") })
		w.Node("slow", one("slow", 1))
	})
	id, err := b.insert("trip", `{}`, `{"keep":true,"max_tries":3}`)
	if err != nil {
		t.Fatal(err)
	}
	// A strand that dies of a panic tells nothing, and the workflow hears of it nevertheless, though another node runs.
	b.nodes(id, "cancelled=cancelled dead=failed late=done never=failed nil=failed panics=failed slow=running stranger=failed with an id=failed")
	for _, want := range []string{
		`not yet`, `"to be retried in 0s: no"`, `"declared dead by its handler: never"`, `its args are nil`, `its options have an ID`,
		`there is no result of node \"late\": name it in After`, ` is dead"`,
	} {
		if has := strings.Contains(b.state(id), want); has == (want == `not yet`) {
			t.Errorf("state %s, says %q: %t", b.state(id), want, has)
		}
	}
}

// What becomes of a node whose strand somebody has cancelled is seen, and what follows, while another takes its time.
func TestACancelledNodeIsSeenWhileAnotherRuns(t *testing.T) {
	t.Parallel()
	for policy, then := range map[workflow.Policy]struct{ nodes, end string }{
		workflow.Fail: {"after=waiting gone=cancelled slow=running", "dead"},
		workflow.Skip: {"after=skipped gone=cancelled slow=running", "done"},
	} {
		b := newBench(t, func(w *workflow.Workflow[trip]) {
			w.OnFailure(policy)
			w.Node("slow", one("slow", 1))
			w.Node("gone", func(context.Context, workflow.In[trip]) (worker.Args, *worker.InsertOpts, error) {
				return step{Name: "gone"}, &worker.InsertOpts{ScheduledAt: time.Now().Add(time.Hour)}, nil
			})
			w.Node("after", one("after", 1)).After("gone")
		})
		id := b.begin(`{}`)
		b.nodes(id, "after=waiting gone=running slow=running")
		node := b.node(id, "gone")
		if err := brokertest.Until(func() bool {
			row, ok := b.store.Row(node)
			return ok && !row.Leased && row.ChildrenLeft == 1
		}); err != nil {
			t.Fatal(err, ": the node waits for its child")
		}
		b.store.Cancel(node)
		b.nodes(id, then.nodes)
		b.release()
		if f, err := b.end(id); err != nil || f.State != then.end {
			t.Errorf("%v: ended as %s, want %s", err, f.State, then.end)
		}
		b.steps(map[string]int{"slow0": 1})
	}
}

// node is the strand of a node that runs.
func (b *bench) node(id broker.ID, name string) broker.ID {
	b.t.Helper()
	var state []struct {
		Nodes map[string]struct{ Strand string }
	}
	if err := json.Unmarshal([]byte(b.state(id)), &state); err != nil || len(state) == 0 {
		b.t.Fatalf("%v: state %s", err, b.state(id))
	}
	node, err := broker.ParseID(state[0].Nodes[name].Strand)
	if err != nil {
		b.t.Fatal(err)
	}
	return node
}

func TestCancelOfAWorkflowEndsAllThatIsBelow(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(w *workflow.Workflow[trip]) {
		w.Each("slow", many("slow"))
		w.Node("after", one("after", 1)).After("slow")
	})
	id := b.begin(`{"size":50}`)
	b.nodes(id, "after=waiting slow=running")
	node := b.node(id, "slow")
	var frame []struct{ Children map[string]int }
	if err := brokertest.Until(func() bool {
		row, ok := b.store.Row(node)
		return ok && !row.Leased && json.Unmarshal(row.Stack, &frame) == nil && len(frame) == 1 && len(frame[0].Children) == 50
	}); err != nil {
		t.Fatal(err, ": the node has its children")
	}
	b.store.Cancel(id)
	b.wantEnd(id, "cancelled", "")
	b.wantEnd(node, "cancelled", "")
	for child := range frame[0].Children {
		id, err := broker.ParseID(child)
		if err != nil {
			t.Fatal(err)
		}
		b.wantEnd(id, "cancelled", "")
	}
	b.steps(map[string]int{})
}

func TestACancelledChildCancelsItsNode(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(w *workflow.Workflow[trip]) {
		w.OnFailure(workflow.Hold)
		w.Node("a", func(context.Context, workflow.In[trip]) (worker.Args, *worker.InsertOpts, error) {
			return step{}, &worker.InsertOpts{ScheduledAt: time.Now().Add(time.Hour)}, nil
		})
	})
	id := b.begin(`{}`)
	b.nodes(id, "a=running")
	var child string
	if err := brokertest.Until(func() bool {
		var state []struct {
			Nodes map[string]struct{ Strand string }
		}
		var frame []struct{ Children map[string]int }
		_ = json.Unmarshal([]byte(b.state(id)), &state)
		node, err := broker.ParseID(state[0].Nodes["a"].Strand)
		if row, ok := b.store.Row(node); err != nil || !ok || json.Unmarshal(row.Stack, &frame) != nil || len(frame) == 0 {
			return false
		}
		for child = range frame[0].Children {
			return true
		}
		return false
	}); err != nil {
		t.Fatal(err)
	}
	of, err := broker.ParseID(child)
	if err != nil {
		t.Fatal(err)
	}
	b.store.Cancel(of)
	b.nodes(id, "a=cancelled")
}
