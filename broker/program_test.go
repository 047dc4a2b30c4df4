package broker_test

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/brokertest"
	"github.com/respirated/respirated/protocol"
)

// A program's conversation, word by word: a worker that speaks the protocol by hand, the real broker, a store in memory.

// await is the next message of a kind. Others that come before it wait to be asked for: an ack, say, may come before or after a
// strand that is due by what it answers.
func await[T protocol.ToWorker](k *talker) T {
	k.t.Helper()
	for i := 0; ; i++ {
		if i == len(k.waiting) {
			m, err := k.hear()
			if err != nil {
				k.t.Fatalf("the broker hung up: %v; waiting: %+v", err, k.waiting)
			}
			k.waiting = append(k.waiting, m)
		}
		if wanted, ok := k.waiting[i].(T); ok {
			k.waiting = slices.Delete(k.waiting, i, i+1)
			return wanted
		}
	}
}

// report sends a result, and returns the one entry that answers it.
func (k *talker) report(id uint64, of protocol.Strand, r protocol.Result) protocol.AckEntry {
	k.t.Helper()
	r.Strand, r.Token = of.ID, of.Token
	k.say(&protocol.Results{ID: id, Results: []protocol.Result{r}})
	ack := await[*protocol.Ack](k)
	if ack.Re != id || len(ack.Entries) != 1 || ack.Entries[0].Seq != r.Seq {
		k.t.Fatalf("ack %+v, want the answer to result %d of frame %d", ack, r.Seq, id)
	}
	return ack.Entries[0]
}

// goes fails unless the strand goes on with such an inbox. When a semaphore came, and which id it got, is its own affair.
func (k *talker) goes(e protocol.AckEntry, want *protocol.Inbox) (used []uint64) {
	k.t.Helper()
	if e.State != protocol.AckApplied || e.Next != protocol.NextGo {
		k.t.Fatalf("ack %+v, want it to go on", e)
	}
	if e.Inbox != nil {
		for i := range e.Inbox.Semaphores {
			s := &e.Inbox.Semaphores[i]
			used = append(used, s.ID)
			s.ID, s.SentMS = 0, 0
		}
	}
	if diff := cmp.Diff(want, e.Inbox); diff != "" {
		k.t.Fatalf("what waits (-want +got):\n%s", diff)
	}
	return used
}

func TestProgramGoesFromLabelToLabelUnderOneLease(t *testing.T) {
	store := brokertest.NewStore(time.Now)
	h := serve(t, store, filepath.Join(socketDir(t), "d", "s.sock"), broker.Config{})
	ids := insert(t, store, "echo", 1)
	k := h.talk().say(hello(), &protocol.Want{N: 2})
	parent := await[*protocol.Strands](k).Strands[0]

	k.say(&protocol.Call{ID: 2, Method: protocol.MethodSignal, Signals: []protocol.Signal{
		{Strand: parent.ID, Name: "poke", Value: []byte(`{"n": 1}`)}, {Strand: broker.ID{1}.String(), Name: "poke"},
	}})
	if reply := await[*protocol.Reply](k); reply.Err != nil || !cmp.Equal(reply.Found, []bool{true, false}) {
		t.Fatalf("reply %+v, want the first strand found", reply)
	}
	used := k.goes(k.report(3, parent, protocol.Result{
		Seq: 1, Act: protocol.ActHop, Label: "next", Chain: true, Signals: []protocol.Signal{{Name: "note to self"}},
		Due: &protocol.Due{Target: "end", MS: 60_000},
	}), &protocol.Inbox{Semaphores: []protocol.Semaphore{{Name: "poke", Value: []byte(`{"n": 1}`)}, {Name: "note to self"}}})

	child := broker.ID{2, 15: 2}.String()
	k.goes(k.report(4, parent, protocol.Result{
		Seq: 2, Act: protocol.ActNap, Chain: true, Used: used, Inserts: []protocol.Insert{{Key: child, Kind: "echo", Args: []byte("{}"), Child: true}},
	}), &protocol.Inbox{Left: 1})

	bud := await[*protocol.Strands](k).Strands[0]
	if e := k.report(5, bud, protocol.Result{Seq: 1, Act: protocol.ActExit, Value: []byte("7")}); bud.ID != child || e.Next != "" {
		t.Fatalf("strand %s is answered %+v, want the child ended", bud.ID, e)
	}
	k.goes(k.report(6, parent, protocol.Result{Seq: 3, Act: protocol.ActHop, Label: "end", Chain: true}),
		&protocol.Inbox{Ended: []protocol.Ended{{Strand: child, Kind: "echo", State: protocol.EndedDone, Value: []byte("7")}}})
	if e := k.report(7, parent, protocol.Result{Seq: 4, Act: protocol.ActExit, Reaped: []string{child}}); e.State != protocol.AckApplied || e.Next != "" {
		t.Errorf("ack %+v, want the end", e)
	}
	if !allFinished(store, ids, brokertest.Done)() {
		t.Error("the parent is not done")
	}
}

// TestGoThatWasLostGivesTheStrandBack: the connection ends before the worker has read that it may go on.
func TestGoThatWasLostGivesTheStrandBack(t *testing.T) {
	store := brokertest.NewStore(time.Now)
	h := serve(t, store, filepath.Join(socketDir(t), "d", "s.sock"), broker.Config{})
	insert(t, store, "echo", 1)
	k := h.talk().say(hello(), &protocol.Want{N: 1})
	strand := await[*protocol.Strands](k).Strands[0]
	hop := protocol.Result{Seq: 1, Act: protocol.ActHop, Label: "next", Chain: true}
	k.goes(k.report(2, strand, hop), nil)
	k.conn.Close()

	again := hello()
	again.Hold = []protocol.Hold{{Strand: strand.ID, Token: strand.Token, Kind: "echo", State: protocol.HoldDone}}
	k = h.talk().say(again, &protocol.Want{N: 1})
	if e := k.report(2, strand, hop); e.State != protocol.AckDup || e.Next != "" {
		t.Errorf("ack %+v, want a copy that is not gone on after", e)
	}
	next := await[*protocol.Strands](k).Strands[0]
	if next.ID != strand.ID || next.Token == strand.Token || next.Label != "next" || next.Try != 1 {
		t.Errorf("strand %+v, want the same at its next label, under another token", next)
	}
	if e := k.report(3, strand, protocol.Result{Seq: 2, Act: protocol.ActExit}); e.State != protocol.AckStale {
		t.Errorf("ack %+v, want what comes under the old token refused", e)
	}
	if e := k.report(4, next, protocol.Result{Seq: 1, Act: protocol.ActExit}); e.State != protocol.AckApplied {
		t.Errorf("ack %+v, want the end", e)
	}
}
