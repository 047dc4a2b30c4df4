package worker

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/respirated/respirated/protocol"
)

const (
	dialFirst   = 50 * time.Millisecond // the longest wait before the second attempt to reach a broker; doubles
	dialLast    = 5 * time.Second       // the longest wait between two attempts
	refusedWait = time.Minute           // after the broker said that it does not want this worker
	faultWait   = time.Second           // after either side found a fault in what the other sent
	settled     = 5 * time.Second       // a session that lasted this long was a good one: the next attempt is quick again
	patience    = time.Second           // how long a strand waits for a slot here before it is given back to the broker
	laterLeast  = 10 * time.Millisecond // the shortest wait before a result is sent again
	inFlight    = 4 << 20               // bytes of results on their way at a time, if that is more than one frame
	never       = int64(math.MaxInt64)
)

// An event is something that happened outside. The session learns of the world only through events.
type event any

type (
	// connected: a connection to the broker is there; nothing has been said on it.
	connected struct{}
	// disconnected: there is no connection, or none any more.
	disconnected struct{ err error }
	// received: the broker sent a message.
	received struct{ msg protocol.ToWorker }
	// returned: the handler of the strand with this token is done.
	returned struct {
		token  string
		result protocol.Result
	}
	// unsendable: the frame with this id cannot be encoded.
	unsendable struct {
		id  uint64
		err error
	}
	// stopping: the worker has been asked to stop.
	stopping struct{}
	// tick: time has passed.
	tick struct{}
)

// effects is what the outside world shall do, in this order.
type effects struct {
	notes  []note
	stop   []stop
	start  []*protocol.Strand // each on a goroutine of its own
	send   []protocol.ToBroker
	hangUp bool
	dial   bool
	kill   bool  // end the process now: a handler runs that has lost the right to
	over   bool  // the worker's life has ended ...
	err    error // ... with this
}

// stop ends the context of a run.
type stop struct {
	token string
	cause error
}

// note is for the log.
type note struct {
	level slog.Level
	text  string
	attrs []any
}

// settings is what a session has to know from outside.
type settings struct {
	hello       protocol.Hello // ID, BootNS and Hold are filled in by the session
	slots       int
	maxHold     int
	orphanAfter time.Duration
	drain       time.Duration
	rand        func() float64 // 0 <= x < 1
}

// A session is the worker's side of its talk with the broker: what it holds, what it has promised and what it waits
// for. It outlives connections. step is all that happens to it; it calls nothing, so that time, chance and the world
// come from outside. All times are nanoseconds of the boot clock.
type session struct {
	settings
	now int64 // of the step in progress
	out effects

	link    link
	limits  limits
	tries   int   // attempts to reach a broker since the last good session
	dialAt  int64 // linkDown: when to try again
	greeted int64 // when hello was sent
	opened  int64 // when the last session opened
	heard   int64 // when the broker last sent something
	spoke   int64 // when we did
	served  int64 // when a session was last open, or the worker began
	lastID  uint64

	held    map[string]*run // everything leased to us, by token, until it is settled
	arrived uint64          // number of the last arrival
	queue   []*run          // those without a slot, in order of arrival
	running int             // those with a slot, at most slots
	strays  int             // those among them that the broker does not count any more
	unsent  []*run          // those whose result waits to be sent, in that order
	flying  int             // bytes of results sent in this session and not acked
	credit  credit

	draining bool
	softBy   int64 // when running handlers are asked to stop
	drainBy  int64 // when whatever is still held is left behind
	alarm    int64 // no rule about time has anything to do before
}

// link is the state of the connection.
type link uint8

const (
	linkDown     link = iota
	linkDialing       // on its way
	linkGreeting      // hello is sent
	linkOpen          // welcome is here
)

// limits is what the broker's welcome said.
type limits struct {
	frame, batch, hold int
	heart, dead, grace time.Duration
	sameClock          bool // both sides read the same boot clock, so that deadlines can be compared
}

