package broker

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/respirated/respirated/protocol"
)

// schedule decides who runs which strand when. It is a plain value without goroutines, clocks, or I/O: [schedule.step]
// takes the time and what happened, and returns what shall be done. One goroutine owns it (see Broker.loop).
//
// now is CLOCK_BOOTTIME in nanoseconds: only differences count, and a host that slept knows that it slept.
type schedule struct {
	limits
	broker ID
	rng    *rand.ChaCha8 // draws tokens

	workers  map[workerNo]*worker
	byUUID   map[string]workerNo
	sessions map[sessionID]workerNo
	exits    map[string]pastExit // by spawn key; forgotten after a while
	lastNo   workerNo
	classes  []*class
	turn     int // class that chooses first

	buffer   buffer
	alone    []sighting  // waiting for a worker of their own; at most leastAhead
	reserved []workerNo  // kept free for them
	runs     map[ID]*run // everything leased, being leased, or being settled; at most the sum of all want and what dies

	commits commits

	leasing    []Pair // in flight; nil = none
	leaseAsked int64
	leaseAfter int64 // not before, after an error
	renewing   []Pair
	renewAsked int64
	renewAfter int64
	renewDue   bool // some lease may be due for renewal

	calls     []called // inserts outside runs, in the order in which they came; at most mostCalls, and maxBytes of them
	callBytes int      // what those hold
	inserting bool     // one is in flight

	place   place
	scanner scanner
	notice  notice

	stepped   int64 // when step was called last
	nextSweep int64
	putOff    bool // the next sweep has been, since we overslept
	draining  bool
	drainBy   int64
}

// limits are the numbers of a schedule. Config sets them.
type limits struct {
	partition Partition
	lease     time.Duration // how long a lease lasts in the database
	heartbeat time.Duration
	dead      time.Duration // silence after which a worker is given up
	scanEvery time.Duration // an idle broker looks that often
	grace     time.Duration // from asking a handler to stop to asking its process
	maxHold   int           // most that one worker may hold
	maxBytes  int           // payload of one worker after which it gets no more, or is not heard; and of all calls
	maxBatch  int           // most rows in one statement
	maxFrame  int
}

const (
	sweepEvery   = int64(time.Second)
	lockedRetry  = int64(100 * time.Millisecond) // a row that somebody has locked
	renewApart   = int64(50 * time.Millisecond)  // renewals asked for by hints
	errorRetry   = int64(200 * time.Millisecond) // a statement that failed
	awaitEOF     = int64(time.Second)            // a dead process whose socket a grandchild may hold open
	forgetAfter  = int64(10 * time.Minute)       // a worker that holds nothing and does not come back
	mostCalls    = 1024                          // inserts outside runs that may wait
	drainFlush   = int64(5 * time.Second)        // for the last reports, after workers were given up
	finalResults = protocol.DefaultMaxBatch      // entries a worker may put in one frame
)

func newSchedule(broker ID, seed [32]byte, l limits) *schedule {
	return &schedule{
		limits:   l,
		broker:   broker,
		rng:      rand.NewChaCha8(seed),
		workers:  map[workerNo]*worker{},
		byUUID:   map[string]workerNo{},
		sessions: map[sessionID]workerNo{},
		exits:    map[string]pastExit{},
		buffer:   newBuffer(),
		runs:     map[ID]*run{},
		commits:  commits{carriers: map[copyOf]carrier{}},
		place:    newPlace(broker, l.partition, binary.BigEndian.Uint64(seed[:8])),
		notice:   notice{changed: true},
	}
}

// step takes in what happened, in order, and decides what to do about all of it together. So whatever comes while a
// statement is in flight is gathered into the next one.
func (s *schedule) step(now int64, events ...event) effects {
	var fx effects
	s.stepped = now
	for _, ev := range events {
		s.take(now, ev, &fx)
	}
	if now >= s.nextSweep {
		s.sweep(now, &fx)
	}
	s.divide(now, &fx)
	s.match(now, &fx)
	s.scanner.decide(s, now, &fx)
	s.write(now, &fx)
	s.insert(&fx)
	s.notice.decide(s, now, &fx)
	fx.finished = s.settled(now)
	return fx
}

func (s *schedule) take(now int64, ev event, fx *effects) {
	switch ev := ev.(type) {
	case greeted:
		s.greet(now, ev, fx)
	case wanted:
		s.want(now, ev, fx)
	case reported:
		s.report(now, ev, fx)
	case called:
		s.call(now, ev, fx)
	case heard:
		s.hear(now, ev.session)
	case touched:
		s.touch(now, ev)
	case parted:
		s.part(now, ev.session)
	case vanished:
		s.vanish(now, ev.session)
	case exited:
		s.exit(now, ev.WorkerExit)
	case overslept:
		s.oversleep(now, ev.by)
	case hinted:
		s.hint(now, ev.Hint)
	case scanned:
		s.scanner.found(s, now, ev)
	case leased:
		s.grant(now, ev, fx)
	case committed:
		s.settle(now, ev, fx)
	case renewed:
		s.extend(now, ev, fx)
	case joined:
		s.place.joined(now, ev.Joined, ev.err)
	case announced:
		s.notice.told(s, now, ev.err)
	case told:
		s.place.spoken(now, ev.Presence, ev.err)
	case inserted:
		s.reply(ev, fx)
	case draining:
		s.drain(now, ev.by, fx)
	default:
		panic("bug: unknown event")
	}
}

