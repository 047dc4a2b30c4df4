// Package private runs a PostgreSQL server of one's own: for `respirated dev` on a machine that has none set up, and
// for tests (see privatetest).
//
// A server lives in a folder of the temporary directory, or of Config.Scratch:
//
//	respirate-pg-XXXX/             mode 0700; owned by the account that the server runs as
//	    lock                       flocked by the process that started the server, for as long as that lives
//	    .s.PGSQL.5432              the socket
//	    postgres.log               what the server says
//	    data/                      the cluster, unless Config.Dir keeps it elsewhere
//
// The server ends with the process that started it, however that ends. Ctrl-C reaches that process and not the server,
// which has a process group of its own, so it is up to the process to call [Server.Stop]. Where it cannot any more, the
// keeper does its work: a shell that blocks on a pipe which only that process holds open. Where even the keeper was
// killed, the next Start finds a folder whose lock nobody holds, ends the server in it and removes it.
//
// A pipe, and not the death signal that Linux can send to a child: that one is bound to the thread which made the child,
// exists on Linux alone, and leaves the folder.
//
// No goroutine outlives a call into this package, so that a test binary which looks for leaked ones finds none of ours.
package private

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// superuser is the role that owns every private cluster, and the database that each has from the start.
const superuser = "postgres"

// Config says what server to run. The zero value is a server that is reached over a Unix socket and leaves nothing.
type Config struct {
	Dir        string            // the cluster's folder, made when missing and kept; "" = a temporary one, removed at Stop
	TCP        bool              // listen on a free loopback port too, where a password is asked: see [Server.TCPURL]
	Settings   map[string]string // server settings such as "fsync": "off"
	Scratch    string            // where the server's folder goes, if it can; "" = the temporary directory
	Template   bool              // without Dir: copy a cluster kept for this purpose, 0.1 s instead of 1 s; for tests
	Bin        string            // the folder of initdb and postgres; "" = found on the machine, else fetched
	Repository string            // Maven repository that the binaries are fetched from; "" = Maven Central
	Logger     *slog.Logger      // nil = silence
}

// Server is a running PostgreSQL. Its methods may be called from several goroutines. Keep it as long as it is needed:
// a Server that was dropped without Stop is collected, which looks to the keeper like the end of the process.
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
	s := &Server{cfg: cfg, log: cfg.Logger, port: 5432, password: rand.Text()}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start a private PostgreSQL: %w", err), s.Stop())
	}
	return s, nil
}

// prepare finds the binaries, makes folder, keeper and cluster, and starts. What it leaves on an error, Stop removes.
func (s *Server) prepare(ctx context.Context) (err error) {
	if s.account, err = serverAccount(); err != nil {
		return err
	}
	if s.bin, err = s.binaries(ctx); err != nil {
		return err
	}
	scratch, err := scratchDir(s.account, s.cfg.Scratch)
	if err != nil {
		return err
	}
	sweep(s.account, scratch, s.log)
	if s.folder, err = newFolder(s.account, scratch); err != nil {
		return err
	}
	if s.keeper, err = newKeeper(s.account, s.folder.path); err != nil {
		return err
	}
	if s.data, err = s.cluster(ctx); err != nil {
		return err
	}
	return s.firstStart(ctx)
}

func (s *Server) binaries(ctx context.Context) (binaries, error) {
	if s.cfg.Bin != "" {
		return binariesIn(s.cfg.Bin, s.account)
	}
	return findBinaries(ctx, s.account, sources{binaryFolders(), cacheDir, s.cfg.Repository}, s.log)
}

// firstStart starts the server and, with TCP, settles the port. Somebody may take it after we found it free.
func (s *Server) firstStart(ctx context.Context) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.cfg.TCP {
		return s.start(ctx)
	}
	for range 3 {
		if s.port, err = freePort(); err != nil {
			return err
		}
		if err = s.start(ctx); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
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
		s.end(syscall.SIGQUIT)
		return err
	}
	s.log.Info("private postgres started", "version", s.bin.version, "folder", s.folder.path, "pid", p.pid, "took", time.Since(began))
	return nil
}