// run is one lease of a strand on its way through the worker.
type run struct {
	strand   protocol.Strand
	n        uint64 // number of its arrival
	state    runState
	since    int64 // when it got into this state
	deadline int64 // when the right to run it ends

	stray   bool // running: the broker said it is lost; nothing of it will be sent
	expired bool // running: its lease ran out here; it will be given back
	asked   bool // running: asked to stop, as the worker does

	result   protocol.Result // done
	frame    uint64          // done: the frame that carries it in this session; 0 = none yet
	sentAt   int64           // done: when that was
	size     int             // done: what it takes there
	retryAt  int64           // done: not to be sent before
	refusals int             // done: how often the broker did not take the frame
}

type runState uint8

const (
	runQueued  runState = iota
	runRunning          // its handler has a slot
	runDone             // its result is not acked yet
)

func newSession(cfg settings, now int64) *session {
	return &session{
		settings: cfg,
		held:     make(map[string]*run),
		credit:   credit{slots: cfg.slots, most: cfg.maxHold, told: -1},
		dialAt:   now,
		served:   now,
		alarm:    now,
	}
}

// step takes what has happened since the last one and says what to do about it.
func (s *session) step(now int64, events ...event) effects {
	s.now, s.out = now, effects{}
	for _, ev := range events {
		s.happen(ev)
	}
	if s.now >= s.alarm {
		s.alarm = never
		s.watchLink()
		s.watchRuns()
		s.watchEnd()
	}
	s.fill()
	s.report()
	s.ask()
	s.conclude()
	return s.out
}

// wake is when step wants to be called with a tick if nothing happens before.
func (s *session) wake() int64 { return s.alarm }

func (s *session) happen(ev event) {
	switch ev := ev.(type) {
	case connected:
		s.greet()
	case disconnected:
		s.parted(ev.err, waitAfter(ev.err))
	case received:
		s.receive(ev.msg)
	case returned:
		s.finish(ev.token, ev.result)
	case unsendable:
		s.note(slog.LevelError, "a frame cannot be encoded", "error", ev.err)
		s.refused(ev.id, protocol.CodeBadField, ev.err.Error(), 0)
	case stopping:
		s.beginDrain(s.drain, "stop")
	case tick:
	default:
		panic(fmt.Sprintf("bug: event %T", ev))
	}
}

// by makes sure that the rules about time are looked at when t has come.
func (s *session) by(t int64) { s.alarm = min(s.alarm, t) }

func (s *session) note(level slog.Level, text string, attrs ...any) {
	s.out.notes = append(s.out.notes, note{level, text, attrs})
}

func (s *session) send(m protocol.ToBroker) {
	s.out.send = append(s.out.send, m)
	s.spoke = s.now
}

func (s *session) newID() uint64 {
	s.lastID++
	return s.lastID
}

// greet opens the talk on a new connection.
func (s *session) greet() {
	s.link, s.heard, s.greeted, s.lastID = linkGreeting, s.now, s.now, 0
	hello := s.hello
	hello.ID = s.newID()
	hello.BootNS = s.now
	hello.Hold = s.holds()
	s.send(&hello)
	s.by(s.now + int64(protocol.DefaultDead))
}

// holds lists what we hold, for a broker that may not know.
func (s *session) holds() []protocol.Hold {
	var holds []protocol.Hold
	for _, r := range s.inOrder() {
		if r.stray {
			continue
		}
		state := protocol.HoldRun
		if r.state == runDone {
			state = protocol.HoldDone
		}
		holds = append(holds, protocol.Hold{Strand: r.strand.ID, Token: r.strand.Token, Kind: r.strand.Kind, State: state})
	}
	return holds
}

