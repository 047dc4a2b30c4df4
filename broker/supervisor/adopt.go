package supervisor

import (
	"time"

	"github.com/respirated/respirated/broker"
)

// adoptAll takes over what a former daemon left in workers.json.
func (l *loop) adoptAll() {
	records, pasts, err := l.state.load()
	if err != nil {
		l.log.Warn("workers of a former daemon, if any, are strangers", "error", err)
		return
	}
	l.awaited = map[string]bool{}
	for _, rec := range records {
		l.adopt(rec)
	}
	l.unsaved = len(records)+len(pasts) > 0
	l.goOn()
	l.back("")
}

// adopt puts a former daemon's process on its old seat, or ends it if that is not there any more. One that has died
// meanwhile is told as a death, since nobody else could.
func (l *loop) adopt(rec record) {
	if rec.PID == 0 {
		if rec.PID, rec.Start = findKey(rec.Key); rec.PID == 0 {
			return // the former daemon was killed before it could start it
		}
	}
	p := adoptProcess(rec)
	if p == nil {
		l.reportDead(rec)
		return
	}
	s := l.seatFor(rec)
	s.proc, s.rec = p, rec
	if time.Since(rec.Started) >= healthyAfter {
		s.life.k = 0
	}
	l.byKey[rec.Key] = s
	l.awaited[rec.Key] = true
	l.watch(s)
	l.log.Info("worker adopted", append(s.facts(), "binary", rec.Binary, "surplus", s.crew == nil)...)
	l.tell(s.news(EventAdopt, ""))
	if !l.recall(s) {
		l.step(s, adopt{asked: rec.Surplus})
	}
	if s.crew == nil {
		l.step(s, quit{})
	}
}

// seatFor returns the seat that the process had, or a surplus one where it has none, or the pool has become smaller or is gone.
func (l *loop) seatFor(rec record) *seat {
	for _, s := range l.seats {
		if !rec.Surplus && s.pool == rec.Pool && s.index == rec.Index && s.proc == nil {
			return s
		}
	}
	return l.addSurplus(rec.Pool, rec.Index)
}

// reportDead tells the death of a process that nobody saw die.
func (l *loop) reportDead(rec record) {
	adoptGroup(rec.Cgroup).remove()
	logs := l.cfg.logsOf(rec.Pool, rec.Index)
	l.tails.ended(rec.PID, logs)
	stderr := lastWords(logs.err, rec)
	l.log.Info("worker of a former daemon has ended", "pool", rec.Pool, "index", rec.Index, "worker", rec.PID)
	l.tell(Event{Kind: EventExit, Pool: rec.Pool, Index: rec.Index, PID: rec.PID, Text: adoptedEnd})
	exit := broker.WorkerExit{Key: rec.Key, PID: rec.PID, How: adoptedEnd, Stderr: stderr}
	l.deaths.put(func() { l.cfg.Exited(exit) })
}

// back takes in that a former daemon's worker has said hello or is dead. With the last one all are.
func (l *loop) back(key string) {
	if l.awaited == nil {
		return
	}
	if delete(l.awaited, key); len(l.awaited) == 0 {
		l.awaited = nil
		l.deaths.put(l.cfg.Returned) // after those of the dead
	}
}
