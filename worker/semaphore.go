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

// SignalParams is a semaphore for a strand.
type SignalParams struct {
	ID    string // the strand
	Name  string // 1 to 255 bytes, without control characters
	Value any    // goes with it, as JSON of up to 256 KiB; nil = nothing does
	Quiet bool   // do not wake the strand: it finds the semaphore when it runs next
}

// Signal sends a semaphore to the strand with that id and wakes it. value is encoded as JSON; nil = none. It is sent as
// part of what the running handler does: in the transaction that stores the outcome of this run, or not at all. A strand
// that does not exist any more is passed over. To itself a strand sends with [Strand.Incr], and so does this. ctx is the
// handler's.
func Signal(ctx context.Context, id, name string, value any) error {
	return SignalMany(ctx, []SignalParams{{ID: id, Name: name, Value: value}})
}

// SignalMany sends semaphores as [Signal] does, all or, with an error, none.
func SignalMany(ctx context.Context, params []SignalParams) error {
	e, err := envOf(ctx)
	if err != nil {
		return fmt.Errorf("signal: %w", err)
	}
	var own []Semaphore
	var others []protocol.Signal
	for _, p := range params {
		value, err := signalValue(p.Name, p.Value)
		if err != nil {
			return fmt.Errorf("signal: %w", err)
		}
		id, err := protocol.CanonicalID(p.ID)
		if err != nil {
			return fmt.Errorf("signal %q: the id of the strand %w", p.Name, err)
		}
		if id == e.strand.ID {
			own = append(own, Semaphore{Name: p.Name, Value: value, SentAt: time.Now()})
		} else {
			others = append(others, protocol.Signal{Strand: id, Name: p.Name, Value: value, Quiet: p.Quiet})
		}
	}
	if err := e.send(own, others); err != nil {
		return fmt.Errorf("signal: %w", err)
	}
	return nil
}

// send adds signals to what the run wants to be stored.
func (e *env) send(own []Semaphore, others []protocol.Signal) error {
	return e.do(func() error {
		if n := len(e.signals); n+len(others) > protocol.MaxItems {
			return fmt.Errorf("this run has sent %d signals already, and at most %d fit into one result; nap or hop and go on", n, protocol.MaxItems)
		}
		e.waiting = append(e.waiting, own...)
		e.signals = append(e.signals, others...)
		return nil
	})
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
	if err := protocol.LongJSON(raw, protocol.MaxSignal); err != nil {
		return nil, fmt.Errorf("the value of %q %w", name, err)
	}
	return raw, nil
}

// Has tells whether a semaphore of that name waits. A run sees what waited when it began, and what it has sent itself,
// without what it has taken. What comes later is seen by the next run, which it brings about. So is what is too much for one
// run, the 257th semaphore for example, as soon as some have been taken.
func (s *Strand[T]) Has(name string) bool {
	if s.env == nil {
		return false
	}
	s.env.mu.Lock()
	defer s.env.mu.Unlock()
	return s.env.has(name)
}

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
	if err := e.send([]Semaphore{{Name: name, Value: raw, SentAt: time.Now()}}, nil); err != nil {
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
