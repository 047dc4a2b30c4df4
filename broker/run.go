package broker

import (
	"bytes"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/respirated/respirated/protocol"
)

// runState is where a run is on its way: leasing -> running -> settling.
type runState uint8

const (
	leasing  runState = iota + 1 // its lease is being asked for
	running                      // with its worker
	settling                     // its report is on its way to the database
)

// run is one lease of one strand, from the promise to a worker until its last report is settled.
type run struct {
	Pair
	of     int // the database it is in, or may be
	left   int // how many databases to ask after that, if it does not know the strand; 0 = it is there
	kind   string
	worker workerNo // whose slot it takes; 0 = nobody's any more
	lent   bool     // that has been given to another database's strands
	state  runState
	alone  bool
	bytes  int
	stack  int // of bytes: its stack
	inbox  int // and what waits for it

	since   int64 // when it could have started
	foreign bool  // it was found as overdue in another broker's part

	leased   int64 // when its lease was asked for; 0 = a former broker did, nobody knows when
	leaseEnd int64 // when the holder must have stopped: before the lease ends in the database
	renewAt  int64
	runEnd   int64  // when a run that its worker did not stop at its limit costs that worker; 0 = never
	begun    bool   // its worker has said that the handler is at work
	stopWhy  string // it has been asked to stop
	stopBy   int64  // then its worker is asked to end
}

// leaseRuns sets the times of a lease that was asked for at asked. The database counted from later than that, so the
// holder's deadline, an eighth before the end, is surely before the lease can pass on.
func (r *run) leaseRuns(asked int64, lease time.Duration) {
	r.leaseEnd = asked + int64(lease-lease/8)
	r.renewAt = asked + int64(lease/3)
}

// ends is when the lease may pass on: not before, by our clock.
func (r *run) ends(lease time.Duration) int64 { return r.leaseEnd + int64(lease/8) }

// killBy is when a process that may still run the handler is to be killed at the latest, so that it is dead before the lease
// passes on.
func (r *run) killBy(lease time.Duration) int64 { return r.leaseEnd + int64(lease/16) }

func yieldOf(p Pair) Report { return Report{Pair: p, Act: Yield} }

// giveBack frees the slot of a run and settles it by a report of our own.
func (s *schedule) giveBack(r *run, rep Report) {
	s.vacate(r)
	r.state = settling
	s.of(r).commits.add(pending{Report: &rep, left: r.left})
}

// forget drops a run that holds nothing in the database.
func (s *schedule) forget(r *run) {
	s.vacate(r)
	delete(s.runs, r.ID)
}

// vacate frees the slot that r takes.
func (s *schedule) vacate(r *run) {
	w := s.workers[r.worker]
	r.worker = 0
	lent := s.unlend(w, r)
	if w == nil {
		return
	}
	if !lent {
		s.free(w, r)
	}
	s.dismiss(w)
}

// free takes a run off its worker's account.
func (s *schedule) free(w *worker, r *run) {
	w.held--
	w.bytesHeld -= r.bytes
	w.full = false
	s.recount(w)
}

// limit has the limit of a run begin now.
func (s *schedule) limit(now int64, r *run, limit time.Duration) {
	if r.runEnd = 0; limit > 0 {
		r.runEnd = now + int64(limit) + int64(s.grace)
	}
}

// touch takes in that handlers are at work. The limit of a run counts from the hand-out, or from the first word that its
// handler has begun: a strand may have waited for a slot.
func (s *schedule) touch(now int64, ev touched) {
	w := s.hear(now, ev.session)
	if w == nil {
		return
	}
	for _, p := range ev.runs {
		if r := s.running(p); r != nil && r.worker == w.no && !r.begun {
			r.begun = true
			s.limit(now, r, w.kinds[r.kind])
		}
	}
}

// readFirst is how long what has come in the meantime gets to be read before anybody is judged by the time gone by. A
// worker that has given us up in the meantime tries again each 2 s, and brings its results.
const readFirst = int64(3 * time.Second)

// oversleep takes in that we were not there for a while. Others were: what they said waits in their sockets. Nobody was
// silent while we were deaf, and no lease is given up before its result had the chance to be read. On a host where we are
// always late this puts off each judgement once, not all of them for ever.
func (s *schedule) oversleep(now, by int64) {
	for _, w := range s.workers {
		w.heard = min(now, w.heard+by)
	}
	if !s.putOff {
		s.putOff, s.nextSweep = true, max(s.nextSweep, now+readFirst)
	}
}

