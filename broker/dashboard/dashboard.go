package dashboard

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/supervisor"
	"github.com/respirated/respirated/client"
)

// Config says what a dashboard shows, and to whom. Broker is needed, the rest is left out of what it shows where it is nil.
type Config struct {
	Broker interface {
		Snapshot(context.Context) (broker.Snapshot, error)
		Holder(context.Context, broker.ID) (broker.Holder, error)
		Servers(ctx context.Context, kind, label string, q broker.Queue) (broker.Servers, error)
	}
	Databases []Database                     // in the order of the broker's
	Pools     func() []supervisor.PoolInfo   // of worker processes
	Workers   func(broker.Snapshot) []Worker // all, whoever has started them
	API       http.Handler                   // gets what is asked for below /api/v1/
	Build     string                         // version of the program
	Schema    int64                          // version of the schema that it brings; 0 = it is not told

	// Token is what whoever looks has to know: as a bearer, or in the form that they are shown. "" = all may look who reach the
	// handler; then Local, or whoever mounts it, sees to it that these are the right ones.
	Token string
	// Local has only requests answered that name this host as such, localhost or a loopback address. Without it a page
	// elsewhere could have a browser on this host read ours, by a name of its own that leads here.
	Local bool

	Log *slog.Logger // nil = none
}

// Database is one of the databases of a broker.
type Database struct {
	Name   string
	Reader Reader // nil = it is not asked
	// PagesOpen is how many pages were open when somebody last looked; nil = it is not told.
	PagesOpen func() int
	// Misfit says why the program does not fit the schema; "" = it does. nil = it is not told.
	Misfit func(context.Context) (why string, err error)
}

// Reader are the calls of a [client.Client] that a dashboard makes. They should end by themselves.
type Reader interface {
	PageList(context.Context, *client.PageListParams) ([]*client.PageRow, error)
	BrokerList(context.Context) ([]*client.BrokerRow, error)
	StrandGet(ctx context.Context, id string) (*client.StrandRow, error)
	StrandProgram(ctx context.Context, id string) (*client.Program, error)
}

// Worker is a worker: a seat of a pool, its session with the broker, or both.
type Worker struct {
	Name      string   `json:"name"` // such as "pid 4711"; "" = no process
	Connected bool     `json:"connected"`
	Kinds     []string `json:"kinds"`
	Want      int      `json:"want"` // strands it may hold
	Held      int      `json:"held"`
	Draining  bool     `json:"draining"`
	Paused    bool     `json:"paused"`    // its pool is
	SilentMS  int64    `json:"silent_ms"` // since it last sent anything
	supervisor.Info
}

// external is the pool of workers that no supervisor has started: they have no seat.
const external = "external"

// patience is how long a question to the broker or to a database may take. Whoever looks does not wait for much longer.
const patience = 1500 * time.Millisecond

// dashboard is the handler.
type dashboard struct {
	Config
	login   *login
	metrics http.Handler
	misfits []*cached[string] // of each database; nil = it is not told
	byKind  []*cached[pageKinds]
	seen    []*cached[seen]
}

// New makes the handler. It can be mounted below a prefix, with [http.StripPrefix] and a pattern that ends in a slash.
func New(cfg Config) http.Handler {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	d := &dashboard{Config: cfg, login: newLogin(cfg.Token, cfg.Log)}
	for _, db := range cfg.Databases {
		d.misfits = append(d.misfits, misfitOf(db))
		d.byKind = append(d.byKind, pageKindsOf(db))
		d.seen = append(d.seen, seenOf(db))
	}
	d.metrics = d.newMetrics()
	return d
}

// ServeHTTP sends a request on, if whoever makes it may.
func (d *dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	guard(w.Header())
	switch {
	case d.Local && !namesUs(r.Host):
		http.Error(w, "this is a dashboard of localhost, and is asked for by that name only", http.StatusMisdirectedRequest)
	case r.URL.Path != "/" && path.Clean(r.URL.Path) != r.URL.Path:
		http.NotFound(w, r)
	case r.URL.Path == "/login" && d.Token != "":
		d.login.serve(w, r)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "there is nothing to change here", http.StatusMethodNotAllowed)
	case r.URL.Path == "/style.css":
		style(w)
	case r.URL.Path == "/healthz":
		d.health(w, r)
	case !d.login.admits(w, r):
	default:
		d.show(w, r)
	}
}

// show answers one who may look.
func (d *dashboard) show(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/metrics":
		d.metrics.ServeHTTP(w, r)
	case strings.HasPrefix(r.URL.Path, apiPrefix) && d.API != nil:
		d.API.ServeHTTP(w, r)
	case r.URL.Path == "/":
		d.overview(w, r)
	case r.URL.Path == "/pages":
		d.pagesPage(w, r)
	case strings.HasPrefix(r.URL.Path, strandsPrefix):
		d.strandPage(w, r)
	default:
		http.NotFound(w, r)
	}
}

const apiPrefix = "/api/v1/"

// guard forbids what no page of ours needs.
func guard(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// namesUs says whether the host of a request can only be this one.
func namesUs(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// snapshot asks the broker, which looks into its memory only.
func (d *dashboard) snapshot(ctx context.Context) (broker.Snapshot, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errNoAnswer)
	defer cancel()
	snap, err := d.Broker.Snapshot(ctx)
	if err != nil && context.Cause(ctx) != nil {
		err = context.Cause(ctx)
	}
	return snap, err
}

var errNoAnswer = errors.New("the broker does not answer")
