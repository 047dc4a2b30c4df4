package broker

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/respirated/respirated/protocol"
)

// The exhaustive search walks breadth-first through every reachable state of a small world: the real schedule, a
// database that follows the rules of Store, workers that follow PROTOCOL.md, and a hostile world between them that
// cuts connections, kills workers and brokers, loses answers, and lets leases run out. The invariants of doc.go are
// checked in every state, and from every state a quiet suffix, in which nothing fails any more, must bring all strands
// to their end.
//
// Two states are the same if they differ only in the names of tokens and sessions, and in how far away a time is.

// world is one state.
type world struct {
	now       int64
	schedule  *schedule
	rows      []row
	workers   []*modelWorker
	calls     []calls // for each database
	sessions  sessionID
	faults    int              // left
	calmSoFar bool             // none has happened yet
	restarted bool             // the broker has: it may have forgotten leases that only their end frees
	expired   bool             // some lease has run out under a worker that did not notice
	results   map[outcome]bool // results that are durable
	takes     bool             // the broker may take what a hint tells of
	changes   int              // of a pool's queues, that may still come
	broken    string           // an invariant that does not hold

	// Of a world of programs, see chain_search_test.go.
	program bool
	between bool           // the signal comes from another program
	sent    bool           // and has been: by the batch that is being applied
	cancels int            // strands that may still be cancelled
	drains  int            // of the broker, that may still come
	hurried bool           // one run may take its time
	timed   bool           // and it is told which results must end their chains
	owns    int            // steps that workers may still take in transactions of their own
	lingers bool           // a program may use its signal, nap, and wait for another one
	owned   map[Token]bool // steps in transactions of workers that have committed
}

// outcome is a result, whichever of its copies.
type outcome struct {
	Pair
	seq uint64
}

// calls are the statements in flight to one database: scan, take, held, lease, commit, renew.
type calls struct {
	requests
	saw     scanned   // what the scan has seen
	applied []Verdict // the commit has been applied, and this is its answer; what waits for strands that stay is read after that
}

// row is a strand in a database.
type row struct {
	absent bool // it comes later
	token  Token
	leased bool
	tries  int
	seq    uint64
	gone   bool
	exits  int
	naps   int
	state  programState
	kind   string
	queue  string
	since  int64   // when it was leased
	step   *Report // which a worker takes in a transaction that is open: it locks the row
}

// modelWorker is a worker process as PROTOCOL.md wants it.
type modelWorker struct {
	name    string
	born    int // processes that had this place before
	session sessionID
	holds   map[Pair]*modelHold
	up      []event             // frames on their way to the broker
	down    []protocol.ToWorker // and to the worker
	want    int
	ackAll  bool // it takes one word for all results of a frame
	kinds   []protocol.Kind
	terms   Terms // of its pool
	stack   []byte
	frames  [][]outcome // of results, sent in this session by one who takes such a word; their ids are 1, 2 ...
	quiet   bool        // the broker has told it in this session that it drains
	crash   bool        // it has died; what it sent before can still be read
	reaped  bool        // and its end has been reported
}

type modelHold struct {
	done  bool // its result is sent and not acked
	later bool // it is to be sent again, when time has passed
	act   Act
	seq   uint64
	label int  // of a program
	saw   bool // the signal was there when the label began
	stop  bool // it was asked to stop
	own   bool // its step is in a transaction of its own
	heard bool // the broker has read its result
	long  bool // its chain is to end: it had the lease, or its slot, for long when its result was heard
}

// newWorld has strands in several databases, the first one in the second: that is where nobody looks first.
func newWorld(strands, workers, faults, databases int) *world {
	w := &world{now: t0, faults: faults, calmSoFar: true, results: map[outcome]bool{}, owned: map[Token]bool{}, calls: make([]calls, databases)}
	w.schedule = newSchedule(ID{1}, [32]byte{1}, w.limits())
	w.rows = make([]row, strands)
	for i := range w.rows {
		w.rows[i].kind = "k"
	}
	for i := range workers {
		w.workers = append(w.workers, &modelWorker{name: fmt.Sprintf("w%d", i), want: 1, kinds: served("k"), stack: modelStack, holds: map[Pair]*modelHold{}})
	}
	return w
}

