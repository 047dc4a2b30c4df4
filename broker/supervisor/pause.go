package supervisor

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"
)

// A pause is for a daemon that is about to become another program in the same process. Nobody is started, ended or reaped
// until it goes on, as itself or as that: whoever dies meanwhile waits as a zombie, and is seen then.

// Former is what the next program has to know of the seats, besides what is in workers.json.
type Former struct {
	Seats []FormerSeat `json:"seats"`
	Files []FormerFile `json:"files,omitempty"`
}

// FormerSeat is where a seat is in its life. Words and times are those of rules.go.
type FormerSeat struct {
	Pool     string    `json:"pool"`
	Index    int       `json:"index"`
	Key      string    `json:"key,omitempty"` // "" = no process
	Phase    string    `json:"phase"`
	Until    time.Time `json:"until,omitzero"`
	Deaths   int       `json:"deaths,omitempty"` // in a row that came too early
	Asked    bool      `json:"asked,omitempty"`
	Last     bool      `json:"last,omitempty"`
	Restarts int       `json:"restarts,omitempty"`
	LastExit string    `json:"last_exit,omitempty"`
}

// errOver is that Run has returned, or is about to.
var errOver = errors.New("the supervisor has stopped")

// pause is one that is asked for.
type pause struct {
	rested chan *Former  // the answer
	over   chan struct{} // closed when the loop may go on
}

// Pause has the supervisor come to a rest: workers.json is complete, and every death that was seen has been told. go on ends
// the pause.
func (s *Supervisor) Pause(ctx context.Context) (_ *Former, goOn func(), err error) {
	s.reaping.Lock()
	p := &pause{rested: make(chan *Former, 1), over: make(chan struct{})}
	goOn = func() { close(p.over); s.reaping.Unlock() }
	s.order(func(l *loop) { l.rest(p) })
	select {
	case f := <-p.rested:
		if f != nil {
			return f, goOn, nil
		}
		err = errors.New("the workers cannot be written down")
	case <-s.over:
		err = errOver
	case <-ctx.Done():
		err = errors.New("deaths of workers cannot be told")
	}
	goOn()
	return nil, nil, err
}

// rest ends the turn, answers, and waits for the end of the pause.
func (l *loop) rest(p *pause) {
	if l.quitting {
		p.rested <- nil
		return
	}
	l.settle()
	told := make(chan struct{})
	l.deaths.put(func() { close(told) })
	select {
	case <-told:
	case <-p.over: // nobody waits any more
		return
	}
	if l.unsaved {
		l.save()
	}
	if l.unsaved {
		p.rested <- nil
	} else {
		p.rested <- l.former(time.Now())
	}
	<-p.over
}

func (l *loop) former(now time.Time) *Former {
	f := &Former{Files: l.keptFiles()}
	for _, s := range l.seats {
		f.Seats = append(f.Seats, FormerSeat{
			Pool: s.pool, Index: s.index, Key: s.rec.Key, Phase: string(s.life.phase), Until: s.life.until, Deaths: s.life.deaths(now),
			Asked: s.life.asked, Last: s.life.last, Restarts: s.restarts, LastExit: s.lastExit,
		})
	}
	return f
}

// recall puts the process on a seat where it was in its life before this process became another program, if it did. One that
// was connected has to say hello again.
func (l *loop) recall(s *seat) bool {
	if l.cfg.Former == nil {
		return false
	}
	i := slices.IndexFunc(l.cfg.Former.Seats, func(f FormerSeat) bool { return f.Key == s.rec.Key })
	if i < 0 {
		return false
	}
	f := l.cfg.Former.Seats[i]
	s.restarts, s.lastExit = f.Restarts, f.LastExit
	s.life.k, s.life.asked, s.life.last = f.Deaths, f.Asked, f.Last
	switch p := phase(f.Phase); p {
	case starting, ending, killed:
		s.life.enter(p, f.Until)
	default:
		s.life.enter(adopted, time.Now().Add(l.cfg.ReturnTimeout))
	}
	return true
}

// goOn has the seats without a process wait as long as they would have, and reaps what the former program has started
// besides workers.
func (l *loop) goOn() {
	if l.cfg.Former == nil {
		return
	}
	for _, f := range l.cfg.Former.Seats {
		if f.Key != "" {
			continue
		}
		for _, s := range l.seats {
			if s.crew == nil || s.pool != f.Pool || s.index != f.Index || s.proc != nil {
				continue
			}
			s.restarts, s.lastExit, s.life.k = f.Restarts, f.LastExit, f.Deaths
			if phase(f.Phase) == waiting {
				s.life.enter(waiting, f.Until)
			}
		}
	}
	for _, pid := range l.children {
		if !slices.ContainsFunc(l.seats, func(s *seat) bool { return s.rec.PID == pid }) {
			go func() {
				if p, err := os.FindProcess(pid); err == nil {
					_, _ = p.Wait() // nobody wants to know
				}
			}()
		}
	}
}
