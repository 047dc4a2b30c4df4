package workflow_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/respirated/respirated/worker"
	"github.com/respirated/respirated/worker/workflow"
)

// Parcel is a workflow: its items are picked, packed into boxes, and sent.
type Parcel struct {
	Items []string `json:"items"`
}

func (Parcel) Kind() string { return "parcel" }

// Pick, Pack and Send are what it consists of.
type (
	Pick struct {
		Items []string `json:"items"`
	}
	Pack struct {
		Item string `json:"item"`
	}
	Send struct {
		Boxes []string `json:"boxes"`
	}
)

func (Pick) Kind() string { return "pick" }
func (Pack) Kind() string { return "pack" }
func (Send) Kind() string { return "send" }

func parcel() *workflow.Workflow[Parcel] {
	w := workflow.New[Parcel]()
	w.Node("pick", func(ctx context.Context, in workflow.In[Parcel]) (worker.Args, *worker.InsertOpts, error) {
		return Pick{in.Args.Items}, &worker.InsertOpts{MaxTries: 3}, nil
	})
	w.Each("pack", func(ctx context.Context, in workflow.In[Parcel]) (boxes []workflow.Child, err error) {
		items, err := workflow.Result[[]string](in, "pick")
		for _, item := range items {
			boxes = append(boxes, workflow.Child{Args: Pack{item}})
		}
		return boxes, err
	}).After("pick")
	w.Node("send", func(ctx context.Context, in workflow.In[Parcel]) (worker.Args, *worker.InsertOpts, error) {
		boxes, err := workflow.Result[[]string](in, "pack")
		return Send{boxes}, nil, err
	}).After("pack")
	return w
}

// The three kinds are served by programs as any other.
func parcelMux() *worker.Mux {
	mux := worker.NewMux()
	workflow.Add(mux, parcel())
	worker.AddProg(mux, worker.Prog[Pick]{Labels: map[string]worker.Label[Pick]{
		"start": func(ctx context.Context, s *worker.Strand[Pick]) (worker.Outcome, error) {
			return worker.Exit(s.Args.Items), nil
		},
	}})
	worker.AddProg(mux, worker.Prog[Pack]{Labels: map[string]worker.Label[Pack]{
		"start": func(ctx context.Context, s *worker.Strand[Pack]) (worker.Outcome, error) {
			return worker.Exit("box of " + s.Args.Item), nil
		},
	}})
	worker.AddProg(mux, worker.Prog[Send]{Labels: map[string]worker.Label[Send]{
		"start": func(ctx context.Context, s *worker.Strand[Send]) (worker.Outcome, error) {
			return worker.Exit(len(s.Args.Boxes)), nil
		},
	}})
	return mux
}

// The example runs it with a broker whose store is in memory.
func Example() {
	h, err := newHost(parcelMux())
	if err != nil {
		fmt.Println(err)
		return
	}
	id, err := h.insert("parcel", `{"items":["hat","tie"]}`, `{"keep":true}`)
	end, err2 := h.end(id)
	fmt.Println(end.State, string(end.Value))
	if err := errors.Join(err, err2, h.stop()); err != nil {
		fmt.Println(err)
	}
	// Output: done {"pack":["box of hat","box of tie"],"pick":["hat","tie"],"send":2}
}

// What a definition has wrong is said when it is added.
func ExampleAddSafely() {
	w := workflow.New[Parcel]()
	pick := func(context.Context, workflow.In[Parcel]) (worker.Args, *worker.InsertOpts, error) {
		return Pick{}, nil, nil
	}
	w.Node("pick", pick).After("send")
	w.Node("send", pick).After("pick")
	fmt.Println(workflow.AddSafely(worker.NewMux(), w))
	// Output: add the workflow of workflow_test.Parcel: nodes come after each other in a cycle: pick after send after pick
}
