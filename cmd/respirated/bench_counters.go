package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// observer asks the database while it is measured, and counts how often: each question is a transaction and a statement
// that no strand has cost.
type observer struct{ asked int64 }

// one reads one row.
func (o *observer) one(ctx context.Context, db *database, sql string, args []any, into ...any) error {
	o.asked++
	// In this mode there is no round trip to prepare, which would be another transaction.
	return db.conn.QueryRow(ctx, sql, append([]any{pgx.QueryExecModeExec}, args...)...).Scan(into...)
}

// do runs one statement.
func (o *observer) do(ctx context.Context, db *database, sql string) error {
	o.asked++
	_, err := db.conn.Exec(ctx, sql, pgx.QueryExecModeExec)
	return err
}

// benchCounters are the server's, without what we have asked ourselves.
type benchCounters struct {
	wal          int64 // bytes
	transactions int64 // of the database
	statements   int64 // of the database and our role; -1 = not known
}

// readCounters reads them when no connection of a daemon is left: what a connection has done is counted for sure when it
// ends.
func (b *benchRun) readCounters(ctx context.Context, o *observer) (c benchCounters, err error) {
	err = b.within(ctx, func(ctx context.Context, db *database) error { return b.awaitGone(ctx, o, db) })
	if err != nil {
		return c, err
	}
	err = b.within(ctx, func(ctx context.Context, db *database) error {
		statements := "-1::bigint"
		if b.look.statements != "" {
			statements = "(select sum(calls)::bigint from " + b.look.statements + ` where dbid = d.oid
				and userid = (select oid from pg_roles where rolname = current_user))`
		}
		before := o.asked
		err := o.one(ctx, db, `select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint, s.xact_commit + s.xact_rollback, `+statements+`
			from pg_database d join pg_stat_database s on s.datid = d.oid where d.datname = current_database()`,
			nil, &c.wal, &c.transactions, &c.statements)
		if err != nil {
			return fmt.Errorf("read the server's counters: %w", err)
		}
		c.transactions -= before
		if c.statements >= 0 {
			c.statements -= before
		}
		return nil
	})
	return c, err
}

// awaitGone waits until the server has ended the daemon's connections.
func (b *benchRun) awaitGone(ctx context.Context, o *observer, db *database) error {
	for {
		var gone bool
		err := o.one(ctx, db, "select not exists (select from pg_stat_activity where application_name = $1)", []any{brokerName(b.schema)}, &gone)
		if err != nil {
			return fmt.Errorf("wait for the end of the daemon's connections: %w", err)
		}
		if gone {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
