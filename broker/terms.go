package broker

import (
	"maps"
	"slices"
)

// Terms are what the pool of a worker process says about the strands that it gets. They may change while it is connected. What
// it holds by then it finishes, whatever they say.
type Terms struct {
	Queues  []Queue  // it may get strands of these alone; sorted. None = of all
	Isolate []string // kinds whose strands need a process of their own, besides those of which the worker says so itself
	Paused  bool     // it gets none
}

// TermsChanged has the broker ask for the terms of a process anew. It blocks no longer than [Broker.Exited] does.
func (b *Broker) TermsChanged(key string) { b.post(amended{key: key}) }

// terms completes what happened by the terms of the worker that it is about. They are asked for in the loop, so that whoever
// has changed them, and then says so, need not know whether the worker has come already.
func (b *Broker) terms(ev event) event {
	switch e := ev.(type) {
	case greeted:
		if b.procs != nil {
			e.terms = b.procs.Terms(e.key)
		}
		return e
	case amended:
		e.terms = b.procs.Terms(e.key)
		return e
	}
	return ev
}

// amend has a connected worker work on other terms.
func (s *schedule) amend(key string, t Terms) {
	for _, w := range s.workers {
		if key == "" || w.key != key {
			continue
		}
		if w.class == nil {
			return // it says hello again
		}
		s.leave(w)
		w.terms = t
		s.join(w)
		for _, d := range s.databases {
			d.scanner.startAnew() // it may be the first to take what others left
		}
		return
	}
}

// isolates lists the kinds whose strands need a process of their own because of this worker.
func (w *worker) isolates() []string {
	all := slices.Clone(w.says)
	for _, kind := range slices.Sorted(maps.Keys(w.kinds)) {
		if slices.Contains(w.terms.Isolate, kind) && !slices.Contains(all, kind) {
			all = append(all, kind)
		}
	}
	return all
}