// nextTick is when step wants to be called even if nothing happens. What time alone had made possible by the last step,
// that step has done; what it has left waits for an answer, whatever the clock says. So only later times count.
func (s *schedule) nextTick() int64 {
	next := s.nextSweep
	for _, at := range []int64{s.scanner.next(s), s.commits.next(), s.notice.next(), s.leaseAfter, s.renewNext(), s.place.next(s.stepped)} {
		if at > s.stepped {
			next = min(next, at)
		}
	}
	return next
}

// renewNext is when leases that are due may be renewed; 0 = none is known to be due.
func (s *schedule) renewNext() int64 {
	if !s.renewDue {
		return 0
	}
	return s.renewAfter
}

// match brings free credit and candidates together, and leases all pairs that met since the last lease.
func (s *schedule) match(now int64, fx *effects) {
	if s.leasing != nil || s.draining || now < s.leaseAfter {
		return
	}
	var pairs []Pair
	s.matchAlone(now, &pairs)
	backlog := s.buffer.len() >= s.maxBatch
	for i := range s.classes {
		c := s.classes[(s.turn+i)%len(s.classes)]
		for c.free > 0 && len(pairs) < s.maxBatch {
			candidate, ok := s.buffer.first(c.kinds)
			if !ok {
				break
			}
			s.buffer.remove(candidate)
			pairs = append(pairs, s.assign(now, candidate, c.pick(backlog)))
		}
	}
	if len(pairs) > 0 {
		s.turn++ // or one class could fill every statement
		s.leasing, s.leaseAsked, s.leaseAfter = pairs, now, 0
		fx.lease = pairs
	}
}

// matchAlone gives each strand that must run alone an idle worker, or reserves the one that is idle soonest.
func (s *schedule) matchAlone(now int64, pairs *[]Pair) {
	before := s.reserved
	s.reserved = nil
	s.alone = slices.DeleteFunc(s.alone, func(c sighting) bool {
		w := s.leastBusy(c.Kind)
		switch {
		case w == nil:
			return true // nobody serves it just now: a later scan brings it again
		case w.held > 0:
			s.reserve(w)
			return false
		}
		w.exclusive, w.reserved = true, false
		pair := s.assign(now, c, w)
		s.runs[c.ID].alone = true
		*pairs = append(*pairs, pair)
		return true
	})
	for _, no := range before {
		if w := s.workers[no]; w != nil && w.reserved && !slices.Contains(s.reserved, no) {
			w.reserved = false
			s.recount(w)
		}
	}
}

// reserve gives a worker nothing more until it is idle.
func (s *schedule) reserve(w *worker) {
	if slices.Contains(s.reserved, w.no) {
		return
	}
	s.reserved = append(s.reserved, w.no)
	w.reserved = true
	s.recount(w)
}

// assign promises the candidate to the worker, whose slot is taken from now on.
func (s *schedule) assign(now int64, c sighting, w *worker) Pair {
	pair := Pair{c.ID, s.token()}
	s.runs[c.ID] = &run{Pair: pair, kind: c.Kind, worker: w.no, state: leasing, bytes: c.Bytes, since: c.since, foreign: c.foreign}
	w.held++
	w.bytesHeld += c.Bytes
	s.recount(w)
	return pair
}

// token draws a random UUID.
func (s *schedule) token() (t Token) {
	binary.BigEndian.PutUint64(t[:8], s.rng.Uint64())
	binary.BigEndian.PutUint64(t[8:], s.rng.Uint64())
	t[6], t[8] = t[6]&0x0f|0x40, t[8]&0x3f|0x80
	return t
}

// grant hands leased strands to their workers. What was not granted is forgotten; where the outcome is unknown, or
// the worker is gone, the lease is given back.
func (s *schedule) grant(now int64, ev leased, fx *effects) {
	asked := s.leasing
	s.leasing = nil
	if ev.err != nil {
		s.leaseAfter = now + errorRetry
		for _, p := range asked {
			s.giveBack(s.runs[p.ID], yieldOf(p))
		}
		return
	}
	handouts := perSession[handout]{fresh: handout{share: 1 + len(ev.granted)/max(1, len(s.sessions))}}
	for i := range ev.granted {
		s.start(now, &ev.granted[i], &handouts, fx)
	}
	handouts.each(func(session sessionID, h *handout) { h.flush(session, fx) })
	for _, p := range asked {
		if r := s.runs[p.ID]; r != nil && r.Token == p.Token && r.state == leasing {
			s.forget(r)
		}
	}
}

