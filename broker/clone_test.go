package broker

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/respirated/respirated/protocol"
)

// clone copies a schedule so that neither copy notices what happens to the other.
func (s *schedule) clone() *schedule {
	c := *s
	rng := *s.rng
	c.rng = &rng
	c.open, c.databases = nil, nil
	for _, d := range s.databases {
		c.databases = append(c.databases, d.clone(&c))
	}
	c.runs = map[ID]*run{}
	for id, r := range s.runs {
		copied := *r
		c.runs[id] = &copied
	}
	c.byUUID, c.sessions, c.exits = maps.Clone(s.byUUID), maps.Clone(s.sessions), maps.Clone(s.exits)
	c.isolated = maps.Clone(s.isolated)
	c.workers = map[workerNo]*worker{}
	for no, w := range s.workers {
		copied := *w
		copied.accounts = slices.Clone(w.accounts)
		c.workers[no] = &copied
	}
	c.classes = nil
	for _, old := range s.classes {
		class := *old
		class.members = nil
		for _, m := range old.members {
			class.members = append(class.members, c.workers[m.no])
			c.workers[m.no].class = &class
		}
		c.classes = append(c.classes, &class)
	}
	return &c
}

func (d *database) clone(of *schedule) *database {
	c := *d
	c.s = of
	c.buffer = buffer{lines: map[string][]line{}, have: maps.Clone(d.buffer.have), found: d.buffer.found}
	for kind, lines := range d.buffer.lines {
		for _, l := range lines {
			c.buffer.lines[kind] = append(c.buffer.lines[kind], line{label: l.label, queue: slices.Clone(l.queue)})
		}
	}
	if d.taking != nil {
		taking := *d.taking
		c.taking = &taking
	}
	c.alone, c.reserved, c.calls = slices.Clone(d.alone), slices.Clone(d.reserved), slices.Clone(d.calls)
	c.commits.waiting, c.commits.locked, c.commits.flying = slices.Clone(d.commits.waiting), slices.Clone(d.commits.locked), slices.Clone(d.commits.flying)
	c.commits.carriers = maps.Clone(d.commits.carriers)
	c.place.others, c.place.news, c.place.twinIDs = maps.Clone(d.place.others), slices.Clone(d.place.news), slices.Clone(d.place.twinIDs)
	c.scanner.nobodys, c.scanner.cut = maps.Clone(d.scanner.nobodys), maps.Clone(d.scanner.cut)
	c.scanner.delays.last = slices.Clone(d.scanner.delays.last)
	c.scanner.hungry, c.scanner.asked, c.scanner.walked = slices.Clone(d.scanner.hungry), slices.Clone(d.scanner.asked), slices.Clone(d.scanner.walked)
	return &c
}

func (w *world) clone() *world {
	c := *w
	c.schedule = w.schedule.clone()
	c.rows, c.calls = slices.Clone(w.rows), slices.Clone(w.calls)
	c.results, c.owned = maps.Clone(w.results), maps.Clone(w.owned)
	c.workers = nil
	for _, m := range w.workers {
		copied := *m
		copied.holds = map[Pair]*modelHold{}
		for p, h := range m.holds {
			hold := *h
			copied.holds[p] = &hold
		}
		copied.up, copied.down = slices.Clone(m.up), slices.Clone(m.down)
		c.workers = append(c.workers, &copied)
	}
	return &c
}

// namer gives tokens and sessions names in the order in which they are first met.
type namer struct {
	strings.Builder
	tokens   map[Token]int
	sessions map[sessionID]int
	now      int64
}

func (n *namer) tok(t Token) int {
	if t == (Token{}) {
		return 0
	}
	if n.tokens[t] == 0 {
		n.tokens[t] = len(n.tokens) + 1
	}
	return n.tokens[t]
}

func (n *namer) ses(s sessionID) int {
	if s == 0 {
		return 0
	}
	if n.sessions[s] == 0 {
		n.sessions[s] = len(n.sessions) + 1
	}
	return n.sessions[s]
}

