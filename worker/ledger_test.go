package worker

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/respirated/respirated/protocol"
)

// ledger is a kind whose runs are counted.
type ledger struct{ N int }

func (ledger) Kind() string { return "ledger" }

// 10,000 strands of two labels go through a broker whose connections break at the worst moments: within a frame, after the
// strands were leased, before and after a result was stored, before and after a word to go on. Every label has to run once,
// and its result to be stored once.
func TestResultsLandExactlyOnceOverBrokenConnections(t *testing.T) {
	const strands = 10_000
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	inBubble(t, func(t *testing.T, b *bench) {
		ran := make(map[string]int)
		var mu sync.Mutex // guards ran
		label := func(next Outcome) Label[ledger] {
			return func(_ context.Context, s *Strand[ledger]) (Outcome, error) {
				time.Sleep(time.Duration(len(s.ID)+int(s.ID[0])) * 10 * time.Microsecond)
				mu.Lock()
				defer mu.Unlock()
				ran[s.ID+s.Label]++
				return next, nil
			}
		}
		AddProg(b.mux, Prog[ledger]{Labels: map[string]Label[ledger]{"start": label(Hop("last")), "last": label(Exit(nil))}})
		b.cfg.Slots = 10
		b.start()
		broker := newLedgerBroker(t, seed, strands)
		for broker.left > 0 {
			broker.serve(b.accept())
		}
		last := b.accept() // at leisure: the worker may hold results whose acks were cut off
		broker.calm = true
		served := make(chan struct{})
		go func() {
			broker.serve(last)
			close(served)
		}()
		b.stop()
		if err := b.ended(); err != nil {
			t.Errorf("Run: %v", err)
		}
		last.cut()
		<-served

		for id, l := range broker.leases {
			if first, last := ran[id+"start"], ran[id+"last"]; l.hops != 1 || l.exits != 1 || first != 1 || last != 1 {
				t.Errorf("strand %s: ran %d and %d times, stored %d and %d times; want once each", id, first, last, l.hops, l.exits)
			}
		}
		t.Logf("%d strands over %d connections; %d results came again, %d were put off, %d strands went on, %d of them unheard", strands,
			broker.connections, broker.dups, broker.laters, broker.goes, broker.unheard)
		if broker.connections < 50 || broker.dups == 0 || broker.laters == 0 || broker.goes < strands/4 || broker.unheard == 0 {
			t.Error("the test did not disturb what it should")
		}
	})
}

// ledgerBroker plays the broker and its database for a single worker.
type ledgerBroker struct {
	t      *testing.T
	rand   *rand.Rand
	calm   bool              // no more cuts
	ready  []string          // ids to be leased
	leases map[string]*lease // by id
	held   int               // leases of the worker
	left   int               // strands not stored yet

	connections, dups, laters, goes, unheard int
}

// lease is a strand as its row would say.
type lease struct {
	token       string // of its last lease
	seq         uint64 // of the last result under that which went on
	held        bool
	hops, exits int // that were stored
}

func (l *lease) label() string {
	if l.hops == 0 {
		return StartLabel
	}
	return "last"
}

func newLedgerBroker(t *testing.T, seed uint64, n int) *ledgerBroker {
	b := &ledgerBroker{t: t, rand: rand.New(rand.NewPCG(seed, 2)), leases: make(map[string]*lease), left: n}
	for range n {
		id := protocol.NewID()
		b.leases[id] = &lease{}
		b.ready = append(b.ready, id)
	}
	return b
}

// serve talks with the worker until it cuts the connection, at the latest when all is stored.
func (b *ledgerBroker) serve(p *peer) {
	b.connections++
	m, ok := <-p.in
	if !ok && b.calm {
		return // it was asked to stop before it had said hello, and then has nothing left to tell
	}
	hello, ok := m.(*protocol.Hello)
	if !ok {
		b.t.Errorf("a connection begins with %T (%v), want a hello", m, p.err)
		p.cut()
		return
	}
	p.welcome(hello)
	b.reconcile(p, hello.Hold)
	want := 0
	for m := range p.in {
		switch m := m.(type) {
		case *protocol.Want:
			want = int(m.N)
		case *protocol.Results:
			if b.cutNow(p) {
				return // not stored, not acked
			}
			ack := b.store(m)
			if b.cutNow(p) {
				return // stored, not acked
			}
			p.send(ack)
		}
		if b.left == 0 && !b.calm {
			p.cut()
			return
		}
		if !b.handOut(p, want) {
			return
		}
	}
}

