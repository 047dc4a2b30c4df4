package broker_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/brokertest"
	"github.com/respirated/respirated/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The whole way of a strand, with a store in memory and everything else real: the loop, the socket, the worker library.

type echoArgs struct {
	N int `json:"n"`
}

func (echoArgs) Kind() string { return "echo" }

// host is a broker on a socket of its own.
type host struct {
	t      *testing.T
	socket string
	broker *broker.Broker
	stop   func()
}

func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "respirate-test-") // short: t.TempDir can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// serve runs a broker at socket until stop is called.
func serve(t *testing.T, store *brokertest.Store, socket string, cfg broker.Config) *host {
	t.Helper()
	return serveSeveral(t, []*brokertest.Store{store}, socket, cfg)
}

// serveSeveral runs a broker over several databases, which are named after their order.
func serveSeveral(t *testing.T, stores []*brokertest.Store, socket string, cfg broker.Config) *host {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = quietLog()
	}
	var databases []broker.Database
	var channels []broker.Channel
	for i, store := range stores {
		databases = append(databases, broker.Database{Name: fmt.Sprint("db", i), Store: store})
		channels = append(channels, store.Channel())
	}
	b, err := broker.NewSeveral(databases, nil, cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := broker.ListenSocket(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := b.Run(ctx, l); err != nil {
			t.Errorf("broker: %v", err)
		}
	})
	wg.Go(func() {
		if err := b.Listen(ctx, channels...); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("channel: %v", err)
		}
	})
	stop := sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return &host{t, l.Path, b, stop}
}

