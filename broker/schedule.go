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
	mark   Mark          // which they begin with

	workers    map[workerNo]*worker
	byUUID     map[string]workerNo
	sessions   map[sessionID]workerNo
	exits      map[string]pastExit // by spawn key; forgotten after a while
	isolated   map[string]int      // by kind: how many workers say that its strands need a process of their own
	lastNo     workerNo
	classes    []*class
	named      map[Queue]bool // queues that some class names; never changed in place
	turn       int            // class that chooses first
	otherKinds bool           // other kinds may have workers that want strands

	databases []*database // at least one
	first     int         // of them, the one that chooses first
	open      []*database // those that may lease just now; made anew by match
	runs      map[ID]*run // everything leased, being leased, or being settled; at most the sum of all want and what dies

	stepped   int64 // when step was called last
	nextSweep int64
	putOff    bool // the next sweep has been, since we overslept
	draining  bool
	drainBy   int64
	pausedAt  int64 // 0 = it does not pause
}

// limits are the numbers of a schedule. Config sets them.
type limits struct {
	databases int // how many; 0 = one
	partition Partition
	lease     time.Duration // how long a lease lasts in the database
	heartbeat time.Duration
	dead      time.Duration // silence after which a worker is given up
	scanEvery time.Duration // an idle broker looks that often
	grace     time.Duration // from asking a handler to stop to asking its process
	maxHold   int           // most that one worker may hold
	maxBytes  int           // payload of one worker after which it gets no more, or is not heard; and of all calls
	maxBatch  int           // most rows in one statement
	mostTaken int           // strands to take for a hint; 0 = scan first
	maxFrame  int
}

const (
	sweepEvery   = int64(time.Second)
	lockedRetry  = int64(100 * time.Millisecond) // a row that somebody has locked
	renewApart   = int64(50 * time.Millisecond)  // renewals asked for by hints
	errorRetry   = int64(200 * time.Millisecond) // a statement that failed
	awaitEOF     = int64(time.Second / 2)        // a dead process whose socket a grandchild may hold open, where the kernel does not let us end it without loss
	forgetAfter  = int64(10 * time.Minute)       // a worker that holds nothing and does not come back
	mostCalls    = 1024                          // inserts and signals outside runs that may wait
	lateAnswer   = int64(time.Second)            // of a database, which shall not hold up others
	drainFlush   = int64(5 * time.Second)        // for the last reports, after workers were given up
	finalResults = protocol.DefaultMaxBatch      // entries a worker may put in one frame
)

func newSchedule(broker ID, seed [32]byte, l limits) *schedule {
	s := &schedule{
		limits:   l,
		broker:   broker,
		rng:      rand.NewChaCha8(seed),
		workers:  map[workerNo]*worker{},
		byUUID:   map[string]workerNo{},
		sessions: map[sessionID]workerNo{},
		exits:    map[string]pastExit{},
		isolated: map[string]int{},
		runs:     map[ID]*run{},
	}
	s.mark = s.drawMark()
	for no := range max(1, l.databases) {
		s.databases = append(s.databases, newDatabase(s, no, binary.BigEndian.Uint64(seed[:8])))
	}
	return s
}

// step takes in what happened, in order, and decides what to do about all of it together. So whatever comes while a
// statement is in flight is gathered into the next one.
func (s *schedule) step(now int64, events ...event) effects {
	var fx effects
	if n := s.others(); n > 0 {
		fx.more = make([]requests, n)
	}
	s.stepped = now
	for _, ev := range events {
		s.take(now, ev, &fx)
	}
	if now >= s.nextSweep {
		s.sweep(now, &fx)
	}
	s.match(now, &fx)
	if s.otherKinds {
		s.serve(now)
	}
	for _, d := range s.databases {
		d.ask(now, fx.to(d.no))
	}
	fx.finished = s.settled(now)
	fx.rested = s.rested()
	return fx
}

func (s *schedule) take(now int64, ev event, fx *effects) {
	switch ev := ev.(type) {
	case greeted:
		s.greet(now, ev, fx)
	case amended:
		s.amend(ev.key, ev.terms)
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
		s.exit(now, ev.WorkerExit, fx)
	case overslept:
		s.oversleep(now, ev.by)
	case draining:
		s.drain(now, ev.by, fx)
	case pausing:
		s.pausedAt = now
	case resuming:
		s.resume(now)
	case reclaiming:
		s.reclaim(ev.marks)
	case from:
		s.databases[ev.database].take(now, ev.what, fx)
	default:
		s.databases[0].take(now, ev, fx)
	}
}

