package driver

import (
	"context"
	"database/sql"
	"io"
)

// NewSQL is the driver for database/sql.
func NewSQL(db *sql.DB) Driver[*sql.Tx] { return sqlDriver{sqlConn{db}, db} }

type sqlDriver struct {
	sqlConn
	db *sql.DB
}

func (d sqlDriver) In(tx *sql.Tx) Conn                           { return sqlConn{tx} }
func (d sqlDriver) Begin(ctx context.Context) (*sql.Tx, error)   { return d.db.BeginTx(ctx, nil) }
func (d sqlDriver) Commit(_ context.Context, tx *sql.Tx) error   { return tx.Commit() }
func (d sqlDriver) Rollback(_ context.Context, tx *sql.Tx) error { return tx.Rollback() }

type sqlQuerier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

type sqlConn struct{ q sqlQuerier }

func (c sqlConn) Query(ctx context.Context, row func(Scan) error, sql string, args ...any) error {
	rows, err := c.q.QueryContext(ctx, sql, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	return each(rows, row)
}

func (sqlConn) CanCopy() bool { return false } // each driver has a way of its own, or none

func (sqlConn) CopyIn(context.Context, io.Reader, string) error {
	panic("bug: COPY through database/sql")
}
