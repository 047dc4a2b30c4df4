package workflow

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/respirated/respirated/worker"
)

// bench is a workflow whose nodes run by the word of a test.
type bench struct {
	t     *testing.T
	w     *Workflow[order]
	state *state
}

func newBench(t *testing.T, lines ...string) *bench {
	b := &bench{t, graph(lines...), &state{Nodes: make(map[string]*nodeState)}}
	if err := b.w.check(); err != nil {
		t.Fatal(err)
	}
	return b
}

// next starts what may start, and checks what that is and where the workflow goes on: "" = it waits.
func (b *bench) next(start, label string) {
	b.t.Helper()
	got := b.w.advance(b.state)
	for _, name := range got {
		b.state.Nodes[name].begun("strand of " + name)
	}
	slices.Sort(got)
	if s := strings.Join(got, " "); s != start {
		b.t.Errorf("starts %q, want %q", s, start)
	}
	if l := b.w.stage(b.state); l != label {
		b.t.Errorf("goes on at %q, want %q", l, label)
	}
}

// end ends a node.
func (b *bench) end(name, as string) {
	c := worker.Child{ID: "strand of " + name, State: worker.ChildDone}
	switch as {
	case done:
		c.Value = []byte(`{"state":"done","value":1}`)
	case failed:
		c.Value = []byte(`{"state":"failed","error":"oh","size":3,"partial":{"1":7}}`)
	default:
		c.State = as
	}
	b.state.ended(c)
}

// are checks the states of all nodes, as "a=done b=waiting".
func (b *bench) are(want string) {
	b.t.Helper()
	var all []string
	for name, n := range b.state.Nodes {
		all = append(all, name+"="+n.State)
	}
	slices.Sort(all)
	if got := strings.Join(all, " "); got != want {
		b.t.Errorf("nodes %s, want %s", got, want)
	}
}

func TestANodeStartsWhenAllBeforeItAreDone(t *testing.T) {
	b := newBench(t, "a", "b after a", "c after a", "d after b c", "x")
	b.next("a x", "")
	b.end("a", done)
	b.next("b c", "")
	b.end("c", done)
	b.next("", "")
	b.end("b", done)
	b.next("d", "")
	b.end("d", done)
	b.next("", "")
	b.end("x", done)
	b.next("", "finish")
	b.are("a=done b=done c=done d=done x=done")
}

func TestAnotherEndOfANodeChangesNothing(t *testing.T) {
	b := newBench(t, "a")
	b.next("a", "")
	b.end("a", done)
	b.end("a", failed)
	b.state.ended(worker.Child{ID: "somebody else's", State: worker.ChildDead})
	b.are("a=done")
}

func TestAFailureStartsNothingNewAndWaitsForWhatRuns(t *testing.T) {
	b := newBench(t, "a", "b", "c after b", "d after a")
	b.next("a b", "")
	b.end("a", failed)
	b.next("", "")
	b.end("b", done)
	b.next("", "failed")
	b.are("a=failed b=done c=waiting d=waiting")
	if got := b.w.failure(b.state).Error(); got != `node "a" failed: oh; retry this strand to resume` {
		t.Errorf("failure %q", got)
	}
}

func TestTheResumedRunWhatHasFailedAndKeepWhatIsDone(t *testing.T) {
	b := newBench(t, "a", "b", "c after a b")
	b.next("a b", "")
	b.end("a", failed)
	b.end("b", done)
	b.next("", "failed")
	b.w.resume(b.state)
	if n := b.state.Nodes["a"]; n.Size != 3 || string(n.Partial[1]) != "7" || n.Error != "" {
		t.Errorf("node %+v, want it to know what was done", n)
	}
	b.next("a", "")
	b.end("a", done)
	b.next("c", "")
	b.end("c", done)
	b.next("", "finish")
}

func TestHoldGoesOnElsewhereAndThenWaitsForResume(t *testing.T) {
	b := newBench(t, "a hold", "b after a", "c", "d after c")
	b.next("a c", "")
	b.end("a", worker.ChildCancelled)
	b.end("c", done)
	b.next("d", "")
	b.end("d", done)
	b.next("", "")
	b.are("a=cancelled b=waiting c=done d=done")
	b.w.resume(b.state)
	b.next("a", "")
}

func TestSkipPassesOverWhatComesAfter(t *testing.T) {
	b := newBench(t, "a skip", "b after a", "c after b x", "x")
	b.next("a x", "")
	b.end("a", worker.ChildDead)
	b.next("", "")
	b.are("a=failed b=skipped c=skipped x=running")
	b.end("x", done)
	b.next("", "finish")
	b.w.resume(b.state)
	b.next("a", "")
	b.end("a", done)
	b.next("b", "")
}

func TestACompensationRunsInsteadOrIsSkipped(t *testing.T) {
	for as, want := range map[string]string{
		done:   "a=done b=running undo=skipped",
		failed: "a=failed b=skipped undo=running",
	} {
		b := newBench(t, "a else undo", "b after a", "undo")
		b.next("a", "")
		b.end("a", as)
		start := map[string]string{done: "b", failed: "undo"}[as]
		b.next(start, "")
		b.are(want)
		b.w.resume(b.state) // is too late for a
		b.next("", "")
		b.are(want)
		b.end(start, done)
		b.next("", "finish")
	}
}