// sweep looks once a second at everything that waits for time to pass.
func (s *schedule) sweep(now int64, fx *effects) {
	s.nextSweep, s.putOff = now+sweepEvery, false
	for _, w := range s.workers {
		s.sweepWorker(now, w, fx)
	}
	maps.DeleteFunc(s.exits, func(_ string, e pastExit) bool { return now >= e.at+forgetAfter })
	stops := perSession[protocol.Cancel]{}
	for _, r := range s.sorted(func(r *run) bool { return r.state == running }) {
		s.sweepRun(now, r, &stops, fx)
	}
	tellAll(&stops, fx)
	s.lendSlots(now)
}

func (s *schedule) sweepWorker(now int64, w *worker, fx *effects) {
	silence := now - w.heard
	switch {
	case w.died != nil && now >= w.buryAt:
		if w.session != 0 {
			fx.hangUp = append(fx.hangUp, hangUp{w.session, dead("its process has ended")})
		}
		s.bury(now, w)
		return
	case w.died != nil:
		s.sweepBy(w.buryAt)
	case w.session != 0 && silence > int64(s.dead) && w.sync:
		w.silent = true
		s.recount(w)
	case w.session != 0 && silence > int64(s.dead):
		fx.hangUp = append(fx.hangUp, hangUp{w.session, dead("nothing heard for " + s.dead.String())})
		s.disconnect(w)
		s.endWorker(now, w, "it has been silent for "+s.dead.String(), fx)
	}
	if w.session == 0 && w.held+w.lent == 0 && silence > forgetAfter {
		s.remove(w)
		return
	}
	if w.endBy != 0 && now >= w.endBy {
		w.endBy = now + int64(s.grace)
		s.endWorker(now, w, "strand "+w.stuck.String()+" did not stop when asked", fx)
	}
}

// endWorker asks for the end of a worker's process. It gets as long as its pool allows, but not beyond the leases of what it
// still holds, where those are not renewed: their strands will run elsewhere.
func (s *schedule) endWorker(now int64, w *worker, why string, fx *effects) {
	if w.key == "" {
		return
	}
	within := int64(0)
	for _, r := range s.runs {
		if r.worker != w.no || r.state != running || w.session != 0 && now < r.leaseEnd {
			continue
		}
		if left := max(r.killBy(s.lease)-now, int64(time.Millisecond)); within == 0 || left < within {
			within = left
		}
	}
	fx.end = append(fx.end, ending{w.key, w.name, why, time.Duration(within)})
}

// overrun deals with a run whose lease was not renewed and is about to end, though its handler was asked in time. It says
// whether that is in hand: its process, if it is ours, is dead before the lease can pass on, and then the run is settled.
// Others that it holds may go on until it is killed.
func (s *schedule) overrun(now int64, r *run, stops *perSession[protocol.Cancel], fx *effects) bool {
	w := s.workers[r.worker]
	if w == nil || w.key == "" || w.died != nil || now >= r.ends(s.lease) {
		return false
	}
	if r.stopWhy != protocol.StopLost {
		r.stopWhy = protocol.StopLost
		s.tellStop(r, lostStop(r.Pair), stops)
		if w.endBy == 0 {
			s.quiet(now, w, "recycle", r.killBy(s.lease)-now, fx)
		}
		w.endBy, w.stuck = now+int64(s.grace), r.ID
		s.endWorker(now, w, "the lease of strand "+r.ID.String()+" ends, and it was not heard that its handler has stopped", fx)
	}
	return true
}

func (s *schedule) sweepRun(now int64, r *run, stops *perSession[protocol.Cancel], fx *effects) {
	w := s.workers[r.worker]
	if now >= r.leaseEnd && s.overrun(now, r, stops, fx) {
		return
	}
	if now >= r.leaseEnd || s.draining && now >= s.drainBy {
		s.tellStop(r, lostStop(r.Pair), stops)
		s.giveBack(r, yieldOf(r.Pair))
		return
	}
	if w == nil {
		return
	}
	d := s.of(r)
	d.renewDue = d.renewDue || now >= r.renewAt
	if r.runEnd != 0 && now >= r.runEnd && r.stopWhy == "" {
		s.askToStop(now, r, protocol.StopTimeout, 0, stops) // its worker has asked already, when the limit passed
	}
	if r.stopBy != 0 && now >= r.stopBy && w.endBy == 0 {
		w.endBy, w.stuck = now+int64(s.grace), r.ID
		s.quiet(now, w, "recycle", int64(s.grace), fx)
	}
}

// askToStop is the first of three steps: ask the handler, then the worker to drain, then its process to end.
func (s *schedule) askToStop(now int64, r *run, why string, within time.Duration, stops *perSession[protocol.Cancel]) {
	r.stopWhy, r.stopBy = why, now+int64(within)
	s.tellStop(r, protocol.Stop{Strand: r.ID.String(), Token: r.Token.String(), Why: why, ByMS: millis(int64(within))}, stops)
}

