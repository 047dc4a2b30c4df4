package brokertest

import (
	"maps"

	"pgregory.net/rapid"

	"github.com/respirated/respirated/broker"
)

// A book is what a walk knows by itself about who should hear of what, from what was answered alone. The model is held
// against it and so, by way of the model, is the subject:
//
//   - No wake is lost: a strand that naps is due if, since it was leased or stayed last, it was signalled aloud, its last
//     child ended, or a watched one did and was not done.
//   - Effects happen once: the semaphores of a live strand are those that were sent to it and not used.
//   - The end of a child is there until it is reaped, as long as the parent lives, or is dead and may come back.
type book struct {
	sent       int                              // semaphores
	values     map[int64]string                 // of the model's semaphores that were used
	semaphores map[broker.ID]map[string]bool    // by strand: values of those sent to it and not used
	ends       map[broker.ID]map[broker.ID]bool // by parent: children that have ended and are not reaped
	parents    map[broker.ID]broker.ID          // of each child
	watched    map[broker.ID]bool               // children
	unheard    map[broker.ID]bool               // it was woken since it was leased or stayed
	naps       map[broker.ID]bool               // its last run ended in a nap or hop
	mail       map[broker.ID]bool               // something was stored for it when we looked last

	// Of the last batch, until the next look.
	reported map[broker.ID]bool // strands
	reaped   map[broker.ID]bool // children
}

func newBook() book {
	return book{
		values:     map[int64]string{},
		semaphores: map[broker.ID]map[string]bool{},
		ends:       map[broker.ID]map[broker.ID]bool{},
		parents:    map[broker.ID]broker.ID{},
		watched:    map[broker.ID]bool{},
		unheard:    map[broker.ID]bool{},
		naps:       map[broker.ID]bool{},
		mail:       map[broker.ID]bool{},
		reported:   map[broker.ID]bool{},
		reaped:     map[broker.ID]bool{},
	}
}

// hears notes that a strand is told what waits for it.
func (b *book) hears(id broker.ID) { b.unheard[id] = false }

// sends notes a semaphore that has come.
func (b *book) sends(sig broker.Signal) {
	if b.semaphores[sig.ID] == nil {
		b.semaphores[sig.ID] = map[string]bool{}
	}
	b.semaphores[sig.ID][string(sig.Value)] = true
	if !sig.Quiet {
		b.unheard[sig.ID] = true
	}
}

// returns notes that a dead strand has come back.
func (b *book) returns(id broker.ID) {
	delete(b.semaphores, id)
	b.naps[id], b.unheard[id] = false, false
}

// enter notes what a batch has done, by its verdicts.
func (w *walk) enter(verdicts []broker.Verdict) {
	for _, round := range rounds(w.same) {
		var applied []broker.Report
		for _, i := range round {
			if w.same[i].Act == broker.Own {
				continue // its step is in the book
			}
			if w.book.reported[w.same[i].ID] = true; verdicts[i].State == broker.Applied {
				applied = append(applied, w.same[i])
			}
		}
		for _, r := range applied {
			w.book.acts(r)
		}
		for _, r := range applied {
			w.enterSignals(r)
		}
	}
}

// acts notes what a report has done to its own strand.
func (b *book) acts(r broker.Report) {
	if r.Act == broker.Save {
		return
	}
	b.naps[r.ID] = rests(r.Act) && !r.Stay
	if r.Stay {
		b.hears(r.ID)
	}
	for _, id := range r.Used {
		delete(b.semaphores[r.ID], b.values[id])
	}
	for _, id := range r.Reaped {
		delete(b.ends[r.ID], id)
		b.reaped[id] = true
	}
}

// enterSignals notes what a report has sent. Who lives now lived then.
func (w *walk) enterSignals(r broker.Report) {
	for _, sig := range r.Signals {
		if sig.ID == (broker.ID{}) {
			sig.ID, sig.Quiet = r.ID, true
		}
		if _, live := w.model.Row(sig.ID); live {
			w.book.sends(sig)
		}
	}
}

// enterEnd notes that a child has ended.
func (w *walk) enterEnd(id broker.ID) {
	parent := w.book.parents[id]
	row, live := w.model.Row(parent)
	if f, _ := w.model.Finished(parent); !live && f.State != Dead {
		delete(w.book.ends, parent)
		return
	}
	if w.book.ends[parent] == nil {
		w.book.ends[parent] = map[broker.ID]bool{}
	}
	w.book.ends[parent][id] = true
	f, _ := w.model.Finished(id)
	heard := row.ChildrenLeft == 0 || w.book.watched[id] && f.State != Done
	if live && heard && !w.book.reported[parent] { // else its reports may have come later
		w.book.unheard[parent] = true
	}
}

// checkBook holds the model against the book, and closes the last batch.
func (w *walk) checkBook(t *rapid.T) {
	for _, id := range w.ids {
		row, live := w.model.Row(id)
		if !live {
			continue
		}
		w.book.parents[id], w.book.watched[id] = row.Parent, row.Watched
		if w.book.naps[id] && w.book.unheard[id] && !row.Leased && row.Due > tolerance {
			differ(t, "lost wake", "%s: it naps for %v, but was woken", id, row.Due)
		}
		in := w.model.Waiting(id)
		values, ends := map[string]bool{}, map[broker.ID]bool{}
		for _, s := range in.Semaphores {
			values[string(s.Value)] = true
		}
		for _, e := range in.Ended {
			ends[e.ID] = true
		}
		if want := w.book.semaphores[id]; len(in.Semaphores) != len(want) || !equalSets(values, want) {
			differ(t, "semaphores lost or twice", "%s: got semaphores %v, want %v", id, values, want)
		}
		want := maps.Clone(w.book.ends[id])
		for child := range w.book.reaped { // in the batch of its end: before it, or after
			if !ends[child] {
				delete(want, child)
				delete(w.book.ends[id], child)
			}
		}
		if len(in.Ended) != len(want) || !equalSets(ends, want) {
			differ(t, "ends lost or twice", "%s: got ends %v, want %v", id, ends, want)
		}
	}
	clear(w.book.reported)
	clear(w.book.reaped)
}

// equalSets compares two sets; nil is empty.
func equalSets[K comparable](a, b map[K]bool) bool { return len(a) == len(b) && maps.Equal(a, b) }
