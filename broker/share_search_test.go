package broker

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/respirated/respirated/protocol"
)

// The second exhaustive search is about what brokers do to each other: two real schedules share the ids of a small
// database. They start, join, hear of each other or not, drain, and die with strands in their hands. In every state it is
// seen that a broker which is idle has looked through its part of each kind from the bottom; from every state a quiet world must
// bring all strands to their end in time, and the parts of each kind to be disjoint and to cover all ids (I9).

// shared is one state.
type shared struct {
	now     int64
	gaps    Gaps
	rows    []sharedRow
	table   map[ID]int // the numbers that the database knows, by broker
	hosts   []*sharedHost
	faults  int        // left
	lose    bool       // the next word that is told comes to nobody
	words   []Presence // told and not heard
	until   int64      // time does not pass beyond this
	started byte       // brokers so far
	broken  string
}

// sharedRow is a strand. There is one in each half of the ids, of the kind that not all serve, if there is one.
type sharedRow struct {
	id       ID
	kind     string
	token    Token
	leaseEnd int64 // 0 = free
	due      int64
	exits    int
}

// sharedHost is a place where a broker may run, with one worker that ends what it gets.
type sharedHost struct {
	id       ID
	kinds    []string         // that its worker serves
	schedule *schedule        // nil = none runs
	session  sessionID        // of the worker; 0 = there is none
	sessions sessionID        // so far
	calls    effects          // statements in flight
	looked   map[string]Slice // the parts that the last scans from the bottom were for, by kind
}

func sharedLimits(gaps Gaps) limits {
	l := testLimits()
	l.lease, l.scanEvery = 12*time.Second, 5*time.Second
	l.partition = Partition{Number: Auto, Most: 4, Gaps: gaps}
	return l
}

// newShared is a world of two hosts whose workers serve these kinds. The first serves all that the second does.
func newShared(gaps Gaps, faults int, kinds ...[]string) *shared {
	w := &shared{now: t0, until: t0 + 8*second, gaps: gaps, faults: faults, table: map[ID]int{}}
	for _, these := range kinds {
		w.hosts = append(w.hosts, &sharedHost{kinds: these})
	}
	last := kinds[0][len(kinds[0])-1]
	for _, first := range []byte{0x10, 0x90} {
		w.rows = append(w.rows, sharedRow{id: ID{0: first, 15: 1}, kind: last, due: t0})
	}
	return w
}

func (w *shared) fail(format string, args ...any) { w.broken = fmt.Sprintf(format, args...) }

func (w *shared) start(h *sharedHost) {
	w.started++
	*h = sharedHost{id: ID{15: w.started}, kinds: h.kinds}
	h.schedule = newSchedule(h.id, [32]byte{w.started}, sharedLimits(w.gaps))
	w.hire(h)
}

// hire has the worker of a host come.
func (w *shared) hire(h *sharedHost) {
	h.sessions++
	h.session = h.sessions
	var kinds []protocol.Kind
	for _, kind := range h.kinds {
		kinds = append(kinds, protocol.Kind{Name: kind})
	}
	w.step(h, greeted{session: h.session, worker: "w", name: "w", kinds: kinds}, wanted{session: h.session, n: 2})
}

// stop ends a host, with its worker.
func (w *shared) stop(h *sharedHost) { *h = sharedHost{kinds: h.kinds} }

// dismiss ends the worker of a host.
func (w *shared) dismiss(h *sharedHost) {
	gone := h.session
	h.session = 0
	w.step(h, parted{gone})
}

// step has a broker take events in. Commits take their time, and announcements until time passes; all else is answered,
// and heard, at once.
func (w *shared) step(h *sharedHost, events ...event) {
	w.take(h, events)
	for len(w.words) > 0 {
		p := w.words[0]
		w.words = w.words[1:]
		if lost := w.lose; lost {
			w.lose = false
			continue
		}
		for _, other := range w.hosts {
			w.take(other, []event{hinted{Hint{Presence: &p}}})
		}
	}
	for _, h := range w.hosts {
		w.checkLooked(h)
	}
}

func (w *shared) take(h *sharedHost, events []event) {
	for len(events) > 0 && h.schedule != nil {
		events = w.perform(h, h.schedule.step(w.now, append(events, heard{h.session})...))
	}
}