// work runs a worker until the test ends or stop is called.
func (h *host) work(mux *worker.Mux, slots int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := worker.Run(ctx, mux, worker.Config{Socket: h.socket, Slots: slots, Logger: quietLog()}); err != nil {
			h.t.Errorf("worker: %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	h.t.Cleanup(stop)
	return stop
}

func insert(t *testing.T, store *brokertest.Store, kind string, n int) []broker.ID {
	t.Helper()
	inserts := make([]broker.Insert, n)
	for i := range inserts {
		rand.Read(inserts[i].ID[:])
		inserts[i].Kind = kind
		inserts[i].Args = fmt.Appendf(nil, `{"n":%d}`, i)
	}
	ids, err := store.Insert(t.Context(), inserts)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func allFinished(store *brokertest.Store, ids []broker.ID, state string) func() bool {
	return func() bool {
		for _, id := range ids {
			if f, ok := store.Finished(id); !ok || f.State != state {
				return false
			}
		}
		return true
	}
}

func TestInsertedStrandsRunAndTheirRowsAreDone(t *testing.T) {
	store := brokertest.NewStore(time.Now)
	h := serve(t, store, filepath.Join(socketDir(t), "d", "s.sock"), broker.Config{})
	mux := worker.NewMux()
	worker.AddProg(mux, worker.Prog[echoArgs]{Start: "start", Labels: map[string]worker.Label[echoArgs]{
		"start": func(_ context.Context, s *worker.Strand[echoArgs]) (worker.Outcome, error) {
			return worker.Exit(s.Args.N), nil
		},
	}})
	h.work(mux, 4)
	ids := insert(t, store, "echo", 500)
	brokertest.Eventually(t, "every strand is done", allFinished(store, ids, brokertest.Done))
	for i, id := range ids {
		if f, _ := store.Finished(id); string(f.Value) != fmt.Sprint(i) {
			t.Errorf("strand %d has value %s, want %d", i, f.Value, i)
		}
	}
}

func TestHolderNamesWhoHasAStrand(t *testing.T) {
	store := brokertest.NewStore(time.Now)
	h := serve(t, store, filepath.Join(socketDir(t), "d", "s.sock"), broker.Config{})
	started, end := make(chan string, 1), make(chan struct{})
	mux := worker.NewMux()
	worker.AddFunc(mux, func(_ context.Context, s *worker.Strand[echoArgs]) error { started <- s.ID; <-end; return nil })
	h.work(mux, 1)
	id := insert(t, store, "echo", 1)[0]
	if got := <-started; got != id.String() {
		t.Fatalf("strand %s runs, want %s", got, id)
	}
	got, err := h.broker.Holder(t.Context(), id)
	if want := fmt.Sprintf("pid %d", os.Getpid()); err != nil || !got.Held || got.Worker != want || got.HeldMS < 0 {
		t.Errorf("got %+v, %v, want %s to hold it", got, err, want)
	}
	if got, err := h.broker.Holder(t.Context(), broker.ID{1}); err != nil || got.Held || got.Worker != "" {
		t.Errorf("of a strand that it does not know: got %+v, %v, want nobody", got, err)
	}
	close(end)
	brokertest.Eventually(t, "nobody holds it", func() bool { got, err := h.broker.Holder(t.Context(), id); return err == nil && !got.Held })
}

func TestServersCountsTheWorkersThatHaveAKindAndItsLabel(t *testing.T) {
	store := brokertest.NewStore(time.Now)
	h := serve(t, store, filepath.Join(socketDir(t), "d", "s.sock"), broker.Config{})
	exit := func(context.Context, *worker.Strand[echoArgs]) (worker.Outcome, error) { return worker.Exit(nil), nil }
	for _, label := range []string{"old", "new"} {
		mux := worker.NewMux()
		worker.AddProg(mux, worker.Prog[echoArgs]{Start: "start", Labels: map[string]worker.Label[echoArgs]{"start": exit, label: exit}})
		h.work(mux, 1)
	}
	for at, want := range map[[2]string]broker.Servers{
		{"echo", "start"}: {Kind: 2, Label: 2}, {"echo", "new"}: {Kind: 2, Label: 1}, {"echo", "none"}: {Kind: 2}, {"other", "start"}: {},
	} {
		var got broker.Servers
		brokertest.Eventually(t, fmt.Sprintf("%v at %v", want, at), func() (ok bool) {
			var err error
			got, err = h.broker.Servers(t.Context(), at[0], at[1], broker.Queue{Name: "default"})
			return err == nil && got == want
		})
	}
}

func TestStrandInsertedIntoAnIdleBrokerStartsAtOnce(t *testing.T) {
	store := brokertest.NewStore(time.Now)
	h := serve(t, store, filepath.Join(socketDir(t), "d", "s.sock"), broker.Config{ScanEvery: time.Hour}) // so that nothing but the hint finds it
	started := make(chan struct{}, 1)
	mux := worker.NewMux()
	worker.AddFunc(mux, func(context.Context, *worker.Strand[echoArgs]) error { started <- struct{}{}; return nil })
	h.work(mux, 1)
	insert(t, store, "echo", 1)
	<-started // all is connected, and idle again soon
	brokertest.Eventually(t, "idle", func() bool { snap, err := h.broker.Snapshot(t.Context()); return err == nil && snap.Held == 0 })
	insert(t, store, "echo", 1)
	brokertest.Eventually(t, "it is started: the hint is used", func() bool { return len(started) > 0 })
}

func TestLabelsHopsAndNapsKeepTheirState(t *testing.T) {
	store := brokertest.NewStore(time.Now)
	h := serve(t, store, filepath.Join(socketDir(t), "d", "s.sock"), broker.Config{})
	mux := worker.NewMux()
	next := func(label string) worker.Label[echoArgs] {
		return func(_ context.Context, s *worker.Strand[echoArgs]) (worker.Outcome, error) {
			return worker.Hop(label).With(echoArgs{s.Args.N * 2}).After(20 * time.Millisecond), nil
		}
	}
	worker.AddProg(mux, worker.Prog[echoArgs]{Start: "start", Labels: map[string]worker.Label[echoArgs]{
		"start": next("again"), "again": next("end"),
		"end": func(_ context.Context, s *worker.Strand[echoArgs]) (worker.Outcome, error) {
			return worker.Exit(s.Args.N), nil
		},
	}})
	h.work(mux, 2)
	ids := insert(t, store, "echo", 20)
	brokertest.Eventually(t, "every strand is done", allFinished(store, ids, brokertest.Done))
	for i, id := range ids {
		if f, _ := store.Finished(id); string(f.Value) != fmt.Sprint(4*i) {
			t.Errorf("strand %d has value %s, want %d", i, f.Value, 4*i)
		}
	}
}

// cutter is a way to a socket that breaks on demand.
type cutter struct {
	path string
	mu   sync.Mutex
	open map[net.Conn]bool
}

func newCutter(t *testing.T, target string) *cutter {
	t.Helper()
	c := &cutter{path: filepath.Join(socketDir(t), "cut.sock"), open: map[net.Conn]bool{}}
	l, err := net.Listen("unix", c.path)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", target)
			if err != nil {
				in.Close()
				continue
			}
			c.keep(in, out)
			wg.Go(func() { c.pass(in, out) })
			wg.Go(func() { c.pass(out, in) })
		}
	})
	t.Cleanup(func() { l.Close(); c.cut(); wg.Wait() })
	return c
}

