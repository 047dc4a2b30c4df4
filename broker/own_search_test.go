package broker

import (
	"fmt"
	"slices"
)

// In a world of programs a worker may take a step in a transaction of its own. That locks the strand's row until it commits or is
// undone, whatever becomes of the worker, and the worker may have to report without knowing which.

// begins has a worker begin such a transaction, and take the step in it.
func (w *world) begins(m *modelWorker, p Pair) {
	w.owns--
	h, r := m.holds[p], w.row(p.ID)
	if r.gone || !r.leased || r.token != p.Token || r.seq >= h.seq {
		delete(m.holds, p) // it is refused
		return
	}
	step := Report{Pair: p, Seq: h.seq, Act: Nap}
	switch {
	case h.label < lastLabel:
		step.Act = Hop
	case h.saw:
		step.Act = Exit
	}
	r.step, h.own = &step, true
}

// stepMoves end the transaction in which strand i has a step.
func (w *world) stepMoves(i int, add func(string, func(*world))) {
	add(fmt.Sprintf("the transaction with the step of strand %d commits", i+1), func(w *world) {
		r := &w.rows[i]
		step := *r.step
		r.step = nil
		w.dbAct(r, step)
		r.seq = step.Seq
		if w.durable(step.Pair, step.Seq) {
			w.fail(fmt.Sprintf("I4: the step of strand %d commits after it was settled as one that does not", i+1))
		}
		w.results[outcome{step.Pair, step.Seq}], w.owned[step.Token] = true, true
	})
	holds := func(m *modelWorker) bool { return m.holds[w.rows[i].step.Pair] != nil && !m.crash }
	if w.faults > 0 || !slices.ContainsFunc(w.workers, holds) {
		add(fmt.Sprintf("the transaction with the step of strand %d is undone", i+1), func(w *world) {
			if slices.ContainsFunc(w.workers, holds) {
				w.fault()
			}
			w.rows[i].step = nil
		})
	}
}

// ownMoves: a worker reports a step in a transaction of its own when that has ended, or when its connection has.
func (w *world) ownMoves(i int, p Pair, add func(string, func(*world))) {
	report := func(w *world) { w.finish(w.workers[i], p, Own) }
	switch step := w.row(p.ID).step; {
	case step == nil || step.Token != p.Token:
		add(fmt.Sprintf("w%d reports its own step of strand %d", i, p.ID[0]), report)
	case w.faults > 0:
		add(fmt.Sprintf("w%d does not know whether its own step of strand %d has committed", i, p.ID[0]), func(w *world) {
			w.fault()
			report(w)
		})
	}
}
