package workflow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/respirated/respirated/worker"
)

// most children that one run buds: as many, and as large, as surely fit into one result.
const (
	budMost  = 1000
	budBytes = 256 << 10
)

// nodeFrame is the frame of a node's strand. At first it has what the node's function needs, and then the children.
type nodeFrame[T worker.Args] struct {
	Workflow string                     `json:"workflow"` // id of its strand
	Args     json.RawMessage            `json:"args,omitempty"`
	Results  map[string]json.RawMessage `json:"results,omitempty"`
	Failure  string                     `json:"failure,omitempty"`

	Todo     []todo                  `json:"todo,omitempty"`     // children to be budded
	Children map[string]int          `json:"children,omitempty"` // by id: those that have not ended, with their places
	Size     int                     `json:"size,omitempty"`     // how many there are in all
	Values   map[int]json.RawMessage `json:"values,omitempty"`   // by place: of those that are done
	Bytes    int                     `json:"bytes,omitempty"`    // of Values
	Failed   int                     `json:"failed,omitempty"`
	Gone     int                     `json:"gone,omitempty"` // of Failed, those that were cancelled
	Why      []string                `json:"why,omitempty"`  // of the first that failed
}

// Kind is that of the nodes of a workflow.
func (nodeFrame[T]) Kind() string { return (*new(T)).Kind() + ".node" }

// size is about what it takes at first.
func (f nodeFrame[T]) size() int {
	size := len(f.Args)
	for _, v := range f.Results {
		size += len(v)
	}
	for _, v := range f.Values {
		size += len(v)
	}
	return size
}

// todo is a child to be.
type todo struct {
	Place int             `json:"place"`
	Kind  string          `json:"kind"`
	Args  json.RawMessage `json:"args"`
	Opts  *options        `json:"opts,omitempty"`
}

// options are encoded field by field, so that they can be read back.
type options worker.InsertOpts

// asArgs is a todo as the [worker.Args] of its child.
type asArgs struct{ of todo }

func (a asArgs) Kind() string                 { return a.of.Kind }
func (a asArgs) MarshalJSON() ([]byte, error) { return a.of.Args, nil }

// nodeProg is the program of all nodes: each is a label, so that one which a build does not know waits for another build.
func (w *Workflow[T]) nodeProg() worker.Prog[nodeFrame[T]] {
	labels := make(map[string]worker.Label[nodeFrame[T]])
	for _, n := range w.nodes {
		labels[n.name] = n.run
	}
	return worker.Prog[nodeFrame[T]]{Start: w.nodes[0].name, Labels: labels, IgnoreDestroy: true}
}

// run makes the children, buds them, and when all have ended, tells the workflow.
func (n *Node[T]) run(ctx context.Context, s *worker.Strand[nodeFrame[T]]) (worker.Outcome, error) {
	f := s.Args
	if f.Args != nil {
		if err := n.plan(ctx, &f); err != nil {
			return end(ctx, f.Workflow, err, s.Row)
		}
	}
	if err := f.bud(ctx); err != nil {
		return worker.Outcome{}, err
	}
	if len(f.Todo) > 0 {
		return worker.Hop(n.name).With(f), nil
	}
	o, wait := s.Reap(worker.ReapOpts{Each: func(c worker.Child) { f.ended(c, n.maxValue) }})
	if wait {
		return o.With(f), nil
	}
	for id := range f.Children {
		f.fail("the end of strand %s is not known, as the strand of its node had ended meanwhile", id)
	}
	return worker.Pop(f.result(n.list)), worker.Signal(ctx, f.Workflow, nodeEnded, nil)
}

// end is the outcome of a node whose children cannot be made: another try, or the end of the node. Of a strand that dies the workflow
// hears from the broker, which knows no reason.
func end(ctx context.Context, workflow string, err error, row worker.Row) (worker.Outcome, error) {
	var (
		dead   *worker.DeadError
		cancel *worker.CancelError
		snooze *worker.SnoozeError
	)
	over := nodeState{State: failed, Error: err.Error()}
	switch {
	case ctx.Err() != nil, errors.As(err, &snooze):
		return worker.Outcome{}, err
	case errors.As(err, &cancel):
		over.State = cancelled
	case !errors.As(err, &dead) && row.Try < row.MaxTries:
		return worker.Outcome{}, err
	}
	return worker.Pop(over), worker.Signal(ctx, workflow, nodeEnded, nil)
}

