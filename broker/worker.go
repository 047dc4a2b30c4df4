package broker

import (
	"maps"
	"slices"
	"time"

	"github.com/respirated/respirated/protocol"
)

// workerNo numbers a worker within this run of the broker; 0 is none.
type workerNo uint64

// worker is a process that says it can run strands. It outlives its connections.
type worker struct {
	no      workerNo
	uuid    string
	key     string                   // spawn key; "" = not ours
	name    string                   // for people
	kinds   map[string]time.Duration // what it serves, and how long one run may take; 0 = no limit
	labels  map[string][]string      // of the kinds whose labels it has told; sorted
	terms   Terms                    // of its pool
	says    []string                 // its kinds whose strands, as it says, need a process of their own
	alone   []string                 // and those of which its pool says so, too, as of when it joined its class
	sync    bool
	ackAll  bool
	session sessionID // 0 = not connected
	class   *class

	wantN     int // absolute credit
	slots     int // what it wanted first in this session: so many it runs at once, and what it wants beyond waits there
	wantBytes int // payload that it may hold before it gets no more
	held      int // runs that count against wantN
	bytesHeld int
	full      bool          // there was more than it may hold: it gets nothing until something of it has ended
	lent      int           // runs of its whose slots have been given to other databases' strands
	accounts  []account     // of its reports that wait, for each database
	promised  map[Pair]bool // results that it said will follow, at its last hello; never changed after that. nil = none
	counted   int           // what it contributes to class.free

	former    sessionID // the connection it had last
	heard     int64     // when it last sent anything
	silent    bool      // sync and quiet for long: no new credit until it is heard
	draining  bool
	reserved  bool        // a strand that must run alone waits for it to be idle
	exclusive bool        // runs one strand alone
	endBy     int64       // asked to end its work for stuck; then its process is ended, and again each grace; 0 = no
	stuck     ID          // the strand that endBy is about
	died      *WorkerExit // its process has ended
	buryAt    int64       // when to stop waiting for the end of its socket
}

// account is what a worker has waiting for a database.
type account struct {
	reports int // that free no slot
	bytes   int // of payload, those that free one included
}

func (w *worker) account(d *database) *account { return &w.accounts[d.no] }

// owed says whether any report of a worker waits that frees no slot.
func (w *worker) owed() bool {
	return slices.ContainsFunc(w.accounts, func(a account) bool { return a.reports > 0 })
}

// class is a set of connected workers that serve the same kinds and labels of the same queues. There are as many as there are
// pools and builds.
type class struct {
	kinds   []string            // sorted
	labels  map[string][]string // as of its workers
	queues  []Queue             // sorted; none = all
	areas   []area              // that they may take strands from; made anew by chart, never changed in place
	members []*worker
	turn    int // the member whose turn it is
	dealt   int // what it has got in it
	free    int // credit of all members
}

// runs says whether the workers of a class have that label of that kind, "" = any, and may get strands of that queue.
func (c *class) runs(kind, label string, q Queue) bool {
	_, serves := slices.BinarySearch(c.kinds, kind)
	return serves && hasLabel(c.labels, kind, label) && c.takes(q)
}

// hasLabel says whether who has told these labels has that one. Of a kind of which it told none it has all.
func hasLabel(told map[string][]string, kind, label string) bool {
	labels, some := told[kind]
	if !some || label == "" {
		return true
	}
	_, has := slices.BinarySearch(labels, label)
	return has
}

// wants says whether some member wants strands.
func (c *class) wants() bool {
	return slices.ContainsFunc(c.members, func(w *worker) bool { return w.wantN > 0 && !w.draining && !w.terms.Paused })
}

// pick takes the member with credit whose turn it is. A turn lasts for a portion: strands that are spread thinly over
// many processes cost each of them a frame, a wake-up and an answer, which is more than a short run. What finds no free
// slot waits where it is, so that is for a backlog only: without one, the next member may have a free slot.
func (c *class) pick(backlog bool) *worker {
	for range len(c.members) + 1 { // the first one's turn may be over
		w := c.members[c.turn%len(c.members)]
		if w.counted > 0 && (c.dealt == 0 || c.dealt < w.portion() && (backlog || w.held < w.slots)) {
			c.dealt++
			return w
		}
		c.turn++
		c.dealt = 0
	}
	panic("bug: a class with credit has no member with credit")
}

// portion is how many strands the worker gets in its turn. One that wants k times what it runs at once has runs so short
// that a slot ends about k of them while a result is on its way.
func (w *worker) portion() int { return w.wantN / w.slots }

