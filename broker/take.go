package broker

import "slices"

// A hint that finds a broker with nothing to do is answered in one round trip: what is due is leased at once, for whoever has
// a free slot, and scanned for afterwards. The strands that a take whose answer is lost has leased are known to nobody by
// name. So its tokens are kept until the database has said which strands are held under them, and those are given back.

// take is one that is under way, or whose outcome is not known yet.
type take struct {
	takeRequest
	asked  int64
	lostAt int64 // when its answer was lost; 0 = it was not
	after  int64 // lost: when to ask what is held, not before
	asking bool  // lost: that question is in flight
}

// takeRequest asks for leases of what is due first, one under each token.
type takeRequest struct {
	scan   ScanRequest // where to look
	tokens []Token
}

// mostTaken is how many strands a broker may take at once: it does so when one or a few have come.
const mostTaken = 8

// takes has hints that a scan would be for answered by a take, if nothing else is to be done first. The scan follows: it finds
// what is not to be taken, and tells when the next deferred strand is due.
func (sc *scanner) takes(d *database, now int64, req *requests) bool {
	quick := sc.waiting > 0 && !sc.took && !sc.busy && !sc.more && now < sc.bottomAt && !sc.oldDue(d, now) && !sc.beyond(sc.walked)
	if !quick || sc.passed+sc.passedBefore > 0 || d.taking != nil || d.leasing != nil || d.lent > 0 || now < d.leaseAfter || d.buffer.len()+len(d.alone) > 0 {
		return false
	}
	if slices.ContainsFunc(sc.hungry, func(area string) bool { return d.s.isolates(kindOf(area)) }) {
		return false // what is taken goes to any free slot
	}
	n := min(d.s.spare(sc.hungry), d.s.mostTaken)
	if n < sc.waiting {
		return false
	}
	t := &take{asked: now}
	parts := &d.place.parts
	kinds, queues := d.s.lookAt(sc.hungry)
	t.scan = ScanRequest{
		Kinds: kinds, Queues: queues, Slice: parts.slice(), Otherwise: parts.slices(), Limit: n, Bottom: true, Known: true,
	}
	for range n {
		t.tokens = append(t.tokens, d.s.token())
	}
	sc.flying, sc.took, d.taking = true, true, t
	req.take = &t.takeRequest
	return true
}

// spare is how many strands of any of these areas there are free slots for, however they are mixed.
func (s *schedule) spare(areas []string) int {
	least := mostAhead
	for _, area := range areas {
		free := 0
		for _, c := range s.classes {
			if c.has(area) {
				free += c.free
			}
		}
		least = min(least, free)
	}
	return least
}

// took takes in what a take has leased.
func (d *database) took(now int64, ev took, fx *effects) {
	t := d.taking
	d.scanner.flying = false
	if ev.err != nil {
		t.lostAt, t.after = now, now+errorRetry
		return
	}
	d.taking, d.leaseAsked, d.scanner.taken = nil, t.asked, len(ev.strands)
	handouts := perSession[handout]{fresh: handout{share: 1}}
	for i := range ev.strands {
		st := &ev.strands[i]
		if d.adopt(t, st) {
			d.start(now, st, &handouts, fx)
		}
	}
	handouts.each(func(session sessionID, h *handout) { h.flush(session, fx) })
}

// adopt makes a run of what was taken, for whoever has a free slot, and says whether it could. Slots are not reserved for
// takes, and a result that made the strand due again may not have been answered yet: then the lease is given back.
func (d *database) adopt(t *take, st *Strand) bool {
	s, p := d.s, Pair{st.ID, st.Token}
	if s.runs[p.ID] != nil || s.isolates(st.Kind) {
		d.yield(p)
		return false
	}
	i := slices.IndexFunc(s.classes, func(c *class) bool { return c.free > 0 && c.runs(st.Kind, st.Label, Queue{st.Tenant, st.Queue}) })
	if i < 0 {
		d.yield(p)
		return false
	}
	d.promise(&run{Pair: p, of: d.no, kind: st.Kind, state: leasing, since: t.asked}, s.classes[i].pick(false))
	return true
}

// yield gives back a lease that no run is for.
func (d *database) yield(p Pair) {
	rep := yieldOf(p)
	d.commits.add(pending{Report: &rep, stray: true})
}

// recover asks what is held under the tokens of a take whose answer was lost.
func (d *database) recover(now int64, req *requests) {
	if t := d.taking; t != nil && t.lostAt != 0 && !t.asking && now >= t.after {
		t.asking = true
		req.held = &heldRequest{t.takeRequest, now - t.lostAt}
	}
}

// recoverNext is when to ask that; 0 = there is nothing to ask, or it is in flight.
func (d *database) recoverNext() int64 {
	if t := d.taking; t != nil && t.lostAt != 0 && !t.asking {
		return t.after
	}
	return 0
}

// takesNow says whether a take is in flight. So long nothing else is leased: the slots are for what it brings.
func (d *database) takesNow() bool { return d.taking != nil && d.taking.lostAt == 0 }

// heldRequest asks which strands are leased under the tokens of a take that failed so long ago.
type heldRequest struct {
	takeRequest
	ago int64
}

// recovered takes in what is held under them.
func (d *database) recovered(now int64, ev recovered) {
	t := d.taking
	if ev.err != nil {
		t.asking, t.after = false, now+errorRetry
		return
	}
	d.taking = nil
	for _, p := range ev.held {
		d.yield(p)
	}
}
