package meter

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/jackc/pgx/v5"
)

// What the harness does itself, and inserters do for it, is told from what is measured by whom they connect as.
const (
	harness  = "harness"
	inserter = "inserter"
)

// Server reads the counters of one PostgreSQL server, through a connection that is in none of the measured databases.
type Server struct {
	conn       *pgx.Conn
	postmaster int
}

// AsHarness is a URL of a database for the harness, whose statements and connections are not counted.
func AsHarness(database string) string { return as(harness, database) }

// AsInserter is a URL of a database for an inserter, whose statements and connections are not counted either.
func AsInserter(database string) string { return as(inserter, database) }

func as(role, database string) string {
	u, err := url.Parse(database)
	if err != nil {
		panic("bug: a server's own URL: " + err.Error())
	}
	u.User = url.User(role)
	return u.String()
}

// Open prepares the server for being measured. It needs pg_stat_statements among its preloaded libraries.
func Open(ctx context.Context, serverURL string) (*Server, error) {
	if err := prepare(ctx, serverURL); err != nil {
		return nil, fmt.Errorf("prepare the server for being measured: %w", err)
	}
	conn, err := pgx.Connect(ctx, AsHarness(serverURL))
	if err != nil {
		return nil, fmt.Errorf("connect to read counters: %w", err)
	}
	s := &Server{conn: conn}
	if s.postmaster, err = Parent(int(conn.PgConn().PID())); err != nil {
		return nil, fmt.Errorf("find the server's process: %w", err)
	}
	return s, nil
}

func prepare(ctx context.Context, serverURL string) error {
	conn, err := pgx.Connect(ctx, serverURL)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "create extension if not exists pg_stat_statements; create role "+harness+" superuser login; create role "+inserter+" superuser login")
	return err
}

// Close closes the connection.
func (s *Server) Close(ctx context.Context) error { return s.conn.Close(ctx) }

// Version is the server's.
func (s *Server) Version() string { return s.conn.PgConn().ParameterStatus("server_version") }

// Exec runs a statement that belongs to no measured database, such as CREATE DATABASE.
func (s *Server) Exec(ctx context.Context, sql string) error {
	if _, err := s.conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// Copy makes a database like another. A large one is copied file by file, past the log.
func (s *Server) Copy(ctx context.Context, from, to string) error {
	const large = 100 << 20
	size, err := s.count(ctx, "the bytes of a database", "select pg_database_size($1)", from)
	if err != nil {
		return err
	}
	sql := "create database " + to + " template " + from
	if size > large && s.Version() >= "15" { // which older servers do anyway
		sql += " strategy file_copy"
	}
	return s.Exec(ctx, sql)
}

// Statements are what was sent to a database since it was made. Those inside functions are not in the count.
func (s *Server) Statements(ctx context.Context, database string) (calls int64, err error) {
	return s.count(ctx, "statements", `select coalesce(sum(s.calls), 0)::bigint from pg_stat_statements s
		join pg_database d on d.oid = s.dbid join pg_roles r on r.oid = s.userid
		where d.datname = $1 and r.rolname <> all ($2) and s.toplevel`, database, []string{harness, inserter})
}

// Notifies are the NOTIFY statements and the statements that call pg_notify, inside functions too. A statement that calls
// it for none or for many rows counts as one.
func (s *Server) Notifies(ctx context.Context, database string) (calls int64, err error) {
	return s.count(ctx, "notifications", `select coalesce(sum(s.calls), 0)::bigint from pg_stat_statements s
		join pg_database d on d.oid = s.dbid join pg_roles r on r.oid = s.userid
		where d.datname = $1 and r.rolname <> all ($2)
		and (s.query ~* '^\s*notify\s' or s.query ~* 'pg_notify\s*\(' and s.query !~* 'create (or replace )?function')`, database, []string{harness, inserter})
}

// Transactions are those of a database since it was made. Connections that are still open keep back up to ten seconds of
// theirs.
func (s *Server) Transactions(ctx context.Context, database string) (n int64, err error) {
	return s.count(ctx, "transactions", `select coalesce(sum(xact_commit + xact_rollback), 0)::bigint
		from pg_stat_database where datname = $1`, database)
}

// Connections are those to a database that are not the harness's own.
func (s *Server) Connections(ctx context.Context, database string) (n int64, err error) {
	return s.count(ctx, "connections", `select count(*) from pg_stat_activity
		where datname = $1 and usename <> all ($2) and backend_type = 'client backend'`, database, []string{harness, inserter})
}

// Pages are those that the statements sent to a database have looked at, in memory or not. Those inside functions are in the
// count of the statement that called them.
func (s *Server) Pages(ctx context.Context, database string) (n int64, err error) {
	return s.count(ctx, "pages", `select coalesce(sum(s.shared_blks_hit + s.shared_blks_read), 0)::bigint from pg_stat_statements s
		join pg_database d on d.oid = s.dbid join pg_roles r on r.oid = s.userid
		where d.datname = $1 and r.rolname <> all ($2) and s.toplevel`, database, []string{harness, inserter})
}

// CPU is the processor time of all processes of the server, also of those that have ended.
func (s *Server) CPU() (time.Duration, error) { return ServerCPU(s.postmaster) }

// WAL is how many bytes of log the server has written since its cluster was made.
func (s *Server) WAL(ctx context.Context) (bytes int64, err error) {
	return s.count(ctx, "bytes of WAL", `select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint`)
}

func (s *Server) count(ctx context.Context, what, sql string, args ...any) (n int64, err error) {
	if err := s.conn.QueryRow(ctx, sql, args...).Scan(&n); err != nil {
		return 0, fmt.Errorf("count %s: %w", what, err)
	}
	return n, nil
}
