package broker

import (
	"slices"
	"time"
)

// scanner decides when to look for due strands, and how. Idle, it looks every scanEvery, when a hint comes, and when
// the next deferred strand is due. With a backlog it goes on behind what it has seen as the buffer empties. Under a stream
// of hints so dense that inserters would get into each other's way, it asks them to stop notifying (busy), and polls
// instead.
type scanner struct {
	flying       bool
	round        bool               // the one in flight begins a round: in each, every area is scanned for from the bottom
	now          bool               // a hint came
	took         bool               // and a take was for it
	taken        int                // so many it brought
	waiting      int                // so many did since the last scan began
	told         int                // and before that, since the one before: what it is for
	hintAt       int64              // no scan for a hint before
	vain         int                // scans for hints in a row that have found nothing: those tell of what others serve
	more         bool               // the last one ended at its limit
	at           int64              // the next one by time
	bottomAt     int64              // the next round
	roundAt      int64              // the last one
	ownAt        int64              // when a strand that we have made due ourselves is due; 0 = none
	hungry       []string           // areas with workers and too few candidates; sorted; made anew by decide
	asked        []string           // those of the last one
	walked       []string           // those scanned for from the bottom in this round, or since there is a new lane; sorted
	parts        parts              // as of the last one
	old          bool               // it asked for what is overdue elsewhere, too
	oldAt        int64              // the next one that does
	passed       int                // strands that scans have passed over since the last one from the bottom: no worker here has their label
	passedBefore int                // and before that, since the one before
	cut          map[areaLabel]bool // of which there was more than its workers need: the rest is found from the bottom
	nobodys      map[kindLabel]bool // where those are; true = the log has been told. At most mostPassed
	delays       delays             // of our own strands: others' are overdue after longer than those

	busy      bool  // inserters need not notify: we look often
	settleEnd int64 // until then some transaction may still believe that we are busy; 0 = none does
	since     int64 // the rate is measured in windows that start here
	seen      int   // new candidates in this window, of all brokers as far as ours tell
	hints     int   // and hints
}

const (
	hintApart  = int64(2 * time.Millisecond)  // scans for hints: those that come meanwhile share the next
	vainApart  = int64(50 * time.Millisecond) // and after so many in vain
	mostVain   = 16
	busyPoll   = int64(3 * time.Millisecond)   // without hints
	busyBottom = int64(500 * time.Millisecond) // rounds while hints are missing, or tell of what scans do not find
	settlePoll = int64(10 * time.Millisecond)
	settleMost = int64(5 * time.Second) // longest watch for transactions that saw the busy flag
	rateWindow = int64(250 * time.Millisecond)
	busyAbove  = 50 // hints in a window that make us busy: a NOTIFY takes a lock of the whole database until its COMMIT
	busyBelow  = 25 // fewer new candidates in one end it
	leastAhead = 64 // candidates to keep at hand, at least
	mostAhead  = 4000
)

// decide asks for the next scan if it is time and somebody wants what it may find.
func (sc *scanner) decide(d *database, now int64, req *requests) {
	sc.measure(d, now)
	if sc.flying || d.s.draining || d.s.pausedAt != 0 || !d.place.ready(now) {
		return
	}
	ahead := d.s.ahead()
	sc.hungry = d.hungryAreas(sc.hungry[:0], ahead/2)
	sc.refill(d, now, ahead/2)
	hinted := sc.now && now >= sc.hintAt
	if len(sc.hungry) == 0 || !(hinted || sc.more || sc.timely(d, now) || sc.beyond(sc.asked)) {
		return
	}
	if hinted && sc.takes(d, now, req) {
		return
	}
	sc.parts, sc.old = d.place.parts, sc.oldDue(d, now)
	bottom, known := sc.fromBottom(now)
	sc.flying, sc.now, sc.took, sc.asked = true, false, false, slices.Clone(sc.hungry)
	sc.told, sc.waiting = sc.waiting, 0
	if sc.hintAt = now + hintApart; sc.vain >= mostVain {
		sc.hintAt = now + vainApart
	}
	if now >= sc.ownAt {
		sc.ownAt = 0
	}
	if bottom {
		sc.passed, sc.passedBefore = 0, sc.passed
	}
	again := d.atHand(sc.asked) + len(d.leasing) + max(sc.passed, sc.passedBefore) // they may be found again
	kinds, queues := d.s.lookAt(sc.asked)
	req.scan = &ScanRequest{
		Kinds: kinds, Queues: queues, Slice: sc.parts.slice(), Otherwise: sc.parts.slices(), Limit: ahead + again, Bottom: bottom, Known: known,
	}
	if sc.old {
		req.scan.Overdue = sc.delays.overdue(now)
	}
}