func TestAFailedCompensationFailsTheWorkflowAndIsResumed(t *testing.T) {
	b := newBench(t, "a else undo", "undo")
	b.next("a", "")
	b.end("a", failed)
	b.next("undo", "")
	b.end("undo", failed)
	b.next("", "failed")
	b.w.resume(b.state) // both: what has not been undone may be tried again
	b.next("a", "")
	b.end("a", done)
	b.next("", "finish")
	b.are("a=done undo=skipped")
}

func TestTheEndOfAStrandThatNobodyKnowsIsAFailure(t *testing.T) {
	b := newBench(t, "a")
	b.next("a", "")
	b.state.lost()
	b.next("", "failed")
	wantErrors(t, b.w.failure(b.state), `node "a" failed: the end of its strand strand of a is not known`)
}

func TestAnEndThatIsNoneIsAFailure(t *testing.T) {
	for _, value := range []string{``, `{}`, `{"state":"running"}`, `[]`} {
		b := newBench(t, "a")
		b.next("a", "")
		b.state.ended(worker.Child{ID: "strand of a", State: worker.ChildDone, Value: []byte(value)})
		b.are("a=failed")
	}
}

func TestTheStateOfAWorkflowIsBounded(t *testing.T) {
	b := newBench(t, "a", "b")
	b.next("a b", "")
	for _, name := range []string{"a", "b"} {
		b.state.ended(worker.Child{ID: "strand of " + name, State: worker.ChildDone,
			Value: fmt.Appendf(nil, `{"state":"done","value":%q}`, strings.Repeat("v", MaxState*2/3))})
	}
	b.are("a=done b=failed")
	wantErrors(t, b.w.failure(b.state), `node "b" failed: with its value, the state of the workflow would have more than 409600 bytes`)
}

func TestNodesOfAnotherBuildAreAddedOrWaitedFor(t *testing.T) {
	b := newBench(t, "a", "new after a")
	b.state.Nodes["a"] = &nodeState{State: done}
	b.state.Nodes["old"] = &nodeState{State: running, Strand: "strand of old"}
	b.next("new", "")
	b.end("new", done)
	b.next("", "")
	b.end("old", done)
	b.next("", "finish")
}

func TestTheFormOfTheStateIsStable(t *testing.T) {
	b := newBench(t, "a", "b skip", "c after a b", "d after a")
	b.state.Args = []byte(`{"n":1}`)
	b.next("a b", "")
	b.end("b", failed)
	b.end("a", done)
	b.next("d", "")
	got, err := json.Marshal(b.state)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"args":{"n":1},"nodes":{"a":{"state":"done","strand":"strand of a","value":1},` +
		`"b":{"state":"failed","strand":"strand of b","error":"oh","size":3,"partial":{"1":7}},` +
		`"c":{"state":"skipped"},"d":{"state":"running","strand":"strand of d"}}}`
	if string(got) != want {
		t.Errorf("state %s\nwant  %s", got, want)
	}
}

func TestTheValueOfANodeIsBounded(t *testing.T) {
	f := nodeFrame[order]{Size: 2, Children: map[string]int{"x": 0, "y": 1}}
	f.ended(worker.Child{ID: "x", State: worker.ChildDone, Value: fmt.Appendf(nil, "%q", strings.Repeat("v", 58))}, 100)
	f.ended(worker.Child{ID: "y", Kind: "k", State: worker.ChildDone, Value: fmt.Appendf(nil, "%q", strings.Repeat("v", 39))}, 100)
	got := f.result(true)
	if got.State != failed || !strings.Contains(got.Error, `strand y of kind "k" exited with 41 bytes`) || len(got.Partial) != 1 {
		t.Errorf("node %+v", got)
	}
}

func TestTheEndOfANodeIsMadeOfTheEndsOfItsChildren(t *testing.T) {
	for _, c := range []struct {
		ends string // of its children: d, x = cancelled, f
		list bool
		want string
	}{
		{"d", false, `{"state":"done","value":0}`},
		{"ddd", true, `{"state":"done","value":[0,1,2]}`},
		{"", true, `{"state":"done","value":[]}`},
		{"x", false, `{"state":"cancelled","error":"strand 0 of kind \"k\" was cancelled","size":1}`},
		{"xfd", true, `{"state":"failed","error":"2 of 3 children: strand 0 of kind \"k\" was cancelled; strand 1 of kind \"k\" is dead","size":3,"partial":{"2":2}}`},
		{"fffff", true, `{"state":"failed","error":"5 of 5 children: strand 0 of kind \"k\" is dead; strand 1 of kind \"k\" is dead; strand 2 of kind \"k\" is dead","size":5}`},
	} {
		f := nodeFrame[order]{Size: len(c.ends), Children: map[string]int{}}
		for i := range c.ends {
			f.Children[fmt.Sprint(i)] = i
		}
		for i, end := range c.ends {
			state := map[rune]string{'d': worker.ChildDone, 'x': worker.ChildCancelled, 'f': worker.ChildDead}[end]
			f.ended(worker.Child{ID: fmt.Sprint(i), Kind: "k", State: state, Value: fmt.Append(nil, i)}, MaxValue)
			f.ended(worker.Child{ID: "a stranger", State: state}, MaxValue)
		}
		got, err := json.Marshal(f.result(c.list))
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %s, %v\nwant %s", c.ends, got, err, c.want)
		}
	}
}
