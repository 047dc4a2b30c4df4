package brokertest

import (
	"fmt"
	"slices"
	"time"

	"github.com/respirated/respirated/broker"
)

var _ Subject = (*Store)(nil)

// Row implements [Subject].
func (s *Store) Row(id broker.ID) (Row, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.live[id]
	if !ok {
		return Row{}, false
	}
	now := s.clock()
	row := Row{
		Kind:         r.kind,
		Label:        r.label,
		Stack:        r.stack,
		Due:          r.schedule.Sub(now),
		Leased:       !r.free(),
		Try:          r.try,
		Crashes:      r.crashes,
		Rescues:      r.rescues,
		Parent:       r.parent,
		ChildrenLeft: r.childrenLeft,
		CancelAsked:  r.cancelAsked,
	}
	if row.Leased {
		row.Left = r.lease.Sub(now)
	}
	return row, true
}

// Finished implements [Subject].
func (s *Store) Finished(id broker.ID) (Finished, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.history[id]
	return f, ok
}

// Attempts implements [Subject].
func (s *Store) Attempts(id broker.ID) []broker.Failure {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.attempts[id])
}

// Cancel implements [Subject].
func (s *Store) Cancel(id broker.ID) {
	if h, worth := s.cancel(id); worth {
		s.channel.Hint(h)
	}
}

// cancel gives the hint that follows from it, if one does.
func (s *Store) cancel(id broker.ID) (h broker.Hint, worth bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.mustLive("cancel", id)
	now := s.clock()
	if r.leased(now) {
		r.cancelAsked = true
		return broker.Hint{Cancel: true}, true
	}
	b := batch{store: s, now: now}
	b.finish(r, Finished{State: Cancelled})
	b.releaseParents()
	return broker.Hint{}, b.worthAHint()
}

// Wake implements [Subject].
func (s *Store) Wake(id broker.ID) {
	s.mu.Lock()
	s.mustLive("wake", id).wake(s.clock())
	hint := s.hintWanted(s.clock())
	s.mu.Unlock()
	if hint {
		s.channel.Hint(broker.Hint{})
	}
}

// Pause implements [Subject].
func (s *Store) Pause(tenant, name string, paused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused[queue{tenant, name}] = paused
}

// Age implements [Subject].
func (s *Store) Age(id broker.ID, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.mustLive("age", id)
	r.schedule = r.schedule.Add(-d)
	if !r.free() {
		r.lease = r.lease.Add(-d)
	}
}

// Listen implements [Subject].
func (s *Store) Listen(notify func(broker.Hint)) (stop func()) {
	s.channel.enter(&notify)
	return func() { s.channel.leave(&notify) }
}

// Lock implements [Subject].
func (s *Store) Lock(id broker.ID) (unlock func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mustLive("lock", id)
	s.locked[id] = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.locked, id)
	}
}

// mustLive is the strand that a test means; a test that means none is wrong.
func (s *Store) mustLive(verb string, id broker.ID) *strand {
	r, ok := s.live[id]
	if !ok {
		panic(fmt.Sprintf("bug: %s: no live strand %s", verb, id))
	}
	return r
}