// start begins a granted run.
func (s *schedule) start(now int64, granted *Strand, handouts *perSession[handout], fx *effects) {
	r := s.runs[granted.ID]
	if r == nil || r.Token != granted.Token || r.state != leasing {
		panic("bug: granted a lease that was not asked for")
	}
	w := s.workers[r.worker]
	if w == nil || w.session == 0 || w.draining {
		s.giveBack(r, yieldOf(r.Pair))
		return
	}
	payload := granted.payload()
	if payload+strandOverhead > s.maxFrame {
		s.giveBack(r, tooLarge(r.Pair, payload, s.maxFrame))
		return
	}
	if !s.weigh(w, r, payload) {
		s.giveBack(r, yieldOf(r.Pair))
		w.full = true
		s.recount(w)
		return
	}
	r.state = running
	r.leaseRuns(s.leaseAsked, s.lease)
	s.scanner.started(now, r)
	limit := w.kinds[granted.Kind]
	s.limit(now, r, limit)
	h := handouts.of(w.session)
	if !h.fits(payload, min(s.maxFrame/2, usualFrame)) {
		h.flush(w.session, fx)
	}
	h.add(wireStrand(granted, r.leaseEnd, now, limit), payload)
}

// weigh replaces the estimate of what a run takes, and says whether its worker may hold that. It may always hold one.
func (s *schedule) weigh(w *worker, r *run, payload int) bool {
	w.bytesHeld += payload - r.bytes
	r.bytes = payload
	s.recount(w)
	return w.bytesHeld <= s.maxBytes || w.held == 1
}

// settled says whether a drain has come to its end.
func (s *schedule) settled(now int64) bool {
	if !s.draining {
		return false
	}
	idle := len(s.runs) == 0 && s.commits.empty() && s.leasing == nil && s.renewing == nil && !s.inserting && len(s.calls) == 0
	return idle && s.place.left(now) || now >= s.drainBy+drainFlush
}

// drain stops handing out and asks every worker to come to an end.
func (s *schedule) drain(now, by int64, fx *effects) {
	if s.draining {
		s.drainBy = min(s.drainBy, by)
		return
	}
	s.draining, s.drainBy = true, by
	s.buffer, s.alone = newBuffer(), nil
	s.sayGoodbye(now)
	for _, w := range s.workers {
		s.quiet(now, w, "stop", by-now, fx)
	}
}

// quiet asks one worker to finish or release what it holds; it gets nothing more.
func (s *schedule) quiet(now int64, w *worker, why string, within int64, fx *effects) {
	w.draining = true
	s.recount(w)
	if w.session != 0 {
		fx.tell(w.session, &protocol.Drain{ByMS: millis(within), Why: why})
	}
}

// call takes in inserts from outside a run. They are not gathered: they are rare, since those of a run travel in its
// result, and each call is all or nothing.
func (s *schedule) call(now int64, ev called, fx *effects) {
	s.hear(now, ev.session)
	bytes := payloadOf(ev.inserts)
	if len(s.calls) == mostCalls || s.callBytes > 0 && s.callBytes+bytes > s.maxBytes {
		fx.tell(ev.session, &protocol.Reply{Re: ev.id, Err: tooManyCalls()})
		return
	}
	s.calls = append(s.calls, ev)
	s.callBytes += bytes
}

// insert asks for the next insert. Many at once would take the database's connections from leases and commits.
func (s *schedule) insert(fx *effects) {
	if s.inserting || len(s.calls) == 0 {
		return
	}
	next := s.calls[0]
	s.inserting, fx.insert = true, &next
	s.calls[0] = called{} // the slice behind it must not keep what it held
	s.calls = s.calls[1:]
	s.callBytes -= payloadOf(next.inserts)
}

func (s *schedule) reply(ev inserted, fx *effects) {
	s.inserting = false
	if s.sessions[ev.session] == 0 {
		return
	}
	reply := &protocol.Reply{Re: ev.id}
	for _, id := range ev.ids {
		reply.IDs = append(reply.IDs, id.String())
	}
	if ev.err != nil {
		reply.IDs, reply.Err = nil, replyError(ev.err)
	}
	fx.tell(ev.session, reply)
}

func (fx *effects) tell(session sessionID, m protocol.ToWorker) {
	fx.send = append(fx.send, sending{session, m})
}

// millis rounds nanoseconds up to whole milliseconds, never below 0.
func millis(ns int64) uint64 {
	return uint64((max(ns, 0) + int64(time.Millisecond) - 1) / int64(time.Millisecond))
}
