package worker

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/respirated/respirated/protocol"
)

// done queues a result for the broker. It is kept until the broker has acked it.
func (s *session) done(r *run, result *protocol.Result) {
	r.state, r.since = runDone, s.now
	r.seq++
	r.result = result
	r.result.Strand, r.result.Token, r.result.Seq = r.strand.ID, r.strand.Token, r.seq
	r.result.Chain = s.mayGoOn(r)
	s.unsent = append(s.unsent, r)
}

// mayGoOn tells whether to ask for the next label of a strand at once: it is due, we can run it, and there is time.
func (s *session) mayGoOn(r *run) bool {
	switch res := r.result; {
	case res.Act != protocol.ActHop && res.Act != protocol.ActNap, res.DelayMS != nil && *res.DelayMS > 0:
		return false
	case res.NewKind != "" && !s.kinds[res.NewKind]:
		return false
	}
	return !s.draining && r.warned == 0
}

// report sends the results that wait, as many to a frame as fit. What is too much to be on its way at once waits for
// acks, and whatever follows waits behind it, so that a large result is not overtaken for ever.
func (s *session) report() {
	if s.sendAt = s.reportAt(); s.now < s.sendAt {
		return
	}
	s.sendAt = never
	var later []*run
	full := false
	p := packer{limits: s.limits}
	for _, r := range s.unsent {
		if s.now < r.retryAt {
			s.by(r.retryAt)
			later = append(later, r)
			continue
		}
		s.fit(r, p.room())
		ahead := s.flying + p.total
		full = full || ahead > 0 && ahead+resultSize(r.result) > inFlight
		if full {
			later = append(later, r)
			continue
		}
		p.add(r)
	}
	s.unsent = later
	for _, batch := range p.batches {
		s.sendResults(batch)
	}
}

// reportAt is when results that wait are to be sent. While short runs go on, with strands waiting for slots, more
// results are about to come: those that are there wait a moment for them, since a frame costs both sides more than such
// a run.
func (s *session) reportAt() int64 {
	switch n := len(s.unsent); {
	case s.link != linkOpen || n == 0:
		return never
	case n < company && len(s.queue) > 0 && s.credit.run.value < companyWait:
		return s.unsent[0].since + int64(companyWait)
	}
	return s.now
}

// fit replaces a result that is larger than a frame.
func (s *session) fit(r *run, room int) {
	if size := resultSize(r.result); size > room {
		s.replace(r, fmt.Errorf("the result of this run takes %d bytes, at most %d fit into a frame: "+
			"the exit value, the args of With and of Insert count; keep large data elsewhere", size, room))
	}
}

func (s *session) sendResults(batch []*run) {
	m := &protocol.Results{ID: s.newID(), Results: slices.Grow(s.spare[:0], len(batch))}
	s.spare = nil
	for _, r := range batch {
		r.frame, r.sentAt, r.size = m.ID, s.now, resultSize(r.result)
		s.flying += r.size
		m.Results = append(m.Results, *r.result)
	}
	s.frames[m.ID] = &flight{batch, len(batch)}
	s.send(m)
}

// reuse takes back the memory of a frame that has been encoded, for the next: what is in it stays with the runs.
func (s *session) reuse(m *protocol.Results) {
	clear(m.Results)
	s.spare, m.Results = m.Results, nil
}

// settle takes acks of a frame.
func (s *session) settle(ack *protocol.Ack) {
	if ack.All {
		s.settleAll(ack.Re)
	}
	for _, e := range ack.Entries {
		r := s.held[e.Token]
		if r == nil || r.state != runDone || r.frame == 0 || e.Seq != r.result.Seq {
			continue // of an earlier copy
		}
		if e.State == protocol.AckLater {
			s.again(r, time.Duration(e.RetryMS)*time.Millisecond)
			continue
		}
		s.noteFate(r, e)
		if e.State == protocol.AckApplied && e.Next == protocol.NextGo && r.result.Chain {
			s.goOn(r, e.Inbox)
			continue
		}
		s.forget(r)
	}
}

// settleAll takes one word for all results of a frame: stored, and none of them goes on. Those that have been settled or
// sent again since are not meant.
func (s *session) settleAll(frame uint64) {
	f := s.frames[frame]
	if f == nil {
		return
	}
	for _, r := range f.runs {
		if r.frame == frame {
			s.forget(r)
			s.credit.lag.add(time.Duration(s.now - r.sentAt))
		}
	}
}

// noteFate remembers and tells what became of a result.
func (s *session) noteFate(r *run, e protocol.AckEntry) {
	switch e.State {
	case protocol.AckApplied:
		s.credit.lag.add(time.Duration(s.now - r.sentAt))
	case protocol.AckInvalid:
		s.note(slog.LevelError, "result refused, the run counts as failed", "strand", e.Strand, "kind", r.strand.Kind,
			"label", r.strand.Label, "why", e.Why)
	case protocol.AckStale, protocol.AckGone:
		s.note(slog.LevelInfo, "result came too late", "strand", e.Strand, "kind", r.strand.Kind, "state", e.State)
	}
}

