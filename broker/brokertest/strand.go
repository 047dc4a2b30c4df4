package brokertest

import (
	"time"

	"github.com/respirated/respirated/broker"
)

// lane is one line of strands that start in order.
type lane struct {
	queue
	priority int
	kind     string
}

// strand is a row of the hot table.
type strand struct {
	id broker.ID
	lane
	label    string
	args     []byte
	stack    []byte
	created  time.Time
	tags     []string
	metadata []byte
	maxTries int

	schedule time.Time
	lease    time.Time // zero = free; else when it runs out, or ran out
	token    broker.Token
	seq      uint64 // of the last report under token
	woken    bool   // since it was leased

	try, crashes, rescues int

	parent       broker.ID
	orphan       bool // that has ended, and will not have it back
	watched      bool // its parent is woken if it ends, and is not done
	childrenLeft int
	cancelAsked  bool

	semaphores []broker.Semaphore // in the order sent
	ended      []broker.Ended     // children, in the order of their ends
	deadlines  map[int]*deadline  // by frame
}

func (r *strand) free() bool { return r.lease.IsZero() }

func (r *strand) leased(now time.Time) bool { return r.lease.After(now) }

// due says whether the strand may be leased.
func (r *strand) due(now time.Time) bool {
	return !r.schedule.After(now) && !r.leased(now) && !r.cancelAsked
}

// age is how long ago the strand could have started.
func (r *strand) age(now time.Time) time.Duration {
	since := r.schedule
	if r.lease.After(since) {
		since = r.lease
	}
	return now.Sub(since)
}

// losses counts the leases that ran out, the one that no lease has counted yet included.
func (r *strand) losses(now time.Time) int {
	if !r.free() && !r.leased(now) {
		return r.rescues + 1
	}
	return r.rescues
}

// take leases the strand.
func (r *strand) take(token broker.Token, now time.Time, ttl time.Duration) {
	r.rescues = r.losses(now)
	r.token, r.seq, r.woken = token, 0, false
	r.lease = now.Add(ttl)
}

// give frees the strand until schedule.
func (r *strand) give(schedule time.Time) {
	r.lease = time.Time{}
	r.schedule = schedule
}

// disown makes the token worth nothing.
func (r *strand) disown() { r.token = broker.Token{} }

// progress starts the counts of what went wrong anew.
func (r *strand) progress() { r.try, r.crashes, r.rescues = 0, 0, 0 }

// wake makes the strand due now, or once more after the run that it is in.
func (r *strand) wake(now time.Time) {
	r.woken = true
	if r.free() && r.schedule.After(now) {
		r.schedule = now
	}
}

// handed is the strand as a lease gives it away.
func (r *strand) handed() broker.Strand {
	return broker.Strand{
		ID:       r.id,
		Token:    r.token,
		Kind:     r.kind,
		Label:    r.label,
		Args:     r.args,
		Stack:    r.stack,
		Tenant:   r.tenant,
		Queue:    r.name,
		Priority: r.priority,
		Try:      r.try,
		MaxTries: r.maxTries,
		Crashes:  r.crashes,
		Created:  r.created,
		Tags:     r.tags,
		Metadata: r.metadata,
		Inbox:    r.inbox(),
	}
}
