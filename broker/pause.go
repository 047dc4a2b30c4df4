package broker

import (
	"context"
	"errors"
)

// A pause is for a daemon that is about to become another program in the same process. The broker begins nothing new and
// hears no worker, until everything that it has heard is settled in the database. Then it rests: nothing is lost if it ends
// there, since what workers say meanwhile waits unread, and they say it again to whoever comes next. It can go on as well.

// Former is the broker that another one goes on as, so that the other brokers see no change.
type Former struct {
	Broker ID            `json:"broker"`
	Places []FormerPlace `json:"places"` // in each database, in their order
}

// FormerPlace is the part of a broker among those of a database.
type FormerPlace struct {
	Number int      `json:"number"` // 0 = it had none
	Kinds  []string `json:"kinds"`  // that it served
}

// Pause has the broker come to a rest. After an error it goes on; else [Broker.Resume] has it go on.
func (b *Broker) Pause(ctx context.Context) error {
	select {
	case <-b.rested: // of an earlier pause
	default:
	}
	b.post(pausing{})
	select {
	case <-b.rested:
		return nil
	case <-b.over:
		return ErrStopped
	case <-ctx.Done():
		b.Resume()
		return errors.New("what is on its way to the database does not arrive")
	}
}

// Resume has the broker go on after a pause.
func (b *Broker) Resume() { b.post(resuming{}) }

// Dismiss tells every worker that is connected to connect anew. It waits until that has been written, or ctx ends.
func (b *Broker) Dismiss(ctx context.Context) {
	over := make(chan struct{})
	go func() { defer close(over); b.door.dismiss() }()
	select {
	case <-over:
	case <-ctx.Done():
	}
}

// Former is this broker, for the one that goes on as it.
func (b *Broker) Former(ctx context.Context) (*Former, error) {
	return inquire(ctx, b, (*schedule).former)
}

func (s *schedule) former() *Former {
	f := &Former{Broker: s.broker}
	for _, d := range s.databases {
		f.Places = append(f.Places, FormerPlace{d.place.number, d.place.kinds})
	}
	return f
}

// succeed goes on as a former broker, before anything has happened.
func (s *schedule) succeed(f *Former) {
	for _, d := range s.databases {
		if !d.place.on() || d.no >= len(f.Places) {
			continue
		}
		d.place.former = f.Places[d.no].Number
		if kinds := f.Places[d.no].Kinds; len(kinds) > 0 {
			d.place.serve(kinds)
		}
		s.otherKinds = true // what nobody serves any more is told by and by
	}
}

// deaf says whether what workers say has to wait. A dying worker is heard to its end.
func (s *schedule) deaf() bool { return s.pausedAt != 0 && !s.mourns() }

func (s *schedule) mourns() bool {
	for _, w := range s.workers {
		if w.died != nil {
			return true
		}
	}
	return false
}

// rested says whether a pause has come to its rest.
func (s *schedule) rested() bool {
	if !s.deaf() {
		return false
	}
	for _, d := range s.databases {
		if d.busy() {
			return false
		}
	}
	return true
}

// busy says whether anything is under way here that must not be cut off.
func (d *database) busy() bool {
	return !d.commits.empty() || d.leasing != nil || d.taking != nil || d.renewing != nil || d.calling != nil || len(d.calls) > 0 || d.scanner.flying
}

// resume goes on. Nobody was silent while we did not listen.
func (s *schedule) resume(now int64) {
	if s.pausedAt == 0 {
		return
	}
	s.oversleep(now, now-s.pausedAt)
	s.pausedAt = 0
	s.look()
}

// signal leaves a sign for whoever looks.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