// newAckAllWorld has one worker that runs both strands at once, sends all that it has done in one frame when it comes back, and
// takes one word for a frame.
func newAckAllWorld(faults int) *world {
	w := newWorld(2, 1, faults, 1)
	m := w.workers[0]
	m.want, m.ackAll, m.stack = 2, true, nil
	for i := range w.rows {
		w.rows[i].naps = 1 // it has napped: the world is large enough
	}
	return w
}

// newHintWorld has a strand that comes later, of which the broker hears and which it may take at once.
func newHintWorld(strands, workers, faults int) *world {
	w := newWorld(strands, workers, faults, 1)
	w.takes = true
	w.schedule = newSchedule(ID{1}, [32]byte{1}, w.limits())
	for i := range w.rows {
		w.rows[i].naps, w.rows[i].absent = 1, i == strands-1
	}
	return w
}

func (w *world) limits() limits {
	l := testLimits()
	if w.takes {
		l.mostTaken = mostTaken
	}
	l.databases = len(w.calls)
	return l
}

// home is the database that a strand is in.
func (w *world) home(id ID) int { return int(id[0]) % len(w.calls) }

func (w *world) id(i int) ID       { return strandID(byte(i + 1)) }
func (w *world) row(id ID) *row    { return &w.rows[int(id[0])-1] }
func (w *world) fail(why string)   { w.broken = why }
func (m *modelWorker) key() string { return fmt.Sprintf("%s.%d", m.name, m.born) }

// step has the schedule take events in, and keeps what it wants done.
func (w *world) step(events ...event) {
	fx := w.schedule.step(w.now, events...)
	for _, s := range fx.send {
		if m := w.connected(s.session); m != nil {
			w.checkSent(m, s.message)
			m.down = append(m.down, s.message)
		}
	}
	for _, h := range fx.hangUp {
		if m := w.connected(h.session); m != nil {
			w.cut(m)
			w.rebirth(m)
		}
	}
	for _, e := range fx.end {
		if i := slices.IndexFunc(w.workers, func(m *modelWorker) bool { return m.key() == e.key }); i >= 0 {
			w.kill(w.workers[i])
		}
	}
	for no := range w.calls {
		w.send(no, fx.to(no))
	}
	for no := range w.calls {
		w.checkCredit(fx.to(no).lease)
		w.checkWaiting(no)
	}
	if fx.finished {
		w.sayBye()
		w.begone()
	}
}

// send keeps what a database is asked. It answers later, and others move meanwhile.
func (w *world) send(no int, req *requests) {
	c := &w.calls[no]
	if req.scan != nil {
		c.scan, c.saw = req.scan, w.dbScan(no, req.scan)
	}
	if req.take != nil {
		if c.scan != nil || c.take != nil {
			w.fail("a take and another look are in flight together")
		}
		c.take = req.take
	}
	if req.held != nil {
		c.held = req.held
	}
	c.lease = either(w, c.lease, req.lease)
	c.commit = either(w, c.commit, req.commit)
	c.renew = either(w, c.renew, req.renew)
	if c.commit != nil && c.renew != nil {
		w.fail("a commit and a renewal are in flight together")
	}
	if req.announce != nil {
		w.schedule.step(w.now, from{no, announced{}})
	}
}

func either[T any](w *world, old, new []T) []T {
	switch {
	case new == nil:
		return old
	case old != nil:
		w.fail("two statements of one kind are in flight")
	}
	return new
}

func (w *world) connected(s sessionID) *modelWorker {
	for _, m := range w.workers {
		if s != 0 && m.session == s {
			return m
		}
	}
	return nil
}

// checkCredit holds I7: no lease for a worker that holds all it wants.
func (w *world) checkCredit(leases []Pair) {
	held := map[workerNo]int{}
	for _, r := range w.schedule.runs {
		if !r.lent {
			held[r.worker]++
		}
	}
	for _, p := range leases {
		no := w.schedule.runs[p.ID].worker
		if want := w.schedule.workers[no].wantN; held[no] > want {
			w.fail(fmt.Sprintf("I7: a lease makes %d strands for a worker that wants %d", held[no], want))
		}
		if queues := w.schedule.workers[no].terms.Queues; queues != nil && !slices.Contains(queues, w.row(p.ID).in()) {
			w.fail(fmt.Sprintf("strand %d is to be leased for a worker whose pool may not take its queue", p.ID[0]))
		}
	}
	for no, wk := range w.schedule.workers {
		if wk.held != held[no] {
			w.fail(fmt.Sprintf("a worker's account says %d, its runs are %d", wk.held, held[no]))
		}
	}
}

