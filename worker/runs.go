package worker

import (
	"cmp"
	"log/slog"
	"slices"
	"time"

	"github.com/respirated/respirated/protocol"
)

// run is one lease of a strand on its way through the worker.
type run struct {
	strand   *protocol.Strand // as the broker sent it, or as it goes on; never written to, as handlers keep it
	n        uint64           // number of its arrival
	seq      uint64           // of its last result; 0 = none yet
	state    runState
	since    int64 // when it got into this state
	deadline int64 // when the right to run it ends

	stray  bool  // running: the broker said it is lost; nothing of it will be sent
	warned int64 // running: when it was asked to stop for the end of its lease; 0 = not yet
	asked  bool  // running: asked to stop, as the worker does

	result   *protocol.Result // done
	frame    uint64           // done: the frame that carries it in this session; 0 = none yet
	sentAt   int64            // done: when that was
	size     int              // done: what it takes there
	retryAt  int64            // done: not to be sent before
	refusals int              // done: how often the broker found a fault in its frame
	faults   int              // done: how often the broker had a fault of its own
}

type runState uint8

const (
	runQueued  runState = iota
	runRunning          // its handler has a slot
	runDone             // its result is not acked yet
)

// inOrder lists all runs in order of arrival.
func (s *session) inOrder() []*run {
	runs := make([]*run, 0, len(s.held))
	for _, r := range s.held {
		runs = append(runs, r)
	}
	slices.SortFunc(runs, func(a, b *run) int { return cmp.Compare(a.n, b.n) })
	return runs
}

// accept takes in leased strands.
func (s *session) accept(strands []protocol.Strand) {
	for i := range strands {
		strand := &strands[i]
		if s.held[strand.Token] != nil {
			continue
		}
		s.arrived++
		r := &run{strand: strand, n: s.arrived, since: s.now, deadline: s.deadline(strand.DeadlineNS, strand.TTLMS)}
		s.held[strand.Token] = r
		s.queue = append(s.queue, r)
		s.by(r.deadline - int64(s.limits.grace))
		s.by(s.now + int64(patience))
	}
}

// goOn runs the next label of a strand under the lease it has, as the broker allows. It comes before those that wait for
// their first label, and behind others that go on.
func (s *session) goOn(r *run, inbox *protocol.Inbox) {
	s.land(r)
	r.strand = onward(r.strand, r.result, inbox)
	r.state, r.since = runQueued, s.now
	r.result, r.retryAt, r.refusals, r.faults = nil, 0, 0, 0
	place := slices.IndexFunc(s.queue, func(o *run) bool { return o.seq == 0 })
	if place < 0 {
		place = len(s.queue)
	}
	s.queue = slices.Insert(s.queue, place, r)
	s.by(r.deadline - int64(s.limits.grace))
	s.by(s.now + int64(patience))
}

// onward is a strand as its result has left it.
func onward(strand *protocol.Strand, result *protocol.Result, inbox *protocol.Inbox) *protocol.Strand {
	next := *strand
	next.Try, next.Inbox = 1, inbox
	if result.Stack != nil {
		next.Stack = result.Stack
	}
	if result.Act == protocol.ActHop {
		next.Label = result.Label
	}
	if result.NewKind != "" && result.NewKind != strand.Kind {
		next.Kind, next.RunMS = result.NewKind, 0 // the limit was that of the other kind; ours for this one holds
	}
	return &next
}

// deadline is the end of a lease on our clock.
func (s *session) deadline(bootNS int64, ttlMS uint64) int64 {
	if s.limits.sameClock {
		return bootNS
	}
	return s.now + int64(ttlMS)*int64(time.Millisecond)
}

// extend moves the ends of leases.
func (s *session) extend(leases []protocol.Deadline) {
	for _, l := range leases {
		if r := s.held[l.Token]; r != nil {
			r.deadline = s.deadline(l.DeadlineNS, l.TTLMS)
			s.by(r.deadline - int64(s.limits.grace))
		}
	}
}

// fill puts waiting strands on free slots; a worker that drains gives them back.
func (s *session) fill() {
	for len(s.queue) > 0 && (s.draining || s.running < s.slots) {
		r := s.queue[0]
		s.queue = s.queue[1:]
		if s.draining {
			s.giveBack(r)
			continue
		}
		r.state, r.since = runRunning, s.now
		s.running++
		s.by(r.deadline - int64(s.limits.grace))
		s.out.start = append(s.out.start, start{r.strand, r.seq + 1})
	}
}

