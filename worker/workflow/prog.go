package workflow

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/respirated/respirated/worker"
)

// signals between the strands of a workflow.
const (
	nodeEnded = "respirate.node"   // to the workflow: a node has ended
	failing   = "respirate.failed" // to itself: it is about to end dead. What is retried does not have it any more
)

// frame is what the strand of a workflow has as args: those it was inserted with, and after its start its state.
type frame[T worker.Args] struct{ raw json.RawMessage }

// Kind is that of the workflow's args.
func (frame[T]) Kind() string { return (*new(T)).Kind() }

func (f *frame[T]) UnmarshalJSON(b []byte) error {
	f.raw = bytes.Clone(b)
	return nil
}

func (f frame[T]) state() (*state, error) {
	st := &state{}
	if err := json.Unmarshal(f.raw, st); err != nil {
		return nil, fmt.Errorf("decode the state of the workflow: %w", err)
	}
	if st.Nodes == nil {
		st.Nodes = make(map[string]*nodeState)
	}
	return st, nil
}

func (w *Workflow[T]) prog() worker.Prog[frame[T]] {
	return worker.Prog[frame[T]]{IgnoreDestroy: true, Labels: map[string]worker.Label[frame[T]]{
		"start": w.start, "run": w.run, "failed": w.failed, "finish": w.finish,
	}}
}

func (w *Workflow[T]) start(_ context.Context, s *worker.Strand[frame[T]]) (worker.Outcome, error) {
	if _, err := worker.Decode[T](s.Args.raw); err != nil {
		return worker.Outcome{}, err
	}
	if n := len(s.Args.raw); n > MaxState {
		return worker.Outcome{}, worker.Dead(fmt.Errorf("the args of the workflow have %d bytes, at most %d are allowed", n, MaxState))
	}
	return worker.Hop("run").With(state{s.Args.raw, map[string]*nodeState{}}), nil
}

// run takes note of what has ended, starts what may start, and waits. Nothing of the user's is called here: what the run has
// reaped is lost if it dies.
func (w *Workflow[T]) run(ctx context.Context, s *worker.Strand[frame[T]]) (worker.Outcome, error) {
	st, err := s.Args.state()
	if err != nil {
		return worker.Outcome{}, err
	}
	s.Decr(nodeEnded)
	o, more := s.Reap(worker.ReapOpts{Each: st.ended, FallThrough: true})
	if !more && s.Children().Left == 0 {
		st.lost()
	}
	if s.Decr(Resume) > 0 {
		w.resume(st)
	}
	if more {
		return o.With(st), nil
	}
	size := 0
	for _, name := range w.advance(st) {
		args := w.argsOf(s.ID, st, name)
		if size += args.size(); size > MaxState && size > args.size() { // the others fit into the next run
			return worker.Hop("run").With(st), nil
		}
		id, err := worker.BudWatched(ctx, args, &worker.InsertOpts{Label: name, Tenant: s.Tenant, Queue: s.Queue, Priority: s.Priority,
			MaxTries: s.MaxTries})
		if err != nil {
			return worker.Outcome{}, fmt.Errorf("node %q: %w", name, err)
		}
		st.Nodes[name].begun(id)
	}
	switch label := w.stage(st); label {
	case "":
		return worker.Hibernate().With(st), nil
	case "failed":
		return worker.Hop(label).With(st), s.Incr(failing, nil)
	default:
		return worker.Hop(label).With(st), nil
	}
}

// argsOf is what the strand of a node begins with.
func (w *Workflow[T]) argsOf(id string, st *state, name string) nodeFrame[T] {
	n, ns := w.byName[name], st.Nodes[name]
	f := nodeFrame[T]{Workflow: id, Args: st.Args, Results: make(map[string]json.RawMessage), Size: ns.Size, Values: ns.Partial}
	for _, before := range n.after {
		f.Results[before] = st.Nodes[before].Value
	}
	if n.of != "" {
		f.Failure = st.Nodes[n.of].Error
	}
	return f
}

// failed ends the strand dead, and resumes it if it is brought back: then its semaphores are gone.
func (w *Workflow[T]) failed(_ context.Context, s *worker.Strand[frame[T]]) (worker.Outcome, error) {
	st, err := s.Args.state()
	if err != nil {
		return worker.Outcome{}, err
	}
	if s.Decr(failing) > 0 && s.Decr(Resume) == 0 {
		return worker.Outcome{}, worker.Dead(w.failure(st))
	}
	w.resume(st)
	return worker.Hop("run").With(st), nil
}

func (w *Workflow[T]) finish(ctx context.Context, s *worker.Strand[frame[T]]) (worker.Outcome, error) {
	st, err := s.Args.state()
	if err != nil {
		return worker.Outcome{}, err
	}
	if w.finally == nil {
		return worker.Pop(st.values()), nil
	}
	args, err := worker.Decode[T](st.Args)
	if err != nil {
		return worker.Outcome{}, err
	}
	value, err := w.finally(ctx, In[T]{ID: s.ID, Args: args, results: st.values()})
	return worker.Pop(value), err
}