// cutNow cuts the connection, sometimes.
func (b *ledgerBroker) cutNow(p *peer) bool {
	if b.calm || b.rand.IntN(40) != 0 {
		return false
	}
	p.cut()
	return true
}

// reconcile settles what the worker says it holds with what we know. What it does not name never reached it.
func (b *ledgerBroker) reconcile(p *peer, holds []protocol.Hold) {
	named := make(map[string]bool)
	for _, h := range holds {
		named[h.Token] = true
		if l := b.leases[h.Strand]; l.held && l.token == h.Token {
			p.send(&protocol.Lease{Leases: []protocol.Deadline{{Strand: h.Strand, Token: h.Token,
				DeadlineNS: bubbleClock() + int64(2*time.Minute), TTLMS: 120_000}}})
		} else if b.rand.IntN(2) == 0 { // else its result comes again, and is a duplicate
			p.send(&protocol.Cancel{Cancels: []protocol.Stop{{Strand: h.Strand, Token: h.Token, Why: protocol.StopLost}}})
		}
	}
	for id, l := range b.leases {
		if l.held && !named[l.token] {
			b.free(id)
		}
	}
}

// store applies results as a commit would, and returns their ack.
func (b *ledgerBroker) store(m *protocol.Results) *protocol.Ack {
	ack := &protocol.Ack{Re: m.ID}
	for _, r := range m.Results {
		entry := protocol.AckEntry{Strand: r.Strand, Token: r.Token, Seq: r.Seq, State: b.verdict(&r)}
		switch {
		case entry.State == protocol.AckLater:
			entry.RetryMS = 20
			b.laters++
		case entry.State == protocol.AckApplied && b.leases[r.Strand].held:
			entry.Next = protocol.NextGo
			b.goes++
		}
		ack.Entries = append(ack.Entries, entry)
	}
	return ack
}

func (b *ledgerBroker) verdict(r *protocol.Result) string {
	l := b.leases[r.Strand]
	switch {
	case l.token != r.Token:
		return protocol.AckStale
	case !l.held:
		b.dups++
		return protocol.AckDup
	case r.Seq <= l.seq: // it went on, and the word was lost: the worker will forget it
		b.dups++
		b.unheard++
		b.free(r.Strand)
		return protocol.AckDup
	case !b.calm && b.rand.IntN(50) == 0:
		return protocol.AckLater
	}
	switch r.Act {
	case protocol.ActExit:
		l.held = false
		b.held--
		l.exits++
		b.left--
	case protocol.ActHop:
		l.hops++
		if r.Chain && b.rand.IntN(4) > 0 {
			l.seq = r.Seq
			break
		}
		b.free(r.Strand)
	default: // a release
		b.free(r.Strand)
	}
	return protocol.AckApplied
}

// free makes a strand that was held ready.
func (b *ledgerBroker) free(id string) {
	b.leases[id].held = false
	b.held--
	b.ready = append(b.ready, id)
}

// handOut leases until the worker has what it wants. It reports whether the connection is still there.
func (b *ledgerBroker) handOut(p *peer, want int) bool {
	m := &protocol.Strands{}
	for free := want - b.held; free > 0 && len(b.ready) > 0; free-- {
		id := b.ready[0]
		b.ready = b.ready[1:]
		l := b.leases[id]
		l.held, l.token, l.seq = true, protocol.NewID(), 0
		b.held++
		m.Strands = append(m.Strands, protocol.Strand{ID: id, Token: l.token, Kind: "ledger", Label: l.label(), Args: []byte(`{"N":1}`),
			Queue: "default", Try: 1, MaxTries: 25, CreatedMS: 1, DeadlineNS: bubbleClock() + int64(2*time.Minute), TTLMS: 120_000})
	}
	if len(m.Strands) == 0 {
		return true
	}
	frame, err := protocol.Append(nil, m)
	if err != nil {
		b.t.Fatal(err)
	}
	part := b.rand.IntN(len(frame))
	_, err = p.conn.Write(frame[:part])
	if err != nil || b.cutNow(p) {
		return false // leased, but the worker knows nothing of it
	}
	_, err = p.conn.Write(frame[part:])
	return err == nil
}