// inOrder lists all runs in order of arrival.
func (s *session) inOrder() []*run {
	runs := make([]*run, 0, len(s.held))
	for _, r := range s.held {
		runs = append(runs, r)
	}
	slices.SortFunc(runs, func(a, b *run) int { return int(int64(a.n - b.n)) })
	return runs
}

// parted notes that there is no connection, and when to try for the next: after a random time that doubles, but not
// before least has passed.
func (s *session) parted(err error, least time.Duration) {
	if s.link == linkOpen {
		s.served = s.now
		if s.now-s.opened >= int64(settled) {
			s.tries = 0
		}
		s.note(slog.LevelWarn, "broker lost", "error", err, "held", len(s.held))
		s.recall()
	} else {
		s.noteAttempt(err)
	}
	wait := min(dialFirst<<min(s.tries, 10), dialLast)
	s.tries++
	s.link = linkDown
	s.dialAt = s.now + max(int64(s.rand()*float64(wait)), int64(least))
	s.by(s.now)
}

// recall queues every result that has not been acked, to be sent in the next session.
func (s *session) recall() {
	s.unsent, s.flying = nil, 0
	for _, r := range s.inOrder() {
		if r.state == runDone {
			r.frame, r.size, r.retryAt = 0, 0, 0
			s.unsent = append(s.unsent, r)
		}
	}
}

// noteAttempt tells of the first attempt that failed, and whispers of the rest.
func (s *session) noteAttempt(err error) {
	level := slog.LevelDebug
	if s.tries == 0 {
		level = slog.LevelWarn
	}
	s.note(level, "no broker answers, trying on", "error", err, "attempt", s.tries+1)
}

// waitAfter is how long to leave the broker alone after a connection ended with err: what it sent may be sent again.
func waitAfter(err error) time.Duration {
	var fault *protocol.Err
	if errors.As(err, &fault) {
		return faultWait
	}
	return 0
}

// hangUp ends the connection from our side.
func (s *session) hangUp(why error, least time.Duration) {
	s.out.hangUp = true
	s.parted(why, least)
}

func (s *session) receive(msg protocol.ToWorker) {
	if s.link != linkGreeting && s.link != linkOpen {
		return // hung up on in this very step
	}
	s.heard = s.now
	switch msg := msg.(type) {
	case *protocol.Welcome:
		s.open(msg)
	case *protocol.Ping:
		s.send(&protocol.Pong{N: msg.N})
	case *protocol.Bye:
		s.hangUp(fmt.Errorf("the broker says bye: %s", msg.Why), 0)
	case *protocol.Err:
		s.fault(msg)
	default:
		if s.link != linkOpen {
			s.hangUp(fmt.Errorf("%s before welcome", msg.Op()), faultWait)
			return
		}
		s.receiveOpen(msg)
	}
}

// receiveOpen takes what a broker may send only within a session.
func (s *session) receiveOpen(msg protocol.ToWorker) {
	switch msg := msg.(type) {
	case *protocol.Strands:
		s.accept(msg.Strands)
	case *protocol.Lease:
		s.extend(msg.Leases)
	case *protocol.Cancel:
		s.cancel(msg.Cancels)
	case *protocol.Ack:
		s.settle(msg.Entries)
	case *protocol.Drain:
		s.beginDrain(time.Duration(min(msg.ByMS, milliseconds(protocol.MaxDuration)))*time.Millisecond, msg.Why)
	case *protocol.Pong, *protocol.Reply: // a sign of life
	}
}

