package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/respirated/respirated/protocol"
)

// PgxTx is what [CommitTx] needs of a transaction. A pgx.Tx has it.
type PgxTx[R any] interface {
	Exec(ctx context.Context, sql string, args ...any) (R, error)
	Commit(ctx context.Context) error
}

// SQLTx is what [CommitSQLTx] needs of a transaction. A *sql.Tx has it.
type SQLTx[R any] interface {
	ExecContext(ctx context.Context, sql string, args ...any) (R, error)
	Commit() error
}

// CommitTx commits a transaction of the handler's own, and the outcome of its run with it: both or none. It is for workers
// that have a connection to the database in which their strands are, and makes what they do to tables of their own happen
// exactly once, however often the strand runs:
//
//	tx, err := pool.Begin(ctx)
//	if err != nil {
//		return worker.Outcome{}, err
//	}
//	defer tx.Rollback(ctx)
//	// changes of the application's own tables
//	return worker.CommitTx(ctx, tx, worker.Hop("next"))
//
// All that the run has inserted, sent and taken until then goes along; after that it is too late. A run whose lease is lost
// gets an error that wraps [ErrLeaseLost], and nothing is committed. With any error the transaction is still open: roll it back,
// and return the error.
//
// If it cannot be told whether the COMMIT was carried out, since the connection broke, there is no error: the broker looks
// for it. It goes on with the strand if it was, and counts the run as failed if not. From then on what the handler
// returns does not count, and the strand does not go on under the same lease.
//
// If another transaction is in the way, the error gives the strand back without a try used up. That is also so where the lease
// was renewed since a transaction above READ COMMITTED began. The handler of a [Worker], which is no label, commits Exit(nil)
// and returns the error. ctx is the handler's.
func CommitTx[R any](ctx context.Context, tx PgxTx[R], o Outcome) (Outcome, error) {
	return o, commitOwn(ctx, o, ownTx{
		exec: func(ctx context.Context, sql string, args ...any) error {
			_, err := tx.Exec(ctx, sql, args...)
			return err
		},
		commit: tx.Commit,
	})
}

// CommitSQLTx is [CommitTx] for database/sql, with any driver for Postgres.
func CommitSQLTx[R any](ctx context.Context, tx SQLTx[R], o Outcome) (Outcome, error) {
	return o, commitOwn(ctx, o, ownTx{
		exec: func(ctx context.Context, sql string, args ...any) error {
			_, err := tx.ExecContext(ctx, sql, args...)
			return err
		},
		commit: func(context.Context) error { return tx.Commit() },
	})
}

// ownTx is a transaction of the user's, whichever library it is of.
type ownTx struct {
	exec   func(ctx context.Context, sql string, args ...any) error
	commit func(ctx context.Context) error
}

// commitTime is how long a COMMIT may take before the broker is asked instead. It does not end with the run's time: whoever gives
// up a COMMIT only does not know what has become of it.
const commitTime = 10 * time.Second

func commitOwn(ctx context.Context, o Outcome, tx ownTx) error {
	e, err := envOf(ctx)
	if err == nil {
		err = e.commitOwn(ctx, o, tx)
	}
	if err != nil {
		return fmt.Errorf("commit the outcome of a run: %w", err)
	}
	return nil
}

func (e *env) commitOwn(ctx context.Context, o Outcome, tx ownTx) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := e.handOver(); err != nil {
		return err
	}
	own, err := e.takeStep(ctx, o, tx)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.own, e.closed = own, own != nil
	return err
}

// handOver ends the collection. What was collected so far is for the transaction.
func (e *env) handOver() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.own != nil:
		return errors.New("this run has committed its outcome already")
	case e.closed:
		return errors.New("the handler has returned already")
	case e.fault != nil:
		return e.fault
	}
	e.closed = true
	return nil
}

// takeStep stores an outcome in a transaction, and commits it. The result is nil where that has surely not happened.
func (e *env) takeStep(ctx context.Context, o Outcome, tx ownTx) (*protocol.Result, error) {
	result, err := e.handler.encode(e, o)
	if err != nil {
		return nil, err
	}
	report, err := stepReport(&result)
	if err != nil {
		return nil, err
	}
	sql := `select "` + e.handler.schema + `".step($1::text::uuid, $2::text::uuid, $3::text::bigint, $4::text::jsonb)`
	if err := tx.exec(ctx, sql, e.strand.ID, e.strand.Token, fmt.Sprint(e.seq), report); err != nil {
		return nil, e.explain(err)
	}
	committing, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTime)
	defer cancel()
	err = tx.commit(committing)
	if err != nil && undone(err) {
		return nil, e.explain(err)
	}
	own := &protocol.Result{Act: protocol.ActOwn}
	if err != nil {
		own.Failure = failed(fmt.Errorf("commit: %w", err), "").Failure
		e.logs().Warn("a COMMIT has not been answered, the broker is to find out about it", "error", err)
	}
	return own, nil
}