func (w *shared) perform(h *sharedHost, fx effects) (events []event) {
	if fx.scan != nil {
		events = append(events, w.dbScan(fx.scan))
		if fx.scan.Bottom {
			h.look(fx.scan)
		}
	}
	if fx.lease != nil {
		events = append(events, leased{granted: w.dbLease(fx.lease)})
	}
	if fx.announce != nil {
		if _, known := w.table[h.id]; known {
			w.table[h.id] = fx.announce.Number
		}
		h.calls.announce = fx.announce
	}
	if fx.renew != nil {
		events = append(events, w.dbRenew(fx.renew))
	}
	h.calls.commit = append(h.calls.commit, fx.commit...)
	if fx.join != nil {
		events = append(events, w.dbJoin(h.id))
	}
	if fx.present != nil {
		w.words = append(w.words, *fx.present)
		events = append(events, told{Presence: *fx.present})
	}
	for _, s := range fx.send {
		if m, ok := s.message.(*protocol.Strands); ok {
			for _, st := range m.Strands {
				events = append(events, reported{session: h.session, re: 1, reports: []Report{exitOf(pairOf(st.ID, st.Token))}})
			}
		}
	}
	if fx.finished {
		delete(w.table, h.id)
		w.stop(h)
	}
	return events
}

// checkLooked holds the half of I9 that each broker can see to: one that is idle has looked for all that is its own.
func (w *shared) checkLooked(h *sharedHost) {
	s := h.schedule
	if s == nil || s.draining {
		return
	}
	d := s.databases[0]
	if d.scanner.flying || !d.place.ready(s.stepped) {
		return
	}
	for _, kind := range s.served() {
		part := d.place.parts.among(kind).slice()
		if looked, has := h.looked[kind]; !has || looked != part {
			w.fail("I9: a broker with the part %v of %s is idle, and has looked through %v", part, kind, h.looked)
		}
	}
}

func (h *sharedHost) look(req *ScanRequest) {
	if h.looked == nil {
		h.looked = map[string]Slice{}
	}
	for _, kind := range req.Kinds {
		h.looked[kind] = req.SliceOf(kind, Queue{})
	}
}

func (w *shared) dbScan(req *ScanRequest) (found scanned) {
	for _, r := range w.rows {
		since := max(r.due, r.leaseEnd)
		age := time.Duration(w.now - since)
		if r.exits > 0 || age < 0 || !slices.Contains(req.Kinds, r.kind) || !req.SliceOf(r.kind, Queue{}).Has(r.id) && (req.Overdue == 0 || age <= req.Overdue) {
			continue
		}
		found.Candidates = append(found.Candidates, Candidate{ID: r.id, Kind: r.kind, Priority: 5, Age: age})
	}
	return found
}

func (w *shared) dbLease(pairs []Pair) (granted []Strand) {
	for _, p := range pairs {
		if r := w.row(p.ID); r.exits == 0 && r.leaseEnd <= w.now {
			r.token, r.leaseEnd = p.Token, w.now+int64(12*time.Second)
			strand := strandsOf([]Pair{p})[0]
			strand.Kind = r.kind
			granted = append(granted, strand)
		}
	}
	return granted
}

func (w *shared) dbRenew(pairs []Pair) (kept renewed) {
	for _, p := range pairs {
		if r := w.row(p.ID); r.exits == 0 && r.token == p.Token {
			r.leaseEnd = w.now + int64(12*time.Second)
			kept.kept = append(kept.kept, Kept{Pair: p})
		}
	}
	return kept
}

func (w *shared) dbCommit(reports []Report) (answer committed) {
	for _, rep := range reports {
		r, v := w.row(rep.ID), Verdict{State: Stale}
		if r.token == rep.Token && r.exits == 0 {
			v.State = Applied
			r.leaseEnd = 0
			if rep.Act == Exit {
				r.exits++
			}
		}
		answer.verdicts = append(answer.verdicts, v)
	}
	return answer
}

func (w *shared) dbJoin(id ID) (j joined) {
	taken := map[int]bool{}
	for _, other := range slices.SortedFunc(maps.Keys(w.table), compareIDs) {
		if number := w.table[other]; other != id && number > 0 {
			j.Members = append(j.Members, Presence{Broker: other, Number: number})
			taken[number] = true
		}
	}
	for j.Number = 1; taken[j.Number]; {
		j.Number++
	}
	w.table[id] = j.Number
	return j
}