// open begins a session: the broker learns what we want, and gets the results that it may not have.
func (s *session) open(w *protocol.Welcome) {
	if s.link != linkGreeting {
		s.hangUp(errors.New("a second welcome"), faultWait)
		return
	}
	if w.Version != protocol.Version {
		s.note(slog.LevelError, "the broker speaks another protocol", "broker", w.Version, "worker", protocol.Version)
		s.hangUp(fmt.Errorf("protocol version %d, want %d", w.Version, protocol.Version), refusedWait)
		return
	}
	s.limits = limits{
		frame:     orElse(int(w.MaxFrame), protocol.DefaultMaxFrame),
		batch:     orElse(int(w.MaxBatch), 1),
		hold:      int(min(w.MaxN, protocol.DefaultMaxN)),
		heart:     orElse(time.Duration(w.HeartMS)*time.Millisecond, protocol.DefaultHeart),
		dead:      orElse(time.Duration(w.DeadMS)*time.Millisecond, protocol.DefaultDead),
		grace:     orElse(time.Duration(w.LeaseMS)*time.Millisecond, protocol.DefaultLease) / 12,
		sameClock: s.greeted <= w.BootNS && w.BootNS <= s.now,
	}
	s.link, s.opened = linkOpen, s.now
	s.credit.most = min(s.maxHold, s.limits.hold)
	s.credit.told = -1
	s.by(s.now)
	s.note(slog.LevelInfo, "broker found", "broker", w.Broker, "session", w.Session, "held", len(s.held))
}

