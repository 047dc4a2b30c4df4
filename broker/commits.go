package broker

import (
	"fmt"
	"slices"
	"time"

	"github.com/respirated/respirated/protocol"
)

// commits are the reports on their way to the database. They leave in the order in which they came, together, while
// at most one statement is in flight. None is forgotten before the database has answered for it.
type commits struct {
	waiting []pending
	locked  []pending // their rows were locked by somebody; tried again at due
	flying  []pending // in flight; nil = none
	asked   int64     // when
	after   int64     // not before, after an error

	carriers map[copyOf]carrier // the frame that last carried each report of a worker; of those above
}

// carrier is a frame of reports.
type carrier struct {
	session sessionID // that it came by: in the next one the worker may give its id to another
	re      uint64    // its id
	of      int       // how many entries it had
}

// copyOf is what all copies of a report have in common. It has no gaps, so that a map hashes it in one go.
type copyOf struct {
	Pair
	seq  uint64 // twice the report's, and 1 more of a save
	from workerNo
}

func copyKey(r *Report, from workerNo) copyOf {
	key := copyOf{r.Pair, 2 * r.Seq, from}
	if r.Act == Save {
		key.seq++
	}
	return key
}

// pending is a report and whom to answer. Nobody changes the report any more.
type pending struct {
	*Report
	from  workerNo // whom to answer, on whichever connection it then has; 0 = nobody
	stray bool     // it belongs to no run of ours: a former broker's, or a fenced-off one
	stay  bool     // it asks to go on under its lease, and may
	left  int      // how many databases to ask after this one, if it does not know the strand
	due   int64    // locked: when to try again
	bytes int      // its payload, which counts against what its worker may have waiting
}

func (c *commits) add(p pending) { c.waiting = append(c.waiting, p) }

// addFrom adds the report of a worker, and the frame that it came with.
func (c *commits) addFrom(p pending, by carrier) {
	c.carriers[copyKey(p.Report, p.from)] = by
	c.add(p)
}

// again says whether an earlier copy of the report is on its way already; then its answer is for this frame.
func (c *commits) again(r *Report, from workerNo, by carrier) bool {
	key := copyKey(r, from)
	_, underway := c.carriers[key]
	if underway {
		c.carriers[key] = by
	}
	return underway
}

// answered says which frame the answer to a report is for.
func (c *commits) answered(p *pending) (by carrier) {
	key := copyKey(p.Report, p.from)
	by = c.carriers[key]
	delete(c.carriers, key)
	return by
}

func (c *commits) empty() bool { return len(c.waiting)+len(c.locked)+len(c.flying) == 0 }

// unlock brings back the locked ones whose time has come, before those that came later.
func (c *commits) unlock(now int64) {
	var again []pending
	c.locked = slices.DeleteFunc(c.locked, func(p pending) bool {
		if now < p.due {
			return false
		}
		again = append(again, p)
		return true
	})
	if again != nil {
		c.waiting = append(again, c.waiting...)
	}
}

// batch takes the next reports: at most limit, one for each strand, and none of a strand whose earlier report was
// locked out, so that their order is kept.
func (c *commits) batch(limit int) []Report {
	taken := make(map[ID]struct{}, min(limit, len(c.waiting))+len(c.locked))
	for _, p := range c.locked {
		taken[p.ID] = struct{}{}
	}
	reports := make([]Report, 0, min(limit, len(c.waiting)))
	c.flying = make([]pending, 0, cap(reports))
	left := c.waiting[:0:0]
	for i, p := range c.waiting {
		if len(reports) == limit {
			left = append(left, c.waiting[i:]...)
			break
		}
		if _, twice := taken[p.ID]; twice {
			left = append(left, p)
			continue
		}
		taken[p.ID] = struct{}{}
		c.flying = append(c.flying, p)
		rep := *p.Report
		rep.Stay = p.stay
		reports = append(reports, rep)
	}
	c.waiting = left
	if len(reports) == 0 {
		c.flying = nil
		return nil
	}
	return reports
}

// next is when something of ours becomes possible by time alone; 0 = never.
func (c *commits) next() int64 {
	if c.flying != nil {
		return 0
	}
	next := int64(0)
	if len(c.waiting) > 0 {
		next = c.after
	}
	for _, p := range c.locked {
		if next == 0 || p.due < next {
			next = p.due
		}
	}
	return next
}