func (w *shared) row(id ID) *sharedRow {
	return &w.rows[slices.IndexFunc(w.rows, func(r sharedRow) bool { return r.id == id })]
}

func (w *shared) moves() (moves []move[*shared]) {
	add := func(name string, do func(*shared)) { moves = append(moves, move[*shared]{name, do}) }
	for i, h := range w.hosts {
		if h.schedule == nil {
			if w.started < 3 {
				add(fmt.Sprint(i, " starts"), func(w *shared) { w.start(w.hosts[i]) })
			}
			continue
		}
		w.answers(i, h, add)
		if h.session == 0 && !h.schedule.draining {
			add(fmt.Sprint(i, "'s worker is back"), func(w *shared) { w.hire(w.hosts[i]) })
		}
		if w.faults > 0 && h.session != 0 && len(h.kinds) != len(w.hosts[1-i].kinds) {
			add(fmt.Sprint(i, "'s worker ends"), func(w *shared) { w.faults--; w.dismiss(w.hosts[i]) })
		}
		if w.faults > 0 {
			add(fmt.Sprint(i, " dies"), func(w *shared) { w.faults--; w.stop(w.hosts[i]) })
			if !h.schedule.draining {
				add(fmt.Sprint(i, " drains"), func(w *shared) { w.faults--; w.step(w.hosts[i], draining{by: w.now + second}) })
			}
		}
	}
	if w.faults > 0 && !w.lose {
		add("the next word is lost", func(w *shared) { w.faults--; w.lose = true })
	}
	if w.tick() > 0 && w.now < w.until {
		add("time passes", (*shared).pass)
	}
	return moves
}

func (w *shared) answers(i int, h *sharedHost, add func(string, func(*shared))) {
	if h.calls.commit != nil {
		add(fmt.Sprint(i, "'s commit answers"), func(w *shared) {
			h := w.hosts[i]
			reports := h.calls.commit
			h.calls.commit = nil
			w.step(h, w.dbCommit(reports))
		})
	}
}

// tick is when some broker wants to be called next; 0 = never.
func (w *shared) tick() (next int64) {
	for _, h := range w.hosts {
		if h.schedule == nil {
			continue
		}
		if at := h.schedule.nextTick(); next == 0 || at < next {
			next = at
		}
	}
	return next
}

// pass lets time pass until somebody asks something, for two seconds at most.
func (w *shared) pass() {
	for _, h := range w.hosts {
		if h.calls.announce != nil {
			h.calls.announce = nil
			w.step(h, announced{})
		}
	}
	for until := w.now + 2*second; w.now < until; {
		w.now = max(w.now+int64(time.Millisecond), w.tick())
		for _, h := range w.hosts {
			w.step(h, heard{h.session})
		}
		if slices.ContainsFunc(w.hosts, func(h *sharedHost) bool { return h.calls.commit != nil }) {
			return
		}
	}
}

// quiet is the suffix without faults: what is asked is answered, and time passes where nothing is.
func (w *shared) quiet() {
	w.faults, w.until = 0, w.now+100*second
	began := w.now
	for w.broken == "" {
		if w.now > began+90*second {
			w.fail("I6: a quiet world does not come to its end from here: %+v", w.rows)
			return
		}
		if w.unserved() {
			w.start(w.hosts[0])
		}
		moves := w.moves()
		moves = slices.DeleteFunc(moves, func(m move[*shared]) bool {
			return strings.HasSuffix(m.name, " starts") || m.name == "1's worker is back"
		})
		moves[0].do(w)
		ended := !slices.ContainsFunc(w.rows, func(r sharedRow) bool { return r.exits == 0 })
		if ended && w.now >= began+10*second {
			w.checkParts()
			return
		}
	}
}

// unserved says whether there is a kind that no broker has a worker for, and the first could.
func (w *shared) unserved() bool {
	return w.hosts[0].schedule == nil && (w.hosts[1].schedule == nil || len(w.hosts[1].kinds) < len(w.hosts[0].kinds))
}

// checkParts holds I9: when all has been quiet for long, the parts of each kind are disjoint and cover the ids, but for the
// parts of numbers that nobody has, where those stay.
func (w *shared) checkParts() {
	for _, kind := range w.hosts[0].kinds {
		w.checkPartsOf(kind)
	}
}