// cancel stops runs at the broker's word. A reason that we do not know counts as cancelled.
func (s *session) cancel(stops []protocol.Stop) {
	for _, c := range stops {
		r := s.held[c.Token]
		switch {
		case r == nil:
		case c.Why == protocol.StopLost:
			s.lose(r)
		case r.state == runRunning && c.Why == protocol.StopTimeout:
			s.stop(r, ErrTimeout)
		case r.state == runRunning:
			s.stop(r, ErrCancelled)
		case r.state == runQueued:
			s.unqueue(r)
			s.done(r, unstarted(c.Why))
		}
	}
}

// unstarted is the result of a strand that is stopped before it has begun.
func unstarted(why string) *protocol.Result {
	if why == protocol.StopTimeout {
		return &protocol.Result{Act: protocol.ActRelease}
	}
	result := failed(ErrCancelled, "")
	result.Act = protocol.ActCancel
	return &result
}

func (s *session) stop(r *run, cause error) {
	s.out.stop = append(s.out.stop, stop{r.strand.Token, cause})
}

// lose drops a run that the broker has declared lost. A handler keeps its slot until it returns.
func (s *session) lose(r *run) {
	switch r.state {
	case runQueued:
		s.unqueue(r)
		s.forget(r)
	case runRunning:
		if !r.stray {
			r.stray = true
			s.strays++
			s.warn(r)
		}
	case runDone:
		s.unsent = slices.DeleteFunc(s.unsent, func(o *run) bool { return o == r })
		s.forget(r)
	}
}

// warn asks a handler to stop because its lease is lost, or about to be.
func (s *session) warn(r *run) {
	if r.warned == 0 {
		r.warned = s.now
	}
	s.stop(r, ErrLeaseLost)
}

func (s *session) unqueue(r *run) {
	s.queue = slices.DeleteFunc(s.queue, func(o *run) bool { return o == r })
}

// finish takes the result of a handler. It is sent even if the lease seems to be over here: the broker may have renewed
// it while we could not hear, and if not, the fence refuses what comes too late.
func (s *session) finish(token string, result *protocol.Result) {
	r := s.held[token]
	if r == nil || r.state != runRunning {
		panic("bug: a result of a strand that is not running")
	}
	s.running--
	s.credit.run.add(time.Duration(s.now - r.since))
	if r.stray {
		s.strays--
		s.forget(r)
		return
	}
	s.done(r, result)
}

// giveBack returns a strand that has not been started.
func (s *session) giveBack(r *run) { s.done(r, &protocol.Result{Act: protocol.ActRelease}) }

// watchRuns looks at the times that belong to what we hold.
func (s *session) watchRuns() {
	waiting := s.queue[:0]
	for _, r := range s.queue {
		if s.watchQueued(r) {
			waiting = append(waiting, r)
		}
	}
	s.queue = waiting
	for _, r := range s.inOrder() {
		if r.state == runRunning {
			s.watchRunning(r)
		}
	}
}

// watchQueued gives back what has waited for a slot too long, or for longer than its lease. It returns whether r may
// wait on.
func (s *session) watchQueued(r *run) bool {
	waited := time.Duration(s.now - r.since)
	if waited < patience && s.now < r.deadline-int64(s.limits.grace) {
		s.by(r.since + int64(patience))
		s.by(r.deadline - int64(s.limits.grace))
		return true
	}
	if waited >= patience {
		s.credit.run.atLeast(waited)
	}
	s.giveBack(r)
	return false
}

// watchRunning asks a handler to stop some time before its lease ends. If it is still there at the very end, its strand
// is about to run elsewhere too. A broker ends such a process; without one, the process does it itself. After a pause of
// the process or its host the end may be long past: the handler gets a moment even then, and so does the next broker to
// answer, since the results of others would die with the process.
func (s *session) watchRunning(r *run) {
	if s.draining && s.now >= s.softBy && !r.asked {
		r.asked = true
		s.stop(r, ErrStopping)
	}
	if ask := r.deadline - int64(s.limits.grace); s.now < ask {
		s.by(ask)
		return
	}
	if r.warned == 0 {
		s.warn(r)
		s.note(slog.LevelWarn, "lease lost, handler asked to stop", "strand", r.strand.ID, "kind", r.strand.Kind)
	}
	if last := max(r.deadline-int64(s.limits.grace/10), r.warned+int64(s.limits.grace/2)); s.now < last {
		s.by(last)
		return
	}
	if s.link != linkOpen {
		s.out.kill = true
		s.note(slog.LevelError, "a handler runs on although its lease has ended and no broker answers: ending this process",
			"strand", r.strand.ID, "kind", r.strand.Kind, "label", r.strand.Label)
	}
}
