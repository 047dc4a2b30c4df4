package brokertest

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/respirated/respirated/broker"
)

// position is a place in a lane.
type position struct {
	schedule time.Time
	id       broker.ID
}

func (p position) compare(q position) int {
	return cmp.Or(p.schedule.Compare(q.schedule), bytes.Compare(p.id[:], q.id[:]))
}

func (r *strand) position() position { return position{r.schedule, r.id} }

// Scan implements [broker.Store]. It keeps one cursor for each lane. At last it ends what was to be cancelled and has
// lost its worker, so that no report will end it.
func (s *Store) Scan(ctx context.Context, req broker.ScanRequest) (broker.ScanResult, error) {
	var result broker.ScanResult
	var hints []broker.Hint
	err := s.call(ctx, Scan, func(now time.Time) error {
		found := s.ahead(req, now)
		if req.Bottom {
			clear(s.cursors)
		}
		if len(found) > req.Limit {
			found = found[:req.Limit]
		}
		for _, r := range found {
			s.cursors[r.lane] = r.position()
			result.Candidates = append(result.Candidates, r.candidate(now))
		}
		result.More = len(found) == req.Limit
		result.NextDue = s.nextDue(req, now)
		result.Settled = true
		hints = s.sweep(req, now)
		return nil
	})
	for _, h := range hints {
		s.channel.Hint(h)
	}
	if err != nil {
		return broker.ScanResult{}, err
	}
	return result, nil
}

// sweep ends the strands of a request for which a cancel is asked and whose lease has run out. It gives the hints that
// follow from it.
func (s *Store) sweep(req broker.ScanRequest, now time.Time) []broker.Hint {
	b := batch{store: s, now: now}
	for _, r := range s.live {
		over := !r.leased(now) && !r.schedule.After(now)
		if r.cancelAsked && over && !s.locked[r.id] && s.asked(req, r, now) {
			b.cancelTree(r)
		}
	}
	b.settle()
	return b.hints()
}

// ahead lists what is due, behind the cursors or from the bottom, in the order of its start.
func (s *Store) ahead(req broker.ScanRequest, now time.Time) []*strand {
	var found []*strand
	for _, r := range s.live {
		if !r.due(now) || !s.asked(req, r, now) {
			continue
		}
		if cursor, ok := s.cursors[r.lane]; req.Bottom || !ok || r.position().compare(cursor) > 0 {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b *strand) int {
		return cmp.Or(cmp.Compare(a.priority, b.priority), a.position().compare(b.position()))
	})
	return found
}

// nextDue is the time until the next strand becomes due; 0 = there is none.
func (s *Store) nextDue(req broker.ScanRequest, now time.Time) time.Duration {
	var next time.Duration
	for _, r := range s.live {
		if r.due(now) || r.cancelAsked || !s.covers(req, r) {
			continue
		}
		at := r.schedule
		if r.lease.After(at) {
			at = r.lease
		}
		if d := at.Sub(now); next == 0 || d < next {
			next = d
		}
	}
	return next
}

// asked says whether a request is about this strand, be it due or not: covered, or somebody else's and overdue.
func (s *Store) asked(req broker.ScanRequest, r *strand, now time.Time) bool {
	if req.Bottom && req.Overdue > 0 && r.age(now) > req.Overdue {
		req.Slice, req.Otherwise = broker.Slice{}, nil
	}
	return s.covers(req, r)
}

// covers says whether a request asks for this strand, be it due or not.
func (s *Store) covers(req broker.ScanRequest, r *strand) bool {
	some, limited := req.Queues[r.kind]
	asked := slices.Contains(req.Kinds, r.kind) && (!limited || some.Has(broker.Queue{Tenant: r.tenant, Name: r.name}))
	return asked && req.SliceOf(r.kind, broker.Queue{Tenant: r.tenant, Name: r.name}).Has(r.id) && !s.paused[r.queue]
}

// small is a payload that need not be told from none.
const small = 1 << 10

func (r *strand) payload() int {
	if n := len(r.args) + len(r.stack); n > small {
		return n
	}
	return 0
}

func (r *strand) candidate(now time.Time) broker.Candidate {
	return broker.Candidate{
		ID:       r.id,
		Kind:     r.kind,
		Queue:    broker.Queue{Tenant: r.tenant, Name: r.name},
		Label:    r.label,
		Priority: r.priority,
		Bytes:    r.payload(),
		Alone:    r.crashes >= 2 || r.losses(now) >= 5,
		Age:      r.age(now),
	}
}
