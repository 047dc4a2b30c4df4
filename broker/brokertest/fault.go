package brokertest

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Method names a method of [Store] that can be made to fail.
type Method string

// The methods of a [Store].
const (
	Scan     Method = "Scan"
	Take     Method = "Take"
	Held     Method = "Held"
	Left     Method = "Left"
	Lease    Method = "Lease"
	Renew    Method = "Renew"
	Commit   Method = "Commit"
	Insert   Method = "Insert"
	Signal   Method = "Signal"
	Join     Method = "Join"
	Announce Method = "Announce"
	Tell     Method = "Tell"
	Leave    Method = "Leave"
)

// A Fault befalls one call. What is set happens in this order; the zero value is a call without a fault.
type Fault struct {
	Until  <-chan struct{} // the call does nothing until this is closed
	Delay  time.Duration   // then it takes this long
	Before error           // then it fails, and has done nothing
	After  error           // or it does its work and fails all the same: an unknown outcome
}

// wait lets the time of the fault pass. A context that ends meanwhile ends the call with nothing done.
func (f Fault) wait(ctx context.Context) error {
	if f.Until != nil {
		select {
		case <-f.Until:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if f.Delay > 0 {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return ctx.Err()
}

// faults decides what befalls the next call, and watches that calls come as [broker.Store] says.
type faults struct {
	mu     sync.Mutex // guards all fields
	queued map[Method][]Fault
	decide func(Method) Fault
	busy   map[string]Method // connection -> the call that is on it
}

func newFaults() *faults {
	return &faults{queued: map[Method][]Fault{}, busy: map[string]Method{}}
}

// Inject makes faults befall the next calls of m, one each, in order.
func (s *Store) Inject(m Method, faults ...Fault) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.queued[m] = append(s.faults.queued[m], faults...)
}

// Disturb asks decide for the fault of every call for which none was injected; nil ends it. decide is called by one
// goroutine at a time.
func (s *Store) Disturb(decide func(Method) Fault) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.decide = decide
}

// begin opens a call. A second call where broker.Store allows one is a bug of the caller, found here and not on a
// Postgres under load.
func (f *faults) begin(m Method) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := connection(m); c != "" {
		if other, taken := f.busy[c]; taken {
			panic(fmt.Sprintf("bug: %s called while %s is in flight", m, other))
		}
		f.busy[c] = m
	}
	if q := f.queued[m]; len(q) > 0 {
		f.queued[m] = q[1:]
		return q[0]
	}
	if f.decide != nil {
		return f.decide(m)
	}
	return Fault{}
}

// end closes a call.
func (f *faults) end(m Method) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.busy, connection(m))
}

// connection names what carries one call at a time; "" = any number of calls.
func connection(m Method) string {
	switch m {
	case Lease, Announce, Tell:
		return string(m)
	case Scan, Take:
		return "looks"
	case Commit, Renew:
		return "writes"
	default:
		return ""
	}
}