// credit is how many more strands the worker may get now.
func (w *worker) credit() int {
	if w.session == 0 || w.draining || w.terms.Paused || w.reserved || w.exclusive || w.silent || w.full || w.died != nil {
		return 0
	}
	if w.bytesHeld >= w.wantBytes {
		return 0
	}
	return max(0, w.wantN-w.held)
}

// recount brings class.free up to date after something of w has changed.
func (s *schedule) recount(w *worker) {
	if w.held == 0 {
		w.exclusive = false
	}
	credit := w.credit()
	if w.class != nil {
		w.class.free += credit - w.counted
	}
	w.counted = credit
}

// leastBusy is the connected worker for kind, label and queue that will be idle soonest: a reserved one before others. Where there is none,
// soon says that there will be: some run a strand alone.
func (s *schedule) leastBusy(kind, label string, q Queue) (best *worker, soon bool) {
	for _, c := range s.classes {
		if !c.runs(kind, label, q) {
			continue
		}
		for _, w := range c.members {
			if w.draining || w.terms.Paused || w.silent || w.died != nil || w.wantN == 0 {
				continue
			}
			if w.exclusive {
				soon = true
				continue
			}
			if best == nil || w.reserved && !best.reserved || w.reserved == best.reserved && w.held < best.held {
				best = w
			}
		}
	}
	return best, soon
}

