package client

import (
	"context"
	"io"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// PgxDB is what [New] needs of pgx. *pgxpool.Pool and *pgx.Conn have it, and so has pgx.Tx: a client made of a
// transaction does all its work inside it.
type PgxDB interface {
	pgxQuerier
	Begin(ctx context.Context) (pgx.Tx, error)
}

type pgxQuerier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

type pgxDriver struct {
	pgxConn
	db PgxDB
}

func newPgxDriver(db PgxDB) pgxDriver { return pgxDriver{pgxConn{q: db}, db} }

func (d pgxDriver) in(tx pgx.Tx) conn {
	return pgxConn{q: tx, raw: func() *pgconn.PgConn { return tx.Conn().PgConn() }}
}

func (d pgxDriver) begin(ctx context.Context) (pgx.Tx, error)     { return d.db.Begin(ctx) }
func (d pgxDriver) commit(ctx context.Context, tx pgx.Tx) error   { return tx.Commit(ctx) }
func (d pgxDriver) rollback(ctx context.Context, tx pgx.Tx) error { return tx.Rollback(ctx) }

type pgxConn struct {
	q   pgxQuerier
	raw func() *pgconn.PgConn // nil outside of a transaction
}

func (pgxConn) canCopy() bool { return true }

func (c pgxConn) query(ctx context.Context, row func(scanFunc) error, sql string, args ...any) error {
	rows, err := c.q.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// copyIn uses the text format, unlike pgx.CopyFrom: that one first describes a select of the columns, which a role that
// may only insert has no right to, and the text format knows "now", the time of the database.
func (c pgxConn) copyIn(ctx context.Context, rows io.Reader, sql string) error {
	if c.raw == nil {
		panic("bug: COPY outside of a transaction")
	}
	_, err := c.raw().CopyFrom(ctx, rows, sql)
	return err
}
