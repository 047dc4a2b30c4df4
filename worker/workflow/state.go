package workflow

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/respirated/respirated/worker"
)

// states of a node.
const (
	waiting   = "waiting"   // for those before it, or the workflow for a resume
	running   = "running"   // its strand lives
	done      = "done"      // it has a value
	failed    = "failed"    // it has an error
	cancelled = "cancelled" // somebody cancelled its strand, or its children
	skipped   = "skipped"   // what it comes after will not be done, or what it compensates is
)

// state is the frame of a workflow's strand, as the documentation of the package tells.
type state struct {
	Args  json.RawMessage       `json:"args"`
	Nodes map[string]*nodeState `json:"nodes"`
}

type nodeState struct {
	State   string                  `json:"state"`
	Strand  string                  `json:"strand,omitempty"`
	Value   json.RawMessage         `json:"value,omitempty"`
	Error   string                  `json:"error,omitempty"`
	Size    int                     `json:"size,omitempty"`
	Partial map[int]json.RawMessage `json:"partial,omitempty"`
}

// bad tells whether a node has ended without success.
func (n *nodeState) bad() bool { return n.State == failed || n.State == cancelled }

// advance settles what is decided, and names the nodes that are to start now.
func (w *Workflow[T]) advance(st *state) (start []string) {
	for _, n := range w.nodes {
		if st.Nodes[n.name] == nil {
			st.Nodes[n.name] = &nodeState{State: waiting}
		}
	}
	stop := len(w.bad(st, Fail)) > 0
	for _, n := range w.nodes {
		if st.Nodes[n.name].State != waiting {
			continue
		}
		switch skip, ready := w.decide(st, n); {
		case skip && !stop:
			st.Nodes[n.name].State = skipped
		case ready && !stop:
			start = append(start, n.name)
		}
	}
	return start
}

// decide says of a node that waits whether it never will start, or may now.
func (w *Workflow[T]) decide(st *state, n *Node[T]) (skip, ready bool) {
	ready = true
	for _, name := range n.after {
		before := st.Nodes[name]
		skip = skip || before.State == skipped || before.bad() && w.policyOf(w.byName[name]) == Skip
		ready = ready && before.State == done
	}
	if n.of != "" {
		of := st.Nodes[n.of]
		skip = skip || of.State == done || of.State == skipped
		ready = ready && of.bad()
	}
	return skip, ready
}

func (w *Workflow[T]) policyOf(n *Node[T]) Policy {
	if n.instead != "" {
		return Skip
	}
	return cmp.Or(n.policy, w.policy)
}

// bad lists the nodes of a policy that have failed or were cancelled, in order.
func (w *Workflow[T]) bad(st *state, p Policy) (names []string) {
	for _, n := range w.nodes {
		if st.Nodes[n.name].bad() && w.policyOf(n) == p {
			names = append(names, n.name)
		}
	}
	return names
}

// stage says how a workflow goes on that has started all it may: the label to hop to, or "" to wait.
func (w *Workflow[T]) stage(st *state) (label string) {
	for _, n := range st.Nodes {
		if n.State == running {
			return ""
		}
	}
	switch {
	case len(w.bad(st, Fail)) > 0:
		return "failed"
	case len(w.bad(st, Hold)) > 0:
		return ""
	}
	return "finish"
}

// failure tells why a workflow is dead.
func (w *Workflow[T]) failure(st *state) error {
	var all []string
	for _, name := range w.bad(st, Fail) {
		n := st.Nodes[name]
		all = append(all, fmt.Sprintf("node %q %s: %s", name, n.State, n.Error))
	}
	return fmt.Errorf("%s; retry this strand to resume", strings.Join(all, "; "))
}

// resume lets what has failed run again, unless it is being compensated, and what was skipped be decided anew.
func (w *Workflow[T]) resume(st *state) {
	for _, n := range w.nodes {
		ns := st.Nodes[n.name]
		if ns == nil || !ns.bad() {
			continue
		}
		if with := st.Nodes[n.instead]; with != nil && (with.State == running || with.State == done) {
			continue
		}
		ns.State, ns.Error = waiting, ""
	}
	for _, ns := range st.Nodes {
		if ns.State == skipped {
			ns.State = waiting
		}
	}
}

// begun notes that a node runs as a strand.
func (n *nodeState) begun(strand string) { *n = nodeState{State: running, Strand: strand} }

// ended notes the end of a node's strand.
func (st *state) ended(c worker.Child) {
	for _, n := range st.Nodes {
		if n.State != running || n.Strand != c.ID {
			continue
		}
		if n.ended(c); st.size() > MaxState {
			*n = nodeState{State: failed, Strand: n.Strand, Error: fmt.Sprintf(
				"with its value, the state of the workflow would have more than %d bytes; keep large data elsewhere", MaxState)}
		}
	}
}

// size is about what the state takes.
func (st *state) size() int {
	size := len(st.Args)
	for _, n := range st.Nodes {
		size += len(n.Value)
		for _, v := range n.Partial {
			size += len(v)
		}
	}
	return size
}

func (n *nodeState) ended(c worker.Child) {
	switch c.State {
	case worker.ChildDone:
		end, err := worker.Decode[nodeState](c.Value)
		if known := []string{done, failed, cancelled}; err == nil && !slices.Contains(known, end.State) {
			err = fmt.Errorf("the state %q is not one of %s", end.State, strings.Join(known, ", "))
		}
		if err != nil {
			n.State, n.Error = failed, fmt.Sprintf("its strand %s ended with what is no end of a node: %v", c.ID, err)
			return
		}
		end.Strand = c.ID
		*n = end
	case worker.ChildCancelled:
		n.State, n.Error = cancelled, fmt.Sprintf("its strand %s was cancelled", c.ID)
	default:
		n.State, n.Error = failed, fmt.Sprintf("its strand %s is dead", c.ID)
	}
}

// lost notes that no strand of a node lives, nor is an end of one to come: the workflow was cancelled with it.
func (st *state) lost() {
	for _, n := range st.Nodes {
		if n.State == running {
			n.State, n.Error = failed, fmt.Sprintf("the end of its strand %s is not known, as the workflow had ended meanwhile", n.Strand)
		}
	}
}

// values are those of all nodes that are done.
func (st *state) values() map[string]json.RawMessage {
	values := make(map[string]json.RawMessage)
	for name, n := range st.Nodes {
		if n.State == done {
			values[name] = n.Value
		}
	}
	return values
}