// nextTick is when step wants to be called even if nothing happens. What time alone had made possible by the last step,
// that step has done; what it has left waits for an answer, whatever the clock says. So only later times count.
func (s *schedule) nextTick() int64 {
	next := s.nextSweep
	for _, d := range s.databases {
		if at := d.next(s.stepped); at != 0 {
			next = min(next, at)
		}
	}
	return next
}

// renewNext is when leases that are due may be renewed; 0 = none is known to be due.
func (d *database) renewNext() int64 {
	if !d.renewDue {
		return 0
	}
	return d.renewAfter
}

// match brings free credit and candidates together, and leases all pairs that met since the last lease. Databases take
// their picks in turn, so that none takes all credit.
func (s *schedule) match(now int64, fx *effects) {
	if s.draining || s.pausedAt != 0 {
		return
	}
	backlog := s.opened(now)
	for _, d := range s.open {
		d.matchAlone(now)
	}
	for i := range s.classes {
		c := s.classes[(s.turn+i)%len(s.classes)]
		for met := true; met; {
			met = false
			for _, d := range s.open {
				met = d.meet(now, c, backlog) || met
			}
		}
	}
	some := false
	for _, d := range s.open {
		if d.leasing != nil {
			d.leaseAsked, d.leaseAfter = now, 0
			fx.to(d.no).lease, some = d.leasing, true
		}
	}
	if some {
		s.turn++ // or one class could fill every statement
		s.first = (s.first + 1) % len(s.databases)
	}
}

// opened lists the databases that may lease, and says whether one of them has a backlog.
func (s *schedule) opened(now int64) (backlog bool) {
	s.open = s.open[:0]
	for i := range s.databases {
		d := s.databases[(s.first+i)%len(s.databases)]
		if d.leasing == nil && !d.takesNow() && d.lent == 0 && now >= d.leaseAfter {
			s.open = append(s.open, d)
			backlog = backlog || d.buffer.len() >= s.maxBatch
		}
	}
	return backlog
}

// meet has the first candidate for a class meet a free slot of it, if there are both.
func (d *database) meet(now int64, c *class, backlog bool) bool {
	if c.free == 0 || len(d.leasing) >= d.s.maxBatch {
		return false
	}
	candidate, ok := d.buffer.first(c)
	if !ok {
		return false
	}
	d.buffer.remove(candidate)
	if d.s.runs[candidate.ID] == nil { // else another database has a strand of that name: a copy
		d.assign(now, candidate, c.pick(backlog))
	}
	return true
}

// matchAlone gives each strand that must run alone an idle worker, or reserves the one that is idle soonest.
func (d *database) matchAlone(now int64) {
	before := d.reserved
	d.reserved = nil
	d.alone = slices.DeleteFunc(d.alone, func(c sighting) bool {
		w, soon := d.s.leastBusy(c.Kind, c.Label, c.Queue)
		switch {
		case d.s.runs[c.ID] != nil:
			return true
		case w == nil:
			return !soon // nobody serves it just now: a later scan brings it again
		case w.held > 0:
			d.reserve(w)
			return false
		}
		w.exclusive, w.reserved = true, false
		d.assign(now, c, w)
		d.s.runs[c.ID].alone = true
		return true
	})
	for _, no := range before {
		if w := d.s.workers[no]; w != nil && w.reserved && !d.s.isReserved(no) {
			w.reserved = false
			d.s.recount(w)
		}
	}
}

// reserve gives a worker nothing more until it is idle.
func (d *database) reserve(w *worker) {
	if slices.Contains(d.reserved, w.no) {
		return
	}
	d.reserved = append(d.reserved, w.no)
	w.reserved = true
	d.s.recount(w)
}

func (s *schedule) isReserved(no workerNo) bool {
	return slices.ContainsFunc(s.databases, func(d *database) bool { return slices.Contains(d.reserved, no) })
}

// assign promises the candidate to the worker, whose slot is taken from now on, and adds it to what is to be leased.
func (d *database) assign(now int64, c sighting, w *worker) {
	pair := Pair{c.ID, d.s.token()}
	d.promise(&run{
		Pair: pair, of: d.no, kind: c.Kind, state: leasing, bytes: c.Bytes, since: c.since, foreign: c.foreign,
	}, w)
	d.leasing = append(d.leasing, pair)
}

// promise has a run take a slot of a worker.
func (d *database) promise(r *run, w *worker) {
	d.s.runs[r.ID] = r
	r.worker = w.no
	w.held++
	w.bytesHeld += r.bytes
	d.s.recount(w)
}

