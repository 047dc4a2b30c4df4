package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/dashboard"
	"github.com/respirated/respirated/broker/postgres"
	"github.com/respirated/respirated/client"
)

// httpConfig is where the dashboard is, and whom it lets in.
type httpConfig struct {
	Listen    string `yaml:"listen"`     // "" = nowhere
	TokenFile string `yaml:"token_file"` // its only line is the login token

	Local bool `yaml:"-"` // all on this host may look, and nobody else; of respirated dev
}

// check refuses what cannot work. It reads the token, and does not listen.
func (c httpConfig) check() error {
	switch {
	case c.Listen == "" && c.TokenFile == "":
		return nil
	case c.Listen == "":
		return errors.New("there is a login token for the dashboard, and no address: set --http, or http: {listen}")
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("the address of the dashboard is %q: it should look like 127.0.0.1:8383, or :8383 for all of this host's", c.Listen)
	}
	_, err := c.token()
	return err
}

// leastToken is how long a login token has to be, and leastLetters how many characters it has to have that differ.
const (
	leastToken   = 32
	leastLetters = 8
	mostToken    = 4096
)

// token reads the login token, which nobody but its owner may have read before.
func (c httpConfig) token() (string, error) {
	if c.Local {
		return "", nil
	}
	if c.TokenFile == "" {
		return "", errors.New("the dashboard needs a login token: set --http-token-file, or http: {token_file}, to a file of mode 0600 with 32 random characters or more, such as `openssl rand -hex 32` writes")
	}
	f, err := os.Open(c.TokenFile)
	if err != nil {
		return "", fmt.Errorf("read the login token of the dashboard: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return "", fmt.Errorf("read the login token of the dashboard: %w", err)
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("the login token's %s is no file", c.TokenFile)
	case info.Mode().Perm()&0o077 != 0:
		return "", fmt.Errorf("the login token in %s can be read or changed by others (mode %04o): chmod 600 it, and take another token", c.TokenFile, info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, mostToken+1))
	if err != nil {
		return "", fmt.Errorf("read the login token of the dashboard: %w", err)
	}
	token := strings.TrimRight(string(text), "\r\n")
	letters := map[rune]bool{}
	for _, r := range token {
		letters[r] = true
		if r <= ' ' || r > '~' {
			return "", fmt.Errorf("the login token in %s is to be one line of letters, digits and signs of ASCII, without spaces", c.TokenFile)
		}
	}
	if len(token) < leastToken || len(token) > mostToken || len(letters) < leastLetters {
		return "", fmt.Errorf("the login token in %s is too easy to guess, or too long: take %d to %d random characters, such as `openssl rand -hex 32` writes", c.TokenFile, leastToken, mostToken)
	}
	return token, nil
}

// web is the dashboard of a daemon: where it listens, and what it reads with.
type web struct {
	cfg      httpConfig
	token    string
	listener net.Listener
	raw      *net.TCPListener
	pools    []*pgxpool.Pool // of one connection each, for as long as somebody looks
}

// keptWeb is what an upgrade hands on of it.
type keptWeb struct {
	FD     int    `json:"fd"`
	Listen string `json:"listen"` // as it was configured
}

// newWeb listens; nil = there is to be no dashboard. A daemon that was one before goes on with its listener, and, if that cannot
// be, without a dashboard: its workers need none.
func newWeb(cfg httpConfig, former *handover, log *slog.Logger) (*web, error) {
	var kept *keptWeb
	if former != nil {
		kept = former.HTTP
	}
	w, err := listenWeb(cfg, kept)
	if err != nil && former != nil {
		log.Error("there is no dashboard", "error", err)
		return nil, nil
	}
	return w, err
}

func listenWeb(cfg httpConfig, kept *keptWeb) (*web, error) {
	inherited, err := kept.listener()
	if err != nil {
		return nil, err
	}
	if cfg.Listen == "" || inherited != nil && kept.Listen != cfg.Listen {
		if inherited != nil {
			inherited.Close()
		}
		inherited = nil
	}
	if cfg.Listen == "" {
		return nil, nil
	}
	w := &web{cfg: cfg, raw: inherited}
	if w.token, err = cfg.token(); err == nil && w.raw == nil {
		w.raw, err = listenTCP(cfg.Listen)
	}
	if err != nil {
		if inherited != nil {
			inherited.Close()
		}
		return nil, err
	}
	w.listener = &bounded{Listener: w.raw, free: make(chan struct{}, mostLookers)}
	return w, nil
}

func listenTCP(address string) (*net.TCPListener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for the dashboard at %s: %w", address, rootCause(err))
	}
	return l.(*net.TCPListener), nil
}

