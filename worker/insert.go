package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/respirated/respirated/protocol"
)

// InsertOpts says how a new strand is to be run; nil means the defaults.
type InsertOpts = protocol.InsertOpts

// Insert adds a new strand as part of what the running handler does, and returns its id. The strand comes into being
// when the broker stores the outcome of this run, in the same transaction: it does not exist if the handler fails, and
// not twice if the result has to be sent again. ctx is the handler's.
func Insert(ctx context.Context, args Args, opts *InsertOpts) (id string, err error) {
	env, ok := ctx.Value(envKey{}).(*env)
	if !ok {
		return "", errors.New("insert: the context is not that of a running handler; outside of one, use package client")
	}
	in, err := newInsert(args, opts)
	if err != nil {
		return "", fmt.Errorf("insert: %w", err)
	}
	if err := env.insert(in); err != nil {
		return "", fmt.Errorf("insert %q: %w", in.Kind, err)
	}
	return in.Key, nil
}

// Logger is the worker's logger with the strand, kind and label of the running handler. Outside of one it is
// slog.Default().
func Logger(ctx context.Context) *slog.Logger {
	env, ok := ctx.Value(envKey{}).(*env)
	if !ok {
		return slog.Default()
	}
	return env.logs()
}

// env is the context of a handler, with what this package finds there.
type env struct {
	context.Context
	strand *protocol.Strand
	log    *slog.Logger // the worker's

	mu      sync.Mutex   // guards all below, as a handler may use goroutines of its own
	logger  *slog.Logger // with what the strand is; made when it is asked for
	inserts []protocol.Insert
	closed  bool // the handler has returned
}

type envKey struct{}

// Value implements [context.Context].
func (e *env) Value(key any) any {
	if key == (envKey{}) {
		return e
	}
	return e.Context.Value(key)
}

func (e *env) insert(in protocol.Insert) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return errors.New("the handler has returned already")
	}
	if len(e.inserts) == protocol.MaxItems {
		return fmt.Errorf("this run has inserted %d strands, the most that fit into one result; nap or hop and go on", protocol.MaxItems)
	}
	e.inserts = append(e.inserts, in)
	return nil
}

func (e *env) logs() *slog.Logger {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.logger == nil {
		e.logger = e.log.With("strand", e.strand.ID, "kind", e.strand.Kind, "label", e.strand.Label)
	}
	return e.logger
}

// take ends the collection.
func (e *env) take() []protocol.Insert {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	return e.inserts
}

func newInsert(args Args, opts *InsertOpts) (protocol.Insert, error) {
	var in protocol.Insert
	if args == nil {
		return in, errors.New("args is nil")
	}
	in.Kind = args.Kind()
	if err := checkName("kind", in.Kind); err != nil {
		return in, err
	}
	var err error
	if in.Args, err = json.Marshal(args); err != nil {
		return in, fmt.Errorf("encode args %T: %w", args, err)
	}
	if opts == nil {
		in.Key = protocol.NewID()
		return in, nil
	}
	if in.Key, err = insertKey(opts.ID); err != nil {
		return in, err
	}
	rest := *opts
	rest.ID = "" // it travels as the key
	if in.Opts, err = json.Marshal(rest); err != nil {
		return in, fmt.Errorf("encode the options for kind %q: %w", in.Kind, err)
	}
	return in, nil
}

func insertKey(id string) (string, error) {
	if id == "" {
		return protocol.NewID(), nil
	}
	id, err := protocol.CanonicalID(id)
	if err != nil {
		return "", fmt.Errorf("option ID: %w", err)
	}
	return id, nil
}
