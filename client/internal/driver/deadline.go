package driver

import (
	"context"
	"fmt"
	"io"
	"time"
)

// Timed gives every call of c a deadline, so that a database that has stopped answering never holds a caller for ever.
func Timed(c Conn, timeout time.Duration) Conn { return timed{c, timeout} }

type timed struct {
	Conn
	timeout time.Duration
}

func (t timed) Query(ctx context.Context, row func(Scan) error, sql string, args ...any) error {
	ctx, cancel := t.limit(ctx)
	defer cancel()
	return explain(ctx, t.Conn.Query(ctx, row, sql, args...))
}

func (t timed) CopyIn(ctx context.Context, rows io.Reader, sql string) error {
	ctx, cancel := t.limit(ctx)
	defer cancel()
	return explain(ctx, t.Conn.CopyIn(ctx, rows, sql))
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

// explain says why a call was given up, where the library only says that it was.
func explain(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
}
