package supervisor

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"github.com/respirated/respirated/broker"
)

// loop owns all seats. Everything in it belongs to the goroutine of run, except what watchers get handed.
type loop struct {
	*Supervisor
	log      *slog.Logger
	crews    []*crew
	seats    []*seat          // of all crews in order, then surplus ones
	byKey    map[string]*seat // seats with a process, or one about to be started
	pending  []*seat          // to be given a process at the end of this turn
	timer    *time.Timer
	watchers sync.WaitGroup
	groups   groups
	sampler  *sampler
	unsaved  bool // workers.json is behind
	quitting bool
}

// crew is a pool at work.
type crew struct {
	Pool
	recheck time.Time // halted: when to look at the binary again; zero = not halted
	bad     image     // halted: the binary that was of no use
}

// recheckEvery is how often a halted pool's binary is looked at.
const recheckEvery = time.Second

// seat is a place for one process. A surplus seat has no crew: it exists only until the process on it has ended.
type seat struct {
	crew     *crew
	pool     string
	index    int
	life     life
	proc     *process // nil: nobody
	rec      record   // of proc; its Key is "" when there is none, nor one about to be
	image    image    // the binary at the last start; zero = not known
	restarts int
	lastExit string
	blame    string // why proc is killed, for which it is to blame; "" = it is not
}

// letter is an event for the seat whose process has this key.
type letter struct {
	key   string
	event event
	why   string            // end, overSoft
	exit  broker.WorkerExit // died

	trouble string // died: why it never became a worker

	rewrite bool   // for no seat: workers.json may be gone
	pause   *pause // for no seat: come to a rest
}

func newLoop(s *Supervisor) *loop {
	l := &loop{Supervisor: s, log: s.cfg.Log, byKey: make(map[string]*seat), timer: time.NewTimer(0)}
	l.sampler = newSampler(s.sampling, l.mail.put)
	for _, p := range s.cfg.Pools {
		c := &crew{Pool: p}
		l.crews = append(l.crews, c)
		for i := range p.Procs {
			l.addSeat(c, p.Name, i, p.StopTimeout)
		}
	}
	return l
}

func (l *loop) addSeat(c *crew, pool string, index int, stop time.Duration) *seat {
	r := rules{stop: stop, adopt: l.cfg.AdoptTimeout, jitter: jitter}
	s := &seat{crew: c, pool: pool, index: index, life: newLife(r)}
	l.seats = append(l.seats, s)
	return s
}

func (l *loop) run(ctx context.Context) error {
	defer l.timer.Stop()
	defer l.sampler.start()()
	l.adoptAll()
	l.fill()
	l.settle()
	stop := ctx.Done()
	for !l.finished() {
		select {
		case <-l.mail.wake:
			for _, m := range l.mail.take() {
				l.deliver(m)
			}
		case <-l.timer.C:
			l.tick()
		case <-stop:
			stop = nil
			l.quit()
		}
		l.settle()
	}
	return l.leave()
}

// fill starts a process on each seat that adoption left empty.
func (l *loop) fill() {
	for _, s := range l.seats {
		if s.life.phase == idle {
			l.step(s, begin{})
		}
	}
}

// deliver takes a letter to its seat. Letters to processes that are gone, or were never ours, are dropped.
func (l *loop) deliver(m letter) {
	switch {
	case m.rewrite:
		l.unsaved = true
		return
	case m.pause != nil:
		l.rest(m.pause)
		return
	}
	s := l.byKey[m.key]
	if s == nil {
		return
	}
	switch ev := m.event.(type) {
	case overLimit:
		l.punish(s, ev.blame)
		return
	case overSoft:
		l.log.Info("worker is asked to end", append(s.facts(), "why", m.why)...)
		l.step(s, end{})
		return
	case died:
		if m.trouble != "" {
			l.log.Error("worker cannot be started", append(s.facts(), "error", m.trouble)...)
		}
		l.bury(s, m.exit)
	case hello:
		if s.life.phase == starting || s.life.phase == adopted {
			l.tell(s.news(EventConnect, ""))
		}
	case end:
		l.log.Info("worker is asked to end", append(s.facts(), "why", m.why)...)
	}
	l.step(s, m.event)
}

// bury clears the seat of a process that has died, and passes the news on.
func (l *loop) bury(s *seat, exit broker.WorkerExit) {
	exit.Asked = s.life.asked
	if s.blame != "" {
		exit.How, exit.Asked = exit.How+" ("+s.blame+")", false
	}
	l.log.Info("worker ended", append(s.facts(), "how", exit.How, "asked", exit.Asked)...)
	l.deaths.put(func() { l.cfg.Exited(exit) })
	l.tell(s.news(EventExit, exit.How))
	l.vacate(s)
	s.lastExit = exit.How
	s.restarts++
}

