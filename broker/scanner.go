package broker

import (
	"slices"
	"time"
)

// scanner decides when to look for due strands, and how. Idle, it looks every scanEvery, when a hint comes, and when
// the next deferred strand is due. With a backlog it goes on behind what it has seen as the buffer empties. Under a
// steady stream of inserts it asks inserters to stop notifying (busy) and polls instead.
type scanner struct {
	flying   bool
	bottom   bool  // the one in flight starts below everything
	now      bool  // a hint came
	more     bool  // the last one ended at its limit
	at       int64 // the next one by time
	bottomAt int64
	hungry   []string // kinds with workers and too few candidates; sorted; made anew by decide

	busy      bool  // inserters need not notify: we look often
	settleEnd int64 // until then some transaction may still believe that we are busy; 0 = none does
	since     int64 // the rate is measured in windows that start here
	seen      int   // new candidates in this window
}

const (
	busyPoll   = int64(10 * time.Millisecond)
	settlePoll = int64(50 * time.Millisecond)
	settleMost = int64(5 * time.Second) // longest watch for transactions that saw the busy flag
	rateWindow = int64(250 * time.Millisecond)
	busyAbove  = 100 // new candidates in a window that make us busy
	busyBelow  = 25  // and fewer than these end it
	leastAhead = 64  // candidates to keep at hand, at least
	mostAhead  = 4000
)

// decide asks for the next scan if it is time and somebody wants what it may find.
func (sc *scanner) decide(s *schedule, now int64, fx *effects) {
	sc.measure(s, now)
	if sc.flying || s.draining {
		return
	}
	ahead := s.ahead()
	sc.hungry = s.hungryKinds(sc.hungry[:0], ahead/2)
	if len(sc.hungry) == 0 || !(sc.now || sc.more || now >= sc.at || now >= sc.bottomAt) {
		return
	}
	sc.bottom = now >= sc.bottomAt || sc.now && !sc.busy
	sc.flying, sc.now = true, false
	fx.scan = &ScanRequest{
		Kinds:  slices.Clone(sc.hungry),
		Slice:  s.slice,
		Limit:  ahead + s.buffer.len(), // those already here may be found again
		Bottom: sc.bottom,
	}
}

// found takes in what a scan has found.
func (sc *scanner) found(s *schedule, now int64, ev scanned) {
	sc.flying = false
	if ev.err != nil {
		sc.at, sc.bottomAt, sc.more = now+errorRetry, now+errorRetry, false
		return
	}
	added := 0
	for _, c := range ev.Candidates {
		switch {
		case !s.isNew(c.ID):
			continue
		case !c.Alone:
			s.buffer.add(c)
		case len(s.alone) < leastAhead:
			s.alone = append(s.alone, c)
		default:
			continue
		}
		added++
	}
	sc.seen += added
	sc.more = ev.More && added > 0
	if sc.bottom {
		sc.bottomAt = now + int64(s.scanEvery)
	}
	if ev.Settled {
		sc.settleEnd = 0
	}
	sc.at = now + sc.period(s, now)
	if ev.NextDue > 0 {
		sc.at = min(sc.at, now+int64(ev.NextDue+time.Millisecond))
	}
}

// period is how long to wait for the next scan if nothing calls for it.
func (sc *scanner) period(s *schedule, now int64) int64 {
	switch {
	case sc.busy:
		return busyPoll
	case now < sc.settleEnd:
		return settlePoll
	}
	return int64(s.scanEvery)
}

// expect has the next scan see a strand that we have just made due.
func (sc *scanner) expect(now int64, r Report) {
	switch r.Act {
	case Nap, Hop, Release, Yield, Fail:
		delay := r.Delay
		if delay < 0 {
			delay = soonest
		}
		sc.at = min(sc.at, now+int64(delay+time.Millisecond))
	}
}

// measure decides by the rate of arrivals whether inserters should notify.
func (sc *scanner) measure(s *schedule, now int64) {
	elapsed := now - sc.since
	if elapsed < rateWindow {
		return
	}
	rate := int64(sc.seen) * rateWindow / elapsed
	sc.since, sc.seen = now, 0
	busy := rate >= busyAbove || sc.busy && rate >= busyBelow
	if busy != sc.busy {
		sc.busy = busy
		s.notice.changed = true
	}
}

// next is when decide should be called again; 0 = only after some event.
func (sc *scanner) next(s *schedule) int64 {
	if s.draining {
		return 0
	}
	next := int64(0)
	if !sc.flying && len(sc.hungry) > 0 {
		next = min(sc.at, sc.bottomAt)
	}
	if window := sc.since + rateWindow; sc.busy && (next == 0 || window < next) {
		next = window
	}
	return next
}

func (s *schedule) isNew(id ID) bool {
	return s.runs[id] == nil && !s.buffer.has(id) &&
		!slices.ContainsFunc(s.alone, func(c Candidate) bool { return c.ID == id })
}

// ahead is how many candidates to keep at hand: twice what the workers want, within bounds.
func (s *schedule) ahead() int {
	want := 0
	for _, c := range s.classes {
		for _, w := range c.members {
			want += w.wantN
		}
	}
	return min(max(2*want, leastAhead), mostAhead)
}

// hungryKinds appends the kinds that some worker wants and of which fewer than low candidates are at hand.
func (s *schedule) hungryKinds(kinds []string, low int) []string {
	for _, c := range s.classes {
		if !slices.ContainsFunc(c.members, func(w *worker) bool { return w.wantN > 0 && !w.draining }) {
			continue
		}
		for _, kind := range c.kinds {
			if len(s.buffer.lines[kind]) < low {
				kinds = append(kinds, kind)
			}
		}
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}
