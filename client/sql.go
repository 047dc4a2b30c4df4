package client

import (
	"context"
	"database/sql"
	"io"
)

type sqlDriver struct {
	sqlConn
	db *sql.DB
}

func newSQLDriver(db *sql.DB) sqlDriver { return sqlDriver{sqlConn{db}, db} }

func (d sqlDriver) in(tx *sql.Tx) conn { return sqlConn{tx} }

func (d sqlDriver) begin(ctx context.Context) (*sql.Tx, error) { return d.db.BeginTx(ctx, nil) }

func (d sqlDriver) commit(_ context.Context, tx *sql.Tx) error   { return tx.Commit() }
func (d sqlDriver) rollback(_ context.Context, tx *sql.Tx) error { return tx.Rollback() }

type sqlQuerier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

type sqlConn struct{ q sqlQuerier }

func (c sqlConn) query(ctx context.Context, row func(scanFunc) error, sql string, args ...any) error {
	rows, err := c.q.QueryContext(ctx, sql, args...)
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

func (sqlConn) canCopy() bool { return false } // each driver has a way of its own, or none

func (sqlConn) copyIn(context.Context, io.Reader, string) error {
	panic("bug: COPY through database/sql")
}
