package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/respirated/respirated/protocol"
)

// A Child is the end of a strand that this one has budded.
type Child struct {
	ID    string
	Kind  string          // as which it ended
	State string          // ChildDone, ChildCancelled or ChildDead
	Value json.RawMessage // what it exited with; nil = null; see Decode
}

// States of a [Child].
const (
	ChildDone      = protocol.EndedDone
	ChildCancelled = protocol.EndedCancelled
	ChildDead      = protocol.EndedDead
)

// Children is what a run knows of the strands that its own has budded.
type Children struct {
	Ended []Child // that have ended and are not reaped
	Left  int     // that have not ended, with those that this run has budded
	More  bool    // more may have ended than are listed; they are, once these are reaped
}

// Bud inserts a child of the running strand, and returns its id. As with [Insert], it comes into being with the outcome
// of this run. When it ends, its parent finds its end among its [Strand.Children], and is woken when it was the last. It
// goes its own way: its failures are its own, and it goes on if its parent ends, unless that is cancelled. It inherits nothing:
// opts say its tenant, queue and priority. ctx is the handler's.
func Bud(ctx context.Context, args Args, opts *InsertOpts) (id string, err error) {
	return bud(ctx, args, opts, protocol.Insert{Child: true})
}

// BudWatched is [Bud] of a child whose failure the parent wants to hear of at once: if it ends dead or cancelled, that wakes the parent
// although other children are left. If it is done, only the end of the last one does.
func BudWatched(ctx context.Context, args Args, opts *InsertOpts) (id string, err error) {
	return bud(ctx, args, opts, protocol.Insert{Child: true, Watch: true})
}

func bud(ctx context.Context, args Args, opts *InsertOpts, as protocol.Insert) (id string, err error) {
	if id, err = insert(ctx, args, opts, as); err != nil {
		return "", fmt.Errorf("bud: %w", err)
	}
	return id, nil
}

// Children tells which children have ended, and how many have not.
func (s *Strand[T]) Children() Children { return s.env.family() }

func (e *env) family() Children {
	if e == nil {
		return Children{}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	c := Children{Ended: slices.Clone(e.ended), Left: e.children}
	if in := e.strand.Inbox; in != nil {
		c.Left += int(in.Left)
		c.More = in.More && len(in.Ended) > 0
	}
	return c
}

// ReapOpts says what [Strand.Reap] does. The zero value waits until the last child has ended.
type ReapOpts struct {
	// Each is called for every child that has ended and is reaped; nil = nobody wants to know.
	Each func(Child)
	// Hop is the label to go on at when no child is left; "" = the label that reaps goes on itself.
	Hop string
	// Nap is how long to nap while children are left; 0 = until the last has ended, or something else wakes the strand.
	Nap time.Duration
	// FallThrough lets the label go on although children are left.
	FallThrough bool
}

// Reap takes note of the children that have ended; they are forgotten when the outcome of this run is stored. Then it says
// how to go on: if the second value is true, the label returns the [Outcome], else it goes on itself. Where children are
// left, that is a nap, unless [ReapOpts] says otherwise.
//
//	if o, wait := s.Reap(worker.ReapOpts{Each: note}); wait {
//		return o, nil
//	}
//	return worker.Exit(nil), nil
func (s *Strand[T]) Reap(opts ReapOpts) (Outcome, bool) {
	family := s.Children()
	for _, c := range family.Ended {
		if opts.Each != nil {
			opts.Each(c)
		}
		s.env.reap(c)
	}
	switch {
	case family.More && !opts.FallThrough: // the others come with the next run
		return Nap(0), true
	case family.Left == 0 && !family.More:
		return Hop(opts.Hop), opts.Hop != ""
	case opts.FallThrough:
		return Outcome{}, false
	case opts.Nap > 0:
		return Nap(opts.Nap), true
	}
	return Hibernate(), true
}

func (e *env) reap(c Child) {
	_ = e.do(func() error { // too late: it is there in the next run
		e.reaped = append(e.reaped, c.ID)
		e.ended = slices.DeleteFunc(slices.Clone(e.ended), func(o Child) bool { return o.ID == c.ID })
		return nil
	})
}

// Decode reads a JSON value, such as that of a [Semaphore] or a [Child], as a V; nil is V's zero value.
func Decode[V any](raw json.RawMessage) (v V, err error) {
	if raw == nil {
		return v, nil
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, fmt.Errorf("decode a value into %T: %w", v, err)
	}
	return v, nil
}