// checkHeld holds I7 for what was taken.
func (w *world) checkHeld() {
	for _, wk := range w.schedule.workers {
		if wk.held > wk.wantN {
			w.fail(fmt.Sprintf("I7: a take makes %d strands for a worker that wants %d", wk.held, wk.wantN))
		}
	}
}

// checkWaiting holds the other half of I7: what a worker may have waiting is counted exactly, or it would be refused for
// ever one day, or never.
func (w *world) checkWaiting(no int) {
	want := map[workerNo]account{}
	c := &w.schedule.databases[no].commits
	for _, line := range [][]pending{c.waiting, c.locked, c.flying} {
		for _, p := range line {
			a := want[p.from]
			a.bytes += p.payload()
			if p.besides() {
				a.reports++
			}
			want[p.from] = a
		}
	}
	for _, wk := range w.schedule.workers {
		if got := wk.accounts[no]; got != want[wk.no] {
			w.fail(fmt.Sprintf("I7: %+v is on a worker's account, %+v of its waits", got, want[wk.no]))
		}
	}
}

// The database. Its rules are those of Store; the conformance suite shows that the real one keeps them too.

func (w *world) dbScan(no int, req *ScanRequest) scanned {
	var found scanned
	for i := range w.rows {
		r := &w.rows[i]
		queues, some := req.Queues[r.kind]
		asked := slices.Contains(req.Kinds, r.kind) && (!some || queues.Has(r.in()))
		if asked && !r.gone && !r.leased && !r.absent && !r.state.asleep && w.home(w.id(i)) == no {
			found.Candidates = append(found.Candidates, Candidate{ID: w.id(i), Kind: r.kind, Queue: r.in(), Priority: 5})
		}
	}
	return found
}

func (w *world) dbLease(no int, pairs []Pair) (granted []Strand) {
	for _, p := range pairs {
		r := w.row(p.ID)
		if w.home(p.ID) != no {
			w.fail("a strand is to be leased in a database that does not have it")
		}
		if r.gone || r.leased || r.state.asleep || r.step != nil {
			continue
		}
		if r.token == p.Token {
			w.fail("I1: a token was issued twice")
		}
		r.token, r.leased, r.seq, r.since = p.Token, true, 0, w.now
		r.state.woken, r.state.news = false, false
		granted = append(granted, Strand{ID: p.ID, Token: p.Token, Kind: r.kind, Queue: r.queue, Label: labelOf(r.state.label), Inbox: r.state.inbox()})
	}
	return granted
}

// dbTake leases what is due first.
func (w *world) dbTake(no int, req *takeRequest) (taken []Strand) {
	tokens := req.tokens
	for _, c := range w.dbScan(no, &req.scan).Candidates {
		if len(taken) < len(tokens) {
			taken = append(taken, w.dbLease(no, []Pair{{c.ID, tokens[len(taken)]}})...)
		}
	}
	return taken
}

func (w *world) dbHeld(no int, tokens []Token) (held []Pair) {
	for i := range w.rows {
		if r := &w.rows[i]; !r.gone && r.leased && w.home(w.id(i)) == no && slices.Contains(tokens, r.token) {
			held = append(held, Pair{w.id(i), r.token})
		}
	}
	return held
}

func (w *world) dbCommit(no int, reports []Report) (vs []Verdict) {
	defer w.deliver()
	for _, rep := range reports {
		state := w.dbApply(no, rep)
		vs = append(vs, Verdict{State: state, Stays: state == Applied && rep.Stay && !w.row(rep.ID).gone})
	}
	return vs
}

func (w *world) dbApply(no int, rep Report) VerdictState {
	r := w.row(rep.ID)
	own := rep.Act == Yield || rep.Act == Crash
	if rep.Act == Own {
		if w.owned[rep.Token] && w.home(rep.ID) == no {
			return Applied
		}
		rep = rep.NotCommitted()
	}
	switch {
	case r.gone || w.home(rep.ID) != no:
		return Gone
	case r.step != nil:
		return Later
	case r.token == rep.Token && r.leased && (own || r.seq < rep.Seq):
	case r.token == rep.Token && !own && r.seq >= rep.Seq:
		return Dup
	default:
		return Stale
	}
	w.dbAct(r, rep)
	if own {
		r.token = Token{}
		return Applied
	}
	r.seq = rep.Seq
	w.results[outcome{rep.Pair, rep.Seq}] = true
	return Applied
}

