package driver

import (
	"context"
	"time"
)

// InTx runs work in a transaction of its own. It commits, unless work fails.
func InTx[TTx any](ctx context.Context, d Driver[TTx], timeout time.Duration, work func(Conn) error) error {
	return transact(ctx, d, timeout, d.Commit, work)
}

// Undone runs work in a transaction of its own, and rolls it back: nothing that work sets outlives it.
func Undone[TTx any](ctx context.Context, d Driver[TTx], timeout time.Duration, work func(Conn) error) error {
	return transact(ctx, d, timeout, d.Rollback, work)
}

// transact runs work in a transaction, and ends it as told, unless work fails. A caller who gives up ends the statement
// that runs now, but never a commit: its outcome would be unknown.
func transact[TTx any](ctx context.Context, d Driver[TTx], timeout time.Duration, end func(context.Context, TTx) error, work func(Conn) error) error {
	// database/sql binds a transaction to the context of its begin, so that one lives until the end.
	life, die := context.WithCancel(context.WithoutCancel(ctx))
	defer die()
	tx, err := begin(ctx, life, die, d, timeout)
	if err != nil {
		return err
	}
	workErr := work(Timed(d.In(tx), timeout))

	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	defer context.AfterFunc(last, die)()
	if workErr != nil {
		_ = d.Rollback(last, tx) // the first error is the one to tell
		return workErr
	}
	return end(last, tx)
}

// begin ends the life of a transaction that did not start in time.
func begin[TTx any](ctx, life context.Context, die func(), d Driver[TTx], timeout time.Duration) (TTx, error) {
	limit, cancel := timed{timeout: timeout}.limit(ctx)
	defer cancel()
	defer context.AfterFunc(limit, die)()
	tx, err := d.Begin(life)
	return tx, explain(limit, err)
}