func (l *loop) vacate(s *seat) {
	delete(l.byKey, s.rec.Key)
	s.proc, s.rec, s.blame = nil, record{}, ""
	l.unsaved = true
}

func (l *loop) tick() {
	now := time.Now()
	for _, s := range l.seats {
		l.stepAt(now, s, tick{})
	}
	for _, c := range l.crews {
		if !c.recheck.IsZero() && !now.Before(c.recheck) {
			l.recheck(now, c)
		}
	}
}

// recheck lets a halted pool go on once its binary is another one.
func (l *loop) recheck(now time.Time, c *crew) {
	c.recheck = now.Add(recheckEvery)
	if found, err := imageOf(c.Binary); err != nil || found == c.bad || checkBinary(c.Binary) != nil {
		return
	}
	c.recheck = time.Time{}
	l.log.Info("pool goes on: its binary has changed", "pool", c.Name, "binary", c.Binary)
	l.each(c, resume{})
}

func (l *loop) quit() {
	l.quitting = true
	for _, c := range l.crews {
		c.recheck = time.Time{}
	}
	for _, s := range l.seats {
		l.step(s, quit{})
	}
}

func (l *loop) each(c *crew, ev event) {
	for _, s := range l.seats {
		if s.crew == c {
			l.step(s, ev)
		}
	}
}

func (l *loop) step(s *seat, ev event) { l.stepAt(time.Now(), s, ev) }

// stepAt lets a seat decide, and does what it decided.
func (l *loop) stepAt(now time.Time, s *seat, ev event) {
	switch s.life.step(now, ev) {
	case spawn:
		l.pending = append(l.pending, s)
	case term:
		l.signal(s, syscall.SIGTERM)
	case kill:
		l.log.Warn("worker is killed: it did not end in time", append(s.facts(), "timeout", s.life.rules.stop)...)
		l.signal(s, syscall.SIGKILL)
	case giveUp:
		l.log.Error("worker does not die of SIGKILL: it is stuck in the kernel, see its /proc/PID/stack", s.facts()...)
	case haltPool:
		l.haltPool(now, s)
	}
}

func (l *loop) signal(s *seat, sig syscall.Signal) {
	if err := s.proc.signal(sig); err != nil {
		l.log.Error("worker cannot be signalled", append(s.facts(), "signal", sig.String(), "error", err)...)
	}
}

func (l *loop) haltPool(now time.Time, s *seat) {
	if s.crew == nil {
		return
	}
	l.log.Error("pool starts nothing more: a worker says by exit status 78 that its configuration is wrong. "+
		"Change its binary, or its configuration and start the daemon again", "pool", s.pool, "binary", s.crew.Binary)
	l.tell(s.news(EventHalt, "a worker says by exit status 78 that its configuration is wrong"))
	s.crew.recheck, s.crew.bad = now.Add(recheckEvery), s.image
	l.each(s.crew, halt{})
}

// settle ends a turn: processes that were decided on are started, what changed is saved and shown, the timer is set.
func (l *loop) settle() {
	l.startPending()
	l.dropSurplus()
	if l.unsaved {
		l.save()
	}
	l.show()
	l.arm()
}

// startPending writes the keys down before the processes exist, so that a later daemon finds them in any case.
func (l *loop) startPending() {
	if len(l.pending) == 0 {
		return
	}
	for _, s := range l.pending {
		s.rec = record{Pool: s.pool, Index: s.index, Key: newKey(), Binary: s.crew.Binary, Started: time.Now()}
		l.byKey[s.rec.Key] = s
	}
	l.save()
	for _, s := range l.pending {
		l.start(s)
	}
	l.pending = l.pending[:0]
	l.unsaved = true
}

// punish kills a process that is above a limit. Nobody has asked it to end: its strands are suspects.
func (l *loop) punish(s *seat, blame string) {
	if s.proc == nil || s.blame != "" {
		return
	}
	s.blame = blame
	l.log.Error("worker is killed: it is above its limit", append(s.facts(), "why", blame)...)
	l.signal(s, syscall.SIGKILL)
}