// dbAct does to a row what a report says.
func (w *world) dbAct(r *row, rep Report) {
	r.leased = false
	if w.program {
		r.state.apply(w, r, rep)
	}
	switch rep.Act {
	case Exit:
		r.gone = true
		r.exits++
	case Nap:
		r.naps++
	case Crash, Fail:
		r.tries++
	}
	w.sent = w.sent || w.between && r.gone && r == &w.rows[0]
}

func (w *world) dbRenew(no int, pairs []Pair) (kept []Kept) {
	for _, p := range pairs {
		if r := w.row(p.ID); !r.gone && w.home(p.ID) == no && r.token == p.Token && r.leased {
			kept = append(kept, Kept{Pair: p, Cancel: r.state.cancelled, Locked: r.step != nil})
		}
	}
	return kept
}

// A move leads from one state of a world to another. Moves are named, so that a failure prints its shortest way.
type move[W any] struct {
	name string
	do   func(W)
}

func (w *world) moves() (moves []move[*world]) {
	add := func(name string, do func(*world)) { moves = append(moves, move[*world]{name, do}) }
	for no := range w.calls {
		of := ""
		if len(w.calls) > 1 {
			of = fmt.Sprintf(" of database %d", no)
		}
		w.statementMoves(no, func(name string, do func(*world)) { add(name+of, do) })
	}
	for i, m := range w.workers {
		w.workerMoves(i, m, add)
	}
	if i := slices.IndexFunc(w.rows, func(r row) bool { return r.absent }); i >= 0 {
		add(fmt.Sprintf("strand %d comes", i+1), func(w *world) {
			w.rows[i].absent = false
			w.step(hinted{})
		})
	}
	w.programMoves(add)
	w.queueMoves(add)
	if next := w.schedule.nextTick(); next < w.now+int64(w.schedule.lease)/2 {
		add("time passes", func(w *world) { w.now = max(w.now, w.schedule.nextTick()); w.sendAgain(); w.step() })
	}
	if w.faults > 0 {
		add("leases run out", (*world).expire)
		add("the broker dies and comes back", (*world).restart)
	}
	return moves
}

func (w *world) statementMoves(no int, add func(string, func(*world))) {
	if w.calls[no].scan != nil {
		add("scan answers", func(w *world) {
			saw := w.calls[no].saw
			w.calls[no].scan, w.calls[no].saw = nil, scanned{}
			w.step(from{no, saw})
		})
	}
	if w.calls[no].take != nil {
		add("take answers", func(w *world) {
			take := w.calls[no].take
			w.calls[no].take = nil
			w.step(from{no, took{strands: w.dbTake(no, take)}})
			w.checkHeld()
		})
	}
	if w.calls[no].held != nil {
		add("what is held is told", func(w *world) {
			tokens := w.calls[no].held.tokens
			w.calls[no].held = nil
			w.step(from{no, recovered{held: w.dbHeld(no, tokens)}})
		})
	}
	if w.calls[no].lease != nil {
		add("lease answers", func(w *world) {
			pairs := w.calls[no].lease
			w.calls[no].lease = nil
			w.step(from{no, leased{granted: w.dbLease(no, pairs)}})
		})
	}
	if w.calls[no].commit != nil && w.calls[no].applied == nil && slices.ContainsFunc(w.calls[no].commit, func(r Report) bool { return r.Stay }) {
		add("commit is applied", func(w *world) { w.calls[no].applied = w.dbCommit(no, w.calls[no].commit) })
	} else if w.calls[no].commit != nil {
		add("commit answers", func(w *world) { w.answer(no) })
	}
	if w.calls[no].renew != nil {
		add("renewal answers", func(w *world) {
			pairs := w.calls[no].renew
			w.calls[no].renew = nil
			w.step(from{no, renewed{kept: w.dbRenew(no, pairs)}})
		})
	}
	if w.faults > 0 {
		w.faultyStatements(no, add)
	}
}

