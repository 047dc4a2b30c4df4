package brokertest

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/respirated/respirated/broker"
)

// leasedStrand returns a store in memory with one strand, leased.
func leasedStrand(t *testing.T) (*Store, *trial, broker.Pair) {
	t.Helper()
	s := NewStore(time.Now)
	tr := newTrial(t, s)
	return s, tr, tr.insertLeased("")
}

func TestFaultBeforeTheWorkLeavesNothingDone(t *testing.T) {
	s, tr, p := leasedStrand(t)
	s.Inject(Commit, Fault{Before: broker.ErrAway})
	verdicts, err := s.Commit(t.Context(), []broker.Report{exitOf(p)})
	if !errors.Is(err, broker.ErrAway) || verdicts != nil {
		t.Errorf("commit: got %v and error %v, want only %v", verdicts, err, broker.ErrAway)
	}
	tr.equal("leased", tr.row(p.ID).Leased, true)
	tr.applied(exitOf(p))
}

func TestFaultAfterTheWorkIsAnUnknownOutcomeThatMayBeRepeated(t *testing.T) {
	s, tr, p := leasedStrand(t)
	after := Fault{After: broker.ErrAway}
	s.Inject(Commit, after)
	s.Inject(Insert, after)
	s.Inject(Lease, after)
	s.Inject(Renew, after)

	nap := broker.Report{Pair: p, Seq: 1, Act: broker.Nap}
	if _, err := s.Commit(t.Context(), []broker.Report{nap}); !errors.Is(err, broker.ErrAway) {
		t.Errorf("commit: got error %v, want %v", err, broker.ErrAway)
	}
	tr.report(broker.Dup, nap)

	in := broker.Insert{ID: newID(), Kind: kind, Args: []byte(`{}`)}
	if ids, err := s.Insert(t.Context(), []broker.Insert{in}); !errors.Is(err, broker.ErrAway) || ids != nil {
		t.Errorf("insert: got %v and error %v, want only %v", ids, err, broker.ErrAway)
	}
	tr.equal("ids", tr.insertAll(in), []broker.ID{in.ID})

	pair := broker.Pair{ID: in.ID, Token: newToken()}
	if got, err := s.Lease(t.Context(), []broker.Pair{pair}, ttl); !errors.Is(err, broker.ErrAway) || got != nil {
		t.Errorf("lease: got %v and error %v, want only %v", got, err, broker.ErrAway)
	}
	tr.equal("strands given", len(tr.tryLease(pair)), 1)

	if got, err := s.Renew(t.Context(), []broker.Pair{pair}, ttl); !errors.Is(err, broker.ErrAway) || got != nil {
		t.Errorf("renew: got %v and error %v, want only %v", got, err, broker.ErrAway)
	}
	tr.equal("kept", tr.renewed(pair), []broker.Pair{pair})
}

func TestFaultsBefallOneCallEachInOrder(t *testing.T) {
	s := NewStore(time.Now)
	first, second := errors.New("first"), errors.New("second")
	s.Inject(Scan, Fault{Before: first}, Fault{Before: second})
	req := broker.ScanRequest{Kinds: []string{kind}, Limit: 1}
	for _, want := range []error{first, second, nil} {
		if _, err := s.Scan(t.Context(), req); !errors.Is(err, want) {
			t.Errorf("scan: got error %v, want %v", err, want)
		}
	}
}

func TestDisturbDecidesWhereNothingIsInjected(t *testing.T) {
	s := NewStore(time.Now)
	s.Disturb(func(m Method) Fault {
		if m == Announce {
			return Fault{Before: broker.ErrAway}
		}
		return Fault{}
	})
	a := broker.Announcement{Broker: newID()}
	if err := s.Announce(t.Context(), a, ttl); !errors.Is(err, broker.ErrAway) {
		t.Errorf("announce: got error %v, want %v", err, broker.ErrAway)
	}
	if err := s.Leave(t.Context(), a.Broker); err != nil {
		t.Errorf("leave: got error %v, want none", err)
	}
	s.Disturb(nil)
	if err := s.Announce(t.Context(), a, ttl); err != nil {
		t.Errorf("announce undisturbed: got error %v, want none", err)
	}
}

func TestHeldCallDoesItsWorkWhenItIsLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, tr, p := leasedStrand(t)
		gate := make(chan struct{})
		s.Inject(Commit, Fault{Until: gate})
		var err error
		go func() { _, err = s.Commit(t.Context(), []broker.Report{exitOf(p)}) }()
		synctest.Wait()
		tr.equal("leased while held", tr.row(p.ID).Leased, true)
		close(gate)
		synctest.Wait()
		if err != nil {
			t.Errorf("commit: got error %v, want none", err)
		}
		tr.finished(p.ID, Done)
	})
}

func TestSlowCallTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, tr, p := leasedStrand(t)
		s.Inject(Commit, Fault{Delay: 3 * time.Second})
		began := time.Now()
		tr.applied(exitOf(p))
		tr.equal("time taken", time.Since(began), 3*time.Second)
	})
}

func TestSlowCallWhoseContextEndsLeavesNothingDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { callWhoseContextEnds(t, Fault{Delay: time.Hour}) })
}

func TestHeldCallWhoseContextEndsLeavesNothingDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { callWhoseContextEnds(t, Fault{Until: make(chan struct{})}) })
}

func callWhoseContextEnds(t *testing.T, fault Fault) {
	s, tr, p := leasedStrand(t)
	s.Inject(Commit, fault)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := s.Commit(ctx, []broker.Report{exitOf(p)})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("commit: got error %v, want %v", err, context.DeadlineExceeded)
	}
	tr.equal("leased", tr.row(p.ID).Leased, true)
}

func TestCommitWhileARenewIsInFlightIsABugOfTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, p := leasedStrand(t)
		gate := make(chan struct{})
		s.Inject(Renew, Fault{Until: gate})
		go s.Renew(t.Context(), []broker.Pair{p}, ttl)
		synctest.Wait()
		defer close(gate)
		defer func() {
			if recover() == nil {
				t.Error("commit beside a renew: got no panic, want one")
			}
		}()
		s.Commit(t.Context(), nil)
	})
}

func TestPeersShareStrandsButNeitherCursorsNorFaults(t *testing.T) {
	s := NewStore(time.Now)
	tr, peer := newTrial(t, s), newTrial(t, s.Peer())
	id := tr.insert("")
	s.Inject(Scan, Fault{}, Fault{Before: broker.ErrAway})
	request := broker.ScanRequest{Kinds: []string{kind}}
	tr.equal("found", candidates(tr.scan(request)), []broker.ID{id})
	tr.equal("found by the peer", candidates(peer.scan(request)), []broker.ID{id})
	peer.lease(id)
	tr.equal("leased", tr.row(id).Leased, true)
}
