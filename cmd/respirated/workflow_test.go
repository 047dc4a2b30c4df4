package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/respirated/respirated/client"
	"github.com/respirated/respirated/cmd/internal/demo"
)

// A workflow of a wide fan-out, while its daemon and a worker are killed in the middle: its last child fails, which names the node,
// and when the cause is gone and the workflow is retried, nothing but that child and what comes after it is run.
func TestAWorkflowOutlivesItsWorkersAndIsResumed(t *testing.T) {
	t.Parallel()
	h := newHost(t, migrated(t), demoWorkers(t, 4)...)
	h.start()
	size := inShort(1000)
	gate := filepath.Join(h.dir, "gate", "ledger") // in a folder that is not there yet
	flow, err := h.db.Insert(t.Context(), demo.Batch{Path: h.ledger, Gate: gate, Size: size, For: demo.Duration(5 * time.Millisecond)},
		&client.InsertOpts{Keep: true})
	if err != nil {
		t.Fatal(err)
	}
	h.awaitLines(size / 3)
	h.kill()
	h.start()
	h.awaitLines(size / 2)
	killed := h.workers(4)[0]
	if err := syscall.Kill(killed, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	h.awaitState(flow.ID, client.Dead)

	failures := h.list("select message from respirate.attempts where strand = '" + flow.ID + "' and outcome <> 'crashed'")
	want := fmt.Sprintf(`node "many" failed: 1 of %d children: strand `, size)
	if len(failures) != 1 || !strings.Contains(failures[0], want) {
		t.Errorf("failures %q, want one that says %q", failures, want)
	}
	states := h.list("select node.key || ' ' || (node.value ->> 'state') from respirate.finished, jsonb_each(stack -> 0 -> 'nodes') node where kind = 'batch' order by 1")
	if got := strings.Join(states, ", "); got != "close waiting, many failed, open done" {
		t.Errorf("the nodes in the row: %s", got)
	}
	if got := len(h.lines()); got != size { // and the first node, without the one that has failed
		t.Errorf("%d strands have run, want %d", got, size)
	}

	if err := os.Mkdir(filepath.Dir(gate), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := h.db.StrandRetry(t.Context(), flow.ID); err != nil {
		t.Fatal(err)
	}
	h.awaitState(flow.ID, client.Done)
	if text, err := os.ReadFile(gate); err != nil || strings.Count(string(text), "\n") != 1 {
		t.Errorf("%v: the gate has %q, want one line", err, text)
	}
	ran := h.lines()
	if len(ran) != size+1 {
		t.Errorf("%d strands have run, want %d", len(ran), size+1)
	}
	for id, pids := range ran { // again only what the killed worker had run, and not reported
		if len(pids) > 2 || len(pids) == 2 && pids[0] != killed {
			t.Errorf("strand %s ran in %v; %d was killed", id, pids, killed)
		}
	}
	if live := h.count("select count(*) from respirate.strands"); live != 0 {
		t.Errorf("%d strands are still live", live)
	}
}

func TestACancelledWorkflowLeavesNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t, migrated(t), demoWorkers(t, 2)...)
	h.start()
	size := inShort(1000)
	flow, err := h.db.Insert(t.Context(), demo.Batch{Path: h.ledger, Size: size, For: demo.Duration(20 * time.Millisecond)}, &client.InsertOpts{Keep: true})
	if err != nil {
		t.Fatal(err)
	}
	h.awaitLines(size / 10)
	if _, err := h.db.StrandCancel(t.Context(), flow.ID); err != nil {
		t.Fatal(err)
	}
	h.awaitState(flow.ID, client.Cancelled)
	h.eventually("nothing is live", func() bool { return h.count("select count(*) from respirate.strands") == 0 })
	if got := len(h.lines()); got > size {
		t.Errorf("%d strands have run of %d, and one after them", got, size)
	}
}