// past tells of a time only whether it has come.
func (n *namer) past(at int64) string {
	switch {
	case at == 0:
		return "-"
	case at <= n.now:
		return "<"
	}
	return ">"
}

func (n *namer) put(args ...any) { fmt.Fprintln(n, args...) }

// key is the same for states that differ only in names and distances.
func (w *world) key() string {
	n := &namer{tokens: map[Token]int{}, sessions: map[sessionID]int{}, now: w.now}
	var owned []int
	for _, r := range w.rows {
		n.put("row", r.absent, n.tok(r.token), r.leased, r.tries > 0, r.seq, r.gone, r.naps, r.state, r.kind)
		if r.leased && w.timed {
			n.put(n.past(r.since+int64(w.schedule.lease)/chainShare), n.past(r.since+patience))
		}
		if r.step != nil {
			n.report(*r.step)
		}
	}
	for _, m := range w.workers {
		n.put("worker", n.ses(m.session), m.terms.Queues, m.crash, m.reaped, m.quiet, len(m.holds))
		for _, p := range sortedPairs(m.holds) {
			h := m.holds[p]
			n.put(p.ID[0], n.tok(p.Token), *h, w.durable(p, h.seq))
		}
		for _, frame := range m.frames {
			for _, o := range frame {
				n.put(o.ID[0], n.tok(o.Token), o.seq)
			}
			n.put("/")
		}
		for _, ev := range m.up {
			n.event(ev)
		}
		for _, frame := range m.down {
			n.frame(frame)
		}
	}
	n.put(w.faults, w.expired, w.calmSoFar, w.restarted, w.cancels, w.drains, w.hurried, w.owns, w.changes)
	for _, c := range w.calls {
		n.calls(c)
	}
	n.schedule(w.schedule)
	for token := range w.owned {
		if no := n.tokens[token]; no != 0 {
			owned = append(owned, no)
		}
	}
	slices.Sort(owned)
	n.put("owned", owned)
	return n.String()
}

func (n *namer) calls(c calls) {
	n.put("calls", c.scan != nil, c.take != nil, c.held != nil)
	for _, c := range c.saw.Candidates {
		n.put("saw", c.ID[0])
	}
	n.pairs(c.lease)
	n.pairs(c.renew)
	for _, r := range c.commit {
		n.report(r)
	}
	for _, v := range c.applied {
		n.put(v.State, v.Stays)
	}
}

func sortedIDs[V any](m map[ID]V) []ID {
	return slices.SortedFunc(maps.Keys(m), func(a, b ID) int { return bytes.Compare(a[:], b[:]) })
}

func sortedPairs[V any](m map[Pair]V) []Pair {
	return slices.SortedFunc(maps.Keys(m), func(a, b Pair) int {
		return cmp.Or(bytes.Compare(a.ID[:], b.ID[:]), bytes.Compare(a.Token[:], b.Token[:]))
	})
}

// pairOf reads the two names of a lease.
func pairOf(strand, token string) Pair {
	p, err := parsePair(strand, token)
	if err != nil {
		panic(err)
	}
	return p
}

func (n *namer) pairs(pairs []Pair) {
	for _, p := range pairs {
		n.put(p.ID[0], n.tok(p.Token))
	}
	n.put("/")
}

func (n *namer) report(r Report) {
	n.put("report", r.ID[0], n.tok(r.Token), r.Seq, r.Act, r.Guilty, r.Stay)
}

func (n *namer) event(ev event) {
	switch ev := ev.(type) {
	case greeted:
		n.put("greeted", n.ses(ev.session))
		for _, h := range ev.hold {
			n.put(h.ID[0], n.tok(h.Token), h.done)
		}
	case wanted:
		n.put("wanted", n.ses(ev.session), ev.n)
	case reported:
		n.put("reported", n.ses(ev.session), ev.re)
		for _, r := range ev.reports {
			n.report(r)
		}
	}
}