func (w *shared) checkPartsOf(kind string) {
	var parts []Slice
	for _, h := range w.hosts {
		if h.schedule != nil && !h.schedule.draining && h.schedule.canRun(kind, "", Queue{}) {
			parts = append(parts, h.schedule.databases[0].place.parts.among(kind).slice())
		}
	}
	slices.SortFunc(parts, func(a, b Slice) int { return int(a.Lo>>1) - int(b.Lo>>1) })
	end := uint64(0)
	for _, p := range parts {
		if p.Lo < end || p.Lo > end && w.gaps == GapsRank {
			w.fail("I9: the parts of %s are %v", kind, parts)
		}
		end = p.end()
	}
	if end != space {
		w.fail("I9: the parts of %s are %v", kind, parts)
	}
}

func (w *shared) check() {
	for _, r := range w.rows {
		if r.exits > 1 {
			w.fail("I4: strand %02x was ended %d times", r.id[0], r.exits)
		}
	}
}

func (w *shared) clone() *shared {
	c := *w
	c.rows, c.table = slices.Clone(w.rows), maps.Clone(w.table)
	c.hosts = nil
	for _, h := range w.hosts {
		copied := *h
		if h.schedule != nil {
			copied.schedule = h.schedule.clone()
		}
		copied.calls.commit, copied.looked = slices.Clone(h.calls.commit), maps.Clone(h.looked)
		c.hosts = append(c.hosts, &copied)
	}
	return &c
}

// key is the same for states that differ only in names and distances.
func (w *shared) key() string {
	n := &namer{tokens: map[Token]int{}, sessions: map[sessionID]int{}, now: w.now}
	n.put(w.faults, w.started, w.lose)
	for _, r := range w.rows {
		n.put(n.tok(r.token), n.past(r.leaseEnd), n.past(r.due+overdueMin), r.exits)
	}
	for _, id := range slices.SortedFunc(maps.Keys(w.table), compareIDs) {
		n.put(w.hostOf(id), w.table[id])
	}
	for _, h := range w.hosts {
		s := h.schedule
		if s == nil {
			n.put("down")
			continue
		}
		n.schedule(s)
		for _, r := range h.calls.commit {
			n.report(r)
		}
		d := s.databases[0]
		n.put(h.calls.announce != nil, s.draining, n.past(d.scanner.oldAt), d.scanner.old, h.looked, d.place.parts)
		n.place(w, &d.place)
	}
	return n.String()
}

// hostOf names a broker by its host; -1 = it runs no more.
func (w *shared) hostOf(id ID) int {
	return slices.IndexFunc(w.hosts, func(h *sharedHost) bool { return h.id == id })
}

func (n *namer) place(w *shared, p *place) {
	n.put("place", p.joining, n.past(p.joinAt), n.past(p.readyAt), p.echoed, p.speaking, n.past(p.speakAt), n.past(p.soonAt),
		p.number, p.moved, n.past(p.twinAt), p.leaving, n.past(p.silentBy), min(p.unheard, 1), p.served, p.kinds, n.past(p.fewerAt))
	for _, id := range slices.SortedFunc(maps.Keys(p.others), compareIDs) {
		o := p.others[id]
		n.put(w.hostOf(id), o.number, o.kinds, o.heardAt != 0, (p.open-o.open)/beat)
	}
}

func (w *shared) broke() string { return w.broken }

// TestExhaustivePartitions visits the worlds of two brokers whole. RESPIRATE_LONG=1 adds a second fault; scripts/search has one
// happen where the brokers serve different kinds, too, which takes longest.
func TestExhaustivePartitions(t *testing.T) {
	faults, differing := 1, 0
	if os.Getenv("RESPIRATE_MUTANTS") != "" {
		differing = 1
	}
	if os.Getenv("RESPIRATE_LONG") != "" {
		faults, differing = 2, 1
	}
	one, two := []string{"k"}, []string{"k", "l"}
	for _, c := range []struct {
		gaps   Gaps
		faults int
		kinds  [][]string
	}{{GapsRank, faults, [][]string{one, one}}, {GapsOverdue, faults, [][]string{one, one}}, {GapsRank, differing, [][]string{two, one}}} {
		start := time.Now()
		states := explore(t, newShared(c.gaps, c.faults, c.kinds...), 100_000)
		t.Logf("gaps %s, kinds %v, %d faults: %d states visited in %v", c.gaps, c.kinds, c.faults, states, time.Since(start).Round(time.Millisecond))
	}
}
