// Package private runs a PostgreSQL server of one's own: for `respirated dev` on a machine that has none set up, and
// for tests.
//
// A server lives in a folder below the temporary one:
//
//	respirate-pg-XXXX/             mode 0700; owned by the account that the server runs as
//	    lock                       flocked by the process that started the server, for as long as that lives
//	    .s.PGSQL.5432              the socket
//	    postgres.log               what the server says
//	    data/                      the cluster, unless Config.Dir keeps it elsewhere
//
// The server ends with the process that started it, however that ends. Ctrl-C reaches that process and not the server,
// which has a process group of its own, so it is up to the process to call [Server.Stop]. Where it cannot any more, the
// keeper does it: a shell that blocks on a pipe which only that process holds open. Where even the keeper was
// killed, the next Start finds the folder with nobody holding its lock, and sweeps it.
//
// No goroutine outlives a call into this package: a test binary that looks for leaked ones finds none of ours.
package private

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// superuser is the role that owns every private cluster.
const superuser = "postgres"

// Config says what server to run. The zero value is a server that is reached over a Unix socket and leaves nothing behind.
type Config struct {
	Dir      string            // the cluster's folder, made when missing and kept; "" = a temporary one, removed at Stop
	TCP      bool              // listen on a free loopback port too, for which URLs carry a password: see [Server.TCPURL]
	Settings map[string]string // server settings such as "fsync": "off"
	Template bool              // copy a cluster that is kept for this purpose, 0.1 s instead of 1 s; for tests. Not with Dir
	Logger   *slog.Logger      // nil = silence
}

// Server is a running PostgreSQL. Its methods may be called from several goroutines.
type Server struct {
	cfg      Config
	log      *slog.Logger
	account  account
	bin      binaries
	folder   *folder
	keeper   *keeper
	data     string // the cluster
	port     int    // of the socket's name and, with TCP, of the loopback listener
	password string // of the superuser, asked over TCP only

	mu      sync.Mutex // guards process and stopped
	process *process   // nil while there is none
	stopped bool
}

// Start runs a server and returns once it answers. The context bounds the start only.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	account, err := serverAccount()
	if err != nil {
		return nil, err
	}
	bin, err := findBinaries(ctx, account, log)
	if err != nil {
		return nil, err
	}
	sweep(account, log)
	s := &Server{cfg: cfg, log: log, account: account, bin: bin, port: 5432, password: rand.Text()}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start a private PostgreSQL: %w", err), s.Stop())
	}
	return s, nil
}

