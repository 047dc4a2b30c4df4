package postgres

import (
	"context"
	"time"

	"github.com/respirated/respirated/broker"
)

// settling follows the transactions that may have seen an older announcement of ours.
//
// An inserter first writes its row, which gives its transaction an id, and then looks whether some broker is idle. If
// it saw us busy, it looked before our newer announcement was committed, so its id is older than any that is given out
// after that. Thus all of them are over, and their rows visible, to a snapshot whose xmin is not below the xmax of some
// earlier snapshot that was itself taken after the announcement.
//
// The id of the announcement's own transaction would not do: an inserter may draw a later one and still look before
// the announcement commits.
type settling struct {
	round   int   // of announcements that matter; 0 = none was made
	barrier int64 // transactions from this one on have not seen an older announcement; 0 = not known yet
}

// Announce implements [broker.Store].
func (s *Store) Announce(ctx context.Context, a broker.Announcement, ttl time.Duration) error {
	hi := a.Slice.Hi
	if hi == 0 {
		hi = 1 << 32
	}
	kinds := a.Kinds
	if kinds == nil {
		kinds = []string{}
	}
	err := s.exec(ctx, "announce", [16]byte(a.Broker), clean(a.Host), a.PID, clean(a.Build), int64(a.Slice.Lo), int64(hi), kinds,
		a.Workers, a.Slots, a.Busy, ttl)
	if err != nil {
		return failed(err, "announce broker %s", a.Broker)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.settling.round == 0 || a.Busy != s.announced.Busy || a.Slice != s.announced.Slice {
		s.settling = settling{round: s.settling.round + 1}
	}
	s.announced = a
	return nil
}

// Leave implements [broker.Store].
func (s *Store) Leave(ctx context.Context, id broker.ID) error {
	if err := s.exec(ctx, "leave", [16]byte(id)); err != nil {
		return failed(err, "withdraw broker %s", id)
	}
	return nil
}

// scanRound is asked before a scan, so that settled knows what its snapshot came after.
func (s *Store) scanRound() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settling.round
}

// settled says whether a scan has seen the rows of all who may have seen an older announcement.
func (s *Store) settled(round int, end scanEnd) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if round == 0 || round != s.settling.round {
		return false
	}
	if s.settling.barrier == 0 {
		s.settling.barrier = end.xmax
	}
	return end.xmin >= s.settling.barrier
}

// host is where our broker runs, for the record of failures.
func (s *Store) host() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return clean(s.announced.Host)
}
