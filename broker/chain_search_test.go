package broker

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/respirated/respirated/protocol"
)

// A world of programs is one of the worlds of search_test.go whose strands go from label to label under one lease, and wait at
// the last one for a signal that is sent at any moment, or has been. Strands are cancelled, brokers drained, and runs take so
// long that a chain has to end.

// lastLabel is where a program waits for its signal.
const lastLabel = 1

// programState is what a row of a program has besides. Its rules are those of Store.
type programState struct {
	label     int
	signal    bool // is in the inbox
	woken     bool
	news      bool // the signal came after the last run or label has begun
	asleep    bool
	cancelled bool
}

func (s *programState) inbox() *Inbox {
	if !s.signal {
		return nil
	}
	return &Inbox{Semaphores: []Semaphore{{ID: 1, Name: "n"}}}
}

// apply is what a report does to a program.
func (s *programState) apply(w *world, r *row, rep Report) {
	if s.cancelled && rep.Act != Exit {
		r.gone = true
		return
	}
	switch rep.Act {
	case Hop:
		s.label++
		r.kind = cmp.Or(rep.Kind, r.kind)
		if rep.Stay {
			r.leased, s.woken, s.news = true, false, false
		}
	case Nap:
		if s.woken && !s.news {
			w.fail("a program is woken by what was there when its label began")
		}
		s.asleep = !s.woken
		s.signal = s.signal && rep.Used == nil
	}
}

func newProgramWorld(strands, workers, slots, faults, cancels, drains int) *world {
	w := newWorld(strands, workers, faults, 1)
	w.program, w.cancels, w.drains = true, cancels, drains
	for _, m := range w.workers {
		m.want, m.ackAll, m.stack = slots, true, nil
	}
	return w
}

// newProgramsWorld has two programs. The first goes on as another kind, which only the last worker serves, and sends the second
// its signal when it ends.
func newProgramsWorld(workers, slots, faults int) *world {
	w := newProgramWorld(2, workers, slots, faults, 0, 0)
	w.between = true
	w.workers[workers-1].kinds = served("k", "l")
	return w
}

func labelOf(no int) string { return fmt.Sprint("label ", no) }

func labelNo(label string) (no int) {
	_, _ = fmt.Sscanf(label, "label %d", &no)
	return no
}

// answer brings the answer to a commit that is applied now, if it was not before.
func (w *world) answer(no int) {
	reports, verdicts := w.calls[no].commit, slices.Clone(w.calls[no].applied)
	if verdicts == nil {
		verdicts = w.dbCommit(no, reports)
	}
	for i := range verdicts {
		if verdicts[i].Stays {
			verdicts[i].Inbox = w.row(reports[i].ID).state.inbox()
		}
	}
	w.calls[no].commit, w.calls[no].applied = nil, nil
	w.step(from{no, committed{verdicts: verdicts}})
}

// programMoves are what others do to programs.
func (w *world) programMoves(add func(string, func(*world))) {
	if !w.program {
		return
	}
	for i := range w.rows {
		r := &w.rows[i]
		if r.step != nil {
			w.stepMoves(i, add)
			continue // others wait for its end
		}
		if r.gone {
			continue
		}
		if !r.state.signal && !w.between {
			add(fmt.Sprintf("a signal is sent to strand %d", i+1), func(w *world) { w.signal(&w.rows[i].state) })
		}
		if w.cancels > 0 && !r.state.cancelled {
			add(fmt.Sprintf("strand %d is cancelled", i+1), func(w *world) { w.cancel(&w.rows[i]) })
		}
	}
	if w.drains > 0 {
		add("the broker drains", func(w *world) {
			w.drains--
			w.step(draining{by: w.now + int64(time.Hour)})
		})
	}
	takes := func(what string, time int64) {
		add(what+" takes its time", func(w *world) {
			w.hurried = false
			w.now += time
			w.step(w.pings()...)
		})
	}
	if w.hurried && len(w.schedule.runs) > 0 {
		takes("a run", int64(w.schedule.lease)/chainShare)
		if len(w.rows) > w.slots() {
			takes("a run for which others wait", patience)
		}
	}
}