func (w *world) faultyStatements(no int, add func(string, func(*world))) {
	if w.calls[no].take != nil {
		add("take happens, its answer is lost", func(w *world) {
			w.fault()
			w.dbTake(no, w.calls[no].take)
			w.calls[no].take = nil
			w.step(from{no, took{err: ErrAway}})
		})
	}
	if w.calls[no].held != nil {
		add("what is held is not told", func(w *world) {
			w.fault()
			w.calls[no].held = nil
			w.step(from{no, recovered{err: ErrAway}})
		})
	}
	if w.calls[no].lease != nil {
		add("lease happens, its answer is lost", func(w *world) {
			w.fault()
			w.dbLease(no, w.calls[no].lease)
			w.calls[no].lease = nil
			w.step(from{no, leased{err: ErrAway}})
		})
	}
	if w.calls[no].commit != nil {
		add("commit happens, its answer is lost", func(w *world) {
			w.fault()
			if w.calls[no].applied == nil {
				w.dbCommit(no, w.calls[no].commit)
			}
			w.calls[no].commit, w.calls[no].applied = nil, nil
			w.step(from{no, committed{err: ErrAway}})
		})
	}
	if w.calls[no].commit != nil && w.calls[no].applied == nil {
		add("commit fails", func(w *world) {
			w.fault()
			w.calls[no].commit = nil
			w.step(from{no, committed{err: ErrAway}})
		})
	}
	if w.calls[no].commit != nil && w.calls[no].applied == nil {
		add("commit meets locks", func(w *world) { w.fault(); w.answerCommit(no, Later) })
		if !slices.ContainsFunc(w.calls[no].commit, func(r Report) bool { return r.Act == Yield || r.Act == Own }) { // those carry nothing
			add("commit is of what no row can hold", func(w *world) { w.fault(); w.answerCommit(no, Invalid) })
		}
	}
	if w.calls[no].renew != nil {
		add("renewal fails", func(w *world) { w.fault(); w.calls[no].renew = nil; w.step(from{no, renewed{err: ErrAway}}) })
	}
}

// answerCommit has nothing of a commit happen, for a reason.
func (w *world) answerCommit(no int, state VerdictState) {
	verdicts := make([]Verdict, len(w.calls[no].commit))
	for i := range verdicts {
		verdicts[i] = Verdict{State: state, Why: "so it is"}
	}
	w.calls[no].commit = nil
	w.step(from{no, committed{verdicts: verdicts}})
}

func (w *world) workerMoves(i int, m *modelWorker, add func(string, func(*world))) {
	name := fmt.Sprintf("w%d", i)
	if len(m.up) > 0 {
		add(name+" is heard", func(w *world) { w.hear(w.workers[i]) })
	}
	switch {
	case m.crash:
		w.deathMoves(i, m, add)
		return
	case m.session == 0:
		add(name+" connects", func(w *world) { w.connect(w.workers[i]) })
	case w.faults > 0:
		add(name+" is cut off", func(w *world) { w.fault(); w.cut(w.workers[i]) })
	}
	if len(m.down) > 0 {
		add(name+" reads", func(w *world) { w.read(w.workers[i]) })
	}
	for _, p := range sortedPairs(m.holds) {
		if m.holds[p].done {
			continue
		}
		if w.program {
			w.labelMoves(i, p, m.holds[p], add)
			continue
		}
		add(fmt.Sprintf("%s ends strand %d", name, p.ID[0]), func(w *world) { w.finish(w.workers[i], p, Exit) })
		if w.row(p.ID).naps == 0 {
			add(fmt.Sprintf("%s naps strand %d", name, p.ID[0]), func(w *world) { w.finish(w.workers[i], p, Nap) })
		}
	}
	if w.faults > 0 {
		add(name+" dies", func(w *world) { w.fault(); w.kill(w.workers[i]) })
	}
}

// deathMoves: the end of the process and the end of its socket are seen in any order, the latter after all it sent.
func (w *world) deathMoves(i int, m *modelWorker, add func(string, func(*world))) {
	if !m.reaped {
		add(m.name+"'s death is seen", func(w *world) {
			m := w.workers[i]
			m.reaped = true
			w.step(exited{WorkerExit{Key: m.key(), How: "signal: killed"}})
			w.rebirth(m)
		})
	}
	if m.session != 0 && len(m.up) == 0 {
		add(m.name+"'s socket ends", func(w *world) {
			m := w.workers[i]
			w.cut(m)
			w.rebirth(m)
		})
	}
}

// rebirth gives the place of a dead worker to another process, once all is seen.
func (w *world) rebirth(m *modelWorker) {
	if m.reaped && m.session == 0 {
		m.holds, m.crash, m.reaped = map[Pair]*modelHold{}, false, false
		m.born++
	}
}

func (w *world) fault() {
	w.faults--
	w.calmSoFar = false
}

