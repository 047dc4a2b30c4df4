package supervisor

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
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
	seats    []*seat          // of all crews in order, heirs behind those whose place they take; then surplus ones
	awaited  map[string]bool  // keys of a former daemon's workers that have not said hello; nil = nobody waits for them
	byKey    map[string]*seat // seats with a process, or one about to be started
	pending  []*seat          // to be given a process at the end of this turn
	timer    *time.Timer
	watchers sync.WaitGroup
	groups   groups
	dropIns  dropIns
	sampler  *sampler
	past     map[string]past // of pools, by name; nil once those have it
	unsaved  bool            // workers.json is behind
	saveAt   time.Time       // after a try to write it that failed: not again before; zero = the last one did not
	unsorted bool            // seats are not in their order
	quitting bool
}

// letter is an event for the seat whose process has this key.
type letter struct {
	key   string
	event event
	why   string            // end, recycle, overSoft
	exit  broker.WorkerExit // died

	trouble string // died: why it never became a worker

	order func(*loop) // for no seat: this is to be done
}

func newLoop(s *Supervisor) *loop {
	l := &loop{Supervisor: s, log: s.cfg.Log, byKey: make(map[string]*seat), timer: time.NewTimer(0)}
	l.groups.ours = l.isOurs
	l.dropIns = dropIns{dir: s.cfg.WorkersDir, files: make(map[string]*dropIn)}
	l.sampler = newSampler(s.sampling, l.mail.put)
	_, l.past, _ = s.state.load() // adoptAll tells what is wrong with it
	for _, p := range s.cfg.Pools {
		l.addCrew(p)
	}
	return l
}

func (l *loop) addSeat(c *crew, index int) *seat {
	r := rules{stop: c.StopTimeout, adopt: l.cfg.AdoptTimeout, boot: c.BootTimeout, jitter: jitter}
	s := &seat{crew: c, pool: c.Name, index: index, life: newLife(r)}
	s.life.halted = c.halted
	s.remember()
	if c.spate.on() {
		if s.life.parks = true; !c.halted {
			s.life.enter(parked, time.Time{})
		}
	}
	l.seats = append(l.seats, s)
	l.unsorted = true
	return s
}

// addSurplus is the seat of a process that has no place any more.
func (l *loop) addSurplus(pool string, index int) *seat {
	r := rules{stop: l.cfg.StopTimeout, adopt: l.cfg.AdoptTimeout, jitter: jitter}
	s := &seat{pool: pool, index: index, life: newLife(r)}
	l.seats = append(l.seats, s)
	return s
}