// write asks for the next write, a renewal or a commit: never both at once, since they touch the same rows.
func (d *database) write(now int64, req *requests) {
	d.commits.unlock(now)
	if d.commits.flying != nil || d.renewing != nil {
		return
	}
	if d.renewDue && now >= d.renewAfter && d.s.pausedAt == 0 {
		d.renewing = d.due(now)
		d.renewDue = len(d.renewing) == d.s.maxBatch
		if d.renewing != nil {
			d.renewAsked = now
			req.renew = d.renewing
			return
		}
	}
	if len(d.commits.waiting) > 0 && now >= d.commits.after {
		d.commits.asked = now
		req.commit = d.commits.batch(d.s.maxBatch)
	}
}

// report takes in what a worker says its runs ended in.
func (s *schedule) report(now int64, ev reported, fx *effects) {
	w := s.hear(now, ev.session)
	if w == nil {
		return
	}
	ack := &protocol.Ack{Re: ev.re}
	by := carrier{ev.session, ev.re, len(ev.reports) + len(ev.refused)}
	for i := range ev.reports {
		if rep := &ev.reports[i]; !s.enlist(now, w, rep, by) {
			strand, token := rep.text()
			ack.Entries = append(ack.Entries, protocol.AckEntry{
				Strand: strand, Token: token, Seq: rep.Seq, State: protocol.AckLater, RetryMS: 1000,
			})
		}
	}
	for _, r := range ev.refused {
		ack.Entries = append(ack.Entries, protocol.AckEntry{
			Strand: r.strand, Token: r.token, Seq: r.seq, State: protocol.AckInvalid, Why: r.why,
		})
		if run := s.running(r.pair); r.known && run != nil && run.worker == w.no {
			s.giveBack(run, refusedReport(r.pair, r.seq, w.name, r.why))
		}
	}
	if len(ack.Entries) > 0 {
		fx.tell(ev.session, ack)
	}
}

// enlist queues a report. It answers false where the worker has too many of strands that we did not give it waiting, or
// too much altogether.
func (s *schedule) enlist(now int64, w *worker, rep *Report, by carrier) bool {
	underway := func(d *database) bool { return d.commits.again(rep, w.no, by) }
	if slices.ContainsFunc(s.databases, underway) {
		return true // sent again after a reconnect
	}
	p := pending{Report: rep, from: w.no, bytes: rep.payload()}
	r := s.running(rep.Pair)
	if r != nil && r.worker == w.no && r.stopWhy == protocol.StopLost && rep.Act != Save {
		s.giveBack(r, yieldOf(r.Pair)) // its handler has stopped, but too late: whoever has the strand next may have begun
		r = nil
	}
	d := s.databases[0] // where to begin to ask for the strand of a stray
	if r != nil {
		d, p.left = s.of(r), r.left
	} else {
		p.left = s.others()
	}
	a := w.account(d)
	switch {
	case a.bytes > 0 && a.bytes+p.bytes > s.maxBytes:
		return false
	case r != nil && r.worker == w.no && rep.Act != Save:
		p.stay = rep.Stay && s.mayStay(now, w, r, rep.kindAfter(r))
		r.state = settling
	case a.reports >= s.maxHold:
		return false
	default:
		a.reports++
		p.stray = r == nil || r.worker != w.no
	}
	a.bytes += p.bytes
	d.commits.addFrom(p, by)
	return true
}

// payload is about how many bytes a report holds.
func (r *Report) payload() int {
	bytes := len(r.Value) + len(r.Stack) + payloadOf(r.Inserts) + signalBytes(r.Signals)
	bytes += len(ID{}) * (len(r.Used) + len(r.Reaped))
	if r.Failure != nil {
		bytes += len(r.Failure.Message) + len(r.Failure.Trace)
	}
	return bytes
}

func payloadOf(inserts []Insert) (bytes int) {
	for i := range inserts {
		bytes += len(inserts[i].Args) + len(inserts[i].Opts)
	}
	return bytes
}

