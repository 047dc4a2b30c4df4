package driver

import (
	"context"
	"io"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// PgxDB is what is used of pgx.
type PgxDB interface {
	pgxQuerier
	Begin(ctx context.Context) (pgx.Tx, error)
}

type pgxQuerier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// NewPgx is the driver for pgx.
func NewPgx(db PgxDB) Driver[pgx.Tx] { return pgxDriver{pgxConn{q: db}, db} }

type pgxDriver struct {
	pgxConn
	db PgxDB
}

func (d pgxDriver) In(tx pgx.Tx) Conn {
	return pgxConn{q: tx, raw: func() *pgconn.PgConn { return tx.Conn().PgConn() }}
}

func (d pgxDriver) Begin(ctx context.Context) (pgx.Tx, error)     { return d.db.Begin(ctx) }
func (d pgxDriver) Commit(ctx context.Context, tx pgx.Tx) error   { return tx.Commit(ctx) }
func (d pgxDriver) Rollback(ctx context.Context, tx pgx.Tx) error { return tx.Rollback(ctx) }

type pgxConn struct {
	q   pgxQuerier
	raw func() *pgconn.PgConn // nil outside of a transaction
}

func (c pgxConn) Query(ctx context.Context, row func(Scan) error, sql string, args ...any) error {
	rows, err := c.q.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	return each(rows, row)
}

func (pgxConn) CanCopy() bool { return true }

// CopyIn uses the text format, unlike pgx.CopyFrom: that one first describes a select of the columns, which a role that
// may only insert has no right to.
func (c pgxConn) CopyIn(ctx context.Context, rows io.Reader, sql string) error {
	if c.raw == nil {
		panic("bug: COPY outside of a transaction")
	}
	source := &source{rows: rows}
	defer source.end()
	_, err := c.raw().CopyFrom(ctx, source, sql)
	return err
}

// source is read by a goroutine of pgx, which outlives CopyFrom for a moment when the connection breaks. No row may be
// looked at by then: what they are made of is the caller's again.
type source struct {
	mu   sync.Mutex // guards rows
	rows io.Reader  // nil = ended
}

func (s *source) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rows == nil {
		return 0, io.ErrClosedPipe
	}
	return s.rows.Read(p)
}

func (s *source) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows = nil
}
