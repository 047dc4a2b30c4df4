package workflow

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/respirated/respirated/protocol"
)

// check finds every mistake of the definition, and puts the nodes in order.
func (w *Workflow[T]) check() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if t := reflect.TypeFor[T](); t.Kind() == reflect.Pointer || t.Kind() == reflect.Interface {
		wrong("its args have to be a struct, not a %v", t)
	}
	if n := len(w.nodes); n == 0 || n > protocol.MaxItems {
		wrong("it has %d nodes; it needs 1 to %d", n, protocol.MaxItems)
	}
	w.byName = make(map[string]*Node[T])
	for _, n := range w.nodes {
		if err := protocol.CheckName(n.name); err != nil {
			wrong("the name of a node %w", err)
		}
		if w.byName[n.name] != nil {
			wrong("there are two nodes %q", n.name)
		}
		if n.make == nil {
			wrong("node %q has no function", n.name)
		}
		if n.maxValue > MostValue {
			wrong("node %q has a MaxValue of %d, at most %d are possible", n.name, n.maxValue, MostValue)
		}
		w.byName[n.name], n.of = n, ""
	}
	for _, n := range w.nodes {
		for _, name := range n.after {
			if w.byName[name] == nil {
				wrong("node %q comes after %q, which is no node", n.name, name)
			}
		}
		switch with := w.byName[n.instead]; {
		case n.instead == "":
		case with == nil:
			wrong("node %q is compensated by %q, which is no node", n.name, n.instead)
		case with.of != "":
			wrong("node %q compensates both %q and %q", n.instead, with.of, n.name)
		case n.policy != 0:
			wrong("node %q has both OnFailure and Compensate", n.name)
		default:
			with.of = n.name
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	return w.sort()
}

// before lists what has to be over before the node is decided on.
func (n *Node[T]) before() []string {
	if n.of == "" {
		return n.after
	}
	return append(slices.Clone(n.after), n.of)
}

// sort puts each node behind all it comes after.
func (w *Workflow[T]) sort() error {
	var sorted []*Node[T]
	var path []string // from the node asked for to the one that is being placed
	placed := make(map[string]bool)
	var place func(n *Node[T]) error
	place = func(n *Node[T]) error {
		if placed[n.name] {
			return nil
		}
		if i := slices.Index(path, n.name); i >= 0 {
			return fmt.Errorf("nodes come after each other in a cycle: %s", strings.Join(append(path[i:], n.name), " after "))
		}
		path = append(path, n.name)
		for _, name := range n.before() {
			if err := place(w.byName[name]); err != nil {
				return err
			}
		}
		path = path[:len(path)-1]
		placed[n.name] = true
		sorted = append(sorted, n)
		return nil
	}
	for _, n := range w.nodes {
		if err := place(n); err != nil {
			return err
		}
	}
	w.nodes = sorted
	return nil
}