func (n *namer) frame(frame protocol.ToWorker) {
	n.put("frame", frame.Op())
	switch f := frame.(type) {
	case *protocol.Strands:
		for _, st := range f.Strands {
			n.wire(st.ID, st.Token)
			n.put(st.Kind, st.Label, st.Inbox != nil)
		}
	case *protocol.Ack:
		n.put(f.Re, f.All)
		for _, e := range f.Entries {
			n.wire(e.Strand, e.Token)
			n.put(e.State, e.Seq, e.Next, e.Inbox != nil)
		}
	case *protocol.Cancel:
		for _, c := range f.Cancels {
			n.wire(c.Strand, c.Token)
			n.put(c.Why)
		}
	}
}

func (n *namer) wire(strand, token string) {
	p := pairOf(strand, token)
	n.put(p.ID[0], n.tok(p.Token))
}

func (n *namer) schedule(s *schedule) {
	for _, id := range sortedIDs(s.runs) {
		r := s.runs[id]
		n.put("run", id[0], n.tok(r.Token), r.of, r.left, r.lent, r.worker != 0, s.nameOf(r.worker), r.state, r.alone, r.stopWhy, n.past(r.leaseEnd), n.past(r.renewAt), r.leased > 0, n.past(r.leased+int64(s.lease)/chainShare))
	}
	var names []string
	for _, w := range s.workers {
		var accounts string
		for _, a := range w.accounts {
			accounts += fmt.Sprint(a.reports, a.bytes > 0, " ")
		}
		names = append(names, fmt.Sprint("known ", w.name, n.ses(w.session), w.wantN, w.held, w.lent, accounts, w.terms.Queues, w.draining, w.reserved, w.exclusive,
			w.silent, w.died != nil, n.past(w.buryAt), n.past(w.heard+int64(s.dead)), n.past(w.endBy)))
	}
	slices.Sort(names)
	n.put(names, slices.Sorted(maps.Keys(s.exits)))
	n.put("sweep", n.past(s.nextSweep))
	for _, d := range s.databases {
		n.database(d)
	}
}

func (n *namer) database(d *database) {
	n.pairs(d.leasing)
	n.pairs(d.renewing)
	if t := d.taking; t != nil {
		n.put("taking", t.scan.Kinds, t.lostAt != 0, n.past(t.after), t.asking)
		for _, token := range t.tokens {
			n.put(n.tok(token))
		}
	}
	for _, line := range [][]pending{d.commits.waiting, d.commits.locked, d.commits.flying} {
		for _, p := range line {
			n.report(*p.Report)
			n.put(d.s.nameOf(p.from), p.stray, p.left, p.stay)
			if p.stay {
				n.put(n.ses(d.commits.carriers[copyKey(p.Report, p.from)].session))
			}
			if w := d.s.workers[p.from]; w != nil && w.ackAll {
				by := d.commits.carriers[copyKey(p.Report, p.from)]
				n.put(n.ses(by.session), by.re, by.of)
			}
		}
		n.put("/")
	}
	for _, id := range sortedIDs(d.buffer.have) {
		n.put("candidate", id[0])
	}
	n.put("timers", n.past(d.commits.after), n.past(d.leaseAfter), n.past(d.renewAfter), d.renewDue)
	n.put("scanner", d.scanner.flying, d.scanner.now, d.scanner.took, d.scanner.taken, d.scanner.waiting, d.scanner.told, n.past(d.scanner.hintAt), d.scanner.more, n.past(d.scanner.at), n.past(d.scanner.bottomAt),
		n.past(d.scanner.roundAt+busyBottom), n.past(d.scanner.ownAt), d.scanner.asked, d.scanner.walked)
}

func (s *schedule) nameOf(no workerNo) string {
	if w := s.workers[no]; w != nil {
		return w.name + fmt.Sprint(w.session != 0)
	}
	return ""
}
