package supervisor

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/respirated/respirated/broker"
)

// patience is how long a test waits for what must happen. Nothing is asserted about being faster.
const patience = time.Minute

// host is a supervisor under test, with a listener in the broker's place.
type host struct {
	t        *testing.T
	dir      string
	cfg      Config
	sup      *Supervisor
	hellos   chan greeting
	exits    chan broker.WorkerExit
	shown    *mailbox[[]Info]
	sampling sampling // zero = as ever
	listens  bool
	stop     context.CancelFunc
	stopped  chan error

	mu    sync.Mutex // guards what follows
	conns map[string]net.Conn
}

// newHost prepares a host in dir; "" makes a folder. Its supervisor does not run yet.
func newHost(t *testing.T, dir string, pools ...Pool) *host {
	t.Helper()
	if dir == "" {
		dir = shortDir(t)
	}
	h := &host{
		t: t, dir: dir, hellos: make(chan greeting, 1000), exits: make(chan broker.WorkerExit, 1000),
		shown: newMailbox[[]Info](), stopped: make(chan error, 1), conns: make(map[string]net.Conn),
	}
	h.cfg = configIn(dir, pools...)
	h.cfg.Exited = func(e broker.WorkerExit) { h.exits <- e }
	h.cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	return h
}

func configIn(dir string, pools ...Pool) Config {
	return Config{
		Pools: pools, Socket: filepath.Join(dir, "s"), StateFile: filepath.Join(dir, "workers.json"),
		LogDir: filepath.Join(dir, "log"), StopTimeout: patience / 2, AdoptTimeout: patience,
	}
}

// shortDir is a folder whose sockets have short enough paths.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sup")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// poolAs is a pool of the test binary in one of its roles.
func poolAs(name string, procs int, role ...string) Pool {
	return Pool{Name: name, Binary: os.Args[0], Args: append([]string{"as"}, role...), Procs: procs}
}

// run starts the supervisor. The test's end stops it.
func (h *host) run() *host {
	h.t.Helper()
	var err error
	if h.sup, err = New(h.cfg); err != nil {
		h.t.Fatal(err)
	}
	return h.start()
}

func (h *host) start() *host {
	h.t.Helper()
	h.sup.settled = h.shown.put
	h.sup.lookEvery = 50 * time.Millisecond
	if h.sampling != (sampling{}) {
		h.sup.sampling = h.sampling
	}
	if !h.listens {
		h.listen()
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.stop = cancel
	go func() { h.stopped <- h.sup.Run(ctx) }()
	h.t.Cleanup(h.end)
	return h
}

// listen takes hellos from now on, if need be before the supervisor runs.
func (h *host) listen() {
	h.listens = true
	_ = os.Remove(h.cfg.Socket) // a killed daemon leaves it
	listener, err := net.Listen("unix", h.cfg.Socket)
	if err != nil {
		h.t.Fatal(err)
	}
	var server sync.WaitGroup
	server.Go(func() { serve(listener, h.greeted) })
	h.t.Cleanup(func() {
		_ = listener.Close()
		server.Wait()
		for _, conn := range h.conns {
			_ = conn.Close()
		}
	})
}

func (h *host) greeted(g greeting, conn net.Conn) {
	h.mu.Lock()
	h.conns[g.Key] = conn
	h.mu.Unlock()
	h.sup.Connected(g.Key)
	h.hellos <- g
}

// hangUp closes the connection to a worker: the tests' word for "do what you are here for".
func (h *host) hangUp(g greeting) {
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = h.conns[g.Key].Close()
}

// end stops the supervisor once and checks that it says nothing bad.
func (h *host) end() {
	h.stop()
	select {
	case err, first := <-h.stopped:
		if first && err != nil {
			h.t.Errorf("Run returned %v, want nil", err)
		}
		if first {
			close(h.stopped)
		}
	case <-time.After(patience):
		h.t.Error("Run did not return")
	}
}

func (h *host) hello() greeting { h.t.Helper(); return receive(h.t, "hello", h.hellos) }

func (h *host) exit() broker.WorkerExit { h.t.Helper(); return receive(h.t, "exit", h.exits) }

// noExit checks that no death was told which the test did not take. Run must have returned.
func (h *host) noExit() {
	h.t.Helper()
	select {
	case e := <-h.exits:
		h.t.Errorf("got a death too many: %+v", e)
	default:
	}
}

// until waits for a snapshot that ok likes, and returns it. It sees each snapshot once.
func (h *host) until(what string, ok func([]Info) bool) []Info {
	h.t.Helper()
	deadline := time.After(patience)
	for {
		for _, infos := range h.shown.take() {
			if ok(infos) {
				return infos
			}
		}
		select {
		case <-h.shown.wake:
		case <-deadline:
			h.t.Fatalf("never %s; last: %+v", what, h.sup.Workers())
		}
	}
}

func all(state string) func([]Info) bool {
	return func(infos []Info) bool {
		return len(infos) > 0 && !slices.ContainsFunc(infos, func(i Info) bool { return i.State != state })
	}
}

func receive[T any](t *testing.T, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("no %s in %v", what, patience)
		panic("unreachable")
	}
}

// awaitGone waits for the end of any process, ours or not.
func awaitGone(t *testing.T, pid int, w watch) {
	t.Helper()
	gone := make(chan struct{})
	go func() { w.wait(); w.close(); close(gone) }()
	select {
	case <-gone:
	case <-time.After(patience):
		_ = syscall.Kill(pid, syscall.SIGKILL)
		t.Fatalf("process %d still runs", pid)
	}
}

func watchOf(pid int) watch {
	start, _ := look(pid)
	return openWatch(pid, start)
}