// tellStop adds a stop to the frame for the worker of r, if it is connected.
func (s *schedule) tellStop(r *run, stop protocol.Stop, stops *perSession[protocol.Cancel]) {
	if w := s.workers[r.worker]; w != nil && w.session != 0 {
		frame := stops.of(w.session)
		frame.Cancels = append(frame.Cancels, stop)
	}
}

// extend takes in renewed leases: new deadlines for the workers, stops for what was cancelled or lost.
func (d *database) extend(now int64, ev renewed, fx *effects) {
	s, asked := d.s, d.renewing
	d.renewing = nil
	d.renewAfter = now + renewApart
	if ev.err != nil {
		d.renewAfter, d.renewDue = now+errorRetry, true
		return
	}
	leases, stops := perSession[protocol.Lease]{}, perSession[protocol.Cancel]{}
	still := make(map[Pair]bool, len(ev.kept))
	for _, k := range ev.kept {
		still[k.Pair] = true
		if r := s.running(k.Pair); r != nil {
			d.keep(now, r, k, &leases, &stops)
		}
	}
	for _, p := range asked {
		switch r := s.running(p); {
		case r == nil || still[p]:
		case r.left > 0:
			s.seek(now, r)
		default:
			s.tellStop(r, lostStop(p), &stops)
			s.forget(r)
		}
	}
	tellAll(&leases, fx)
	tellAll(&stops, fx)
}

// seek has the next database be asked for a run that the last one did not know, or not as this worker's.
func (s *schedule) seek(now int64, r *run) {
	next := s.after(s.of(r))
	r.of, r.left, r.renewAt = next.no, r.left-1, now
	next.renewDue = true
}

// keep goes on with a run that is still ours. One whose row is locked has its old deadline until the lock is gone.
func (d *database) keep(now int64, r *run, k Kept, leases *perSession[protocol.Lease], stops *perSession[protocol.Cancel]) {
	s := d.s
	r.left = 0
	if k.Locked {
		r.renewAt = now + lockedRetry
	} else {
		d.prolong(now, r, leases)
	}
	if k.Cancel && r.stopWhy == "" {
		s.askToStop(now, r, protocol.StopCancelled, s.grace, stops)
	}
}

// prolong moves the deadline of a renewed run, and tells its worker.
func (d *database) prolong(now int64, r *run, leases *perSession[protocol.Lease]) {
	r.leaseRuns(d.renewAsked, d.s.lease)
	if w := d.s.workers[r.worker]; w != nil && w.session != 0 {
		frame := leases.of(w.session)
		frame.Leases = append(frame.Leases, protocol.Deadline{
			Strand: r.ID.String(), Token: r.Token.String(), DeadlineNS: r.leaseEnd, TTLMS: millis(r.leaseEnd - now),
		})
	}
}

// renewAll has every lease renewed at once: the answers tell which strands somebody has cancelled.
func (d *database) renewAll(now int64) {
	for _, r := range d.s.runs {
		if r.of == d.no {
			r.renewAt = min(r.renewAt, now)
		}
	}
	d.renewDue = true
}

// running is the run with this very token, if it is with a worker.
func (s *schedule) running(p Pair) *run {
	if r := s.runs[p.ID]; r != nil && r.Token == p.Token && r.state == running {
		return r
	}
	return nil
}

// due lists the leases to renew: those of connected workers whose time has come. A worker that is gone is not kept
// alive by us.
func (d *database) due(now int64) []Pair {
	s := d.s
	var pairs []Pair
	for _, r := range s.sorted(func(r *run) bool { return r.of == d.no && r.state == running && now >= r.renewAt }) {
		if w := s.workers[r.worker]; w != nil && w.session != 0 && len(pairs) < s.maxBatch {
			pairs = append(pairs, r.Pair)
		}
	}
	return pairs
}

// sorted lists the runs that match, by id.
func (s *schedule) sorted(match func(*run) bool) []*run {
	var runs []*run
	for _, r := range s.runs {
		if match(r) {
			runs = append(runs, r)
		}
	}
	slices.SortFunc(runs, func(a, b *run) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return runs
}

func tellAll[T any, M interface {
	*T
	protocol.ToWorker
}](frames *perSession[T], fx *effects) {
	frames.each(func(session sessionID, frame *T) { fx.tell(session, M(frame)) })
}

func lostStop(p Pair) protocol.Stop {
	return protocol.Stop{Strand: p.ID.String(), Token: p.Token.String(), Why: protocol.StopLost}
}

// String is the session's name on the wire and in logs.
func (id sessionID) String() string { return strconv.FormatUint(uint64(id), 10) }
