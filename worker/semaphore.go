package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/respirated/respirated/protocol"
)

// A Semaphore is a signal that waits for a strand: durable, with a name and perhaps a value. Sending one wakes the
// strand. It stays until a run takes it, and there may be several of one name.
type Semaphore struct {
	Name   string
	Value  json.RawMessage // nil = none; see Decode
	SentAt time.Time       // by the database's clock

	id uint64 // 0 = sent by this very run
}

// SignalOpts says how a signal is sent; nil means the defaults.
type SignalOpts struct {
	Quiet bool // do not wake the strand: it finds the semaphore whenever it runs next
}

// Signal sends a semaphore to the strand with that id, with a value that is encoded as JSON; nil = none. It is sent as
// part of what the running handler does: in the transaction that stores the outcome of this run, or not at all. A strand
// that does not exist any more is passed over. To itself a strand sends with [Strand.Incr], and so does this. ctx is the
// handler's.
func Signal(ctx context.Context, id, name string, value any, opts *SignalOpts) error {
	e, err := envOf(ctx)
	if err != nil {
		return fmt.Errorf("signal: %w", err)
	}
	if id, err = protocol.CanonicalID(id); err != nil {
		return fmt.Errorf("signal %q: the id of the strand %w", name, err)
	}
	if id == e.strand.ID {
		return e.incr(name, value)
	}
	raw, err := signalValue(name, value)
	if err != nil {
		return fmt.Errorf("signal: %w", err)
	}
	err = e.do(func() error {
		if len(e.signals) == protocol.MaxItems {
			return fmt.Errorf("this run has sent %d signals, the most that fit into one result; nap or hop and go on", protocol.MaxItems)
		}
		e.signals = append(e.signals, protocol.Signal{Strand: id, Name: name, Value: raw, Quiet: opts != nil && opts.Quiet})
		return nil
	})
	if err != nil {
		return fmt.Errorf("signal %q: %w", name, err)
	}
	return nil
}

// signalValue checks a signal and encodes its value.
func signalValue(name string, value any) ([]byte, error) {
	if err := checkName("signal", name); err != nil {
		return nil, err
	}
	if value == nil {
		return nil, nil
	}
	raw, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("encode the value of %q: %w", name, err)
	}
	return raw, nil
}

// Has tells whether a semaphore of that name waits. A run sees what waited when it began, and what it has sent itself,
// without what it has taken. What comes later is seen by the next run, which it brings about.
func (s *Strand[T]) Has(name string) bool { return len(s.Semaphores(name)) > 0 }

// Semaphores lists those of that name in the order in which they were sent.
func (s *Strand[T]) Semaphores(name string) []Semaphore { return s.env.named(name) }

func (e *env) named(name string) []Semaphore {
	if e == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(e.waiting), func(w Semaphore) bool { return w.Name != name })
}

// Take takes the oldest semaphore of that name, if there is one. It is removed when the outcome of this run is stored, and
// waits on if the run fails.
func (s *Strand[T]) Take(name string) (Semaphore, bool) { return s.env.take(name) }

func (e *env) take(name string) (taken Semaphore, found bool) {
	_ = e.do(func() error { // too late is as good as not there
		i := slices.IndexFunc(e.waiting, func(w Semaphore) bool { return w.Name == name })
		if i < 0 {
			return nil
		}
		taken, found = e.waiting[i], true
		if taken.id != 0 {
			e.used = append(e.used, taken.id)
		}
		e.waiting = slices.Delete(slices.Clone(e.waiting), i, i+1)
		return nil
	})
	return taken, found
}

// Decr takes all semaphores of that name which this run sees, and returns how many they were. One that comes meanwhile
// is not among them, and stays.
func (s *Strand[T]) Decr(name string) int { return s.env.decr(name) }

func (e *env) decr(name string) (n int) {
	_ = e.do(func() error { // too late is as good as not there
		n = e.drop(func(w Semaphore) bool { return w.Name == name })
		return nil
	})
	return n
}

// Incr sends a semaphore to the strand itself, with a value that is encoded as JSON; nil = none. This run sees it at once,
// and others when its outcome is stored. It does not wake the strand: a nap that follows lasts.
func (s *Strand[T]) Incr(name string, value any) error { return s.env.incr(name, value) }

func (e *env) incr(name string, value any) error {
	raw, err := signalValue(name, value)
	if err != nil {
		return fmt.Errorf("incr: %w", err)
	}
	err = e.do(func() error {
		e.waiting = append(e.waiting, Semaphore{Name: name, Value: raw, SentAt: time.Now()})
		return nil
	})
	if err != nil {
		return fmt.Errorf("incr %q: %w", name, err)
	}
	return nil
}

// waitMark begins the names of semaphores by which a strand knows since when it has waited for others.
const waitMark = "respirate.await "

func isWaitMark(s Semaphore) bool { return strings.HasPrefix(s.Name, waitMark) }

// Await waits for a semaphore of that name, but not for longer than a time. It takes and returns the semaphore if it is
// there. Else it returns how much is left of the time, for which the label should nap; at 0 the wait is over:
//
//	switch paid, left := s.Await("paid", 24*time.Hour); {
//	case paid != nil:
//		return worker.Hop("ship"), nil
//	case left > 0:
//		return worker.Nap(left), nil
//	default:
//		return worker.Hop("remind"), nil
//	}
//
// The time counts from the first call at this label, over naps and whatever else wakes the strand. It ends with the wait,
// and when the strand leaves the label.
func (s *Strand[T]) Await(name string, timeout time.Duration) (*Semaphore, time.Duration) {
	mark := waitMark + name
	if came, ok := s.Take(name); ok {
		s.Decr(mark)
		return &came, 0
	}
	left := timeout
	if begun := s.Semaphores(mark); len(begun) > 0 {
		left -= time.Since(begun[0].SentAt)
	} else if err := s.Incr(mark, nil); err != nil {
		s.env.fail(fmt.Errorf("await %q: %w", name, err))
	}
	if left <= 0 {
		s.Decr(mark)
		return nil, 0
	}
	return nil, min(left, timeout) // the clocks of the host and of the database may differ
}