func (l *loop) start(s *seat) {
	s.image, _ = imageOf(s.crew.Binary) // before the start, so that a change during it is noticed
	order := launch{pool: s.crew.Pool, socket: l.cfg.Socket, key: s.rec.Key, logs: l.cfg.logsOf(s.pool, s.index)}
	order.group = l.groups.make(order.pool, l.log)
	p, errFrom, err := order.run()
	if err != nil && order.group != nil {
		order.group.remove()
		order.group = nil // it may be for that: some kernels have no cgroup that a process can be born in
		if p, errFrom, err = order.run(); err == nil {
			l.groups.giveUp(s.pool, l.log)
		}
	}
	if err != nil {
		l.vacate(s)
		l.step(s, failed{})
		l.log.Error("worker cannot be started", "pool", s.pool, "index", s.index, "error", err)
		return
	}
	s.proc, s.rec.PID, s.rec.Start, s.rec.ErrFrom = p, p.pid, p.start, errFrom
	if p.group != nil {
		s.rec.Cgroup = p.group.path
	}
	l.watch(s)
	l.log.Info("worker started", s.facts()...)
	l.tell(s.news(EventSpawn, ""))
}

// watch waits for the death of the seat's process in a goroutine that ends with it.
func (l *loop) watch(s *seat) {
	p, rec, logs := s.proc, s.rec, l.cfg.logsOf(s.pool, s.index)
	l.watchers.Go(func() {
		end := p.wait(l.reaping.RLock)
		defer l.reaping.RUnlock()
		l.tails.ended(rec.PID, logs)
		exit := broker.WorkerExit{
			Key: rec.Key, PID: rec.PID, How: end.how, Stderr: lastLines(logs.err, rec.ErrFrom), MaxRSS: end.used.peak, CPU: end.used.cpu,
		}
		l.mail.put(letter{key: rec.Key, event: died{end.code}, exit: exit, trouble: end.trouble})
		p.group.remove() // the news need not wait for that
	})
}

func (l *loop) dropSurplus() {
	kept := l.seats[:0]
	for _, s := range l.seats {
		if s.crew != nil || s.proc != nil {
			kept = append(kept, s)
		}
	}
	clear(l.seats[len(kept):])
	l.seats = kept
}

// save writes workers.json, unless another daemon has taken the folder. Without it the next daemon cannot adopt, which is no reason to stop supervising.
func (l *loop) save() {
	if !l.cfg.Owned() {
		return
	}
	var records []record
	for _, s := range l.seats {
		if s.rec.Key != "" {
			records = append(records, s.rec)
		}
	}
	if err := l.state.save(records); err != nil {
		l.log.Error("workers cannot be written down for the next daemon", "error", err)
		return
	}
	l.unsaved = false
}

func (l *loop) show() {
	infos := make([]Info, 0, len(l.seats))
	for _, s := range l.seats {
		infos = append(infos, s.info())
	}
	l.workers.Store(&infos)
	l.watchUsage()
	l.settled(infos)
}

func (s *seat) info() Info {
	return Info{
		Pool: s.pool, Index: s.index, Key: s.rec.Key, PID: s.rec.PID, State: string(s.life.phase),
		Adopted: s.proc != nil && s.proc.child == nil, Started: s.rec.Started, Restarts: s.restarts, LastExit: s.lastExit,
	}
}

// arm sets the timer to the next time that something is to be done.
func (l *loop) arm() {
	var next time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	for _, s := range l.seats {
		sooner(s.life.until)
	}
	for _, c := range l.crews {
		sooner(c.recheck)
	}
	l.timer.Stop()
	if !next.IsZero() {
		l.timer.Reset(time.Until(next))
	}
}

func (l *loop) finished() bool {
	for _, s := range l.seats {
		if s.life.phase != idle && s.life.phase != stuck {
			return false
		}
	}
	return l.quitting
}

// leave is the end of run. Watchers of processes that cannot die are left to themselves.
func (l *loop) leave() error {
	var pids []int
	for _, s := range l.seats {
		if s.proc != nil {
			pids = append(pids, s.proc.pid)
		}
	}
	if pids != nil {
		return fmt.Errorf("workers %v did not die of SIGKILL and are left behind", pids)
	}
	l.watchers.Wait()
	return nil
}

// facts are what a log line says of a seat and its process.
func (s *seat) facts() []any {
	return []any{"pool", s.pool, "index", s.index, "worker", s.rec.PID}
}

// news is an event of the process on the seat.
func (s *seat) news(kind EventKind, text string) Event {
	return Event{Kind: kind, Pool: s.pool, Index: s.index, PID: s.rec.PID, Text: text}
}

// keyLen is the length of a spawn key: 128 random bits as hexadecimal digits.
const keyLen = 32

func newKey() string {
	var b [keyLen / 2]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(b[:])
}