// orElse is v, or the default where v says nothing.
func orElse[T int | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

// accept takes in leased strands.
func (s *session) accept(strands []protocol.Strand) {
	for _, strand := range strands {
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

// deadline is the end of a lease on our clock.
func (s *session) deadline(bootNS int64, ttlMS uint64) int64 {
	if s.limits.sameClock {
		return bootNS
	}
	return s.now + int64(min(ttlMS, milliseconds(protocol.MaxDuration)))*int64(time.Millisecond)
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

// cancel stops runs at the broker's word.
func (s *session) cancel(stops []protocol.Stop) {
	for _, c := range stops {
		r := s.held[c.Token]
		switch {
		case r == nil:
		case c.Why == protocol.StopLost:
			s.lose(r)
		case r.state == runRunning && c.Why == protocol.StopCancelled:
			s.stop(r, ErrCancelled)
		case r.state == runRunning:
			s.stop(r, ErrTimeout)
		case r.state == runQueued && c.Why == protocol.StopCancelled:
			s.unqueue(r)
			result := failed(ErrCancelled, "")
			result.Act = protocol.ActCancel
			s.done(r, result)
		}
	}
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
			s.stop(r, ErrLeaseLost)
		}
	case runDone:
		s.unsent = slices.DeleteFunc(s.unsent, func(o *run) bool { return o == r })
		s.forget(r)
	}
}

// forget lets go of a run whose result has been settled.
func (s *session) forget(r *run) {
	s.flying -= r.size
	delete(s.held, r.strand.Token)
}

func (s *session) unqueue(r *run) {
	s.queue = slices.DeleteFunc(s.queue, func(o *run) bool { return o == r })
}

// finish takes the result of a handler.
func (s *session) finish(token string, result protocol.Result) {
	r := s.held[token]
	if r == nil || r.state != runRunning {
		panic("bug: a result of a strand that is not running")
	}
	s.running--
	s.credit.run.add(time.Duration(s.now - r.since))
	switch {
	case r.stray:
		s.strays--
		s.forget(r)
	case r.expired:
		s.done(r, protocol.Result{Act: protocol.ActRelease})
	default:
		s.done(r, result)
	}
}

// giveBack returns a strand that has not been started.
func (s *session) giveBack(r *run) { s.done(r, protocol.Result{Act: protocol.ActRelease}) }

// done queues a result for the broker. It is kept until the broker has acked it.
func (s *session) done(r *run, result protocol.Result) {
	r.state, r.since = runDone, s.now
	r.result = result
	r.result.Strand, r.result.Token, r.result.Seq = r.strand.ID, r.strand.Token, 1
	s.unsent = append(s.unsent, r)
}

// settle takes acks.
func (s *session) settle(entries []protocol.AckEntry) {
	for _, e := range entries {
		r := s.held[e.Token]
		if r == nil || r.state != runDone || r.frame == 0 || e.Seq != r.result.Seq {
			continue // of an earlier copy
		}
		if e.State == protocol.AckLater {
			s.again(r, time.Duration(e.RetryMS)*time.Millisecond)
			continue
		}
		s.forget(r)
		s.noteFate(r, e)
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

// again queues a result to be sent once more.
func (s *session) again(r *run, wait time.Duration) {
	s.flying -= r.size
	r.frame, r.size, r.retryAt = 0, 0, s.now+int64(max(wait, laterLeast))
	s.unsent = append(s.unsent, r)
	s.by(r.retryAt)
}

// fault takes an error that the broker reports.
func (s *session) fault(e *protocol.Err) {
	retry := time.Duration(min(e.RetryMS, milliseconds(time.Hour))) * time.Millisecond
	s.note(slog.LevelError, "the broker reports a fault", "code", e.Code, "error", e.Message, "fatal", e.Fatal)
	if !e.Fatal {
		s.refused(e.Re, e.Code, e.Message, retry)
		return
	}
	switch e.Code {
	case protocol.CodeVersion, protocol.CodeDenied, protocol.CodeSuperseded:
		retry = max(retry, refusedWait)
	case protocol.CodeSlow, protocol.CodeDead:
	default:
		retry = max(retry, faultWait)
	}
	s.refused(e.Re, e.Code, e.Message, retry)
	s.hangUp(e, retry)
}

// refused takes a fault in one frame. A result in it is sent again on its own, so that it can harm no other; then as a
// mere failure that says why; then not at all.
func (s *session) refused(id uint64, code protocol.Code, why string, wait time.Duration) {
	if id == 0 {
		return
	}
	for _, r := range s.inOrder() {
		if r.state != runDone || r.frame != id {
			continue
		}
		if code != protocol.CodeDBAway {
			r.refusals++
		}
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

// replace puts a failure in the place of a result that cannot be sent.
func (s *session) replace(r *run, why error) {
	fail := failed(why, "")
	fail.Strand, fail.Token, fail.Seq = r.result.Strand, r.result.Token, r.result.Seq
	r.result = fail
}

// beginDrain stops taking work. Handlers have most of the time to finish, and the rest to react to being asked.
func (s *session) beginDrain(in time.Duration, why string) {
	by := s.now + int64(in)
	if s.draining && by >= s.drainBy {
		return
	}
	s.draining, s.drainBy = true, by
	s.softBy = by - int64(min(in/5, 5*time.Second))
	s.by(s.softBy)
	s.note(slog.LevelInfo, "draining", "why", why, "within", in, "running", s.running, "queued", len(s.queue))
}

// watchLink looks at the times that belong to the connection.
func (s *session) watchLink() {
	switch s.link {
	case linkDown:
		if s.now >= s.dialAt {
			s.link, s.out.dial = linkDialing, true
		} else {
			s.by(s.dialAt)
		}
	case linkGreeting:
		s.watchSilence(protocol.DefaultDead)
	case linkOpen:
		s.watchSilence(s.limits.dead)
		s.watchHeart()
	}
}

// watchSilence gives up a broker that has sent nothing for too long.
func (s *session) watchSilence(limit time.Duration) {
	if silent := s.now - s.heard; silent >= int64(limit) {
		s.hangUp(fmt.Errorf("nothing heard for %v", time.Duration(silent)), 0)
		return
	}
	s.by(s.heard + int64(limit))
}

// watchHeart says something when we have been silent.
func (s *session) watchHeart() {
	if s.link != linkOpen {
		return
	}
	if s.now-s.spoke >= int64(s.limits.heart) {
		s.send(&protocol.Ping{N: s.newID()})
	}
	s.by(s.spoke + int64(s.limits.heart))
}

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
	s.credit.run.atLeast(waited)
	s.giveBack(r)
	return false
}

// watchRunning asks a handler to stop some time before its lease ends. If it is still there at the very end, its strand
// is about to run elsewhere too. A broker ends such a process; without one, the process does it itself.
func (s *session) watchRunning(r *run) {
	if s.draining && s.now >= s.softBy && !r.asked {
		r.asked = true
		s.stop(r, ErrStopping)
	}
	if ask := r.deadline - int64(s.limits.grace); s.now < ask {
		s.by(ask)
		return
	}
	if !r.stray && !r.expired {
		r.expired = true
		s.stop(r, ErrLeaseLost)
		s.note(slog.LevelWarn, "lease lost, handler asked to stop", "strand", r.strand.ID, "kind", r.strand.Kind)
	}
	if last := r.deadline - int64(s.limits.grace/10); s.now < last {
		s.by(last)
		return
	}
	if s.link != linkOpen {
		s.out.kill = true
		s.note(slog.LevelError, "a handler runs on although its lease has ended and no broker answers: ending this process",
			"strand", r.strand.ID, "kind", r.strand.Kind, "label", r.strand.Label)
	}
}

// watchEnd looks at the times at which the worker's life ends.
func (s *session) watchEnd() {
	if s.draining {
		if s.now < s.softBy {
			s.by(s.softBy)
		}
		s.by(s.drainBy)
		if s.now >= s.drainBy && len(s.held) > 0 {
			s.end(fmt.Errorf("%w: %d held at the end of the drain, %d of them running", ErrUnfinished, len(s.held), s.running))
		}
	}
	if s.link == linkOpen {
		return
	}
	if alone := time.Duration(s.now - s.served); alone >= s.orphanAfter {
		s.end(fmt.Errorf("%w for %v, %d strands held", ErrNoBroker, alone, len(s.held)))
		return
	}
	s.by(s.served + int64(s.orphanAfter))
}

func (s *session) end(err error) {
	if !s.out.over {
		s.out.over, s.out.err = true, err
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
		s.out.start = append(s.out.start, &r.strand)
	}
}

// report sends the results that wait, as many to a frame as fit.
func (s *session) report() {
	if s.link != linkOpen || len(s.unsent) == 0 {
		return
	}
	var later []*run
	p := packer{limits: s.limits}
	for _, r := range s.unsent {
		if s.now < r.retryAt {
			later = append(later, r)
			s.by(r.retryAt)
			continue
		}
		if size := resultSize(&r.result); size > p.room() {
			s.replace(r, fmt.Errorf("the result of this run takes %d bytes, at most %d fit into a frame: "+
				"the exit value, the args of With and of Insert count; keep large data elsewhere", size, p.room()))
		}
		if s.flying+p.total > 0 && s.flying+p.total+resultSize(&r.result) > inFlight {
			later = append(later, r) // an ack will make room
			continue
		}
		p.add(r)
	}
	s.unsent = later
	for _, batch := range p.batches {
		s.sendResults(batch)
	}
}

func (s *session) sendResults(batch []*run) {
	m := &protocol.Results{ID: s.newID(), Results: make([]protocol.Result, 0, len(batch))}
	for _, r := range batch {
		r.frame, r.sentAt, r.size = m.ID, s.now, resultSize(&r.result)
		s.flying += r.size
		m.Results = append(m.Results, r.result)
	}
	s.send(m)
}

// ask tells the broker how much we want, when that has changed.
func (s *session) ask() {
	if s.link != linkOpen {
		return
	}
	n := 0
	if !s.draining {
		n = max(s.credit.want()-s.strays, 0)
	}
	if s.credit.worth(n) {
		s.credit.told = n
		s.send(&protocol.Want{N: uint64(n)})
	}
}

// conclude ends the life of a worker that drains and holds nothing.
func (s *session) conclude() {
	if !s.draining || len(s.held) > 0 || s.out.over {
		return
	}
	if s.link == linkOpen {
		s.send(&protocol.Bye{Why: "drained"})
	}
	s.end(nil)
}