// command is the server's command line. Settings come last, so that they win. It is bound to no context, since the
// server outlives the one of its start.
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
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Settings)) {
		args = append(args, "-c", name+"="+s.cfg.Settings[name])
	}
	return s.account.command(context.Background(), s.folder.path, s.bin.postgres, args...)
}

// await polls until the server answers, has ended, or ctx is over.
func (s *Server) await(ctx context.Context) error {
	for {
		conn, err := pgx.Connect(ctx, s.URL())
		if err == nil {
			return errors.Join(s.setPassword(ctx, conn), conn.Close(ctx))
		}
		if s.process.ended() {
			return fmt.Errorf("%s ended at once, saying: %s", s.bin.postgres, s.folder.logTail())
		}
		if !starting(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the server in %s to answer: %w (%w)", s.folder.path, context.Cause(ctx), err)
		case <-time.After(pollEvery):
		}
	}
}

// starting tells whether a failed connect may succeed later: there is no socket yet, or the server still recovers.
func starting(err error) bool {
	const cannotConnectNow = "57P03"
	var refused *pgconn.PgError
	return !errors.As(err, &refused) || refused.Code == cannotConnectNow
}

// setPassword arms the loopback listener, which any user of the machine can reach.
func (s *Server) setPassword(ctx context.Context, conn *pgx.Conn) error {
	if !s.cfg.TCP {
		return nil
	}
	// That 13 would keep it as MD5, which the listener does not take.
	if _, err := conn.Exec(ctx, "set password_encryption = 'scram-sha-256'; alter role "+superuser+" password '"+s.password+"'"); err != nil {
		return fmt.Errorf("set the password for TCP: %w", err)
	}
	return nil
}

// URL is where the server's own database is reached over the socket. It stays the same over a restart.
func (s *Server) URL() string { return s.socketURL(superuser) }

func (s *Server) socketURL(database string) string {
	query := url.Values{"host": {s.folder.path}, "port": {strconv.Itoa(s.port)}}
	u := url.URL{Scheme: "postgres", User: url.User(superuser), Path: "/" + database, RawQuery: query.Encode()}
	return u.String()
}

// TCPURL is where a database is reached over TCP, password included. It is for a server started with Config.TCP, and
// stays the same over a restart.
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
	return s.Copy(ctx, name, "template0") // rather than template1: nobody can be connected to it, which would make the copy fail
}

// Copy makes a database with all that another holds, to which nobody is connected, and returns its URL over the socket.
func (s *Server) Copy(ctx context.Context, name, of string) (string, error) {
	if err := s.exec(ctx, "create database "+pgx.Identifier{name}.Sanitize()+" template "+pgx.Identifier{of}.Sanitize()); err != nil {
		return "", fmt.Errorf("create database %q: %w", name, err)
	}
	return s.socketURL(name), nil
}

// Seal ends whoever is connected to a database, and lets nobody in any more. It is there to be copied.
func (s *Server) Seal(ctx context.Context, name string) error {
	if err := s.exec(ctx, "alter database "+pgx.Identifier{name}.Sanitize()+" allow_connections false"); err != nil {
		return fmt.Errorf("seal database %q: %w", name, err)
	}
	if err := s.empty(ctx, name); err != nil {
		return fmt.Errorf("end who is connected to database %q: %w", name, err)
	}
	return nil
}

// empty ends whoever is connected to a database, and returns when they are gone.
func (s *Server) empty(ctx context.Context, name string) (err error) {
	conn, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	for {
		ended, err := conn.Exec(ctx, "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", name) // 13 cannot wait for it
		if err != nil || ended.RowsAffected() == 0 {
			return err
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Drop removes a database, ending whoever is connected to it.
func (s *Server) Drop(ctx context.Context, name string) error {
	if err := s.exec(ctx, "drop database if exists "+pgx.Identifier{name}.Sanitize()+" with (force)"); err != nil {
		return fmt.Errorf("drop database %q: %w", name, err)
	}
	return nil
}

func (s *Server) exec(ctx context.Context, sql string, args ...any) error {
	conn, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql, args...)
	return errors.Join(err, conn.Close(ctx))
}

// Kill ends the server at once, as a crash would: connections break, and the next start recovers from the log.
// The cluster stays for a [Server.Restart].
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(syscall.SIGQUIT)
}

// Restart starts the server again, on the same cluster, socket and port, ending it first where it runs.
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
