package worker

import (
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/respirated/respirated/protocol"
)

const (
	dialFirst   = 50 * time.Millisecond // the longest wait before the second attempt to reach a broker; doubles
	dialLast    = 2 * time.Second       // the longest wait between two attempts: a new broker ends workers it misses for 5 s
	refusedWait = time.Minute           // after the broker said that it does not want this worker
	faultWait   = time.Second           // after either side found a fault in what the other sent
	settled     = time.Second           // a session that lasted this long was a good one: the next attempt is quick again
	patience    = time.Second           // how long a strand waits for a slot here before it is given back to the broker
	laterLeast  = 10 * time.Millisecond // the shortest wait before a result is sent again
	laterMost   = 5 * time.Second       // the longest such wait, unless the broker asks for a longer one
	inFlight    = 4 << 20               // bytes of results on their way at a time, if that is more than one frame
	company     = 64                    // so many results go at once
	companyWait = time.Millisecond      // the longest wait of a result for others, and of short runs the longest
	lateness    = 2 * time.Second       // so much later than it wants a step comes only if we were stopped; then, to catch up
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
		result *protocol.Result // the session's from now on
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
	start  []start // each on a goroutine of its own
	send   []protocol.ToBroker
	hangUp bool
	dial   bool
	kill   bool  // end the process now: a handler runs that has lost the right to
	over   bool  // the worker's life has ended ...
	err    error // ... with this
}

// start runs the handler of a strand.
type start struct {
	*protocol.Strand
	seq uint64 // of the result to come
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
	kinds map[string]bool // those of settings.hello
	now   int64           // of the step in progress
	out   effects

	link    link
	limits  limits
	tries   int   // attempts to reach a broker since the last good session
	dialAt  int64 // linkDown: when to try again
	greeted int64 // when hello was sent
	opened  int64 // when the last session opened
	heard   int64 // when the broker last sent something
	excused int64 // its silence counts from then on: we were not there to hear it
	spoke   int64 // when we did
	served  int64 // when a session was last open, or the worker began
	lastID  uint64

	held    map[string]*run    // everything leased to us, by token, until it is settled
	arrived uint64             // number of the last arrival
	queue   []*run             // those without a slot, in order of arrival
	running int                // those with a slot, at most slots
	strays  int                // those among them that the broker does not count any more
	unsent  []*run             // those whose result waits to be sent, in that order
	sendAt  int64              // when the next of those is to be sent
	frames  map[uint64]*flight // results sent in this session and not acked, by frame
	flying  int                // bytes of those
	spare   []protocol.Result  // memory for the next of those
	credit  credit

	draining bool
	softBy   int64 // when running handlers are asked to stop
	drainBy  int64 // when whatever is still held is left behind
	alarm    int64 // no rule about time has anything to do before
}

func newSession(cfg settings, now int64) *session {
	kinds := make(map[string]bool, len(cfg.hello.Kinds))
	for _, k := range cfg.hello.Kinds {
		kinds[k.Name] = true
	}
	return &session{
		settings: cfg,
		kinds:    kinds,
		held:     make(map[string]*run),
		frames:   make(map[uint64]*flight),
		credit:   credit{slots: cfg.slots, most: cfg.maxHold, told: -1},
		dialAt:   now,
		served:   now,
		alarm:    now,
		sendAt:   never,
	}
}

// step takes what has happened since the last one and says what to do about it.
func (s *session) step(now int64, events ...event) effects {
	s.now, s.out = now, effects{}
	s.oversleep(now - s.wake())
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

// oversleep takes in how much later than it wanted a step comes. After a pause of this process, or on a host with too
// much to do, that is long, and what the broker said meanwhile waits in the socket. So there is a moment to read it, or to
// ask, before a silence counts; one for each silence, or a host where we are always late would put it off for ever.
func (s *session) oversleep(late int64) {
	if late > int64(lateness) && s.excused < s.heard {
		s.excused = s.now + int64(lateness)
	}
}

// wake is when step wants to be called with a tick if nothing happens before.
func (s *session) wake() int64 { return min(s.alarm, s.sendAt) }

func (s *session) happen(ev event) {
	switch ev := ev.(type) {
	case connected:
		s.greet()
	case disconnected:
		if s.link != linkDown { // else we hung up in this very step, and know better when to try again
			s.parted(ev.err, waitAfter(ev.err))
		}
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

// conclude ends the life of a worker that drains and holds nothing.
func (s *session) conclude() {
	if !s.draining || len(s.held) > 0 || s.out.over {
		return
	}
	if s.link == linkOpen {
		s.send(&protocol.Bye{Why: "drained"})
	}
	s.note(slog.LevelInfo, "drained")
	s.end(nil)
}