// join puts a connected worker into the class of its kinds, labels and queues.
func (s *schedule) join(w *worker) {
	kinds := make([]string, 0, len(w.kinds))
	for kind := range w.kinds {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	i := slices.IndexFunc(s.classes, func(c *class) bool {
		return slices.Equal(c.kinds, kinds) && maps.EqualFunc(c.labels, w.labels, slices.Equal) && slices.Equal(c.queues, w.terms.Queues)
	})
	if i < 0 {
		i = len(s.classes)
		s.classes = append(s.classes, &class{kinds: kinds, labels: w.labels, queues: w.terms.Queues})
		s.chart()
		for _, d := range s.databases {
			d.scanner.learned()
		}
	}
	w.class = s.classes[i]
	w.class.members = append(w.class.members, w)
	w.counted, w.alone = 0, w.isolates()
	s.isolate(w)
	s.recount(w)
	s.announce()
	s.otherKinds = true
}

// leave takes a worker out of its class, and drops candidates that nobody serves any more.
func (s *schedule) leave(w *worker) {
	c := w.class
	if c == nil {
		return
	}
	c.free -= w.counted
	for _, kind := range w.alone {
		s.isolated[kind]--
	}
	w.class, w.counted, w.reserved = nil, 0, false
	c.members = slices.DeleteFunc(c.members, func(m *worker) bool { return m == w })
	s.classes = slices.DeleteFunc(s.classes, func(c *class) bool { return len(c.members) == 0 })
	s.chart()
	for _, d := range s.databases {
		d.buffer.retain(s.servedIn)
	}
	s.announce()
	s.otherKinds = true
}

// isolate takes in which kinds a worker that joins wants to be run alone. Candidates that were not known to be such come again
// by a later scan.
func (s *schedule) isolate(w *worker) {
	for _, kind := range w.alone {
		if s.isolated[kind]++; s.isolated[kind] == 1 {
			for _, d := range s.databases {
				d.buffer.retain(func(area, _ string) bool { return kindOf(area) != kind })
			}
		}
	}
}

// isolates says whether the strands of a kind need a process of their own.
func (s *schedule) isolates(kind string) bool { return s.isolated[kind] > 0 }

// canRun says whether some connected worker has that label of that kind, "" = any, and may get strands of that queue.
func (s *schedule) canRun(kind, label string, q Queue) bool {
	return slices.ContainsFunc(s.classes, func(c *class) bool { return c.runs(kind, label, q) })
}

// greet admits a worker, new or returned, and settles with it what it holds.
func (s *schedule) greet(now int64, ev greeted, fx *effects) {
	if s.keyTaken(ev) {
		fx.hangUp = append(fx.hangUp, hangUp{ev.session, denied()})
		return
	}
	w := s.workers[s.byUUID[ev.worker]]
	if w != nil && ev.session < max(w.session, w.former) {
		fx.hangUp = append(fx.hangUp, hangUp{ev.session, superseded()}) // read late: what it says it holds is of the past
		return
	}
	if w == nil {
		s.lastNo++
		w = &worker{no: s.lastNo, uuid: ev.worker, accounts: make([]account, len(s.databases))}
		s.workers[w.no], s.byUUID[w.uuid] = w, w.no
	}
	if w.session != 0 {
		fx.hangUp = append(fx.hangUp, hangUp{w.session, superseded()})
		s.disconnect(w)
	}
	w.session, w.key, w.name, w.sync, w.ackAll = ev.session, ev.key, ev.name, ev.sync, ev.ackAll
	w.kinds, w.labels, w.says, w.terms = map[string]time.Duration{}, map[string][]string{}, nil, ev.terms
	for _, k := range ev.kinds {
		w.kinds[k.Name] = time.Duration(k.RunMS) * time.Millisecond
		if len(k.Labels) > 0 {
			w.labels[k.Name] = slices.Sorted(slices.Values(k.Labels))
		}
		if k.Isolate {
			w.says = append(w.says, k.Name)
		}
	}
	w.heard, w.silent, w.wantN, w.slots, w.draining = now, false, 0, 0, w.endBy != 0
	s.sessions[w.session] = w.no
	if e, died := s.exits[w.key]; died {
		w.died, w.buryAt = &e.WorkerExit, now+awaitEOF
		s.sweepBy(w.buryAt)
		fx.ended = append(fx.ended, w.session)
	}
	s.join(w)
	if w.key != "" {
		fx.connected = append(fx.connected, w.key)
	}
	fx.tell(w.session, s.welcome(now, ev))
	s.reconcile(now, w, ev.hold, fx)
	if s.draining {
		s.quiet(now, w, "stop", s.drainBy-now, fx)
	}
}

func (s *schedule) keyTaken(ev greeted) bool {
	if ev.key == "" {
		return false
	}
	for _, w := range s.workers {
		if w.key == ev.key && w.uuid != ev.worker && w.session != 0 {
			return true
		}
	}
	return false
}

func (s *schedule) welcome(now int64, ev greeted) *protocol.Welcome {
	return &protocol.Welcome{
		Re:       ev.re,
		Version:  protocol.Version,
		Broker:   s.broker.String(),
		Session:  ev.session.String(),
		MaxFrame: uint64(s.maxFrame),
		MaxN:     uint64(s.maxHold),
		MaxBatch: finalResults,
		HeartMS:  uint64(s.heartbeat.Milliseconds()),
		DeadMS:   uint64(s.dead.Milliseconds()),
		LeaseMS:  uint64(s.lease.Milliseconds()),
		BootNS:   now,
	}
}

// reconcile compares what the worker says it holds with what we believe. What it does not know of was lost on the
// wire and is given back at once. What we do not know of is from a former broker: the database says, by a renewal,
// whether it is still the worker's.
func (s *schedule) reconcile(now int64, w *worker, holds []hold, fx *effects) {
	said := make(map[Pair]bool, len(holds))
	lost := &protocol.Cancel{}
	w.promised = nil
	for _, h := range holds {
		said[h.Pair] = true
		r := s.runs[h.ID]
		switch {
		case h.done: // its result follows, and the fence decides
			if w.promised == nil {
				w.promised = map[Pair]bool{}
			}
			w.promised[h.Pair] = true
		case r == nil:
			s.adopt(now, w, h)
		case r.Pair != h.Pair || r.worker != w.no:
			lost.Cancels = append(lost.Cancels, lostStop(h.Pair))
		}
	}
	if len(lost.Cancels) > 0 {
		fx.tell(w.session, lost)
	}
	unsaid := s.sorted(func(r *run) bool { return r.worker == w.no && r.state == running && !said[r.Pair] })
	for _, r := range unsaid {
		s.giveBack(r, yieldOf(r.Pair))
	}
}

// adopt takes over a run that a former broker handed out. Nobody says which database it is in, so they are asked in turn.
func (s *schedule) adopt(now int64, w *worker, h hold) {
	r := &run{Pair: h.Pair, left: s.others(), kind: h.kind, worker: w.no, state: running}
	r.leaseRuns(now, s.lease)
	r.renewAt, s.of(r).renewDue = now, true
	s.runs[h.ID] = r
	w.held++
	for _, d := range s.databases {
		d.discard(h.ID)
	}
	s.recount(w)
}

// want sets the absolute credit of a worker.
func (s *schedule) want(now int64, ev wanted, fx *effects) {
	w := s.hear(now, ev.session)
	if w == nil {
		return
	}
	if ev.n > s.maxHold {
		fx.hangUp = append(fx.hangUp, hangUp{ev.session, outOfRange("want.n", ev.n, s.maxHold)})
		return
	}
	if (w.wantN == 0) != (ev.n == 0) {
		s.look()
		s.otherKinds = true
	}
	w.wantN, w.wantBytes = ev.n, s.maxBytes
	if w.slots == 0 {
		w.slots = ev.n
	}
	if ev.bytes > 0 {
		w.wantBytes = min(ev.bytes, s.maxBytes)
	}
	s.recount(w)
}

// hear notes a sign of life and says whose it is.
func (s *schedule) hear(now int64, session sessionID) *worker {
	w := s.workers[s.sessions[session]]
	if w == nil {
		return nil // a frame that crossed the end of its session
	}
	w.heard = now
	if w.silent {
		w.silent = false
		s.recount(w)
	}
	return w
}

// part notes the end of a connection. The worker keeps what it holds: it comes back, or its process ends, or its
// leases do.
func (s *schedule) part(now int64, session sessionID) {
	w := s.workers[s.sessions[session]]
	if w == nil {
		return
	}
	s.disconnect(w)
	if w.died != nil {
		s.bury(now, w)
		return
	}
	s.dismiss(w)
}

// dismiss forgets a worker that is not connected, of which nothing is left here, and of whose end nobody will tell.
func (s *schedule) dismiss(w *worker) {
	if w.session == 0 && w.held+w.lent == 0 && !w.owed() && w.key == "" {
		s.remove(w)
	}
}

func (s *schedule) disconnect(w *worker) {
	delete(s.sessions, w.session)
	w.former, w.session = w.session, 0
	s.leave(w)
}

// exit notes the end of one of our processes. Frames that it sent before may still be on their way, even a hello, so
// its connection is read to its end first, and its end is remembered for a while.
func (s *schedule) exit(now int64, e WorkerExit, fx *effects) {
	s.exits[e.Key] = pastExit{e, now}
	for _, w := range s.workers {
		if w.key != "" && w.key == e.Key {
			w.died, w.buryAt = &e, now+awaitEOF
			s.sweepBy(w.buryAt)
			s.recount(w)
			if w.session == 0 {
				s.bury(now, w)
			} else {
				fx.ended = append(fx.ended, w.session)
			}
		}
	}
}

// sweepBy has the next sweep be at that time, or before.
func (s *schedule) sweepBy(at int64) {
	if !s.putOff {
		s.nextSweep = min(s.nextSweep, at)
	}
}

// vanish notes that the process behind a connection that has parted has ended. Of one that has a spawn key, the
// supervisor will tell more, if it knows the key.
func (s *schedule) vanish(now int64, session sessionID) {
	for _, w := range s.workers {
		if w.former != session || w.session != 0 || w.died != nil {
			continue
		}
		w.died, w.buryAt = &WorkerExit{How: "unknown (not started by this broker)"}, now+awaitEOF
		if w.key == "" {
			s.bury(now, w)
		}
		s.sweepBy(now + awaitEOF)
		return
	}
}

// pastExit is the end of a process, and when we learned of it.
type pastExit struct {
	WorkerExit
	at int64
}

// bury settles what a dead worker held. Each of its strands is a suspect; only one that was alone is guilty for sure.
func (s *schedule) bury(now int64, w *worker) {
	left := s.sorted(func(r *run) bool { return r.worker == w.no && r.state == running })
	for _, r := range left {
		s.giveBack(r, w.verdictOn(r, len(left) == 1))
	}
	for _, r := range s.runs {
		if r.worker == w.no {
			r.worker = 0 // leasing: given back when granted; settling: nobody is left to answer
		}
	}
	s.remove(w)
}

// verdictOn is what the death of w means for a strand it held.
func (w *worker) verdictOn(r *run, alone bool) Report {
	stuck := w.endBy != 0 && w.stuck == r.ID && r.stopWhy != protocol.StopLost
	switch {
	case stuck && r.stopWhy == protocol.StopTimeout:
		return Report{Pair: r.Pair, Act: Crash, Guilty: true, Failure: w.evidence("timeout", "ran past its limit and did not stop; its worker was ended")}
	case stuck: // it was cancelled, and ends as that
		return Report{Pair: r.Pair, Act: Crash, Failure: w.evidence("cancelled", "did not stop when it was cancelled; its worker was ended")}
	case w.died.Asked || w.endBy != 0:
		return yieldOf(r.Pair)
	}
	return Report{Pair: r.Pair, Act: Crash, Guilty: alone, Failure: w.evidence("crash", "its worker died: "+w.died.How)}
}

func (w *worker) evidence(class, message string) *Failure {
	return &Failure{
		Class: class, Message: message, Worker: w.name, Exit: w.died.How, Stderr: w.died.Stderr, MaxRSS: w.died.MaxRSS, CPU: w.died.CPU,
	}
}

// remove forgets a worker that is not connected and holds nothing.
func (s *schedule) remove(w *worker) {
	if w.session != 0 {
		s.disconnect(w)
	}
	delete(s.byUUID, w.uuid)
	delete(s.workers, w.no)
}
