package workflow

import (
	"context"
	"strings"
	"testing"

	"github.com/respirated/respirated/worker"
)

type order struct {
	N int `json:"n"`
}

func (order) Kind() string { return "order" }

type pointed struct{}

func (*pointed) Kind() string { return "pointed" }

func make1(context.Context, In[order]) (worker.Args, *worker.InsertOpts, error) {
	return order{}, nil, nil
}

// graph makes a workflow of lines such as "c after a b", "x instead of a", "b hold" and "d".
func graph(lines ...string) *Workflow[order] {
	w := New[order]()
	for _, line := range lines {
		word := strings.Fields(line)
		n := w.Node(word[0], make1)
		if len(word) == 1 {
			continue
		}
		switch word[1] {
		case "after":
			n.After(word[2:]...)
		case "else":
			n.Compensate(word[2])
		case "hold":
			n.OnFailure(Hold)
		case "skip":
			n.OnFailure(Skip)
		}
	}
	return w
}

func wantErrors(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", want)
	}
	for _, part := range want {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q, want one that says %q", err, part)
		}
	}
}

func TestMistakesOfADefinitionAreNamed(t *testing.T) {
	twice := graph("a", "b else a")
	twice.Node("c", make1).Compensate("a")
	both := graph("a", "b else a")
	both.nodes[1].OnFailure(Hold)
	loop := graph("a after c", "b else c", "c")
	loop.nodes[1].After("a")
	large := graph("a")
	large.nodes[0].MaxValue(MostValue + 1)
	for name, c := range map[string]struct {
		w    *Workflow[order]
		want []string
	}{
		"no nodes":                 {graph(), []string{"add the workflow of workflow.order: it has 0 nodes"}},
		"a name twice":             {graph("a", "b", "a"), []string{`there are two nodes "a"`}},
		"a name that is no name":   {graph("a", "b\x01"), []string{"the name of a node has a control character"}},
		"after no node":            {graph("a", "b after x y"), []string{`node "b" comes after "x", which is no node`, `"y"`}},
		"instead no node":          {graph("a else x"), []string{`node "a" is compensated by "x", which is no node`}},
		"instead of two":           {twice, []string{`node "a" compensates both "b" and "c"`}},
		"two policies":             {both, []string{`node "b" has both OnFailure and Compensate`}},
		"a large value":            {large, []string{`node "a" has a MaxValue of 262145, at most 262144 are possible`}},
		"a cycle":                  {graph("a", "b after a d", "c after b", "d after c"), []string{"in a cycle: b after d after c after b"}},
		"after itself":             {graph("a after a"), []string{"in a cycle: a after a"}},
		"a cycle by compensation":  {loop, []string{"in a cycle: a after c after b after a"}},
		"a compensation of itself": {graph("a else a"), []string{"in a cycle: a after a"}},
	} {
		t.Run(name, func(t *testing.T) { wantErrors(t, AddSafely(worker.NewMux(), c.w), c.want...) })
	}
	none := New[order]()
	none.Node("a", nil)
	none.Each("b", nil)
	wantErrors(t, AddSafely(worker.NewMux(), none), `node "a" has no function`, `node "b" has no function`)
	pointer := New[*pointed]()
	pointer.Each("a", func(context.Context, In[*pointed]) ([]Child, error) { return nil, nil })
	wantErrors(t, AddSafely(worker.NewMux(), pointer), "its args have to be a struct, not a *workflow.pointed")
}

func TestAddTakesBothKindsAndPanicsWhereTheyAreTaken(t *testing.T) {
	mux := worker.NewMux()
	Add(mux, graph("a", "b after a"))
	if got := strings.Join(mux.Kinds(), " "); got != "order order.node" {
		t.Errorf("kinds %s", got)
	}
	defer func() {
		if v := recover(); v == nil {
			t.Error("no panic")
		}
	}()
	Add(mux, graph("a"))
}

func TestNodesStandBehindAllTheyComeAfter(t *testing.T) {
	w := graph("d after b c", "c after a", "b after a", "x", "a else y", "y after x")
	for range 2 { // of two muxes
		if err := w.check(); err != nil {
			t.Fatal(err)
		}
	}
	place := make(map[string]int)
	for i, n := range w.nodes {
		place[n.name] = i
	}
	for _, n := range w.nodes {
		for _, before := range n.before() {
			if place[before] > place[n.name] {
				t.Errorf("%s stands before %s", n.name, before)
			}
		}
	}
}
