// Package workflow makes a program of package worker from a graph of nodes: a node starts when those before it are done,
// and may use their results.
//
//	w := workflow.New[Order]()
//	w.Node("pick", func(ctx context.Context, in workflow.In[Order]) (worker.Args, *worker.InsertOpts, error) {
//		return Pick{in.Args.Items}, &worker.InsertOpts{MaxTries: 3}, nil
//	})
//	w.Each("pack", func(ctx context.Context, in workflow.In[Order]) ([]workflow.Child, error) {
//		picked, err := workflow.Result[[]string](in, "pick")
//		...
//	}).After("pick")
//	workflow.Add(mux, w)
//
// A workflow is a strand of the kind of its args, inserted as any other. Its nodes become strands of whatever kinds their
// functions say, with options of their own: a child's MaxTries are its tries. What they exit with is the result of the node;
// of [Workflow.Each], a list of them.
//
// # How it works
//
//	the workflow, kind "order"          a node, kind "order.node"           its children, kinds of their own
//	state of all nodes        ── bud ─▶ label "pack": its function,  ─ bud ─▶ box 1
//	starts what may start     ◀─ ends ─ waits for all children       ◀ ends ─ box 2
//
// Between the workflow and its children is one strand for each node that has started. It runs the node's function, so that an
// error there is retried on its own, up to the MaxTries of the workflow's strand; and it tells the workflow when its last child has
// ended, so that no node waits for what it does not come after. If it dies itself, or is cancelled, its workflow is woken as well.
// The process that runs a workflow serves both kinds.
//
// # When something fails
//
// A node fails when a child ends dead, or when its function cannot make its children; it is cancelled when its children are. What
// follows is its [Policy]. By default nothing new starts, what runs is waited for, and the strand of the workflow ends dead,
// with an error that names the node. It is resumed by retrying that strand (respirated strand retry), or by the signal
// "resume" while it lives: what has failed runs again, also of a fan-out only the children that have failed, and what is done
// stays done. Retry the workflow and not a child: nobody waits any more for the end of one that is brought back.
//
// Who cancels the workflow cancels everything below it. The signal "destroy" means nothing to it.
//
// # The state
//
// The frame of the workflow's strand tells how far it is: the first element of the column stack, which
// `respirated strand show` prints, of live strands and of those in the history, as dead ones are.
//
//	{"args": {"items": ["hat"]},
//	 "nodes": {
//	   "pick": {"state": "done", "strand": "6ba7…", "value": ["hat"]},
//	   "pack": {"state": "running", "strand": "7cb8…"},
//	   "send": {"state": "waiting"}}}
//
// This form is stable: keys may be added. A state is waiting, running, done, failed, cancelled or skipped. strand is the one
// of the node, as of its start; its own frame has its children by id, with their places in the list, under "children". error says
// why a node has failed; size and partial, how many children it had, and the values of those that were done, by place.
//
//	select id, node.key, node.value ->> 'state' from respirate.strands, jsonb_each(stack -> 0 -> 'nodes') node where kind = 'order'
//
// All that travels has to fit into a frame of the protocol, so the value of a node has at most 64 KiB ([MaxValue]), and args and
// values of a workflow 400 KiB in all ([MaxState]). A node whose value is larger fails and says so: keep large data elsewhere,
// and its name here.
//
// A workflow whose strand dies of anything but a failed node, as by ending three workers, hears of nodes that ended meanwhile when
// it is brought back. One that was cancelled does not: its nodes were cancelled with it. They have failed then, with an error that
// says that their end is not known, and are run again if it is resumed.
//
// # Other builds
//
// A node that a new build adds is run by workflows that are under way, too. One that it no longer has is waited for if
// it runs, and not started. A node at work that this build does not know waits until a worker has it.
package workflow