// forget lets go of a run whose result has been settled.
func (s *session) forget(r *run) {
	s.land(r)
	delete(s.held, r.strand.Token)
}

// flight is a frame of results on its way.
type flight struct {
	runs []*run
	left int // of those, whose result is not settled and not to be sent again
}

// land takes the result of a run off the frame that carried it, if one did.
func (s *session) land(r *run) {
	if r.frame == 0 {
		return
	}
	if f := s.frames[r.frame]; f.left > 1 {
		f.left--
	} else {
		delete(s.frames, r.frame)
	}
	s.flying -= r.size
	r.frame, r.size = 0, 0
}

// again queues a result to be sent once more.
func (s *session) again(r *run, wait time.Duration) {
	s.land(r)
	r.retryAt = s.now + int64(max(wait, laterLeast))
	s.unsent = append(s.unsent, r)
}

// refused takes a fault that the broker found in one frame, or in itself. Results of that frame are sent again, each on
// its own, so that it can harm no other. Only one that is to blame itself becomes, the second time, a mere failure that
// says why, and is dropped the third; a fault of the broker is no reason for either.
func (s *session) refused(id uint64, code protocol.Code, why string, wait time.Duration) {
	if id == 0 {
		return
	}
	for _, r := range s.inOrder() {
		if r.state != runDone || r.frame != id {
			continue
		}
		if !blames(code) {
			s.again(r, max(wait, s.backOff(r)))
			continue
		}
		r.refusals++
		switch r.refusals {
		case 2:
			s.replace(r, fmt.Errorf("the broker did not take the result of this run: %s: %s", code, why))
		case 3:
			s.note(slog.LevelError, "result dropped, the broker takes no form of it", "strand", r.strand.ID, "error", why)
			s.forget(r)
			continue
		}
		s.again(r, wait)
	}
}

// blames tells whether a fault is one of what was sent.
func blames(code protocol.Code) bool {
	switch code {
	case protocol.CodeBadFrame, protocol.CodeBadField, protocol.CodeTooLarge, protocol.CodeRange:
		return true
	}
	return false
}

// backOff is how long to keep a result that met with a fault of the broker: twice as long each time.
func (s *session) backOff(r *run) time.Duration {
	wait := min(laterLeast<<min(r.faults, 10), laterMost)
	r.faults++
	return wait
}

// replace puts a failure in the place of a result that cannot be sent.
func (s *session) replace(r *run, why error) {
	fail := failed(why, "")
	fail.Strand, fail.Token, fail.Seq = r.result.Strand, r.result.Token, r.result.Seq
	r.result = &fail
}

// recall queues every result that has not been acked, to be sent in the next session.
func (s *session) recall() {
	s.unsent, s.flying = nil, 0
	clear(s.frames)
	for _, r := range s.inOrder() {
		if r.state == runDone {
			r.frame, r.size, r.retryAt = 0, 0, 0
			s.unsent = append(s.unsent, r)
		}
	}
}

// frameOverhead is room for what a frame of results has beside them.
const frameOverhead = 64

// packer spreads results over frames.
type packer struct {
	limits  limits
	batches [][]*run
	size    int  // of the last batch
	total   int  // of all
	closed  bool // the last batch takes no more
}

// room is what the results of one frame may take.
func (p *packer) room() int { return p.limits.frame - frameOverhead }

// add puts r into the last batch if it fits there. A result that met with a fault before gets a frame of its own.
func (p *packer) add(r *run) {
	size, alone := resultSize(r.result), r.refusals+r.faults > 0
	last := len(p.batches) - 1
	if last < 0 || p.closed || alone || len(p.batches[last]) == p.limits.batch || p.size+size > p.room() {
		p.batches, p.size = append(p.batches, nil), 0
		last++
	}
	p.batches[last] = append(p.batches[last], r)
	p.size += size
	p.total += size
	p.closed = alone
}

// resultSize is at least what a result takes in a frame.
func resultSize(r *protocol.Result) int {
	const pairs = 128 // keys, lengths and numbers
	n := pairs + len(r.Strand) + len(r.Token) + len(r.Label) + len(r.NewKind) + len(r.Value) + len(r.Stack)
	if f := r.Failure; f != nil {
		n += len(f.Class) + len(f.Message) + len(f.Trace)
	}
	for i := range r.Inserts {
		in := &r.Inserts[i]
		n += pairs + len(in.Key) + len(in.Kind) + len(in.Args) + len(in.Opts)
	}
	for i := range r.Signals {
		sig := &r.Signals[i]
		n += pairs + len(sig.Strand) + len(sig.Name) + len(sig.Value)
	}
	if r.Due != nil {
		n += pairs + len(r.Due.Target)
	}
	const number, id = 9, 38
	return n + number*len(r.Used) + id*len(r.Reaped)
}