// fromBottom says whether the next scan is to start below everything: when a round is due, when a hint came, and for a kind
// that was not hungry earlier in this round. What is idle is always hungry, so rounds often begin without a kind that has a
// backlog, and whatever else came for that would never be found. Before a backlog a hint is no reason: what has just come is
// due after all that. The lanes that are known will do for a hint: of a new one there is a hint of its own, after which
// every kind is scanned for from the bottom once more, whenever it is hungry.
func (sc *scanner) fromBottom(now int64) (bottom, known bool) {
	if sc.round = now >= sc.bottomAt || sc.old; sc.round {
		sc.walked = nil
	}
	hinted := sc.now && !sc.busy && !sc.more
	known = hinted && !sc.round && !sc.beyond(sc.walked)
	bottom = hinted || sc.round || sc.beyond(sc.walked)
	if bottom {
		sc.walked = slices.Concat(sc.walked, sc.hungry)
		slices.Sort(sc.walked)
		sc.walked = slices.Compact(sc.walked)
	}
	return bottom, known
}

// hint takes in that something may be due.
func (sc *scanner) hint(h Hint) {
	sc.now = true
	sc.waiting++
	sc.hints++
	if h.Lanes || h.Connected {
		sc.walked = nil
	}
}

// startAnew takes in that anything may be due of which no hint has told.
func (sc *scanner) startAnew() { sc.now, sc.walked = true, nil }

func (sc *scanner) timely(d *database, now int64) bool {
	return now >= sc.at || now >= sc.bottomAt || sc.ownAt != 0 && now >= sc.ownAt || sc.oldDue(d, now)
}

// oldDue says whether it is time to look for what is overdue in the parts of others.
func (sc *scanner) oldDue(d *database, now int64) bool {
	return now >= sc.oldAt && d.place.parts.elsewhere
}

// divided takes in that other ids are ours now: they are scanned for from the bottom, at once. What is overdue elsewhere is
// looked for at a time of each broker's own, or all would find the same.
func (sc *scanner) divided(d *database, now int64) {
	sc.bottomAt = min(sc.bottomAt, now)
	if sc.oldAt == 0 {
		sc.oldAt = now + d.place.random(int64(d.s.scanEvery))
	}
}

// started takes in that a strand goes to its worker. Where one of another's part was overdue there may be more.
func (sc *scanner) started(d *database, now int64, r *run) {
	if r.foreign {
		sc.oldAt = min(sc.oldAt, now)
		return
	}
	if d.place.parts.alone(r.kind) {
		return // it has no neighbours who could have the same trouble
	}
	sc.delays.add(now, now-r.since)
}

// beyond says whether some kind is hungry that is not among these, which scans were about: nothing is known of what has
// come for it meanwhile.
func (sc *scanner) beyond(kinds []string) bool {
	return slices.ContainsFunc(sc.hungry, func(kind string) bool {
		_, among := slices.BinarySearch(kinds, kind)
		return !among
	})
}

// found takes in what a scan has found.
func (sc *scanner) found(d *database, now int64, ev scanned) {
	sc.flying = false
	if ev.err != nil {
		sc.at, sc.bottomAt, sc.more = now+errorRetry, now+errorRetry, false
		sc.oldAt = max(sc.oldAt, now+errorRetry)
		return
	}
	added, ahead := sc.taken, d.s.ahead()
	sc.taken = 0
	for _, c := range ev.Candidates {
		if !d.s.canRun(c.Kind, c.Label, c.Queue) && (!d.s.canRun(c.Kind, "", c.Queue) || sc.pass(&c)) || !d.isNew(c.ID) {
			continue
		}
		area := d.s.area(c.Kind, c.Queue)
		part := sc.parts.among(area)
		seen := sighting{c, now - int64(c.Age), !part.slice().Has(c.ID), area}
		switch {
		case d.buffer.countAt(area, c.Label) >= 2*ahead: // their workers have enough: it is for others that we look
			sc.cut = with(sc.cut, areaLabel{area, c.Label})
			continue
		case !c.Alone && !d.s.isolates(c.Kind):
			d.buffer.add(seen)
		case len(d.alone) < leastAhead:
			d.alone = append(d.alone, seen)
		default:
			continue
		}
		added++
		sc.seen += max(1, part.of)
	}
	if sc.told > 0 {
		sc.vain++
	}
	if added > 0 {
		sc.vain = 0
	}
	if sc.round {
		sc.roundAt, sc.bottomAt = now, now+sc.bottomPeriod(d, now)
	} else if sc.told > 0 && (sc.more || sc.told > added) {
		sc.bottomAt = min(sc.bottomAt, sc.roundAt+busyBottom) // what the hint was about may be below: committed late
	}
	sc.more = ev.More
	if !sc.parts.equal(d.place.parts) {
		sc.bottomAt = now // it has looked elsewhere
	}
	if sc.old {
		sc.oldAt = now + int64(d.s.scanEvery)
	}
	if ev.Settled && sc.settleEnd != 0 {
		sc.settleEnd, sc.bottomAt = 0, now
	}
	sc.at = now + sc.period(d, now)
	if ev.NextDue > 0 {
		sc.at = min(sc.at, now+int64(ev.NextDue+time.Millisecond))
	}
}

