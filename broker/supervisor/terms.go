package supervisor

import (
	"fmt"

	"github.com/respirated/respirated/broker"
)

// Terms are those on which a process works; see [broker.Processes].
func (s *Supervisor) Terms(key string) broker.Terms {
	t, _ := s.terms.Load(key)
	terms, _ := t.(broker.Terms)
	return terms
}

// agree has the process on a seat work on the terms that its pool has now. A surplus one keeps those that it has.
func (l *loop) agree(s *seat) {
	if s.crew == nil || s.rec.Key == "" {
		return
	}
	l.setTerms(s.rec.Key, broker.Terms{Queues: s.crew.Queues, Isolate: s.crew.Isolate, Paused: s.crew.paused})
}

// setTerms has the broker, which may have met the process already, ask for them.
func (l *loop) setTerms(key string, t broker.Terms) {
	l.terms.Store(key, t)
	l.deaths.put(func() { l.cfg.TermsChanged(key) })
}

// agreeAll has all processes of a crew do so.
func (l *loop) agreeAll(c *crew) {
	for _, s := range l.seats {
		if s.crew == c {
			l.agree(s)
		}
	}
}

// PausePool has the workers of a pool get no new strands, until [Supervisor.ResumePool], also in a later daemon. What they hold
// they finish, and they stay.
func (s *Supervisor) PausePool(pool string) error { return s.pausePool(pool, true) }

// ResumePool has the workers of a pool get strands again.
func (s *Supervisor) ResumePool(pool string) error { return s.pausePool(pool, false) }

func (s *Supervisor) pausePool(pool string, pause bool) error {
	return s.orderCrew(pool, func(l *loop, c *crew) error {
		if c.paused == pause {
			return nil
		}
		if c.paused = pause; pause {
			l.log.Info("pool is paused: its workers get no new strands", "pool", pool)
		} else {
			l.log.Info("pool is resumed", "pool", pool)
		}
		l.unsaved = true
		l.agreeAll(c)
		return nil
	})
}

// Change has a pool be as with makes it, until the next [Supervisor.Apply], or the end of Run. A Supervisor that follows one
// which was killed, or paused for it, goes on with that, unless the pool is configured in another way by then. Zero values
// are defaults, as in a configuration. If it cannot be so nothing changes, and the error says why. It waits for
// [Supervisor.Run].
func (s *Supervisor) Change(pool string, with func(*Pool)) error {
	return s.orderCrew(pool, func(l *loop, c *crew) error { return l.changeBy(c, with) })
}

func (l *loop) changeBy(c *crew, with func(*Pool)) error {
	p := c.Pool
	with(&p)
	p, err := l.checkSet(p)
	if err != nil {
		return err
	}
	if c.dropIn && p.Binary != c.Binary {
		return fmt.Errorf("pool %q is of the workers folder: replace %s there", c.Name, c.Binary)
	}
	l.change(c, p)
	l.fill()
	return nil
}

// checkSet is [Pool.check] for what somebody makes of a pool.
func (l *loop) checkSet(p Pool) (Pool, error) {
	p, err := p.check(l.cfg.StopTimeout)
	if err == nil && p.StopTimeout > l.cfg.StopTimeout {
		err = fmt.Errorf("pool %q: stop timeout is %v, must be %v at most: later its strands may start elsewhere", p.Name, p.StopTimeout, l.cfg.StopTimeout)
	}
	return p, err
}
