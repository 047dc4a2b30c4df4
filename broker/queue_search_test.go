package broker

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/respirated/respirated/protocol"
)

// In a world of queues there is one strand in each of two, and two workers of one kind: one may take strands of the first queue
// alone, the other of both, until its pool is changed. Whoever gets a strand may take its queue.

// newQueueWorld may take at once what a hint tells of, as most brokers may.
func newQueueWorld(faults int) *world {
	w := newWorld(2, 2, faults, 1)
	w.takes, w.changes = true, 1
	w.schedule = newSchedule(ID{1}, [32]byte{1}, w.limits())
	for i, queue := range []string{"a", "b"} {
		w.rows[i].queue, w.rows[i].naps = queue, 1
	}
	w.workers[0].terms, w.workers[1].terms = of("a"), of("a", "b")
	for _, m := range w.workers {
		m.stack = nil
	}
	return w
}

func (r *row) in() Queue { return Queue{Name: r.queue} }

// queueMoves: the second pool is for the second queue alone from now on, and the broker hears of it.
func (w *world) queueMoves(add func(string, func(*world))) {
	if w.changes == 0 {
		return
	}
	add("a pool gets other queues", func(w *world) {
		w.changes--
		m := w.workers[1]
		m.terms = of("b")
		w.step(amended{m.key(), m.terms})
		w.amendHello(m)
	})
}

// amendHello has a hello that is not read yet be taken in on the terms of then, as the loop does.
func (w *world) amendHello(m *modelWorker) {
	m.up = slices.Clone(m.up)
	for i, ev := range m.up {
		if hello, greets := ev.(greeted); greets {
			hello.terms = m.terms
			m.up[i] = hello
		}
	}
}

// checkSentQueue: what was leased before a change is not sent after it.
func (w *world) checkSentQueue(m *modelWorker, message protocol.ToWorker) {
	strands, some := message.(*protocol.Strands)
	if !some || m.terms.Queues == nil {
		return
	}
	for _, st := range strands.Strands {
		id := pairOf(st.ID, st.Token).ID
		if !slices.Contains(m.terms.Queues, w.row(id).in()) {
			w.fail(fmt.Sprintf("strand %d is sent to %s, whose pool may not take its queue", id[0], m.name))
		}
	}
}

func TestExhaustiveQueues(t *testing.T) {
	if os.Getenv("RESPIRATE_MUTANTS") == "" {
		t.Skip("scripts/search runs it: it takes half a minute with the race detector")
	}
	start := time.Now()
	states := explore(t, newQueueWorld(0), 5_000_000)
	t.Logf("2 strands in the queues of two workers, one of which gets others: %d states visited in %v", states, time.Since(start).Round(time.Millisecond))
}
