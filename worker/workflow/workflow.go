package workflow

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/respirated/respirated/worker"
)

// Policy is what follows when a node has failed or was cancelled.
type Policy int

const (
	// Fail starts nothing new, waits for what runs, and lets the strand of the workflow end dead. It is the default.
	Fail Policy = iota + 1
	// Hold goes on with what does not come after the node, and then waits for the signal "resume".
	Hold
	// Skip goes on: what comes after the node is skipped.
	Skip
)

// Resume is the signal that lets failed nodes run again.
const Resume = "resume"

// What fits into the frames of the protocol, in bytes of JSON where nothing else is said.
const (
	MaxValue    = 64 << 10  // the value of a node, unless [Node.MaxValue] says otherwise
	MostValue   = 256 << 10 // what that may say
	MaxState    = 400 << 10 // args and values of a workflow in all
	MaxChildren = 10_000    // number of children of a node
	MaxTodo     = 700 << 10 // args of the children of a node in all, and 64 for each
)

// Workflow is a graph of nodes, made by [New] and registered by [Add]. T is what its strand is inserted with.
type Workflow[T worker.Args] struct {
	nodes   []*Node[T] // in the order in which they were named; once checked, each behind all it comes after
	byName  map[string]*Node[T]
	policy  Policy
	finally func(context.Context, In[T]) (any, error)
}

// Node is one node of a [Workflow].
type Node[T worker.Args] struct {
	name     string
	make     func(context.Context, In[T]) ([]Child, error)
	list     bool // its value is a list
	after    []string
	policy   Policy // 0 = the workflow's
	instead  string // the node that compensates this one; "" = none
	of       string // the node that this one compensates; "" = none
	maxValue int
}

// Child is a strand that a node consists of. Its options must not have an ID.
type Child struct {
	Args worker.Args
	Opts *worker.InsertOpts // nil = the defaults
}

// New makes a workflow without nodes.
func New[T worker.Args]() *Workflow[T] { return &Workflow[T]{policy: Fail} }

// Node adds a node that is one strand, with the args and options that f makes. Like every function of a workflow, f may be
// called again, and what it does elsewhere should bear that. An error of it is retried as any error of a strand; with
// [worker.Dead] the node fails at once.
func (w *Workflow[T]) Node(name string, f func(context.Context, In[T]) (worker.Args, *worker.InsertOpts, error)) *Node[T] {
	n := w.Each(name, nil)
	if n.list = false; f == nil {
		return n
	}
	n.make = func(ctx context.Context, in In[T]) ([]Child, error) {
		args, opts, err := f(ctx, in)
		return []Child{{args, opts}}, err
	}
	return n
}

// Each adds a node that is as many strands as f says, up to [MaxChildren], and none is fine. Its result is the list of
// theirs. When it is resumed, f is called again: if it makes as many as before, only those that were not done are run.
func (w *Workflow[T]) Each(name string, f func(context.Context, In[T]) ([]Child, error)) *Node[T] {
	n := &Node[T]{name: name, make: f, list: true, maxValue: MaxValue}
	w.nodes = append(w.nodes, n)
	return n
}

// OnFailure is the policy of all nodes that have none of their own.
func (w *Workflow[T]) OnFailure(p Policy) { w.policy = p }

// Finally makes the value that the workflow exits with. Without it, that is an object with the values of the nodes that are done.
func (w *Workflow[T]) Finally(f func(context.Context, In[T]) (any, error)) { w.finally = f }

// After lets the node start only when all these are done.
func (n *Node[T]) After(names ...string) *Node[T] {
	n.after = append(n.after, names...)
	return n
}

// OnFailure is what follows if this node fails.
func (n *Node[T]) OnFailure(p Policy) *Node[T] {
	n.policy = p
	return n
}

// Compensate names the node that runs if this one has failed or was cancelled, and only then. What comes after this one is
// skipped then, and the workflow goes on.
func (n *Node[T]) Compensate(with string) *Node[T] {
	n.instead = with
	return n
}

// MaxValue is how many bytes of JSON the value of the node may have, at most [MostValue].
func (n *Node[T]) MaxValue(bytes int) *Node[T] {
	n.maxValue = bytes
	return n
}

// In is what a function of a workflow knows.
type In[T worker.Args] struct {
	ID      string // of the strand of the workflow
	Args    T      // that it was inserted with
	Failure string // why the node has failed that this one compensates

	results map[string]json.RawMessage
}

// Done tells whether there is a [Result] of a node.
func (in In[T]) Done(node string) bool {
	_, ok := in.results[node]
	return ok
}

// Result is the result of a node that the running one comes after; in [Workflow.Finally], of any node that is done.
func Result[V any, T worker.Args](in In[T], node string) (V, error) {
	var v V
	raw, ok := in.results[node]
	if !ok {
		return v, worker.Dead(fmt.Errorf("there is no result of node %q: name it in After; in Finally, it may not be done", node))
	}
	v, err := worker.Decode[V](raw)
	if err != nil {
		return v, worker.Dead(fmt.Errorf("result of node %q: %w", node, err))
	}
	return v, nil
}

// Add registers a workflow for the kind of T, and the kind of its nodes. It panics where [AddSafely] returns an error.
func Add[T worker.Args](mux *worker.Mux, w *Workflow[T]) {
	if err := AddSafely(mux, w); err != nil {
		panic("workflow: " + err.Error())
	}
}

// AddSafely is [Add] with an error instead of a panic: if the kind is taken, or the graph has a cycle, a name twice, or
// one that no node has. The workflow must not change afterwards.
func AddSafely[T worker.Args](mux *worker.Mux, w *Workflow[T]) error {
	if err := w.check(); err != nil {
		return fmt.Errorf("add the workflow of %T: %w", *new(T), err)
	}
	if err := worker.AddProgSafely(mux, w.prog()); err != nil {
		return err
	}
	return worker.AddProgSafely(mux, w.nodeProg())
}