func (c *cutter) keep(conns ...net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range conns {
		c.open[conn] = true
	}
}

func (c *cutter) pass(from, to net.Conn) {
	_, _ = io.Copy(to, from)
	from.Close()
	to.Close()
}

// cut breaks every connection, wherever in a frame it is.
func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.open {
		conn.Close()
	}
	clear(c.open)
}

// TestCutConnectionsLoseNothingAndRunNothingTwice: a worker that lives runs what it got, once, however often its
// connection breaks; and its results land.
func TestCutConnectionsLoseNothingAndRunNothingTwice(t *testing.T) {
	store := brokertest.NewStore(time.Now)
	h := serve(t, store, filepath.Join(socketDir(t), "d", "s.sock"), broker.Config{})
	way := newCutter(t, h.socket)
	var ran [2000]atomic.Int64
	mux := worker.NewMux()
	worker.AddFunc(mux, func(_ context.Context, s *worker.Strand[echoArgs]) error {
		ran[s.Args.N].Add(1)
		return nil
	})
	ids := insert(t, store, "echo", len(ran))
	(&host{t: t, socket: way.path}).work(mux, 8)
	(&host{t: t, socket: way.path}).work(mux, 8)
	done := allFinished(store, ids, brokertest.Done)
	cuts := 0
	brokertest.Eventually(t, "every strand is done", func() bool {
		if cuts < 40 {
			way.cut()
			cuts++
		}
		return done()
	})
	for n := range ran {
		if got := ran[n].Load(); got != 1 {
			t.Errorf("strand %d ran %d times, want once", n, got)
		}
	}
}

// TestDatabaseAwayKeepsResults: while the database is gone nothing is lost, and nothing runs again.
func TestDatabaseAwayKeepsResults(t *testing.T) {
	store := brokertest.NewStore(time.Now)
	h := serve(t, store, filepath.Join(socketDir(t), "d", "s.sock"), broker.Config{})
	var ran atomic.Int64
	begun := make(chan struct{}, 10)
	mux := worker.NewMux()
	worker.AddFunc(mux, func(context.Context, *worker.Strand[echoArgs]) error {
		ran.Add(1)
		begun <- struct{}{}
		return nil
	})
	store.Inject(brokertest.Commit,
		brokertest.Fault{Before: broker.ErrAway}, brokertest.Fault{After: broker.ErrAway}, brokertest.Fault{Before: broker.ErrAway})
	ids := insert(t, store, "echo", 5)
	h.work(mux, 5)
	brokertest.Eventually(t, "every strand is done", allFinished(store, ids, brokertest.Done))
	if n := ran.Load(); n != 5 {
		t.Errorf("%d runs, want 5", n)
	}
}