// prepare makes the folder, the keeper and the cluster, and starts the server. What it leaves on an error, Stop removes.
func (s *Server) prepare(ctx context.Context) (err error) {
	if s.folder, err = newFolder(s.account); err != nil {
		return err
	}
	if s.keeper, err = newKeeper(s.account, s.folder.path); err != nil {
		return err
	}
	if s.data, err = s.cluster(ctx); err != nil {
		return err
	}
	if s.cfg.TCP {
		if s.port, err = freePort(); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.start(ctx)
}

// start runs the server on the prepared cluster and waits until it answers. The caller holds mu.
func (s *Server) start(ctx context.Context) error {
	began := time.Now()
	p, err := startProcess(s.command(), s.folder.logFile())
	if err != nil {
		return err
	}
	s.process = p
	s.keeper.guard(p.pid)
	if err := s.await(ctx); err != nil {
		s.end(syscall.SIGKILL)
		return err
	}
	s.log.Info("private postgres started", "version", s.bin.version, "folder", s.folder.path, "pid", p.pid, "took", time.Since(began))
	return nil
}

// command is the server's command line. Settings come last, so that they win.
func (s *Server) command() *exec.Cmd {
	listen := ""
	if s.cfg.TCP {
		listen = "127.0.0.1"
	}
	args := []string{
		"-D", s.data,
		"-k", s.folder.path,
		"-p", strconv.Itoa(s.port),
		"-c", "listen_addresses=" + listen,
		"-c", "unix_socket_permissions=0700",
		"-c", "hba_file=" + s.folder.hbaFile(),
	}
	for _, name := range sortedKeys(s.cfg.Settings) {
		args = append(args, "-c", name+"="+s.cfg.Settings[name])
	}
	return s.account.command(s.folder.path, s.bin.postgres, args...)
}

// await polls until the server answers, has ended, or ctx is over.
func (s *Server) await(ctx context.Context) error {
	for {
		conn, err := pgx.Connect(ctx, s.URL())
		if err == nil {
			return errors.Join(s.setPassword(ctx, conn), conn.Close(ctx))
		}
		if s.process.ended() {
			return fmt.Errorf("%s ended at once; its last words:\n%s", s.bin.postgres, s.folder.logTail())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the server in %s to answer: %w (%w)", s.folder.path, context.Cause(ctx), err)
		case <-time.After(pollEvery):
		}
	}
}

// setPassword arms the loopback listener, which any user of the machine can reach.
func (s *Server) setPassword(ctx context.Context, conn *pgx.Conn) error {
	if !s.cfg.TCP {
		return nil
	}
	_, err := conn.Exec(ctx, "alter role "+superuser+" password '"+s.password+"'")
	if err != nil {
		return fmt.Errorf("set the password for TCP: %w", err)
	}
	return nil
}

// URL is where the server's own database, "postgres", is reached over the socket. It stays the same over a restart.
func (s *Server) URL() string { return s.socketURL(superuser) }

func (s *Server) socketURL(database string) string {
	query := url.Values{"host": {s.folder.path}, "port": {strconv.Itoa(s.port)}}
	u := url.URL{Scheme: "postgres", User: url.User(superuser), Path: "/" + database, RawQuery: query.Encode()}
	return u.String()
}

// TCPURL is where a database is reached over TCP. It is for a server started with Config.TCP.
func (s *Server) TCPURL(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(superuser, s.password), Path: "/" + database,
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)),
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Database makes a fresh, empty database and returns its URL over the socket.
func (s *Server) Database(ctx context.Context, name string) (string, error) {
	// template0 rather than template1: nobody can be connected to it, which would make the copy fail.
	if err := s.exec(ctx, "create database "+pgx.Identifier{name}.Sanitize()+" template template0"); err != nil {
		return "", fmt.Errorf("create database %q: %w", name, err)
	}
	return s.socketURL(name), nil
}

// Drop removes a database, ending whoever is connected to it.
func (s *Server) Drop(ctx context.Context, name string) error {
	if err := s.exec(ctx, "drop database if exists "+pgx.Identifier{name}.Sanitize()+" with (force)"); err != nil {
		return fmt.Errorf("drop database %q: %w", name, err)
	}
	return nil
}

func (s *Server) exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}

// Kill ends the server at once, as a crash would: connections break, and the next start recovers from the log.
// The cluster stays for a [Server.Restart].
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(syscall.SIGQUIT)
}

// Restart starts the server again, on the same cluster and socket, ending it first where it runs.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return errors.New("restart a private PostgreSQL: it was stopped for good")
	}
	s.end(syscall.SIGINT)
	if err := s.start(ctx); err != nil {
		return fmt.Errorf("restart a private PostgreSQL: %w", err)
	}
	return nil
}

// Stop ends the server and removes what it leaves, but for Config.Dir. A second call does nothing.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	s.stopped = true
	s.end(syscall.SIGINT)
	s.keeper.dismiss()
	if err := s.folder.remove(); err != nil {
		return fmt.Errorf("stop a private PostgreSQL: %w", err)
	}
	return nil
}

// end makes sure that no server runs, beginning with sig and getting ruder. The caller holds mu.
func (s *Server) end(sig syscall.Signal) {
	if s.process == nil {
		return
	}
	s.process.end(sig)
	s.process = nil
	s.keeper.guard(0)
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free loopback port: %w", err)
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// cluster returns the data folder, initialised.
func (s *Server) cluster(ctx context.Context) (string, error) {
	if err := s.folder.writeHBA(); err != nil {
		return "", err
	}
	data := filepath.Join(s.folder.path, "data")
	switch {
	case s.cfg.Dir != "":
		return s.keptCluster(ctx, s.cfg.Dir)
	case s.cfg.Template:
		return data, copyTemplate(ctx, s.account, s.bin, data)
	default:
		return data, initdb(ctx, s.account, s.bin, data)
	}
}

// keptCluster initialises dir unless that was done by an earlier start.
func (s *Server) keptCluster(ctx context.Context, dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", dir, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "PG_VERSION")); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the cluster's folder: %w", err)
	}
	if err := s.account.own(dir); err != nil {
		return "", err
	}
	return dir, initdb(ctx, s.account, s.bin, dir)
}