// listener is the one that was kept over exec; nil = none was.
func (k *keptWeb) listener() (*net.TCPListener, error) {
	if k == nil {
		return nil, nil
	}
	f := os.NewFile(uintptr(k.FD), "dashboard")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("go on listening for the dashboard at %s: %w", k.Listen, err)
	}
	return l.(*net.TCPListener), nil
}

// keep has the listener stay open over exec.
func (w *web) keep() (*keptWeb, error) {
	if w == nil {
		return nil, nil
	}
	fd, err := broker.KeepOpen(w.raw)
	if err != nil {
		return nil, err
	}
	return &keptWeb{fd, w.cfg.Listen}, nil
}

func (w *web) close() {
	if w == nil {
		return
	}
	w.listener.Close()
	for _, pool := range w.pools {
		pool.Close()
	}
}

// handler is the dashboard of a daemon whose control socket answers with c.
func (w *web) handler(d *daemon, c control) (http.Handler, error) {
	cfg := dashboard.Config{
		Broker: d.broker, Pools: d.supervisor.Pools, API: c.handler(), Build: version(), Schema: postgres.LatestVersion(),
		Workers: func(snap broker.Snapshot) []dashboard.Worker {
			return joinWorkers(d.supervisor.Workers(), snap.Workers)
		},
		Token: w.token, Local: w.cfg.Local, Log: d.log,
	}
	for i, one := range d.databases {
		pool, err := readingPool(one.DatabaseURLs.one())
		if err != nil {
			return nil, err
		}
		w.pools = append(w.pools, pool)
		reader, err := client.New(pool, &client.Config{Schema: one.Schema, Logger: slog.New(slog.DiscardHandler), Timeout: lookTime})
		if err != nil {
			return nil, err
		}
		cfg.Databases = append(cfg.Databases, dashboard.Database{
			Name: databaseName(one.DatabaseURLs.one()), Reader: reader, PagesOpen: d.stores[i].PagesOpen,
			Misfit: func(ctx context.Context) (string, error) { return postgres.Misfit(ctx, pool, one.Schema) },
		})
	}
	return dashboard.New(cfg), nil
}

// lookTime is the longest that the dashboard waits for a statement. The server gives up then, too.
const lookTime = 2 * time.Second

// readingPool is one connection, made when somebody looks, and given back soon after. The broker's own are not for that.
func readingPool(url string) (*pgxpool.Pool, error) {
	conf, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("the database URL is not one, it should look like postgres://user:password@host:5432/name")
	}
	conf.MinConns, conf.MaxConns = 0, 1
	conf.MaxConnIdleTime, conf.HealthCheckPeriod = 15*time.Second, 15*time.Second
	conf.ConnConfig.ConnectTimeout = lookTime
	conf.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	conf.ConnConfig.RuntimeParams["application_name"] = "respirated dashboard"
	conf.ConnConfig.RuntimeParams["statement_timeout"] = fmt.Sprint(lookTime.Milliseconds())
	conf.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	conf.ConnConfig.RuntimeParams["jit"] = "off" // it compiles for longer than such looks take
	return pgxpool.NewWithConfig(context.Background(), conf)
}

// server serves it. All that it answers is short.
func (w *web) server(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      15 * time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // what strangers send is no news
	}
}

// mostLookers is how many connections the dashboard has at once: the descriptors of the daemon are for workers.
const mostLookers = 128

// bounded is a listener with so many connections at most; whoever comes then waits.
type bounded struct {
	net.Listener
	free chan struct{} // holds one for each that there is
}

func (b *bounded) Accept() (net.Conn, error) {
	b.free <- struct{}{}
	conn, err := b.Listener.Accept()
	if err != nil {
		<-b.free
		return nil, err
	}
	return &boundedConn{Conn: conn, free: b.free}, nil
}

// boundedConn makes room for another one when it is closed.
type boundedConn struct {
	net.Conn
	free chan struct{}
	once sync.Once
}

func (c *boundedConn) Close() error {
	defer c.once.Do(func() { <-c.free })
	return c.Conn.Close()
}
