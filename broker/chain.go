package broker

import (
	"cmp"
	"slices"
	"time"
)

// A chain is a run that goes on at its strand's next label under the lease it has: its worker asks for that with a result. We
// agree when the result comes, since that decides what is stored: a strand that stays leased, or one that is due. The answer
// says go once it is stored, if nothing has come between. Where something has, or the answer of the database is lost, nobody
// runs what is still leased, and it is given back under its token.

const (
	chainShare = 4                  // a chain ends after this part of a lease: what it holds is the strand of one worker for as long
	patience   = int64(time.Second) // or after so long, if others wait for its slot
)

// mayStay says whether a run may go on, once the report that asks for it is stored.
func (s *schedule) mayStay(now int64, w *worker, r *run, rep *Report) bool {
	had := now - r.leased
	kind, label := rep.placeAfter(r)
	return w.continues(kind, label) && (r.alone || !s.isolates(kind)) && r.stopWhy == "" && w.held <= w.wantN &&
		had < int64(s.lease)/chainShare && (had < patience || !s.awaited(w))
}

// continues says whether a worker could be told to go on with a strand of that kind at that label.
func (w *worker) continues(kind, label string) bool {
	_, serves := w.kinds[kind]
	serves = serves && hasLabel(w.labels, kind, label) && !w.terms.Paused
	return serves && w.session != 0 && !w.draining && w.died == nil
}

// awaited says whether a strand waits for a slot of w, or of one that serves the same.
func (s *schedule) awaited(w *worker) bool {
	if w.reserved {
		return true
	}
	return w.class.free == 0 && slices.ContainsFunc(s.databases, func(d *database) bool {
		_, waits := d.buffer.first(w.class)
		return waits
	})
}

// placeAfter is where a run's strand is after its report: its kind, and its label, which is "" if it is the one that it was at.
func (r *Report) placeAfter(of *run) (kind, label string) {
	if r.Act != Hop {
		return of.kind, ""
	}
	return cmp.Or(r.Kind, of.kind), r.Label
}

// goOn has a run go on after the report that asked for it, and says whether it does. The answer has to go the way the report
// came: whoever has connected anew meanwhile has sent it again, and takes what follows for the answer to that.
func (d *database) goOn(now int64, r *run, rep *Report, in *Inbox, by carrier) bool {
	s := d.s
	w := s.workers[r.worker]
	kind, label := rep.placeAfter(r)
	if w == nil || !w.continues(kind, label) || by.session != w.session || now >= r.leaseEnd || r.lent && !s.retake(w, r) {
		return false
	}
	d.has(r)
	bytes := r.bytes - r.inbox + in.payload()
	if rep.Stack != nil {
		bytes += len(rep.Stack) - r.stack
		r.stack = len(rep.Stack)
	}
	r.inbox = in.payload()
	if r.inbox+strandOverhead > s.maxFrame || !s.weigh(w, r, bytes) {
		return false
	}
	r.state, r.kind, r.begun = running, kind, false
	s.limit(now, r, w.kinds[kind])
	return true
}

// has takes in that a run is in this database, which has just said so.
func (d *database) has(r *run) {
	if r.lent {
		d.s.of(r).lent--
		d.lent++
	}
	r.of, r.left = d.no, 0
}
