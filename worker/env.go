package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/respirated/respirated/protocol"
)

// env is the context of a handler, with what its run has found and what it wants to be stored with its outcome. A nil
// env is that of a [Strand] made by hand: it has found nothing, and stores nothing.
type env struct {
	context.Context
	strand  *protocol.Strand
	program *program
	handler *handler
	seq     uint64 // of its result
	stack   stack
	log     *slog.Logger // the worker's

	mu       sync.Mutex   // guards all below, as a handler may use goroutines of its own
	logger   *slog.Logger // with what the strand is; made when it is asked for
	waiting  []Semaphore  // what the run has found and sent to itself, without what it has taken
	ended    []Child      // without those that are reaped
	inserts  []protocol.Insert
	children int // of those
	signals  []protocol.Signal
	used     []uint64
	reaped   []string
	due      *protocol.Due
	fault    error            // a mistake that fails the run, whatever it returns
	closed   bool             // the handler has returned, or CommitTx has what was collected
	own      *protocol.Result // CommitTx has asked for the COMMIT; nil = it has not
}

type envKey struct{}

// Value implements [context.Context].
func (e *env) Value(key any) any {
	if key == (envKey{}) {
		return e
	}
	return e.Context.Value(key)
}

// envOf is the env of the handler whose context this is.
func envOf(ctx context.Context) (*env, error) {
	if e, ok := ctx.Value(envKey{}).(*env); ok {
		return e, nil
	}
	return nil, errors.New("the context is not that of a running handler; outside of one, use package client")
}

// newEnv makes the env of a run.
func newEnv(ctx context.Context, strand *protocol.Strand, p *program, log *slog.Logger) (*env, error) {
	e := &env{Context: ctx, strand: strand, program: p, log: log}
	var err error
	if e.stack, err = readStack(strand); err != nil {
		return nil, err
	}
	if in := strand.Inbox; in != nil {
		for _, s := range in.Semaphores {
			e.waiting = append(e.waiting, Semaphore{Name: s.Name, Value: s.Value, SentAt: time.UnixMilli(s.SentMS), id: s.ID})
		}
		for _, c := range in.Ended {
			e.ended = append(e.ended, Child{ID: c.Strand, Kind: c.Kind, State: c.State, Value: c.Value})
		}
	}
	return e, nil
}

// do changes what the run wants to be stored, unless it is too late for that.
func (e *env) do(change func() error) error {
	if e == nil {
		return errors.New("this strand is not that of a running handler")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return errors.New("the handler has returned already, or has called CommitTx")
	}
	return change()
}

// fail notes a mistake that fails the run.
func (e *env) fail(err error) {
	_ = e.do(func() error { // too late, and there is no run to fail
		e.fault = errors.Join(e.fault, err)
		return nil
	})
}

func (e *env) insert(in protocol.Insert) error {
	return e.do(func() error {
		if len(e.inserts) == protocol.MaxItems {
			return fmt.Errorf("this run has inserted %d strands, the most that fit into one result; nap or hop and go on", protocol.MaxItems)
		}
		e.inserts = append(e.inserts, in)
		if in.Child {
			e.children++
		}
		return nil
	})
}

func (e *env) logs() *slog.Logger {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.logger == nil {
		e.logger = e.log.With("strand", e.strand.ID, "kind", e.strand.Kind, "label", e.strand.Label)
	}
	return e.logger
}

// close ends the collection. It returns what was wrong with it.
func (e *env) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	return e.fault
}

// store puts what was collected into the result of a run that succeeded. A strand that leaves its label is done with the
// waits that it has begun there.
func (e *env) store(r *protocol.Result) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if r.Act != protocol.ActNap {
		e.drop(isWaitMark)
	}
	if e.program.destroys && r.Label == DestroyLabel && r.NewKind == "" && r.Frame == 0 && !e.has(destroyingMark) {
		e.waiting = append(e.waiting, Semaphore{Name: destroyingMark})
	}
	r.Inserts, r.Used, r.Reaped = e.inserts, e.used, e.reaped
	r.Signals = e.signals
	for _, s := range e.waiting {
		if s.id == 0 {
			r.Signals = append(r.Signals, protocol.Signal{Name: s.Name, Value: s.Value})
		}
	}
	if n := len(r.Signals); n > protocol.MaxItems {
		return fmt.Errorf("this run sends %d signals, at most %d fit into one result; nap or hop and go on", n, protocol.MaxItems)
	}
	return nil
}

// has tells whether a semaphore of that name waits. The caller has the lock.
func (e *env) has(name string) bool {
	return slices.ContainsFunc(e.waiting, func(s Semaphore) bool { return s.Name == name })
}

// drop removes semaphores: those that were found are marked as used, those that this run has sent itself are not sent.
// The caller has the lock. It returns how many there were.
func (e *env) drop(which func(Semaphore) bool) int {
	kept := e.waiting[:0:0]
	for _, s := range e.waiting {
		switch {
		case !which(s):
			kept = append(kept, s)
		case s.id != 0:
			e.used = append(e.used, s.id)
		}
	}
	n := len(e.waiting) - len(kept)
	e.waiting = kept
	return n
}
