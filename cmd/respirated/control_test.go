package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/supervisor"
)

// known is what a daemon knows, without one.
type known struct {
	snapshot broker.Snapshot
	err      error
	seats    []supervisor.Info
}

func (k known) Snapshot(context.Context) (broker.Snapshot, error) { return k.snapshot, k.err }

func (k known) ID() broker.ID { return broker.ID{1} }

func (k known) Holder(_ context.Context, strand broker.ID) (broker.Holder, error) {
	return broker.Holder{Held: strand == broker.ID{2}, Worker: "pid 10"}, k.err
}

func (k known) Servers(_ context.Context, kind, label string, q broker.Queue) (broker.Servers, error) {
	return broker.Servers{Kind: len(kind), Label: len(label), OtherQueues: len(q.Tenant), Paused: len(q.Name)}, k.err
}

func (k known) Workers() []supervisor.Info { return k.seats }

func (k known) Pools() []supervisor.PoolInfo { return nil }

func (k known) Change(string, func(*supervisor.Pool)) error { return supervisor.ErrNoPool }
func (k known) PausePool(string) error                      { return supervisor.ErrNoPool }
func (k known) ResumePool(string) error                     { return supervisor.ErrNoPool }

func (k known) Recycle(string, int, string) error { return supervisor.ErrNoPool }

func (k known) Roll(string) error { return supervisor.ErrNoPool }

func (k known) End(string, time.Duration, string) {}

func TestWorkersOfSupervisorAndBrokerAreJoined(t *testing.T) {
	got := joinWorkers(
		[]supervisor.Info{
			{Pool: "a", Index: 0, Key: "k0", PID: 10, State: "connected"},
			{Pool: "a", Index: 1, State: "backing-off"},
			{Pool: "a", Index: 2, Key: "k2", PID: 12, State: "starting"},
		},
		[]broker.WorkerSnapshot{
			{Name: "pid 10", Key: "k0", Connected: true, Kinds: []string{"echo"}, Want: 5, Held: 2},
			{Name: "pid 11", Key: "k-old", Held: 1},
			{Name: "pid 77", Connected: true, Kinds: []string{"mail"}, Want: 1},
		})
	none := []string{}
	want := []workerStatus{
		{Name: "pid 10", Connected: true, Kinds: []string{"echo"}, Want: 5, Held: 2, Info: supervisor.Info{Pool: "a", Key: "k0", PID: 10, State: "connected"}},
		{Kinds: none, Info: supervisor.Info{Pool: "a", Index: 1, State: "backing-off"}},
		{Name: "pid 12", Kinds: none, Info: supervisor.Info{Pool: "a", Index: 2, Key: "k2", PID: 12, State: "starting"}},
		{Name: "pid 11", Kinds: none, Held: 1, Info: supervisor.Info{Pool: "external", PID: 11, State: "gone"}},
		{Name: "pid 77", Connected: true, Kinds: []string{"mail"}, Want: 1, Info: supervisor.Info{Pool: "external", PID: 77, State: "connected"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestControlSocketAnswersTheCommandLine(t *testing.T) {
	dir := t.TempDir()
	serveControl(t, dir, known{
		snapshot: broker.Snapshot{Broker: "b", Held: 3},
		seats:    []supervisor.Info{{Pool: "web", PID: 10, Key: "secret", State: "connected"}},
	})
	socket := filepath.Join(dir, "respirate.sock")

	var status daemonStatus
	if err := askDaemon(t.Context(), socket, "/api/v1/status", &status); err != nil {
		t.Fatal(err)
	}
	if status.PID != os.Getpid() || status.Broker != "b" || status.Held != 3 {
		t.Errorf("got status %+v", status)
	}

	code, stdout, stderr := call("worker", "list", "--socket", socket)
	if code != 0 || !strings.Contains(stdout, "web   0     10   connected") {
		t.Errorf("worker list: code %d, stdout\n%s\nstderr %s", code, stdout, stderr)
	}
	code, stdout, _ = call("worker", "list", "--socket", socket, "--json")
	var listed struct{ Workers []workerStatus }
	if err := json.Unmarshal([]byte(stdout), &listed); code != 0 || err != nil || len(listed.Workers) != 1 || listed.Workers[0].Pool != "web" {
		t.Errorf("worker list --json: code %d, %v, %s", code, err, stdout)
	}
	if strings.Contains(stdout, "secret") {
		t.Errorf("a spawn key is told: %s", stdout)
	}
}

func TestControlSocketIsForItsOwnerOnly(t *testing.T) {
	dir := t.TempDir()
	serveControl(t, dir, known{})
	info, err := os.Stat(filepath.Join(dir, controlSocket))
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("mode %o, want 600", got)
	}
}

func TestControlSocketOfADeadDaemonIsReplaced(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, controlSocket)
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	serveControl(t, dir, known{snapshot: broker.Snapshot{Broker: "new"}})
	var status daemonStatus
	if err := askDaemon(t.Context(), filepath.Join(dir, "s"), "/api/v1/status", &status); err != nil || status.Broker != "new" {
		t.Errorf("got %+v, %v", status, err)
	}
}

func TestWithoutADaemonTheCommandLineSaysSo(t *testing.T) {
	code, stdout, stderr := call("worker", "list", "--socket", filepath.Join(t.TempDir(), "s"))
	if code != exitFailed || stdout != "" || !strings.Contains(stderr, "start one with `respirated run`") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

func TestStoppedBrokerIsAnErrorOfTheControlSocket(t *testing.T) {
	c := control{broker: known{err: broker.ErrStopped}, supervisor: known{}}
	for _, path := range []string{"/api/v1/status", "/api/v1/workers"} {
		w := httptest.NewRecorder()
		c.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), broker.ErrStopped.Error()) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

func serveControl(t *testing.T, dir string, k known) {
	t.Helper()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	socket, err := broker.ListenSocket(filepath.Join(dir, "r.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	l, err := listenControl(socket)
	if err != nil {
		t.Fatal(err)
	}
	server := controlServer(control{broker: k, supervisor: k})
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
}