func (w *world) slots() (all int) {
	for _, m := range w.workers {
		all += m.want
	}
	return all
}

// measure notes which of the results that are heard now must be the last ones of their chains: their lease has been there for a
// quarter of its time, or for a second while another strand waits, of which the broker knows, and all slots are taken.
func (w *world) measure(m *modelWorker, ev event) {
	heard, ok := ev.(reported)
	if !ok || !w.timed {
		return
	}
	waits := w.schedule.databases[0].buffer.len() > 0
	for _, wk := range w.schedule.workers {
		waits = waits && wk.held >= wk.wantN
	}
	for _, rep := range heard.reports {
		had := w.now - w.row(rep.ID).since
		if h := m.holds[rep.Pair]; h != nil && !h.heard {
			h.heard, h.long = true, had >= int64(w.schedule.lease)/chainShare || had >= patience && waits
		}
	}
}

func (w *world) pings() (all []event) {
	for _, m := range w.workers {
		all = append(all, heard{m.session})
	}
	return all
}

func (w *world) signal(s *programState) {
	s.signal, s.woken, s.news, s.asleep = true, true, true, false
	w.step(hinted{})
}

func (w *world) cancel(r *row) {
	w.cancels--
	r.state.cancelled = true
	if !r.leased {
		r.gone = true
		return
	}
	w.step(hinted{Hint{Cancel: true}})
}

// labelMoves are what the handler of a label may come to.
func (w *world) labelMoves(i int, p Pair, h *modelHold, add func(string, func(*world))) {
	end := func(what string, act Act) {
		add(fmt.Sprintf("w%d %s strand %d", i, what, p.ID[0]), func(w *world) { w.finish(w.workers[i], p, act) })
	}
	if h.own {
		w.ownMoves(i, p, add)
		return
	}
	switch {
	case h.stop:
		end("stops", Cancel)
	case h.label < lastLabel:
		end("goes on with", Hop)
	case h.saw || w.between && p.ID == w.id(0):
		end("ends", Exit)
		if w.lingers && w.row(p.ID).naps == 0 {
			end("uses the signal and naps", Nap) // and waits for another one
		}
	default:
		end("lays down", Nap)
	}
	if w.owns > 0 && !h.stop && w.row(p.ID).step == nil {
		add(fmt.Sprintf("w%d begins a transaction for the step of strand %d", i, p.ID[0]), func(w *world) { w.begins(w.workers[i], p) })
	}
}

// goOn begins the next label of a chain, whose lease must be the worker's.
func (w *world) goOn(m *modelWorker, p Pair, e protocol.AckEntry) {
	h, r := m.holds[p], w.row(p.ID)
	served := func(k protocol.Kind) bool { return k.Name == r.kind }
	switch {
	case h == nil || !h.done || h.seq != e.Seq || h.act != Hop:
		w.fail(fmt.Sprintf("%s is told to go on after result %d of strand %d, which it did not ask for", m.name, e.Seq, p.ID[0]))
		return
	case h.long:
		w.fail(fmt.Sprintf("%s is told to go on with strand %d, which it had for so long that others come first", m.name, p.ID[0]))
	case !w.expired && (!r.leased || r.token != p.Token || r.seq != e.Seq):
		w.fail(fmt.Sprintf("I1: %s is told to go on with strand %d, which is not leased to it", m.name, p.ID[0]))
	}
	if !slices.ContainsFunc(m.kinds, served) {
		w.fail(fmt.Sprintf("%s is told to go on as %s, which it does not serve", m.name, r.kind))
	}
	*h = modelHold{seq: e.Seq + 1, label: h.label + 1, saw: e.Inbox != nil, stop: h.stop}
}

// deliver sends the signal of a program that has ended to the other one, after all else that was done with it.
func (w *world) deliver() {
	if w.sent {
		w.sent = false
		w.signal(&w.rows[1].state)
	}
}

