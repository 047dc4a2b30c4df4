package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/respirated/respirated/protocol"
)

// InsertOpts says how a new strand is to be run; nil means the defaults.
type InsertOpts = protocol.InsertOpts

// Insert adds a new strand as part of what the running handler does, and returns its id. The strand comes into being
// when the broker stores the outcome of this run, in the same transaction: it does not exist if the handler fails, and
// not twice if the result has to be sent again. ctx is the handler's.
func Insert(ctx context.Context, args Args, opts *InsertOpts) (id string, err error) {
	if id, err = insert(ctx, args, opts, protocol.Insert{}); err != nil {
		return "", fmt.Errorf("insert: %w", err)
	}
	return id, nil
}

func insert(ctx context.Context, args Args, opts *InsertOpts, as protocol.Insert) (id string, err error) {
	e, err := envOf(ctx)
	if err != nil {
		return "", err
	}
	in, err := newInsert(args, opts)
	if err != nil {
		return "", err
	}
	in.Child, in.Watch = as.Child, as.Watch
	if err := e.insert(in); err != nil {
		return "", fmt.Errorf("kind %q: %w", in.Kind, err)
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
