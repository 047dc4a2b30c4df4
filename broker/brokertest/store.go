package brokertest

import (
	"context"
	"sync"
	"time"

	"github.com/respirated/respirated/broker"
)

// Store is a [broker.Store] in memory. It has one transaction at a time, and history for ever. It is a [Subject] too,
// so that a test can look into it. One broker uses it; others use its peers.
type Store struct {
	*database
	faults  *faults
	cursors map[lane]position // guarded by database.mu
}

// database is what the stores of several brokers share.
type database struct {
	clock   func() time.Time
	channel *Channel

	mu       sync.Mutex // guards all below, and the cursors of the stores
	live     map[broker.ID]*strand
	history  map[broker.ID]Finished
	over     map[broker.ID]*strand // as they were when they ended; of dead ones, with what has become of their children since
	attempts map[broker.ID][]broker.Failure
	paused   map[queue]bool
	locked   map[broker.ID]bool
	outcomes map[broker.Token]bool // of the steps that workers have taken in transactions of their own
	brokers  map[broker.ID]presence
	pages    []*page

	semaphores int64 // sent so far, which numbers them
}

// queue is what can be paused.
type queue struct{ tenant, name string }

// presence is a broker that has joined or announced itself.
type presence struct {
	broker.Announcement
	until time.Time
}

func (p presence) alive(now time.Time) bool { return p.until.After(now) }

// NewStore returns an empty store that lives by clock, such as time.Now.
func NewStore(clock func() time.Time) *Store {
	return newStore(&database{
		clock:    clock,
		channel:  NewChannel(),
		live:     map[broker.ID]*strand{},
		history:  map[broker.ID]Finished{},
		over:     map[broker.ID]*strand{},
		attempts: map[broker.ID][]broker.Failure{},
		paused:   map[queue]bool{},
		locked:   map[broker.ID]bool{},
		outcomes: map[broker.Token]bool{},
		brokers:  map[broker.ID]presence{},
	})
}

func newStore(db *database) *Store {
	return &Store{database: db, faults: newFaults(), cursors: map[lane]position{}}
}

// Peer returns the store of another broker: strands and channel are shared, cursors and faults are not.
func (s *Store) Peer() *Store { return newStore(s.database) }

// Channel brings a hint when something becomes due by an insert, a wake, a signal or a report, unless every live broker is busy,
// and one when a leased strand is to be cancelled.
func (s *Store) Channel() *Channel { return s.channel }

// call carries out one call with whatever fault befalls it. work has the store to itself, at one moment of its clock.
func (s *Store) call(ctx context.Context, m Method, work func(now time.Time) error) error {
	fault := s.faults.begin(m)
	defer s.faults.end(m)
	if err := fault.wait(ctx); err != nil {
		return err
	}
	if fault.Before != nil {
		return fault.Before
	}
	if err := s.transact(work); err != nil {
		return err
	}
	return fault.After
}

func (s *Store) transact(work func(now time.Time) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return work(s.clock())
}

// Lease implements [broker.Store]. Asked again for what it gave, it gives it again.
func (s *Store) Lease(ctx context.Context, pairs []broker.Pair, ttl time.Duration) ([]broker.Strand, error) {
	var taken []broker.Strand
	err := s.call(ctx, Lease, func(now time.Time) error {
		for _, p := range pairs {
			r, ok := s.live[p.ID]
			if !ok || s.locked[p.ID] {
				continue
			}
			if r.due(now) {
				r.take(p.Token, now, ttl)
			}
			if r.token == p.Token && r.leased(now) {
				taken = append(taken, r.handed())
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return taken, nil
}

// Renew implements [broker.Store].
func (s *Store) Renew(ctx context.Context, pairs []broker.Pair, ttl time.Duration) ([]broker.Kept, error) {
	var kept []broker.Kept
	err := s.call(ctx, Renew, func(now time.Time) error {
		for _, p := range pairs {
			r, ok := s.live[p.ID]
			if !ok || r.token != p.Token || r.free() {
				continue
			}
			if s.locked[p.ID] {
				kept = append(kept, broker.Kept{Pair: p, Locked: true})
				continue
			}
			r.lease = now.Add(ttl)
			r.schedule = r.lease
			kept = append(kept, broker.Kept{Pair: p, Cancel: r.cancelAsked})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return kept, nil
}