func signalBytes(signals []Signal) (bytes int) {
	for i := range signals {
		bytes += len(ID{}) + len(signals[i].Name) + len(signals[i].Value)
	}
	return bytes
}

// settle takes in the database's verdicts. Only now is a worker answered, and its slot free.
func (d *database) settle(now int64, ev committed, fx *effects) {
	flying := d.commits.flying
	d.commits.flying = nil
	if ev.err != nil {
		d.commits.waiting = append(flying, d.commits.waiting...)
		d.commits.after = now + errorRetry
		return
	}
	if len(ev.verdicts) != len(flying) {
		panic("bug: as many verdicts as reports are needed")
	}
	acks := newAcks(d.s)
	for i, p := range flying {
		switch v := ev.verdicts[i]; {
		case v.State == Later:
			alone := *p.Report // it may wait for long, which its frame shall not
			p.Report, p.due = &alone, now+lockedRetry
			d.commits.locked = append(d.commits.locked, p)
		case v.State == Invalid:
			acks.add(p, d.commits.answered(&p), v)
			d.refuse(p, v.Why)
		case v.State == Gone && p.left > 0:
			d.sendOn(p)
		default:
			by := d.commits.answered(&p)
			v.Inbox = v.Inbox.within(d.s.maxFrame - strandOverhead)
			v.Stays = d.conclude(now, p, v, by)
			if w := d.s.workers[p.from]; w != nil && w.key != "" && v.State == Applied && p.good() {
				fx.served = append(fx.served, w.key)
			}
			acks.add(p, by, v)
		}
	}
	acks.flush(fx)
}

// sendOn has the next database be asked about a report of whose strand this one does not know.
func (d *database) sendOn(p pending) {
	next := d.s.after(d)
	by, answered := d.commits.carriers[copyKey(p.Report, p.from)]
	d.commits.answered(&p)
	if w := d.s.workers[p.from]; w != nil {
		here, there := w.account(d), w.account(next)
		here.bytes -= p.bytes
		there.bytes += p.bytes
		if p.besides() {
			here.reports--
			there.reports++
		}
	}
	p.left--
	if next.commits.add(p); answered {
		next.commits.carriers[copyKey(p.Report, p.from)] = by
	}
}

// good says whether a report is of a run that went well.
func (p *pending) good() bool {
	return p.Act == Exit || p.Act == Nap || p.Act == Hop || p.Act == Own
}

// besides says whether a report frees no slot of its worker.
func (p *pending) besides() bool { return p.stray || p.Act == Save }

// conclude ends the run that a settled report was about, unless it goes on at its next label, which the answer is to say.
func (d *database) conclude(now int64, p pending, v Verdict, by carrier) (goes bool) {
	s := d.s
	d.unwait(p)
	stays := p.stay && v.State == Applied && v.Stays
	if v.State == Applied && !stays {
		d.scanner.expect(now, *p.Report)
	}
	// The first of a report's copies may have stayed, and its answer be lost: then nobody runs what is leased.
	held := stays || p.Report.Stay && v.State == Dup
	r := s.runs[p.ID]
	switch {
	case p.stray || r == nil || r.Token != p.Token:
		if held {
			yield := yieldOf(p.Pair)
			d.commits.add(pending{Report: &yield, stray: true})
		}
	case p.Act == Save && (v.State == Applied || v.State == Dup): // it goes on
	case stays && d.goOn(now, r, p.Report, v.Inbox, by):
		return true
	case held:
		d.has(r)
		s.giveBack(r, yieldOf(r.Pair))
	default:
		s.forget(r)
	}
	return false
}

// refuse fails the run whose outcome the database would not take, so that it is not tried without end.
func (d *database) refuse(p pending, why string) {
	s := d.s
	d.unwait(p)
	r := s.runs[p.ID]
	if p.stray || p.Act == Save || r == nil || r.Token != p.Token {
		return
	}
	switch {
	case p.from != 0:
		w := s.workers[p.from]
		name := ""
		if w != nil {
			name = w.name
		}
		s.giveBack(r, refusedReport(p.Pair, p.Seq, name, why))
	case p.Act != Yield:
		s.giveBack(r, yieldOf(p.Pair))
	default:
		s.forget(r) // its lease will run out
	}
}