func (w *world) connect(m *modelWorker) {
	w.sessions++
	m.session = w.sessions
	hello := greeted{session: m.session, worker: m.key(), key: m.key(), name: m.name, kinds: m.kinds, ackAll: m.ackAll, terms: m.terms}
	var done []Pair
	for _, p := range sortedPairs(m.holds) {
		hello.hold = append(hello.hold, hold{p, w.row(p.ID).kind, m.holds[p].done})
		if m.holds[p].done {
			done = append(done, p)
		}
	}
	m.frames, m.quiet = nil, false
	m.up = append(m.up, hello, wanted{session: m.session, n: m.want})
	switch {
	case m.ackAll && done != nil:
		m.up = append(m.up, w.result(m, done...))
	default:
		for _, p := range done {
			m.up = append(m.up, w.result(m, p))
		}
	}
}

// result is a frame of results.
func (w *world) result(m *modelWorker, of ...Pair) reported {
	if m.ackAll {
		var frame []outcome
		for _, p := range of {
			frame = append(frame, outcome{p, m.holds[p].seq})
		}
		m.frames = append(m.frames[:len(m.frames):len(m.frames)], frame)
	}
	ev := reported{session: m.session, re: max(1, uint64(len(m.frames)))}
	for _, p := range of {
		h := m.holds[p]
		rep := Report{Pair: p, Seq: h.seq, Act: h.act, Stack: m.stack, Stay: h.act == Hop}
		if h.act == Hop {
			rep.Kind = w.kindAfter(p.ID)
		}
		if h.saw && h.act == Nap {
			rep.Used = []int64{1}
		}
		ev.reports = append(ev.reports, rep)
	}
	return ev
}

// modelStack is what each result carries: two are more than one worker may have waiting.
var modelStack = make([]byte, testLimits().maxBytes*2/3)

// cut ends a connection. What was on its way is lost.
func (w *world) cut(m *modelWorker) {
	session := m.session
	m.session, m.up, m.down = 0, nil, nil
	w.step(parted{session})
}

func (w *world) hear(m *modelWorker) {
	ev := m.up[0]
	m.up = m.up[1:]
	w.measure(m, ev)
	w.step(ev)
}

// read has the worker take in the next frame.
func (w *world) read(m *modelWorker) {
	frame := m.down[0]
	m.down = m.down[1:]
	switch f := frame.(type) {
	case *protocol.Strands:
		for _, st := range f.Strands {
			w.begin(m, st)
		}
	case *protocol.Ack:
		for _, e := range f.Entries {
			w.acked(m, e)
		}
		if f.All {
			w.ackedAll(m, f.Re)
		}
	case *protocol.Cancel:
		for _, c := range f.Cancels {
			p := pairOf(c.Strand, c.Token)
			if h := m.holds[p]; h != nil {
				h.stop = true
			}
			if c.Why == protocol.StopLost {
				delete(m.holds, p)
			}
		}
	}
}

// begin starts a handler. No worker that lives may be running the strand already, or have sent a result that is not
// in the database yet, unless leases have run out meanwhile.
func (w *world) begin(m *modelWorker, st protocol.Strand) {
	p := pairOf(st.ID, st.Token)
	for _, other := range w.workers {
		for held, h := range other.holds {
			sent := h.done && other.session != 0
			if held.ID == p.ID && (!other.crash || sent) && !w.expired && !w.durable(held, h.seq) {
				w.fail(fmt.Sprintf("strand %d is started twice: %s holds it (result sent: %v)", p.ID[0], other.name, h.done))
			}
		}
	}
	m.holds[p] = &modelHold{seq: 1, label: labelNo(st.Label), saw: st.Inbox != nil}
	running := 0
	for _, h := range m.holds {
		if !h.done {
			running++
		}
	}
	if w.calmSoFar && len(m.holds) > m.want*len(w.calls) {
		w.fail(fmt.Sprintf("%s gets a strand while it holds %d that it was not answered for", m.name, len(m.holds)-1))
	}
	if running > m.want && !w.expired {
		w.fail(fmt.Sprintf("I7: %s runs %d and wants %d", m.name, running, m.want))
	}
}

// durable says whether this very result is in the database.
func (w *world) durable(p Pair, seq uint64) bool { return w.results[outcome{p, seq}] }

func (w *world) finish(m *modelWorker, p Pair, act Act) {
	h := m.holds[p]
	h.done, h.act = true, act
	if m.session != 0 {
		m.up = append(m.up, w.result(m, p))
	}
}

