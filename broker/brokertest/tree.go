package brokertest

import (
	"fmt"

	"github.com/respirated/respirated/broker"
)

// What a tree of strands may be.
const (
	maxDepth    = 100     // strands from one that has no parent down to the last, both counted
	maxChildren = 1000000 // live ones of one strand
)

// checkFamily says why a strand may not have the children that a report brings along; "" = it may.
func (s *Store) checkFamily(row *strand, inserts []broker.Insert) (why string) {
	children := 0
	for _, in := range inserts {
		if in.Child {
			children++
		}
	}
	switch {
	case children == 0:
		return ""
	case row.childrenLeft+children > maxChildren:
		return fmt.Sprintf("children: %d would live at once, at most %d are allowed", row.childrenLeft+children, maxChildren)
	case s.depth(row) >= maxDepth:
		return fmt.Sprintf("children: the tree would be more than %d strands deep", maxDepth)
	}
	return ""
}

// depth is how many strands there are from the uppermost live ancestor down to the strand, both counted.
func (s *Store) depth(r *strand) int {
	depth := 1
	for p := s.parentOf(r); p != nil; p = s.parentOf(p) {
		depth++
	}
	return depth
}

// parentOf is the live parent of a strand; nil = it has none.
func (s *Store) parentOf(r *strand) *strand {
	if r.orphan {
		return nil
	}
	return s.live[r.parent]
}

// heir is the strand that is to know of the ends of its children: it lives, or is dead and may be retried; nil = there is none.
func (s *Store) heir(id broker.ID) *strand {
	if r, live := s.live[id]; live {
		return r
	}
	if s.history[id].State == Dead {
		return s.over[id]
	}
	return nil
}

// leave makes orphans of the children of a strand that has ended and is not dead.
func (s *Store) leave(parent *strand) {
	for _, r := range s.live {
		if parent.childrenLeft > 0 && r.parent == parent.id {
			r.orphan = true
		}
	}
	parent.childrenLeft, parent.ended = 0, nil
}

// cancelTree cancels a strand and all its live descendants: those that wait end at once, those that run are asked.
func (b *batch) cancelTree(root *strand) {
	children := map[broker.ID][]*strand{}
	for _, r := range b.store.live {
		if !r.orphan {
			children[r.parent] = append(children[r.parent], r)
		}
	}
	for tree := []*strand{root}; len(tree) > 0; tree = tree[1:] {
		r := tree[0]
		tree = append(tree, children[r.id]...)
		if r.leased(b.now) {
			r.cancelAsked, b.asked = true, true
		} else {
			b.finish(r, Finished{State: Cancelled})
		}
	}
}

// end is a strand that has ended and has a parent.
type end struct {
	parent broker.ID
	failed bool // it was watched, and is not done
	broker.Ended
}

// settle carries out what a batch does to strands other than those that it reports on: it notes ended children for
// their parents, wakes those that wait for none any more or whose watched child has failed, and sends signals.
func (b *batch) settle() {
	for _, e := range b.ends {
		parent := b.store.heir(e.parent)
		if parent == nil {
			continue
		}
		parent.ended = append(parent.ended, e.Ended)
		if parent.childrenLeft--; parent.childrenLeft == 0 || e.failed {
			parent.wake(b.now)
			b.madeDue = true
		}
	}
	for _, sig := range b.signals {
		b.deliver(sig)
	}
}