// unwait takes a report off its worker's account.
func (d *database) unwait(p pending) {
	w := d.s.workers[p.from]
	if w == nil {
		return
	}
	a := w.account(d)
	a.bytes -= p.bytes
	if p.besides() {
		a.reports--
		d.s.dismiss(w)
	}
}

func refusedReport(p Pair, seq uint64, worker, why string) Report {
	return Report{Pair: p, Seq: seq, Act: Fail, Delay: -1, Failure: &Failure{
		Class: "refused", Message: "the result was refused: " + why, Worker: worker,
	}}
}

// tooLarge ends a strand that no frame can carry to a worker.
func tooLarge(p Pair, size, most int) Report {
	return Report{Pair: p, Seq: 1, Act: Fail, Final: true, Failure: &Failure{
		Class: "too_large", Message: fmt.Sprintf("its arguments, frames, metadata and tags have %d bytes; a frame of at most %d must carry them", size, most),
	}}
}

// acks gathers the answers to a commit, one frame for each frame that is answered.
type acks struct {
	s      *schedule
	frames map[address]*answers
	order  []address
}

// address is a frame of a worker, which an ack answers on whichever connection the worker then has.
type address struct {
	worker workerNo
	re     uint64
}

// answers are those to one frame.
type answers struct {
	by      carrier
	mixed   bool // some are to a frame of an earlier session that had the same id
	all     []answer
	applied int // of all, those of runs that have ended
}

type answer struct {
	pending
	Verdict // Stays: it goes on at its next label
}

func newAcks(s *schedule) *acks { return &acks{s: s, frames: map[address]*answers{}} }

func (a *acks) add(p pending, by carrier, v Verdict) {
	if w := a.s.workers[p.from]; w == nil || w.session == 0 {
		return // nobody there to hear it; a worker that comes back sends it again
	}
	to := address{p.from, by.re}
	f := a.frames[to]
	if f == nil {
		f = &answers{by: by, all: make([]answer, 0, by.of)}
		a.frames[to] = f
		a.order = append(a.order, to)
	}
	f.mixed = f.mixed || by != f.by
	f.all = append(f.all, answer{p, v})
	if v.State == Applied && !v.Stays {
		f.applied++
	}
}

func (a *acks) flush(fx *effects) {
	for _, to := range a.order {
		f, w := a.frames[to], a.s.workers[to.worker]
		for len(f.all) > 0 {
			fx.tell(w.session, f.ack(w, a.s.usual()))
		}
	}
}

// ack is the next frame that answers. One word will do where every entry of the answered frame has been applied and none goes
// on, and the worker cannot take that for another frame. What waits for strands that go on may take several frames.
func (f *answers) ack(w *worker, most int) *protocol.Ack {
	ack := &protocol.Ack{Re: f.by.re}
	if w.ackAll && f.applied == f.by.of && !f.mixed && f.by.session == w.session {
		f.all, ack.Entries, ack.All = nil, []protocol.AckEntry{}, true
		return ack
	}
	ack.Entries = make([]protocol.AckEntry, 0, len(f.all))
	for bytes := 0; len(f.all) > 0; f.all = f.all[1:] {
		p := &f.all[0]
		if bytes += p.Inbox.payload(); bytes > most && len(ack.Entries) > 0 {
			break
		}
		ack.Entries = append(ack.Entries, p.entry())
	}
	return ack
}

func (a *answer) entry() protocol.AckEntry {
	strand, token := a.text()
	e := protocol.AckEntry{Strand: strand, Token: token, Seq: a.Seq, State: a.State.wire(), Why: a.Why}
	if a.Stays {
		e.Next, e.Inbox = protocol.NextGo, a.Inbox.wire()
	}
	return e
}

// wire is the verdict's name in an ack.
func (v VerdictState) wire() string {
	switch v {
	case Applied:
		return protocol.AckApplied
	case Dup:
		return protocol.AckDup
	case Stale:
		return protocol.AckStale
	case Gone:
		return protocol.AckGone
	case Invalid:
		return protocol.AckInvalid
	case Later:
		return protocol.AckLater
	}
	panic("bug: unknown verdict")
}

// soonest is the least delay after which a strand may be due again by the default back-off.
const soonest = 500 * time.Millisecond