// acked frees the slot. What is acked as applied, or as a copy of what was, must be in the database: I3.
func (w *world) acked(m *modelWorker, e protocol.AckEntry) {
	p := pairOf(e.Strand, e.Token)
	if (e.State == protocol.AckApplied || e.State == protocol.AckDup) && !w.durable(p, e.Seq) {
		w.fail("I3: a result was acked that is not in the database")
	}
	if e.State == protocol.AckGone && !w.row(p.ID).gone {
		w.fail("I3: a result was taken for that of a strand that is gone")
	}
	if e.State == protocol.AckLater && m.holds[p] != nil {
		m.holds[p].later, m.holds[p].heard = true, false
		return
	}
	if e.Next == protocol.NextGo {
		w.goOn(m, p, e)
		return
	}
	if h := m.holds[p]; h != nil && h.seq == e.Seq {
		if h.own && w.owned[p.Token] && e.State != protocol.AckApplied {
			w.fail(fmt.Sprintf("I3: a step that has committed is answered %s", e.State))
		}
		delete(m.holds, p)
	}
}

// ackedAll takes the word for all results of a frame, whatever was acked of it before.
func (w *world) ackedAll(m *modelWorker, frame uint64) {
	if !m.ackAll || frame == 0 || frame > uint64(len(m.frames)) {
		w.fail(fmt.Sprintf("%s is told that all of frame %d is applied, and has sent %d frames", m.name, frame, len(m.frames)))
		return
	}
	for _, o := range m.frames[frame-1] {
		w.acked(m, protocol.AckEntry{Strand: o.ID.String(), Token: o.Token.String(), Seq: o.seq, State: protocol.AckApplied})
	}
}

// sendAgain has workers send what was put off.
func (w *world) sendAgain() {
	for _, m := range w.workers {
		for _, p := range sortedPairs(m.holds) {
			if m.holds[p].later && m.session != 0 {
				m.holds[p].later = false
				m.up = append(m.up, w.result(m, p))
			}
		}
	}
}

func (w *world) kill(m *modelWorker) { m.crash = true }

// expire lets every lease run out. Workers do not notice: they may be stopped.
func (w *world) expire() {
	w.fault()
	w.expired = true
	w.now += int64(w.schedule.lease)
	for i := range w.rows {
		w.rows[i].leased = false
	}
	w.step()
}

// restart kills the broker. A new one knows nothing; workers are cut off and live on.
func (w *world) restart() {
	w.fault()
	w.restarted = true
	w.begone()
	w.step()
}

// begone has another broker follow.
func (w *world) begone() {
	w.calls = make([]calls, len(w.calls))
	no := byte(2 + w.faults + 16*w.drains)
	w.schedule = newSchedule(ID{no}, [32]byte{no}, w.limits())
	for _, m := range w.workers {
		m.session, m.up, m.down = 0, nil, nil
		w.rebirth(m)
	}
}

// check holds what must be true in every state.
func (w *world) check() {
	for i := range w.rows {
		if w.rows[i].exits > 1 {
			w.fail(fmt.Sprintf("I4: strand %d was ended %d times", i+1, w.rows[i].exits))
		}
	}
}

// quiet is the suffix without faults: everything is answered, workers reconnect and end what they hold.
func (w *world) quiet() {
	w.faults = 0
	began := w.now
	for range 400 {
		if w.finished() {
			if took := time.Duration(w.now - began); took > 40*time.Second && !w.restarted && !w.expired {
				w.fail(fmt.Sprintf("I6: a quiet world needs %v to come to its end from here", took))
			}
			return
		}
		if w.broken != "" {
			return
		}
		w.calm()
	}
	w.fail("I6: from here a quiet world does not come to an end")
}

// calm takes the first move that is no fault, and lets time pass when there is none.
func (w *world) calm() {
	for _, m := range w.moves() {
		if !slices.ContainsFunc([]string{"passes", "naps", "drains", "other queues", "cancelled", "takes its time"}, func(word string) bool { return strings.Contains(m.name, word) }) {
			m.do(w)
			return
		}
	}
	// A lease that only its end can free: nobody knows of it any more.
	w.now = max(w.now+int64(time.Millisecond), min(w.schedule.nextTick(), w.now+int64(w.schedule.scanEvery)))
	for i := range w.rows {
		if r := &w.rows[i]; r.leased && w.restarted && !w.known(w.id(i)) {
			r.leased = false
		}
	}
	w.sendAgain()
	w.step(w.pings()...)
}

