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
	ownAt    int64    // when a strand that we have made due ourselves is due; 0 = none
	hungry   []string // kinds with workers and too few candidates; sorted; made anew by decide
	asked    []string // the kinds of the last one

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
	if len(sc.hungry) == 0 || !(sc.now || sc.more || sc.timely(now) || sc.unasked()) {
		return
	}
	sc.bottom = now >= sc.bottomAt || sc.now && !sc.busy
	sc.flying, sc.now, sc.asked = true, false, slices.Clone(sc.hungry)
	if now >= sc.ownAt {
		sc.ownAt = 0
	}
	fx.scan = &ScanRequest{Kinds: sc.asked, Slice: s.slice, Limit: ahead, Bottom: sc.bottom}
	if sc.bottom {
		fx.scan.Limit += s.atHand(sc.asked) // they may be found again
	}
}

func (sc *scanner) timely(now int64) bool {
	return now >= sc.at || now >= sc.bottomAt || sc.ownAt != 0 && now >= sc.ownAt
}

// unasked says whether some kind has become hungry that the last scan was not about: nothing is known of what has come
// for it meanwhile.
func (sc *scanner) unasked() bool {
	return slices.ContainsFunc(sc.hungry, func(kind string) bool {
		_, asked := slices.BinarySearch(sc.asked, kind)
		return !asked
	})
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
	sc.more = ev.More
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

// expect has a scan see a strand that we have just made due. One in flight may have looked before.
func (sc *scanner) expect(now int64, r Report) {
	switch r.Act {
	case Nap, Hop, Release, Yield, Fail:
		delay := r.Delay
		if delay < 0 {
			delay = soonest
		}
		if at := now + int64(delay+time.Millisecond); sc.ownAt == 0 || at < sc.ownAt {
			sc.ownAt = at
		}
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
		if sc.ownAt != 0 {
			next = min(next, sc.ownAt)
		}
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

// atHand is how many candidates there are of these kinds; all that must run alone count.
func (s *schedule) atHand(kinds []string) int {
	n := len(s.alone)
	for _, kind := range kinds {
		n += len(s.buffer.lines[kind])
	}
	return n
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