// kindAfter is the kind that a strand goes on as.
func (w *world) kindAfter(id ID) string {
	if w.between && w.row(id) == &w.rows[0] {
		return "l"
	}
	return ""
}

// sayBye has workers read what they have been told by a broker that is done, since it writes all of that before it ends.
func (w *world) sayBye() {
	for _, m := range w.workers {
		for len(m.down) > 0 && !m.crash {
			w.read(m)
		}
	}
}

// checkSent holds that whoever is told to come to an end is not told to go on afterwards.
func (w *world) checkSent(m *modelWorker, message protocol.ToWorker) {
	w.checkSentQueue(m, message)
	switch f := message.(type) {
	case *protocol.Drain:
		m.quiet = true
	case *protocol.Ack:
		if m.quiet && slices.ContainsFunc(f.Entries, func(e protocol.AckEntry) bool { return e.Next == protocol.NextGo }) {
			w.fail(fmt.Sprintf("%s is told to go on after it was told to come to an end", m.name))
		}
	}
}

// TestExhaustivePrograms visits worlds of programs whole; scripts/search visits more of them than the tests of every day, and
// RESPIRATE_LONG=1 adds some that take minutes.
func TestExhaustivePrograms(t *testing.T) {
	type size struct {
		strands, workers, slots, faults, cancels, drains, owns int
		hurried, lingers, told                                 bool
	}
	worlds := []size{
		{strands: 1, workers: 1, slots: 1, hurried: true, lingers: true},
		{strands: 1, workers: 1, slots: 1, drains: 1},
		{strands: 1, workers: 1, slots: 1, owns: 2, told: true},
	}
	if os.Getenv("RESPIRATE_MUTANTS") != "" {
		worlds = append(worlds,
			size{strands: 1, workers: 1, slots: 1, faults: 1, owns: 1, told: true},
			size{strands: 2, workers: 1, slots: 1, hurried: true, told: true},
			size{strands: 1, workers: 1, slots: 1, cancels: 1},
			size{strands: 1, workers: 1, slots: 1, faults: 1})
	}
	if os.Getenv("RESPIRATE_LONG") != "" {
		worlds = append(worlds,
			size{strands: 1, workers: 1, slots: 1, cancels: 1, drains: 1, hurried: true, lingers: true},
			size{strands: 1, workers: 1, slots: 1, faults: 1, hurried: true, lingers: true},
			size{strands: 1, workers: 1, slots: 1, faults: 1, drains: 1, owns: 2},
			size{strands: 2, workers: 1, slots: 2},
			size{strands: 1, workers: 2, slots: 1, faults: 1, owns: 1})
	}
	for _, c := range worlds {
		start := time.Now()
		w := newProgramWorld(c.strands, c.workers, c.slots, c.faults, c.cancels, c.drains)
		w.hurried, w.timed, w.lingers, w.owns = c.hurried, c.hurried, c.lingers, c.owns
		for i := range w.rows {
			w.rows[i].state.signal = c.told
		}
		states := explore(t, w, 5_000_000)
		t.Logf("%+v: %d states visited in %v", c, states, time.Since(start).Round(time.Millisecond))
	}
	pairs := []size{{workers: 1, slots: 1}}
	if os.Getenv("RESPIRATE_MUTANTS") != "" {
		pairs = append(pairs, size{workers: 2, slots: 1})
	}
	if os.Getenv("RESPIRATE_LONG") != "" {
		pairs = append(pairs, size{workers: 1, slots: 2}, size{workers: 1, slots: 1, faults: 1})
	}
	for _, c := range pairs {
		start := time.Now()
		states := explore(t, newProgramsWorld(c.workers, c.slots, c.faults), 5_000_000)
		t.Logf("two programs and a signal between them, %d workers with %d slots, %d faults: %d states visited in %v", c.workers, c.slots, c.faults, states, time.Since(start).Round(time.Millisecond))
	}
}
