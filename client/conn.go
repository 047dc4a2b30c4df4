package client

import (
	"context"
	"fmt"
	"io"
	"time"
)

// conn runs statements, either each on its own or all inside one transaction. Arguments are strings and integers only:
// these mean the same to every driver, and in every mode of pgx that works behind a pooler.
type conn interface {
	// query calls row for each row of the answer; row reads its columns by calling scan.
	query(ctx context.Context, row func(scan scanFunc) error, sql string, args ...any) error
	// copyIn sends rows in COPY's text format. It works only where canCopy says so, and only inside a transaction.
	copyIn(ctx context.Context, rows io.Reader, sql string) error
	canCopy() bool
}

// scanFunc reads the columns of the current row.
type scanFunc func(dest ...any) error

// driver is a database as one Go library shows it, with that library's type of transaction.
type driver[TTx any] interface {
	conn
	in(tx TTx) conn
	begin(ctx context.Context) (TTx, error)
	commit(ctx context.Context, tx TTx) error
	rollback(ctx context.Context, tx TTx) error
}

// timed gives every call a deadline, so that a database that has stopped answering never holds a caller for ever.
type timed struct {
	conn
	timeout time.Duration
}

func (t timed) query(ctx context.Context, row func(scanFunc) error, sql string, args ...any) error {
	ctx, cancel := t.limit(ctx)
	defer cancel()
	return explain(ctx, t.conn.query(ctx, row, sql, args...))
}

func (t timed) copyIn(ctx context.Context, rows io.Reader, sql string) error {
	ctx, cancel := t.limit(ctx)
	defer cancel()
	return explain(ctx, t.conn.copyIn(ctx, rows, sql))
}

func (t timed) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, t.timeout, lateError(t.timeout))
}

// lateError is the deadline of ours, as opposed to one of the caller.
type lateError time.Duration

func (e lateError) Error() string {
	return fmt.Sprintf("the database did not answer within %v", time.Duration(e))
}
func (lateError) Unwrap() error { return context.DeadlineExceeded }

// explain says why a call was given up, where the driver only says that it was.
func explain(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
}

// inTx runs work in a transaction of its own. It commits, unless work fails.
func inTx[TTx any](ctx context.Context, d driver[TTx], timeout time.Duration, work func(conn) error) error {
	return transact(ctx, d, timeout, d.commit, work)
}

// transact runs work in a transaction, and ends it as told, unless work fails. A caller who gives up ends the statement
// that runs now, but never a commit: its outcome would be unknown.
func transact[TTx any](ctx context.Context, d driver[TTx], timeout time.Duration, end func(context.Context, TTx) error, work func(conn) error) error {
	// database/sql binds a transaction to the context of its begin, so that one lives until the end.
	life, die := context.WithCancel(context.WithoutCancel(ctx))
	defer die()
	tx, err := begin(ctx, life, die, d, timeout)
	if err != nil {
		return err
	}
	workErr := work(timed{d.in(tx), timeout})

	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	defer context.AfterFunc(last, die)()
	if workErr != nil {
		_ = d.rollback(last, tx) // the first error is the one to tell
		return workErr
	}
	return end(last, tx)
}

// begin ends the life of a transaction that did not start in time.
func begin[TTx any](ctx, life context.Context, die func(), d driver[TTx], timeout time.Duration) (TTx, error) {
	limit, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer context.AfterFunc(limit, die)()
	return d.begin(life)
}
