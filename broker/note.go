package broker

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// note logs what an operator would tell a colleague.
func (b *Broker) note(ev event) {
	switch ev := ev.(type) {
	case from:
		b.noteAnswer(b.databases[ev.database], ev.what)
	case greeted:
		b.log.Info("worker connected", "session", ev.session, "worker", ev.name, "kinds", len(ev.kinds), "held", len(ev.hold))
	case parted:
		if w := b.schedule.workers[b.schedule.sessions[ev.session]]; w != nil {
			b.log.Info("worker disconnected", "session", ev.session, "worker", w.name, "held", w.held)
		}
	case exited:
		b.noteExit(ev)
	case overslept:
		b.log.Warn("this process was stopped, or the host asleep", "for", time.Duration(ev.by).Round(time.Millisecond))
	case pausing:
		b.log.Info("pausing")
	case draining:
		b.log.Info("draining", "timeout", b.cfg.DrainTimeout)
	default:
		b.noteAnswer(b.databases[0], ev)
	}
}

// noteExit tells what a process held that has ended by itself, as far as is known: results of it may be on their way.
func (b *Broker) noteExit(ev exited) {
	var held []string
	for _, r := range b.schedule.runs {
		if w := b.schedule.workers[r.worker]; w != nil && w.key == ev.Key && r.state == running {
			held = append(held, r.ID.String())
		}
	}
	if ev.Asked || len(held) == 0 {
		b.log.Info("worker exited", "pid", ev.PID, "how", ev.How, "asked", ev.Asked, "held", len(held))
		return
	}
	slices.Sort(held)
	b.log.Warn("worker died with strands", "pid", ev.PID, "how", ev.How, "held", len(held), "strands", held[:min(len(held), 10)])
}

// noteAnswer logs what is worth it about the answer of a database, or a hint from there.
func (b *Broker) noteAnswer(l *link, ev event) {
	switch ev := ev.(type) {
	case scanned:
		l.noteStatement("scan", ev.err)
	case took:
		l.noteStatement("take", ev.err)
	case foundLeft:
		l.noteStatement("left", ev.err)
		if ev.err == nil {
			l.log.Info("leases of former brokers looked for", "found", len(ev.pairs))
		}
	case recovered:
		l.noteStatement("held", ev.err)
	case leased:
		l.noteStatement("lease", ev.err)
	case committed:
		l.noteStatement("commit", ev.err)
	case renewed:
		l.noteStatement("renew", ev.err)
	case joined:
		l.noteStatement("join", ev.err)
		if ev.err == nil && ev.Number == 0 {
			l.noteFault("join", fmt.Errorf("each partition number up to %d is held by a live broker: nothing is scanned until one is free; raise the highest number, or stop a broker", b.cfg.Partition.Most))
		}
	case announced:
		l.noteStatement("announce", ev.err)
	case told:
		l.noteStatement("tell", ev.err)
	case hinted:
		b.noteBad(l, ev.Hint)
	case inserted:
		var bad *InsertError
		if !errors.As(ev.err, &bad) {
			l.noteStatement("insert", ev.err)
		}
	case signalled:
		var bad *SignalError
		if !errors.As(ev.err, &bad) {
			l.noteStatement("signal", ev.err)
		}
	}
}

// noteStatement logs that the database is away, and is back. Another error is a fault of ours, or the schema's.
func (l *link) noteStatement(what string, err error) {
	switch {
	case err == nil && l.away:
		l.away = false
		l.log.Info("database is back")
	case err != nil && !errors.Is(err, ErrAway):
		l.noteFault(what, err)
	case err != nil && !l.away:
		l.away, l.since = true, time.Now()
		l.log.Warn("database is away; results are kept", "statement", what, "error", err)
	}
}

// faultEvery is how often a statement that fails again and again is logged.
const faultEvery = 10 * time.Second

func (l *link) noteFault(what string, err error) {
	if now := time.Now(); now.Sub(l.faults[what]) >= faultEvery {
		l.faults[what] = now
		l.log.Error("statement failed", "statement", what, "error", err)
	}
}
