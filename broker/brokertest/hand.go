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
		Watched:      r.watched && s.heir(r.parent) != nil && !r.orphan,
		ChildrenLeft: r.childrenLeft,
		CancelAsked:  r.cancelAsked,
		Inbox:        len(r.semaphores) + len(r.ended),
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
	for _, h := range s.cancel(id) {
		s.channel.Hint(h)
	}
}

// cancel gives the hints that follow from it.
func (s *Store) cancel(id broker.ID) []broker.Hint {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := batch{store: s, now: s.clock()}
	b.cancelTree(s.mustLive("cancel", id))
	b.settle()
	return b.hints()
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

// Retry implements [Subject].
func (s *Store) Retry(id broker.ID) {
	s.mu.Lock()
	now := s.clock()
	if r, live := s.live[id]; live {
		if !r.leased(now) && r.schedule.After(now) {
			r.schedule = now
		}
	} else {
		s.bringBack(id, now)
	}
	hint := s.hintWanted(now)
	s.mu.Unlock()
	if hint {
		s.channel.Hint(broker.Hint{})
	}
}

// bringBack makes a strand of history live again. It has the children that it had when it was dead.
func (s *Store) bringBack(id broker.ID, now time.Time) {
	r, ok := s.over[id]
	if !ok {
		panic(fmt.Sprintf("bug: retry: no strand %s", id))
	}
	delete(s.over, id)
	delete(s.history, id)
	s.live[id] = &strand{
		id: id, lane: r.lane, label: r.label, args: r.args, stack: r.stack, created: r.created, tags: r.tags, metadata: r.metadata,
		maxTries: r.maxTries, schedule: now, childrenLeft: r.childrenLeft, ended: r.ended,
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
	for _, due := range r.deadlines {
		due.at, due.first = due.at.Add(-d), due.first.Add(-d)
	}
}

// Waiting implements [Subject].
func (s *Store) Waiting(id broker.ID) broker.Inbox {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.heir(id)
	if r == nil {
		return broker.Inbox{}
	}
	in := broker.Inbox{Ended: slices.Clone(r.ended), Left: r.childrenLeft}
	if s.live[id] == r {
		in.Semaphores = slices.Clone(r.semaphores)
	}
	return in
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