// known says whether anybody still knows of the lease on a strand.
func (w *world) known(id ID) bool {
	if w.schedule.runs[id] != nil {
		return true
	}
	return slices.ContainsFunc(w.workers, func(m *modelWorker) bool {
		return slices.ContainsFunc(sortedPairs(m.holds), func(p Pair) bool { return p.ID == id })
	})
}

func (w *world) finished() bool {
	busy := func(d *database) bool { return !d.commits.empty() || d.taking != nil }
	if len(w.schedule.runs) > 0 || slices.ContainsFunc(w.schedule.databases, busy) {
		return false
	}
	for _, m := range w.workers {
		if len(m.holds) > 0 {
			return false
		}
	}
	return !slices.ContainsFunc(w.rows, func(r row) bool { return !r.gone })
}

// explorable is a world whose states can be visited one by one.
type explorable[W any] interface {
	moves() []move[W]
	clone() W
	key() string   // the same for states that do not differ
	check()        // looks at the rules that hold in every state
	quiet()        // lets the world come to rest, and looks whether it does
	broke() string // the rule that does not hold; "" = all do
}

func (w *world) broke() string { return w.broken }

// explore visits every state and returns how many there are, or the shortest way to one that breaks a rule.
func explore[W explorable[W]](t *testing.T, start W, most int) (states int) {
	type node struct {
		w    W
		from int
		move string
	}
	nodes := []node{{w: start, from: -1}}
	seen := map[string]bool{start.key(): true}
	way := func(i int, last string) string {
		path := []string{last}
		for ; i > 0; i = nodes[i].from {
			path = append(path, nodes[i].move)
		}
		slices.Reverse(path)
		return strings.Join(path, "\n  ")
	}
	for i := 0; i < len(nodes); i++ {
		here := nodes[i].w
		for _, m := range here.moves() {
			next := here.clone()
			m.do(next)
			next.check()
			if why := next.broke(); why != "" {
				t.Fatalf("%s, by\n  %s", why, way(i, m.name))
			}
			key := next.key()
			if seen[key] {
				continue
			}
			seen[key] = true
			suffix := next.clone()
			suffix.quiet()
			if why := suffix.broke(); why != "" {
				t.Fatalf("%s, by\n  %s", why, way(i, m.name))
			}
			nodes = append(nodes, node{w: next, from: i, move: m.name})
		}
		nodes[i].w = *new(W) // it is not looked at again
		if len(nodes) > most {
			t.Fatalf("more than %d states: the world is not small", most)
		}
	}
	return len(nodes)
}

// TestExhaustive visits small worlds whole: those of scripts/search are larger, and RESPIRATE_LONG=1 adds some that take minutes.
func TestExhaustive(t *testing.T) {
	start := time.Now()
	states := explore(t, newAckAllWorld(1), 5_000_000)
	t.Logf("2 strands in a worker that takes one word for a frame, 1 fault: %d states visited in %v", states, time.Since(start).Round(time.Millisecond))
	for _, c := range []struct{ strands, workers, faults int }{{2, 1, 1}} {
		start := time.Now()
		states := explore(t, newHintWorld(c.strands, c.workers, c.faults), 5_000_000)
		t.Logf("%d strands, one of which comes later and may be taken at once, %d workers, %d faults: %d states visited in %v", c.strands, c.workers, c.faults, states, time.Since(start).Round(time.Millisecond))
	}
	type size struct{ strands, workers, faults, databases int }
	worlds := []size{{1, 1, 1, 1}} // the larger ones are for scripts/search: they take minutes with the race detector
	if os.Getenv("RESPIRATE_MUTANTS") != "" {
		worlds = []size{{1, 1, 1, 2}, {2, 1, 1, 1}, {1, 1, 2, 1}, {1, 2, 1, 1}} // the smallest first: mutants end where they are found
	}
	if os.Getenv("RESPIRATE_LONG") != "" {
		worlds = append(worlds, size{1, 1, 3, 1}, size{1, 2, 2, 1}, size{2, 2, 1, 1}, size{1, 1, 2, 2}, size{2, 1, 1, 2})
	}
	for _, c := range worlds {
		start := time.Now()
		states := explore(t, newWorld(c.strands, c.workers, c.faults, c.databases), 5_000_000)
		t.Logf("%d strands, %d workers, %d faults, %d databases: %d states visited in %v", c.strands, c.workers, c.faults, c.databases, states, time.Since(start).Round(time.Millisecond))
	}
}