// period is how long to wait for the next scan if nothing calls for it.
func (sc *scanner) period(d *database, now int64) int64 {
	switch {
	case sc.busy:
		return busyPoll
	case now < sc.settleEnd:
		return settlePoll
	}
	return int64(d.s.scanEvery)
}

// bottomPeriod is how long to wait for the next round.
func (sc *scanner) bottomPeriod(d *database, now int64) int64 {
	if sc.busy || now < sc.settleEnd {
		return min(busyBottom, int64(d.s.scanEvery))
	}
	return int64(d.s.scanEvery)
}

// expect has a scan see a strand that we have just made due. One in flight may have looked before.
func (sc *scanner) expect(now int64, r Report) {
	switch r.Act {
	case Nap, Hop, Release, Yield, Fail, Own:
		delay := r.Delay
		if delay < 0 {
			delay = soonest
		}
		if at := now + int64(delay+time.Millisecond); sc.ownAt == 0 || at < sc.ownAt {
			sc.ownAt = at
		}
	}
}

// measure decides whether inserters should notify: not if that is so often that they may wait for each other, which on a
// slow disk begins at some hundred commits a second. Once they do not, what scans find tells how much comes. Of several
// brokers each hears of its own parts alone, and takes there to be as many hints for the other ids. A hint does not say of
// which kind, so that counts for all parts together; a candidate does, and counts once for each part of its kind. Where scans
// find nothing again and again, the hints are of kinds that others serve. They make no broker busy, which would look still more often.
func (sc *scanner) measure(d *database, now int64) {
	elapsed := now - sc.since
	if elapsed < rateWindow {
		return
	}
	hints, seen := int64(sc.hints)*rateWindow/elapsed, int64(sc.seen)*rateWindow/elapsed
	sc.since, sc.hints, sc.seen = now, 0, 0
	if sc.vain >= mostVain {
		hints = 0
	}
	busy := d.place.parts.ofAll(hints) >= busyAbove || sc.busy && seen >= busyBelow
	if busy != sc.busy {
		sc.busy = busy
		d.notice.changed = true
	}
}

// next is when decide should be called again; 0 = only after some event.
func (sc *scanner) next(d *database) int64 {
	if d.s.draining {
		return 0
	}
	next := int64(0)
	if !sc.flying && len(sc.hungry) > 0 {
		next = min(sc.at, sc.bottomAt)
		if sc.ownAt != 0 {
			next = min(next, sc.ownAt)
		}
		if sc.now {
			next = min(next, sc.hintAt)
		}
		if d.place.parts.elsewhere {
			next = min(next, sc.oldAt)
		}
	}
	if window := sc.since + rateWindow; sc.busy && (next == 0 || window < next) {
		next = window
	}
	return next
}

func (d *database) isNew(id ID) bool {
	return d.s.runs[id] == nil && !d.buffer.has(id) &&
		!slices.ContainsFunc(d.alone, func(c sighting) bool { return c.ID == id })
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

// atHand is how many candidates there are in these areas; all that must run alone count.
func (d *database) atHand(areas []string) int {
	n := len(d.alone)
	for _, area := range areas {
		n += d.buffer.countIn(area)
	}
	return n
}

// hungryAreas appends the areas of which some worker wants strands and in which fewer than low candidates are at hand.
func (d *database) hungryAreas(areas []string, low int) []string {
	for _, c := range d.s.classes {
		if !c.wants() {
			continue
		}
		for _, a := range c.areas {
			if d.buffer.count(c, a) < low {
				areas = append(areas, a.name)
			}
		}
	}
	slices.Sort(areas)
	return slices.Compact(areas)
}
