package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/dashboard"
	"github.com/respirated/respirated/broker/postgres"
	"github.com/respirated/respirated/broker/supervisor"
	"github.com/respirated/respirated/protocol"
)

// controlSocket is the file, beside the broker's socket, on which a daemon answers questions about itself.
const controlSocket = "control.sock"

// daemonStatus is what GET /api/v1/status tells.
type daemonStatus struct {
	Version   string    `json:"version"`
	PID       int       `json:"pid"`
	StartedAt time.Time `json:"started_at"`
	Upgrades  int       `json:"upgrades"` // of this process, in place
	broker.Snapshot
	Databases []databaseStatus `json:"databases"` // in place of the snapshot's
}

// databaseStatus is a database as GET /api/v1/status tells of it.
type databaseStatus struct {
	broker.DatabaseSnapshot
	OpenPages int `json:"open_pages"` // as of the last look for deadlines that have passed, each 15 s; see postgres.Store.PagesOpen
}

// strandHolder is what GET /api/v1/strands/{id}?kind=KIND&label=LABEL&tenant=TENANT&queue=QUEUE tells.
type strandHolder struct {
	Broker string `json:"broker"`
	broker.Holder
	Servers *broker.Servers `json:"servers,omitempty"` // for that kind, label and queue; none = the question names no kind
}

// workerStatus is a worker as GET /api/v1/workers tells of it.
type workerStatus = dashboard.Worker

// externalPool is where workers are listed that no supervisor has started.
const externalPool = "external"

// control answers questions about a daemon.
type control struct {
	started time.Time
	broker  interface {
		ID() broker.ID
		Snapshot(context.Context) (broker.Snapshot, error)
		Holder(context.Context, broker.ID) (broker.Holder, error)
		Servers(ctx context.Context, kind, label string, q broker.Queue) (broker.Servers, error)
	}
	supervisor steeredSupervisor
	upgrader   *upgrader         // nil = it cannot be upgraded
	stores     []*postgres.Store // of each database
}

func (c control) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/status", answer(c.status))
	mux.HandleFunc("GET /api/v1/workers", answer(c.workers))
	mux.HandleFunc("POST /api/v1/upgrade", c.upgrader.handle)
	mux.HandleFunc("GET /api/v1/strands/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, err := broker.ParseID(r.PathValue("id"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		at := r.URL.Query()
		answer(func(ctx context.Context) (strandHolder, error) {
			return c.holder(ctx, id, at.Get("kind"), at.Get("label"), broker.Queue{Tenant: at.Get("tenant"), Name: at.Get("queue")})
		})(w, r)
	})
	c.poolRoutes(mux)
	return mux
}

