package worker

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/respirated/respirated/protocol"
)

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
	frame     int           // bytes of a frame
	batch     int           // results in a frame
	heart     time.Duration // say something at least this often
	dead      time.Duration // a broker that is silent for so long is lost
	grace     time.Duration // a handler is asked to stop this long before its lease ends
	sameClock bool          // both sides read the same boot clock, so that deadlines can be compared
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
		frame:     int(w.MaxFrame),
		batch:     int(w.MaxBatch),
		heart:     time.Duration(w.HeartMS) * time.Millisecond,
		dead:      time.Duration(w.DeadMS) * time.Millisecond,
		grace:     time.Duration(w.LeaseMS) * time.Millisecond / 12,
		sameClock: s.greeted <= w.BootNS && w.BootNS <= s.now,
	}
	s.link, s.opened = linkOpen, s.now
	s.credit.most = min(s.maxHold, int(w.MaxN), protocol.MaxItems) // hello has to list them all in one array
	s.credit.begin()
	s.by(s.now)
	s.note(slog.LevelInfo, "broker found", "broker", w.Broker, "session", w.Session, "held", len(s.held))
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
		s.tries = 0 // it ends in order, and another one may follow at once
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
		s.settle(msg)
	case *protocol.Drain:
		s.beginDrain(time.Duration(msg.ByMS)*time.Millisecond, msg.Why)
	case *protocol.Pong, *protocol.Reply: // a sign of life
	}
}

// fault takes an error that the broker reports.
func (s *session) fault(e *protocol.Err) {
	retry := time.Duration(e.RetryMS) * time.Millisecond
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

// hangUp ends the connection from our side.
func (s *session) hangUp(why error, least time.Duration) {
	s.out.hangUp = true
	s.parted(why, least)
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
	if silent := s.now - s.heard; silent >= int64(limit) && s.now >= s.excused {
		s.hangUp(fmt.Errorf("nothing heard for %v", time.Duration(silent)), 0)
		return
	}
	s.by(max(s.heard+int64(limit), s.excused))
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