func (l *loop) run(ctx context.Context) error {
	defer l.timer.Stop()
	defer l.sampler.start()()
	l.takeIn(time.Now())
	l.past = nil
	l.admitUsers()
	l.adoptAll()
	l.compareBuilds()
	close(l.adopted)
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

// leaveAlone has a process of a former daemon that has no place any more finish what it holds, and get nothing new.
func (l *loop) leaveAlone(s *seat) {
	l.kinds.Store(s.rec.Key, []string(nil))
	l.setTerms(s.rec.Key, broker.Terms{Paused: true})
}

// compareBuilds has pools roll whose processes a former daemon has started from another version of the binary.
func (l *loop) compareBuilds() {
	for _, s := range l.seats {
		if s.proc == nil {
			continue
		}
		if s.crew == nil {
			l.leaveAlone(s)
			continue
		}
		s.wear = newWear(s.rec.Started, s.crew.Recycle, jitter)
		l.kinds.Store(s.rec.Key, s.crew.Kinds)
		l.agree(s)
		alike := s.rec.RunsAs == "" || s.rec.RunsAs == s.crew.build.pool.runsAs()
		if alike && (s.rec.Image == "" || s.rec.Image == s.crew.build.image.String()) {
			s.build = s.crew.build
		}
	}
	for _, c := range l.crews {
		others := l.seatOf(c, func(s *seat) bool { return s.proc != nil && s.build == nil }) != nil
		switch {
		case c.roll.phase == held:
			l.holdOn(c)
		case others && !c.halted:
			c.build.close()
			c.build = l.formerBuild(c)
			l.rollOut(c, "its binary or its configuration has changed while no daemon ran")
		}
		c.past = past{}
	}
	l.cfg.Former.close()
}

// formerBuild takes hold of the version that processes of a former daemon run, so that it can be started again. This process
// may have kept it open, or its path may still lead there, where another path is configured now; and on Linux a process that
// runs it does, unless it is an interpreter's script.
func (l *loop) formerBuild(c *crew) *build {
	b := c.past.build(c.Pool, l.cfg.Former)
	for _, s := range l.seats {
		if s.crew != c || s.proc == nil || s.build != nil {
			continue
		}
		if f := s.proc.program(); f != nil {
			if im, err := imageOfFile(f); err == nil && b.image == (image{}) && im.String() == s.rec.Image {
				b.image, b.file = im, f
			} else {
				f.Close()
			}
		}
		if b.image != (image{}) && s.rec.Image == b.image.String() {
			s.build = b
		}
	}
	return b
}

// fill starts a process on each seat that has never had one. A seat that was taken away and given back waits for the
// process that had it, so that a pool which comes and goes never has more and more of them.
func (l *loop) fill() {
	for _, s := range slices.Clone(l.seats) {
		if s.life.phase == idle && s.crew != nil && !s.life.halted && !s.life.last && !l.isHeld(s) {
			l.step(s, begin{})
		}
	}
}

// isHeld says whether a process that had this seat has yet to end.
func (l *loop) isHeld(s *seat) bool {
	return slices.ContainsFunc(l.seats, func(o *seat) bool {
		return o.crew == nil && o.proc != nil && o.life.phase != stuck && o.pool == s.pool && o.index == s.index
	})
}

// deliver takes a letter to its seat. Letters to processes that are gone, or were never ours, are dropped.
func (l *loop) deliver(m letter) {
	if m.order != nil {
		m.order(l)
		return
	}
	s := l.byKey[m.key]
	if s == nil {
		if _, greets := m.event.(hello); greets {
			l.log.Info("worker says hello with a key of no process here: it is none of ours, or has just ended")
			l.cfg.Stranger()
		}
		return
	}
	c, canary := s.crew, s.crew != nil && s.crew.isCanary(s)
	switch ev := m.event.(type) {
	case overLimit:
		l.punish(s, ev.blame)
	case overSoft:
		l.renew(s, m.why)
	case died:
		if m.trouble != "" {
			l.log.Error("worker cannot be started", append(s.facts(), "error", m.trouble)...)
		}
		uptime := time.Since(s.rec.Started)
		l.bury(s, m.exit)
		l.inherit(s)
		l.step(s, ev)
		if s.crew != nil && !canary && !s.life.asked && ev.code != exitTempFail {
			l.mourn(s.crew, uptime)
		}
	case hello:
		l.greet(s)
		l.back(m.key)
	case served:
		s.results = max(s.results, ev.results)
	case recycle:
		l.renew(s, m.why)
	case end:
		l.log.Info("worker is asked to end", append(s.facts(), "why", m.why)...)
		l.step(s, ev)
	default:
		panic("bug: a letter of an unknown kind")
	}
	if canary {
		l.rollStep(c, m.event)
	}
}

// greet takes in that a process has said hello. One that is to take over does so, unless it has to prove its build.
func (l *loop) greet(s *seat) {
	if s.life.phase == starting || s.life.phase == adopted {
		l.tell(s.news(EventConnect, ""))
	}
	l.step(s, hello{})
	if s.crew != nil {
		s.crew.late = ""
	}
	if s.old != nil && !s.crew.isCanary(s) && s.life.phase == connected {
		l.relieve(s.crew)
	}
}

// bury clears the seat of a process that has died, and passes the news on.
func (l *loop) bury(s *seat, exit broker.WorkerExit) {
	exit.Asked = s.life.asked
	if s.blame != "" {
		exit.How, exit.Asked = exit.How+" ("+s.blame+")", false
	}
	level := slog.LevelInfo
	if !exit.Asked {
		level = slog.LevelWarn
	}
	l.log.Log(context.Background(), level, "worker ended", append(s.facts(), "how", exit.How, "asked", exit.Asked)...)
	l.deaths.put(func() { l.cfg.Exited(exit) })
	l.tell(s.news(EventExit, exit.How))
	l.vacate(s)
	s.lastExit = exit.How
	s.restarts++
	if s.crew == nil {
		l.fill()
	}
}

func (l *loop) vacate(s *seat) {
	defer l.back(s.rec.Key) // its death is told by now
	delete(l.byKey, s.rec.Key)
	l.kinds.Delete(s.rec.Key)
	l.terms.Delete(s.rec.Key)
	s.proc, s.rec, s.due, s.doubt, s.blame, s.spared = nil, record{}, "", "", "", false
	l.unsaved = true
}

func (l *loop) tick() {
	now := time.Now()
	for _, s := range l.seats {
		l.stepAt(now, s, tick{})
	}
	for _, s := range l.seats {
		if why := s.wear.over(now, s.results); why != "" {
			l.replace(s, why)
		}
	}
	if l.quitting {
		return
	}
	for _, c := range slices.Clone(l.crews) {
		l.tickCrew(now, c)
	}
	l.lookIn(now)
	l.fill()
}

func (l *loop) quit() {
	l.quitting, l.unsaved = true, true // see pasts
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
		if _, timed := ev.(tick); timed && s.life.isLate() && s.crew != nil {
			s.crew.late = fmt.Sprintf("a process did not say hello, with the key that it was given, within %v", s.life.rules.boot)
			l.log.Error("worker never said hello and is ended", append(s.facts(), "timeout", s.life.rules.boot)...)
		}
	case kill:
		l.log.Warn("worker is killed: it did not end in time", append(s.facts(), "timeout", s.life.rules.stop)...)
		l.signal(s, syscall.SIGKILL)
	case giveUp:
		l.log.Error("worker does not die of SIGKILL: it is stuck in the kernel, see its /proc/PID/stack", s.facts()...)
		l.fill()
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
	c := s.crew
	switch {
	case c == nil:
		return
	case c.isCanary(s): // it will not do better at a second try, so this counts as one
		l.rollStep(c, failed{})
		return
	}
	l.unsaved = true
	c.halted, c.note = true, "a worker says by exit status 78 that its configuration is wrong"
	l.log.Error("pool starts nothing more: a worker says by exit status 78 that its configuration is wrong. "+
		"Change its binary, or its configuration", "pool", s.pool, "binary", c.Binary)
	l.tell(s.news(EventHalt, c.note))
	l.each(c, halt{})
}

// settle ends a turn: processes that were decided on are started, what changed is saved and shown, the timer is set.
func (l *loop) settle() {
	for _, c := range l.crews {
		l.advance(c)
	}
	l.startPending()
	l.dropSurplus()
	if l.unsaved && !time.Now().Before(l.saveAt) {
		l.save()
	}
	l.show()
	l.arm()
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

func (l *loop) dropSurplus() {
	kept := l.seats[:0]
	for _, s := range l.seats {
		if s.crew != nil || s.proc != nil {
			kept = append(kept, s)
		}
	}
	clear(l.seats[len(kept):])
	if l.seats = kept; l.unsorted {
		slices.SortStableFunc(l.seats, inOrder)
		l.unsorted = false
	}
}

// save writes workers.json, unless another daemon has taken the folder. Without it the next daemon cannot adopt, which is no reason to stop supervising.
func (l *loop) save() {
	if !l.cfg.Owned() {
		return
	}
	var records []record
	for _, s := range l.seats {
		if s.rec.Key != "" {
			s.rec.Surplus = s.crew == nil
			records = append(records, s.rec)
		}
	}
	err := l.state.save(records, l.pasts(time.Now()))
	again := !l.saveAt.IsZero()
	switch {
	case err != nil && !again: // said once: a disk that is full may be so for long
		l.log.Error("workers cannot be written down for the next daemon: it is tried on", "error", err)
	case err == nil && again:
		l.log.Info("workers are written down again")
	}
	if l.unsaved, l.saveAt = err != nil, (time.Time{}); err != nil {
		l.saveAt = time.Now().Add(l.lookEvery)
	}
}

func (l *loop) show() {
	infos := make([]Info, 0, len(l.seats))
	for _, s := range l.seats {
		infos = append(infos, s.info())
	}
	l.workers.Store(&infos)
	pools := l.poolInfos()
	l.pools.Store(&pools)
	l.watchUsage()
	l.settled(infos)
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
		if s.mayBeDue() {
			sooner(s.wear.age)
		}
	}
	if l.unsaved {
		sooner(l.saveAt)
	}
	if !l.quitting {
		for _, c := range l.crews {
			l.nextFor(c, sooner)
		}
		sooner(l.dropIns.lookAt)
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
	for _, c := range l.crews {
		c.build.close()
		if c.next != nil {
			c.next.close()
		}
	}
	return nil
}