func answer[T any](ask func(context.Context) (T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := ask(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = printJSON(w, v) // who asked is gone
	}
}

func (c control) status(ctx context.Context) (daemonStatus, error) {
	snap, err := c.broker.Snapshot(ctx)
	status := daemonStatus{
		Version: version(), PID: os.Getpid(), StartedAt: c.started, Upgrades: c.upgrader.upgrades(), Snapshot: snap, Databases: []databaseStatus{},
	}
	for i, d := range snap.Databases {
		status.Databases = append(status.Databases, databaseStatus{d, c.stores[i].PagesOpen()})
	}
	return status, err
}

func (c control) holder(ctx context.Context, strand broker.ID, kind, label string, q broker.Queue) (h strandHolder, err error) {
	h.Broker = c.broker.ID().String()
	if h.Holder, err = c.broker.Holder(ctx, strand); err != nil || kind == "" {
		return h, err
	}
	servers, err := c.broker.Servers(ctx, kind, label, q)
	h.Servers = &servers
	return h, err
}

func (c control) workers(ctx context.Context) ([]workerStatus, error) {
	snap, err := c.broker.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return joinWorkers(c.supervisor.Workers(), snap.Workers), nil
}

// joinWorkers puts together what supervisor and broker know of the same process.
func joinWorkers(seats []supervisor.Info, sessions []broker.WorkerSnapshot) []workerStatus {
	byKey := make(map[string]broker.WorkerSnapshot)
	for _, s := range sessions {
		if s.Key != "" {
			byKey[s.Key] = s
		}
	}
	workers := []workerStatus{}
	for _, seat := range seats {
		session, ok := byKey[seat.Key]
		if !ok && seat.PID != 0 {
			session.Name = fmt.Sprintf("pid %d", seat.PID)
		}
		delete(byKey, seat.Key)
		workers = append(workers, joined(session, seat))
	}
	for _, s := range sessions {
		_, left := byKey[s.Key]
		if s.Key == "" || left {
			workers = append(workers, joined(s, strangerTo(s)))
		}
	}
	return workers
}

// strangerTo stands for the seat that a session's worker does not have. Its process may be gone while the broker still
// settles what it held.
func strangerTo(s broker.WorkerSnapshot) supervisor.Info {
	state := "gone"
	if s.Connected {
		state = "connected"
	}
	var pid int
	_, _ = fmt.Sscanf(s.Name, "pid %d", &pid) // 0 = it has no pid here
	return supervisor.Info{Pool: externalPool, PID: pid, State: state}
}

func joined(s broker.WorkerSnapshot, seat supervisor.Info) workerStatus {
	if s.Kinds == nil {
		s.Kinds = []string{}
	}
	return workerStatus{
		Name: s.Name, Connected: s.Connected, Kinds: s.Kinds, Want: s.Want, Held: s.Held, Draining: s.Draining, Paused: s.Paused,
		SilentMS: s.SilentMS, Info: seat,
	}
}

// listenControl makes the control socket in the folder of the broker's.
func listenControl(s *broker.Socket) (net.Listener, error) {
	l, err := s.Beside(controlSocket)
	if errors.Is(err, syscall.EINVAL) {
		return nil, fmt.Errorf("the path of the control socket in %s is too long: choose a shorter --socket", s.Dir)
	}
	return l, err
}

// controlServer serves a control socket. Questions are short, and so is the time for them.
func controlServer(c control) *http.Server {
	return &http.Server{
		Handler:           c.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       10 * time.Second,
		MaxHeaderBytes:    16 << 10,
	}
}

// answerTime is how long a daemon may take to answer. It looks into its own memory only.
const answerTime = 5 * time.Second

// errHangs is that there is a daemon, but that it does nothing.
var errHangs = errors.New("it is stopped, or hangs")

// askDaemon gets what the daemon of a socket tells under a path of its API.
func askDaemon(ctx context.Context, socket, path string, into any) error {
	return callDaemon(ctx, socket, path, nil, answerTime, into)
}

// tellDaemon posts a request to a path of the API of the daemon of a socket, which may take its time.
func tellDaemon(ctx context.Context, socket, path string, request any, within time.Duration, into any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("ask the daemon: %w", err)
	}
	return callDaemon(ctx, socket, path, body, within, into)
}

// embeddedError says that a process serves a socket and can be asked nothing, as a broker of package embed does.
type embeddedError struct {
	pid    int
	socket string
}

func (e embeddedError) Error() string {
	return fmt.Sprintf("process %d serves %s and has no control socket: an application has embedded it, or it begins or ends at this moment", e.pid, e.socket)
}

// callDaemon posts body, or gets if that is nil.
func callDaemon(ctx context.Context, socket, path string, body []byte, within time.Duration, into any) error {
	socket, err := protocol.SocketPath(socket)
	if err != nil {
		return err
	}
	file := filepath.Join(filepath.Dir(socket), controlSocket)
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", file)
	}}
	defer transport.CloseIdleConnections()
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://daemon"+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask the daemon: %w", err)
	}
	resp, err := (&http.Client{Transport: transport, Timeout: within}).Do(req)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the daemon at %s does not answer: %w", file, errHangs)
	case errors.Is(err, fs.ErrNotExist) && broker.SocketOwner(filepath.Dir(socket)) != 0:
		return embeddedError{broker.SocketOwner(filepath.Dir(socket)), socket}
	case err != nil:
		return fmt.Errorf("no daemon answers at %s: start one with `respirated run`, or name its --socket: %w", file, rootCause(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(io.LimitReader(resp.Body, 1024)) // whatever there is of it
		words := oneLine(string(why))
		switch {
		case resp.StatusCode == http.StatusNotFound && words != "404 page not found":
			return codedError{errors.New(words), exitNotFound}
		case resp.StatusCode == http.StatusBadRequest:
			return usage(errors.New(words))
		case resp.StatusCode == http.StatusConflict:
			return fmt.Errorf("the daemon refuses: %s", words)
		}
		return fmt.Errorf("the daemon at %s does not tell: %s", file, cmp.Or(words, resp.Status))
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("read the answer of the daemon at %s: %w", file, err)
	}
	return nil
}

// rootCause is the innermost error: those around it tell of an HTTP request that nobody has asked for.
func rootCause(err error) error {
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	return err
}