// stepReport is a result as the SQL function step() takes it.
func stepReport(r *protocol.Result) (string, error) {
	type object = map[string]any
	list := func(n int, one func(int) object) (all []object) {
		for i := range n {
			all = append(all, one(i))
		}
		return all
	}
	report := object{"act": r.Act}
	set := func(o object, key string, given bool, value any) {
		if given {
			o[key] = value
		}
	}
	set(report, "ms", r.DelayMS != nil, r.DelayMS)
	set(report, "label", r.Label != "", r.Label)
	set(report, "kind", r.NewKind != "", r.NewKind)
	set(report, "val", r.Value != nil, json.RawMessage(r.Value))
	set(report, "stack", r.Stack != nil, json.RawMessage(r.Stack))
	set(report, "enq", len(r.Inserts) > 0, list(len(r.Inserts), func(i int) object {
		in := &r.Inserts[i]
		o := object{"key": in.Key, "kind": in.Kind, "args": json.RawMessage(in.Args)}
		set(o, "opts", in.Opts != nil, json.RawMessage(in.Opts))
		set(o, "child", in.Child, true)
		set(o, "watch", in.Watch, true)
		return o
	}))
	set(report, "sig", len(r.Signals) > 0, list(len(r.Signals), func(i int) object {
		g := &r.Signals[i]
		o := object{"name": g.Name}
		set(o, "s", g.Strand != "", g.Strand)
		set(o, "val", g.Value != nil, json.RawMessage(g.Value))
		set(o, "quiet", g.Quiet, true)
		return o
	}))
	set(report, "used", len(r.Used) > 0, r.Used)
	set(report, "reap", len(r.Reaped) > 0, r.Reaped)
	set(report, "frame", r.Frame > 0, r.Frame)
	if d := r.Due; d != nil {
		report["due"] = object{"target": d.Target, "ms": d.MS, "most_ms": d.MostMS}
	}
	text, err := json.Marshal(report)
	return string(text), err
}

// Codes of SQLSTATE; see the appendix of the PostgreSQL manual. tokenNotCurrent is the function's own.
const (
	tokenNotCurrent     = "RS001"
	noSuchFunction      = "42883"
	noSuchSchema        = "3F000"
	notAllowed          = "42501"
	transactionFailed   = "25P02"
	lockTimeout         = "55P03"
	statementCompletion = "40003" // nobody knows whether
)

func sqlState(err error) string {
	var coded interface{ SQLState() string }
	if errors.As(err, &coded) {
		return coded.SQLState()
	}
	return ""
}

// undone tells whether an error of COMMIT comes from a server that has undone the transaction: anything else may also be one that
// was in the way of the answer.
func undone(err error) bool {
	code := sqlState(err)
	switch {
	case len(code) != 5, code == statementCompletion:
		return false
	case strings.Contains(" 08 53 57 58 F0 XX ", " "+code[:2]+" "): // of connections, resources, operators and the system
		return false
	}
	return true
}

// explain says what to do about an error of the server's.
func (e *env) explain(err error) error {
	switch code := sqlState(err); {
	case code == tokenNotCurrent:
		return fmt.Errorf("%w: %w", ErrLeaseLost, err)
	case code == noSuchFunction, code == noSuchSchema:
		return fmt.Errorf("the transaction has to be in the database of the strands, and schema %q is not there or older than "+
			"version 7: connect to that one, set RESPIRATE_SCHEMA if the schema has another name, or run `respirated migrate up`: %w",
			e.handler.schema, err)
	case code == notAllowed:
		return fmt.Errorf("the role of the connection may not take steps: let the owner of the schema `select %s.grant_client('ROLE')`: %w",
			e.handler.schema, err)
	case code == transactionFailed:
		return fmt.Errorf("a statement of the transaction has failed before: %w", err)
	case code == lockTimeout, strings.HasPrefix(code, "40") && code != statementCompletion:
		return &contendedError{err}
	}
	return err
}

// contendedError is the database's word that another transaction was in the way.
type contendedError struct{ err error }

func (e *contendedError) Error() string {
	return fmt.Sprintf("another transaction was in the way, the run is given back: %v", e.err)
}
func (e *contendedError) Unwrap() error { return e.err }

// contendedWait is for how long such a run is given back.
const contendedWait = time.Second