// plan asks the node's function for the children. Those that were done before are not run again.
func (n *Node[T]) plan(ctx context.Context, f *nodeFrame[T]) error {
	args, err := worker.Decode[T](f.Args)
	if err != nil {
		return worker.Dead(err)
	}
	children, err := n.make(ctx, In[T]{f.Workflow, args, f.Failure, f.Results})
	if err != nil {
		return err
	}
	if len(children) > MaxChildren {
		return worker.Dead(fmt.Errorf("node %q has %d children, at most %d are allowed", n.name, len(children), MaxChildren))
	}
	if f.Size != len(children) {
		f.Size, f.Values = len(children), nil
	}
	size := 0
	for place, c := range children {
		if v, ok := f.Values[place]; ok {
			f.Bytes += len(v)
			continue
		}
		t, err := c.todo(place)
		if err != nil {
			return worker.Dead(fmt.Errorf("child %d of node %q: %w", place, n.name, err))
		}
		if size += 64 + len(t.Args); size > MaxTodo {
			return worker.Dead(fmt.Errorf("the args of the children of node %q have more than %d bytes; keep large data elsewhere", n.name, MaxTodo))
		}
		f.Todo = append(f.Todo, t)
	}
	f.Args, f.Results, f.Failure, f.Children = nil, nil, "", make(map[string]int)
	return nil
}

func (c Child) todo(place int) (todo, error) {
	if c.Args == nil {
		return todo{}, errors.New("its args are nil")
	}
	if c.Opts != nil && c.Opts.ID != "" {
		return todo{}, errors.New("its options have an ID, by which it could not be run again")
	}
	raw, err := json.Marshal(c.Args)
	return todo{place, c.Args.Kind(), raw, (*options)(c.Opts)}, err
}

// bud makes children of what is to do, as far as it fits into this run.
func (f *nodeFrame[T]) bud(ctx context.Context) error {
	for n, size := 0, 0; len(f.Todo) > 0 && n < budMost && size < budBytes; n++ {
		t := f.Todo[0]
		id, err := worker.Bud(ctx, asArgs{t}, (*worker.InsertOpts)(t.Opts))
		if err != nil {
			return err
		}
		f.Children[id] = t.Place
		f.Todo, size = f.Todo[1:], size+len(t.Args)
	}
	return nil
}

// ended takes note of the end of a child.
func (f *nodeFrame[T]) ended(c worker.Child, most int) {
	place, ok := f.Children[c.ID]
	if !ok {
		return
	}
	delete(f.Children, c.ID)
	switch {
	case c.State == worker.ChildCancelled:
		f.Gone++
		f.fail("strand %s of kind %q was cancelled", c.ID, c.Kind)
	case c.State != worker.ChildDone:
		f.fail("strand %s of kind %q is %s", c.ID, c.Kind, c.State)
	case f.Bytes+len(c.Value) > most:
		f.fail("strand %s of kind %q exited with %d bytes, which makes the value of the node larger than the %d that are allowed; "+
			"keep large data elsewhere, or see MaxValue", c.ID, c.Kind, len(c.Value), most)
	default:
		if f.Values == nil {
			f.Values = make(map[int]json.RawMessage)
		}
		f.Values[place] = c.Value
		f.Bytes += len(c.Value)
	}
}

// fail counts a child that is not done, and keeps the reasons of a few.
func (f *nodeFrame[T]) fail(format string, args ...any) {
	if f.Failed++; len(f.Why) < 3 {
		f.Why = append(f.Why, fmt.Sprintf(format, args...))
	}
}

// result is the end of the node, as its workflow stores it.
func (f *nodeFrame[T]) result(list bool) nodeState {
	if f.Failed > 0 {
		why := strings.Join(f.Why, "; ")
		if list {
			why = fmt.Sprintf("%d of %d children: %s", f.Failed, f.Size, why)
		}
		end := nodeState{State: failed, Error: why, Size: f.Size, Partial: f.Values}
		if f.Gone == f.Failed {
			end.State = cancelled
		}
		return end
	}
	values := make([]json.RawMessage, f.Size)
	for place, v := range f.Values {
		values[place] = v
	}
	var value any = values
	if !list {
		value = values[0]
	}
	raw, err := json.Marshal(value)
	if err != nil {
		return nodeState{State: failed, Error: fmt.Sprintf("encode the values of its children: %v", err)}
	}
	return nodeState{State: done, Value: raw}
}
