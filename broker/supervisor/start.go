package supervisor

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"math"
	"syscall"
	"time"

	"github.com/respirated/respirated/broker"
)

// startPending writes the keys down before the processes exist, so that a later daemon finds them in any case.
func (l *loop) startPending() {
	pending := l.pending
	if l.pending = nil; len(pending) == 0 { // one that fails may be taken out, and what follows it must not move
		return
	}
	for _, s := range pending {
		s.build = s.crew.buildFor(s)
		s.rec = record{
			Pool: s.pool, Index: s.index, Key: newKey(), Binary: s.build.pool.Binary, Image: s.build.image.String(), Started: time.Now(),
			RunsAs: s.build.pool.runsAs(),
		}
		l.byKey[s.rec.Key] = s
		l.kinds.Store(s.rec.Key, s.build.pool.Kinds)
		l.agree(s)
	}
	l.save()
	for _, s := range pending {
		l.start(s)
	}
	l.unsaved = true
}

// admitUsers has the workers of a former daemon come back that run as other users.
func (l *loop) admitUsers() {
	for _, c := range l.crews {
		if _, err := (launch{pool: c.Pool, socket: l.cfg.Socket, socketFor: l.cfg.SocketFor}).socketAs(); err != nil {
			l.log.Error("workers of another user cannot connect", "pool", c.Name, "error", err)
		}
	}
}

func (l *loop) start(s *seat) {
	order := launch{
		pool: s.build.pool, kept: s.build.kept(), socket: l.cfg.Socket, socketFor: l.cfg.SocketFor, key: s.rec.Key, logs: l.cfg.logsOf(s.pool, s.index),
	}
	if s.crew.isCanary(s) && !l.tails.noHoles.Load() {
		order.logs.keep = math.MaxInt64 // whose place it has may go on for long, in this very file
	}
	order.group = l.groups.make(order.pool, l.log)
	p, stderr, err := order.run()
	if err != nil && order.group != nil {
		order.group.remove()
		order.group = nil // it may be for that: some kernels have no cgroup that a process can be born in
		if p, stderr, err = order.run(); err == nil {
			l.groups.giveUp(s.pool, l.log)
		}
	}
	if err != nil {
		l.log.Error("worker cannot be started", "pool", s.pool, "index", s.index, "error", err)
		l.unstarted(s, err)
		return
	}
	s.wear, s.results = newWear(s.rec.Started, s.crew.Recycle, jitter), 0
	s.proc, s.rec.PID, s.rec.Start, s.rec.ErrFrom, s.rec.ErrFile = p, p.pid, p.start, stderr.Size(), inodeOf(stderr)
	if p.group != nil {
		s.rec.Cgroup = p.group.path
	}
	l.watch(s)
	l.log.Info("worker started", s.facts()...)
	l.tell(s.news(EventSpawn, ""))
}

// unstarted takes in that a process could not be started. A file that somebody writes to is no fault of the build's.
func (l *loop) unstarted(s *seat, err error) {
	l.vacate(s)
	s.lastExit = err.Error()
	l.step(s, failed{})
	switch {
	case errors.Is(err, syscall.ETXTBSY):
	case s.crew.isCanary(s):
		l.rollStep(s.crew, failed{})
	default:
		l.mourn(s.crew, 0)
	}
}

// watch waits for the death of the seat's process in a goroutine that ends with it.
func (l *loop) watch(s *seat) {
	p, rec, logs := s.proc, s.rec, l.cfg.logsOf(s.pool, s.index)
	l.watchers.Go(func() {
		end := p.wait(l.reaping.RLock)
		defer l.reaping.RUnlock()
		l.tails.ended(rec.PID, logs)
		exit := broker.WorkerExit{
			Key: rec.Key, PID: rec.PID, How: end.how, Stderr: lastWords(logs.err, rec), MaxRSS: end.used.peak, CPU: end.used.cpu,
		}
		l.mail.put(letter{key: rec.Key, event: died{end.code}, exit: exit, trouble: end.trouble})
		p.group.remove() // the news need not wait for that
	})
}

// keyLen is the length of a spawn key: 128 random bits as hexadecimal digits.
const keyLen = 32

func newKey() string {
	var b [keyLen / 2]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(b[:])
}