func TestDrainWaitsForRunningHandlersAndTheirResults(t *testing.T) {
	store := brokertest.NewStore(time.Now)
	h := serve(t, store, filepath.Join(socketDir(t), "d", "s.sock"), broker.Config{})
	begun, release := make(chan struct{}), make(chan struct{})
	mux := worker.NewMux()
	worker.AddFunc(mux, func(context.Context, *worker.Strand[echoArgs]) error { close(begun); <-release; return nil })
	h.work(mux, 1)
	ids := insert(t, store, "echo", 1)
	<-begun
	var wg sync.WaitGroup
	wg.Go(h.stop)
	brokertest.Eventually(t, "draining", func() bool { snap, err := h.broker.Snapshot(t.Context()); return err == nil && snap.Draining })
	close(release)
	wg.Wait()
	if !allFinished(store, ids, brokertest.Done)() {
		t.Error("the broker stopped before the result of a running handler was durable")
	}
}

func TestCancelStopsARunningHandler(t *testing.T) {
	store := brokertest.NewStore(time.Now)
	h := serve(t, store, filepath.Join(socketDir(t), "d", "s.sock"), broker.Config{})
	begun := make(chan struct{})
	mux := worker.NewMux()
	worker.AddFunc(mux, func(ctx context.Context, _ *worker.Strand[echoArgs]) error {
		close(begun)
		<-ctx.Done()
		return context.Cause(ctx)
	})
	h.work(mux, 1)
	ids := insert(t, store, "echo", 1)
	<-begun
	store.Cancel(ids[0])
	h.broker.Hint(broker.Hint{Cancel: true})
	brokertest.Eventually(t, "the strand is cancelled", allFinished(store, ids, brokertest.Cancelled))
}

func TestKindWithoutAWorkerWaitsAndHoldsUpNobody(t *testing.T) {
	store := brokertest.NewStore(time.Now)
	h := serve(t, store, filepath.Join(socketDir(t), "d", "s.sock"), broker.Config{})
	mux := worker.NewMux()
	worker.AddFunc(mux, func(context.Context, *worker.Strand[echoArgs]) error { return nil })
	unknown := insert(t, store, "nobody-serves-this", 300)
	ids := insert(t, store, "echo", 20)
	h.work(mux, 1)
	brokertest.Eventually(t, "the others are done", allFinished(store, ids, brokertest.Done))
	if row, ok := store.Row(unknown[0]); !ok || row.Leased {
		t.Errorf("the strand of an unknown kind is %+v (there: %v), want it kept and not leased", row, ok)
	}
}

// TestTakesWhoseAnswersAreLostHoldUpNothing: what they have leased is known to nobody by name, and is given back.
func TestTakesWhoseAnswersAreLostHoldUpNothing(t *testing.T) {
	store := brokertest.NewStore(time.Now)
	h := serve(t, store, filepath.Join(socketDir(t), "d", "s.sock"), broker.Config{ScanEvery: time.Hour}) // and a lease lasts for longer than this waits
	ran := make([]atomic.Int64, 1)
	h.work(counted(ran), 4)
	var lost, answered atomic.Int64
	store.Disturb(func(m brokertest.Method) brokertest.Fault {
		if m != brokertest.Take {
			return brokertest.Fault{}
		}
		if lost.Load() < 3 {
			lost.Add(1)
			return brokertest.Fault{After: broker.ErrAway}
		}
		answered.Add(1)
		return brokertest.Fault{}
	})
	strands := int64(0)
	for answered.Load() == 0 {
		strands++
		ids := insert(t, store, "echo", 1)
		brokertest.Eventually(t, fmt.Sprintf("strand %d is done", strands), allFinished(store, ids, brokertest.Done))
	}
	if got := ran[0].Load(); got != strands {
		t.Errorf("%d runs of %d strands", got, strands)
	}
}
