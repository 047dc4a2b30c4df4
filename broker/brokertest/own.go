package brokertest

import (
	"errors"
	"fmt"

	"github.com/respirated/respirated/broker"
)

// Step implements [Subject]. It does the step at the commit.
func (s *Store) Step(r broker.Report) (end func(commit bool), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	row, ok := s.live[r.ID]
	if !ok {
		return nil, errors.New("there is no such strand any more")
	}
	locks := []broker.ID{r.ID}
	if _, ok := s.live[row.parent]; ok {
		locks = append(locks, row.parent)
	}
	for _, id := range locks {
		if s.locked[id] {
			return nil, fmt.Errorf("strand %s is locked", id)
		}
	}
	b := batch{store: s, now: s.clock()}
	if _, v := b.judge(row, &r); v.State != broker.Applied {
		return nil, fmt.Errorf("it would be %s: %s", stateNames[v.State], v.Why)
	}
	for _, id := range locks {
		s.locked[id] = true
	}
	return func(commit bool) { s.endStep(r, locks, commit) }, nil
}

func (s *Store) endStep(r broker.Report, locks []broker.ID, commit bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range locks {
		delete(s.locked, id)
	}
	if !commit {
		return
	}
	b := batch{store: s, now: s.clock()}
	if v := b.apply(r); v.State != broker.Applied {
		panic("bug: what was locked has changed: " + stateNames[v.State] + " " + v.Why)
	}
	b.settle()
	s.outcomes[r.Token] = true
}
