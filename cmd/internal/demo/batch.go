package demo

import (
	"context"

	"github.com/respirated/respirated/worker"
	"github.com/respirated/respirated/worker/workflow"
)

// Batch is a workflow that leaves proof of each of its strands: a Ledger, then as many as Size at once, then one more. The
// last of the many writes to Gate, and has one try.
type Batch struct {
	Path string   `json:"path"`
	Gate string   `json:"gate,omitempty"` // "" = Path
	Size int      `json:"size"`
	For  Duration `json:"for,omitempty"` // how long each takes
}

// Kind is "batch".
func (Batch) Kind() string { return "batch" }

func batch() *workflow.Workflow[Batch] {
	w := workflow.New[Batch]()
	single := func(_ context.Context, in workflow.In[Batch]) (worker.Args, *worker.InsertOpts, error) {
		return Ledger{Path: in.Args.Path, For: in.Args.For}, nil, nil
	}
	w.Node("open", single)
	w.Each("many", func(_ context.Context, in workflow.In[Batch]) (all []workflow.Child, err error) {
		for n := range in.Args.Size {
			c := workflow.Child{Args: Ledger{Path: in.Args.Path, For: in.Args.For}}
			if n == in.Args.Size-1 && in.Args.Gate != "" {
				c = workflow.Child{Args: Ledger{Path: in.Args.Gate}, Opts: &worker.InsertOpts{MaxTries: 1}}
			}
			all = append(all, c)
		}
		return all, nil
	}).After("open")
	w.Node("close", single).After("many")
	return w
}