// drawMark draws the first half of a random UUID.
func (s *schedule) drawMark() (m Mark) {
	binary.BigEndian.PutUint64(m[:], s.rng.Uint64())
	m[6] = m[6]&0x0f | 0x40
	return m
}

// token draws the rest of one.
func (s *schedule) token() (t Token) {
	copy(t[:], s.mark[:])
	binary.BigEndian.PutUint64(t[8:], s.rng.Uint64())
	t[8] = t[8]&0x3f | 0x80
	return t
}

// grant hands leased strands to their workers. What was not granted is forgotten; where the outcome is unknown, or
// the worker is gone, the lease is given back.
func (d *database) grant(now int64, ev leased, fx *effects) {
	s, asked := d.s, d.leasing
	d.leasing = nil
	if ev.err != nil {
		d.leaseAfter = now + errorRetry
		for _, p := range asked {
			s.giveBack(s.runs[p.ID], yieldOf(p))
		}
		return
	}
	handouts := perSession[handout]{fresh: handout{share: 1 + len(ev.granted)/max(1, len(s.sessions))}}
	for i := range ev.granted {
		d.start(now, &ev.granted[i], &handouts, fx)
	}
	handouts.each(func(session sessionID, h *handout) {
		h.flush(session, fx)
		if w := s.workers[s.sessions[session]]; w.key != "" {
			fx.handed = append(fx.handed, w.key)
		}
	})
	if len(ev.granted) == len(asked) {
		return // that was all of them
	}
	for _, p := range asked {
		if r := s.runs[p.ID]; r != nil && r.Token == p.Token && r.state == leasing {
			s.forget(r)
		}
	}
}

// start begins a granted run.
func (d *database) start(now int64, granted *Strand, handouts *perSession[handout], fx *effects) {
	s := d.s
	r := s.runs[granted.ID]
	if r == nil || r.Token != granted.Token || r.state != leasing {
		panic("bug: granted a lease that was not asked for")
	}
	w := s.workers[r.worker]
	if w == nil || w.session == 0 || w.draining || r.lent && !s.retake(w, r) {
		s.giveBack(r, yieldOf(r.Pair))
		return
	}
	if !hasLabel(w.labels, granted.Kind, granted.Label) {
		s.giveBack(r, s.misplaced(granted))
		return
	}
	if !w.class.takes(Queue{granted.Tenant, granted.Queue}) { // its pool has changed meanwhile
		s.giveBack(r, yieldOf(r.Pair))
		return
	}
	granted.Inbox = granted.Inbox.within(s.maxFrame - strandOverhead - granted.payload() + granted.Inbox.payload())
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
	r.state, r.leased = running, d.leaseAsked
	r.stack, r.inbox = len(granted.Stack), granted.Inbox.payload()
	r.leaseRuns(d.leaseAsked, s.lease)
	d.scanner.started(d, now, r)
	limit := w.kinds[granted.Kind]
	s.limit(now, r, limit)
	h := handouts.of(w.session)
	if !h.fits(payload, s.usual()) {
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
	busy := func(d *database) bool { return !d.settled(now) }
	idle := len(s.runs) == 0 && !slices.ContainsFunc(s.databases, busy)
	return idle || now >= s.drainBy+drainFlush
}

// drain stops handing out and asks every worker to come to an end.
func (s *schedule) drain(now, by int64, fx *effects) {
	if s.draining {
		s.drainBy = min(s.drainBy, by)
		return
	}
	s.draining, s.drainBy = true, by
	for _, d := range s.databases {
		d.buffer, d.alone = newBuffer(), nil
		d.sayGoodbye(now)
	}
	for _, w := range s.workers {
		s.quiet(now, w, "stop", by-now, fx)
	}
}

// quiet asks one worker to finish or release what it holds; it gets nothing more.
func (s *schedule) quiet(now int64, w *worker, why string, within int64, fx *effects) {
	w.draining, s.otherKinds = true, true
	s.recount(w)
	if w.session != 0 {
		fx.tell(w.session, &protocol.Drain{ByMS: millis(within), Why: why})
	}
}

func (fx *effects) tell(session sessionID, m protocol.ToWorker) {
	fx.send = append(fx.send, sending{session, m})
}

// millis rounds nanoseconds up to whole milliseconds, never below 0.
func millis(ns int64) uint64 {
	return uint64((max(ns, 0) + int64(time.Millisecond) - 1) / int64(time.Millisecond))
}
