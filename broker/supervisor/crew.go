package supervisor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/respirated/respirated/broker"
)

// crew is a pool at work.
type crew struct {
	Pool              // as it is wanted
	configured Pool   // as it would be, had nobody changed it since
	place      int    // among the crews
	dropIn     bool   // from a file in WorkersDir
	build      *build // what its processes are started from
	next       *build // what it goes over to; nil = nothing
	roll       roll
	heir       *seat // takes over from heir.old once it is connected; of a roll's first one, once it is proven
	dues       bool  // some seats wait to be replaced
	past       past  // what a former daemon has left; empty once its workers are taken over

	paused bool     // it gets no strands
	halted bool     // it starts nothing until its binary changes
	spate  spate    // of early deaths
	seen   image    // the version at the binary's path that was acted on
	rest   settling // of another version there
	lookAt time.Time
	note   string // what an operator should know; "" = nothing
	late   string // that a process never said hello; "" = the last one has
	unfit  string // why the file at the binary's path is not gone over to; "" = nothing against it is known
}

// binariesEvery is how often binaries, and the folder of workers, are looked at, and how long a file must stay as it is before
// it is started.
const binariesEvery = time.Second

// PoolInfo is what `respirated pool list` shows of a pool.
type PoolInfo struct {
	Name      string `json:"name"`
	Binary    string `json:"binary"`
	Build     string `json:"build"` // changes with the binary
	Procs     int    `json:"procs"` // wanted
	Connected int    `json:"connected"`
	Slots     int    `json:"slots"`  // of each process
	State     string `json:"state"`  // running, starting, paused, rolling, old build, crash-looping, halted, refused
	Paused    bool   `json:"paused"` // it gets no new strands, whatever its state
	Note      string `json:"note"`   // why; "" = nothing to say
	DropIn    bool   `json:"drop_in"`

	Kinds   []string `json:"kinds"`   // that it may serve; empty = all that its workers announce
	Queues  []string `json:"queues"`  // that it may take strands of, such as mail or acme/mail; empty = all
	Isolate []string `json:"isolate"` // kinds whose strands run alone in a process, besides those of which workers say so
	Env     []string `json:"env"`     // names of the variables that its processes see besides the usual ones
	Dir     string   `json:"dir"`     // "" = the daemon's
	User    string   `json:"user"`    // "" = the daemon's
	Limits  string   `json:"limits"`  // for people; "" = none
	Args    []string `json:"args"`
	Recycle string   `json:"recycle"` // for people; "" = never

	StopTimeout string `json:"stop_timeout"` // such as 27s
	BootTimeout string `json:"boot_timeout"`
}

func (l *loop) addCrew(p Pool) *crew {
	c := &crew{configured: p, place: len(l.crews), lookAt: time.Now().Add(l.lookEvery)}
	l.recollect(c)
	l.crews = append(l.crews, c)
	l.resize(c)
	return c
}

// resize gives a crew as many seats as its pool has processes. The highest go first, after they have ended their work.
func (l *loop) resize(c *crew) {
	have := 0
	for _, s := range slices.Clone(l.seats) {
		switch {
		case s.crew != c:
		case s.index >= c.Procs:
			l.retire(s)
		case s.old == nil:
			have = max(have, s.index+1)
		}
	}
	for i := have; i < c.Procs; i++ {
		l.addSeat(c, i)
	}
}

// retire makes a seat a surplus one: its process is ended, and none follows.
func (l *loop) retire(s *seat) {
	if c := s.crew; c != nil {
		switch {
		case c.heir == s:
			c.heir = nil
		case c.heir != nil && c.heir.old == s:
			l.retire(c.heir)
		}
	}
	s.crew, s.old, s.due, l.unsorted, l.unsaved = nil, nil, "", true, true
	if s.proc == nil {
		l.pending = slices.DeleteFunc(l.pending, func(p *seat) bool { return p == s })
		s.life.last = true
		s.life.enter(idle, time.Time{})
		return
	}
	l.step(s, quit{})
}

// apply makes these the pools, besides those that were dropped in.
func (l *loop) apply(pools []Pool) {
	wanted := make(map[string]Pool, len(pools))
	for _, p := range pools {
		wanted[p.Name] = p
	}
	for _, c := range slices.Clone(l.crews) {
		if _, stays := wanted[c.Name]; !stays && !c.dropIn {
			l.removeCrew(c)
		}
	}
	for _, p := range pools {
		if c := l.crewOf(p.Name); c == nil {
			l.log.Info("pool is new", "pool", p.Name, "procs", p.Procs, "binary", p.Binary)
			l.addCrew(p)
		} else {
			c.dropIn, c.configured = false, p
			l.change(c, p)
		}
	}
	l.fill()
}

// removeCrew ends a pool.
func (l *loop) removeCrew(c *crew) {
	l.log.Info("pool is gone: its workers are asked to end", "pool", c.Name)
	for _, s := range slices.Clone(l.seats) {
		if s.crew == c {
			l.retire(s)
		}
	}
	c.build.close()
	if c.next != nil {
		c.next.close()
	}
	l.unsaved = true
	l.crews = slices.DeleteFunc(l.crews, func(other *crew) bool { return other == c })
	for i, other := range l.crews {
		other.place = i
	}
}

// change has a pool be as p says. Whatever makes a difference to its processes is rolled out like another binary.
func (l *loop) change(c *crew, p Pool) {
	was := c.Pool
	c.Pool, l.unsaved = p, true
	if was.Procs != p.Procs {
		l.log.Info("pool has another size", "pool", p.Name, "procs", p.Procs, "before", was.Procs)
	}
	l.resize(c)
	for _, s := range l.seats {
		if s.crew == c {
			s.life.rules.stop, s.life.rules.boot = p.StopTimeout, p.BootTimeout
			s.wear = newWear(s.rec.Started, p.Recycle, jitter) // what has no process gets another one when it has
		}
	}
	l.agreeAll(c)
	if !was.runsLike(p) {
		l.rollOut(c, "its configuration has changed")
	}
}

func (l *loop) crewOf(name string) *crew {
	i := slices.IndexFunc(l.crews, func(c *crew) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return l.crews[i]
}

// replace has another process of the pool's current build take over from the one on this seat: it is started, and once
// it is connected the old one is asked to end. Of a pool one at a time is replaced; the others wait for their turn.
func (l *loop) replace(s *seat, why string) {
	if s.mayBeDue() {
		s.due, s.crew.dues = why, true
	}
}

// mayBeDue says whether there is a process that could be replaced, and is not going to be.
func (s *seat) mayBeDue() bool { return s.crew != nil && s.proc != nil && s.old == nil && s.due == "" }

// renew replaces a process that uses too much, unless it is too young for that: its successor would do the same.
func (l *loop) renew(s *seat, why string) {
	if !s.mayBeDue() {
		return
	}
	age, least := time.Since(s.rec.Started), s.diet.least(l.sampling.young)
	if age < least {
		if !s.spared {
			s.spared = true
			l.log.Warn("worker is over a bound early in its life: it is not replaced before it is older", append(s.facts(), "why", why, "age", age.Round(time.Second), "least", least)...)
		}
		return
	}
	s.diet.replaced(age, l.sampling.young)
	l.replace(s, why)
}

// leaves says whether a process that has no place in a crew any more has yet to end: it was taken over from, or was to take over.
func (l *loop) leaves(c *crew) bool {
	return slices.ContainsFunc(l.seats, func(s *seat) bool {
		return s.crew == nil && s.proc != nil && s.life.phase != stuck && s.pool == c.Name
	})
}

// advance begins the next replacement of a crew, if none is under way.
func (l *loop) advance(c *crew) {
	if l.quitting || c.heir != nil || l.leaves(c) {
		return
	}
	switch {
	case c.roll.phase == trying:
		l.sendFor(l.seatOf(c, func(s *seat) bool { return true }))
	case c.dues:
		s := l.seatOf(c, func(s *seat) bool { return s.due != "" })
		if c.dues = s != nil; c.dues {
			l.log.Info("worker is replaced", append(s.facts(), "why", s.due)...)
			l.tell(s.news(EventRecycle, s.due))
			l.sendFor(s)
		}
	}
	if c.roll.phase == rolling && !c.dues {
		l.rollStep(c, moved{})
	}
}

// seatOf is the first seat of a crew that matches; nil = there is none.
func (l *loop) seatOf(c *crew, match func(*seat) bool) *seat {
	for _, s := range l.seats {
		if s.crew == c && s.old == nil && match(s) {
			return s
		}
	}
	return nil
}

// sendFor starts the process that is to take over from the one on a seat.
func (l *loop) sendFor(old *seat) {
	c := old.crew
	c.heir = l.addSeat(c, old.index)
	c.heir.old = old
	l.step(c.heir, begin{})
}

// relieve has the heir of a crew take over.
func (l *loop) relieve(c *crew) {
	heir, old := c.heir, c.heir.old
	c.heir, heir.old = nil, nil
	heir.restarts, heir.lastExit, heir.diet = old.restarts+1, old.lastExit, old.diet
	l.retire(old)
}

// inherit has the heir take the seat of a process that has died before it was asked to end. A canary does not: it is not
// proven.
func (l *loop) inherit(s *seat) {
	c := s.crew
	if c == nil || c.heir == nil || c.heir.old != s || c.isCanary(c.heir) {
		return
	}
	c.heir.restarts, c.heir.lastExit = s.restarts, s.lastExit
	c.heir.old, c.heir = nil, nil
	s.crew, s.life.last, l.unsorted = nil, true, true
}

func (c *crew) isCanary(s *seat) bool { return s == c.heir && c.roll.phase == trying }

// buildFor is what a process for this seat is started from.
func (c *crew) buildFor(s *seat) *build {
	if c.isCanary(s) || c.roll.phase == rolling {
		return c.next
	}
	return c.build
}

// rollOut has a pool go over to what is at its binary's path now, run as its configuration says now.
func (l *loop) rollOut(c *crew, why string) {
	next := newBuild(c.Pool)
	c.seen, c.rest, c.note, c.unfit, l.unsaved = next.image, settling{}, "", "", true
	if c.heir != nil {
		l.retire(c.heir)
	}
	switch {
	case c.roll.phase == rolling: // what was proven is what to fall back to
		c.build.close()
		c.build = c.next
	case c.next != nil:
		c.next.close()
	}
	c.next = next
	if c.halted {
		l.log.Info("pool goes on: "+why, "pool", c.Name, "binary", c.Binary)
		c.build.close()
		c.build, c.next, c.halted, c.roll = next, nil, false, roll{}
		for _, s := range l.seats {
			if s.crew == c && s.proc != nil {
				l.replace(s, "roll")
			}
		}
		l.each(c, resume{})
		return
	}
	l.log.Info("pool rolls: "+why, "pool", c.Name, "binary", c.Binary, "build", next.image.String())
	l.tell(Event{Kind: EventRoll, Pool: c.Name, Text: "to build " + next.image.String() + ": " + why})
	l.rollStep(c, changed{})
}

// rollStep lets a crew's roll decide, and does what it decided.
func (l *loop) rollStep(c *crew, ev event) {
	switch c.roll.step(time.Now(), ev) {
	case moveOn:
		l.log.Info("new build is proven: the others follow", "pool", c.Name, "build", c.next.image.String())
		l.relieve(c)
		l.endSpate(c)
		l.unsaved = true
		if c.halted {
			c.halted, c.note = false, ""
			l.each(c, resume{})
		}
		for _, s := range l.seats {
			if s.crew == c && s.build != c.next {
				l.replace(s, "roll")
			}
		}
		c.dues = true
	case holdBack:
		l.unsaved = true
		c.note = fmt.Sprintf("build %s failed %d times and is held back: %s", c.next.image, mostTrials, c.heir.lastExit)
		l.log.Error("roll is stopped: the new build does not live; the old one goes on until the binary changes again",
			"pool", c.Name, "build", c.next.image.String(), "last_exit", c.heir.lastExit)
		l.tell(Event{Kind: EventRoll, Pool: c.Name, Text: c.note})
		l.retire(c.heir)
		c.next.close()
		c.next = nil
	case finish:
		l.unsaved = true
		l.log.Info("pool has rolled", "pool", c.Name, "build", c.next.image.String())
		l.tell(Event{Kind: EventRoll, Pool: c.Name, Text: "has come to build " + c.next.image.String()})
		c.build.close()
		c.build, c.next = c.next, nil
	}
}

// look notices that there is another binary, once it is whole.
func (l *loop) look(now time.Time, c *crew) {
	c.lookAt = now.Add(l.lookEvery)
	found, err := imageOf(c.Binary)
	if err != nil || found == c.seen {
		c.rest, c.unfit = settling{}, ""
		return
	}
	if !c.rest.look(now, found, l.lookEvery) {
		return
	}
	if err = checkBinary(c.Binary); err == nil && c.dropIn {
		err = safe(l.dropIns.dir, c.Binary)
	}
	if err != nil { // which its mode may be to blame for: it is looked at again
		if why := err.Error(); c.unfit != why {
			c.unfit = why
			l.log.Error("new file of a pool is refused, and the old one goes on", "pool", c.Name, "error", err)
		}
		return
	}
	if beingWritten(c.Binary) {
		return
	}
	l.rollOut(c, "its binary has changed")
}

// mourn counts a death that nobody asked for.
func (l *loop) mourn(c *crew, uptime time.Duration) {
	if !c.spate.died(time.Now(), uptime) {
		return
	}
	l.unsaved = true
	c.note = fmt.Sprintf("%d processes died within %v, each in its first %v: one is tried each %v", enough, within, tooEarly, tryEvery)
	l.log.Error("pool is crash-looping: "+c.note, "pool", c.Name, "binary", c.Binary)
	l.tell(Event{Kind: EventLoop, Pool: c.Name, Text: c.note})
	l.each(c, park{})
}

const recovered = "has recovered: a process lives"

// endSpate has a crew start processes as usual.
func (l *loop) endSpate(c *crew) {
	if !c.spate.on() {
		return
	}
	c.spate, c.note, l.unsaved = spate{}, "", true
	l.log.Info("pool has recovered: a process lives", "pool", c.Name)
	l.tell(Event{Kind: EventLoop, Pool: c.Name, Text: recovered})
	l.each(c, unpark{})
}

// doubt notes what a process of ours does that it should not.
func (l *loop) doubt(pid int, what string) {
	for _, s := range l.seats {
		if s.crew != nil && pid != 0 && s.rec.PID == pid && s.doubt != what {
			s.doubt = what
			l.log.Warn("worker is not what it should be", append(s.facts(), "what", what)...)
		}
	}
}

func (l *loop) tickCrew(now time.Time, c *crew) {
	if !now.Before(c.lookAt) {
		l.look(now, c)
	}
	l.rollStep(c, tick{})
	if c.spate.tries(now) {
		s := l.seatOf(c, func(s *seat) bool { return s.life.phase == parked })
		if c.heir != nil && c.heir.life.phase == parked {
			s = c.heir // what may put an end to it goes first
		}
		if s != nil {
			l.step(s, try{})
		}
	}
	if c.spate.on() && l.hasRecovered(c, now) {
		l.endSpate(c)
	}
}

// hasRecovered says whether a process lives that was started in the spate, or all of them do.
func (l *loop) hasRecovered(c *crew, now time.Time) bool {
	lives := func(s *seat) bool { return s.life.phase == connected && now.Sub(s.life.greet) >= tooEarly }
	return l.seatOf(c, func(s *seat) bool { return lives(s) && s.rec.Started.After(c.spate.since) }) != nil ||
		l.seatOf(c, func(s *seat) bool { return !lives(s) }) == nil
}

// next is when something is to be done for a crew.
func (l *loop) nextFor(c *crew, sooner func(time.Time)) {
	sooner(c.lookAt)
	sooner(c.roll.until)
	sooner(c.spate.tryAt)
}

// poolInfos is what there is to say of each pool.
func (l *loop) poolInfos() []PoolInfo {
	infos := make([]PoolInfo, len(l.crews))
	doubts := make(map[*crew]string)
	for _, s := range l.seats {
		if s.doubt != "" {
			doubts[s.crew] = s.doubt
		}
	}
	for i, c := range l.crews {
		note := cmp.Or(c.note, doubts[c], c.late)
		if c.unfit != "" {
			note = "its new file is refused, and the old one goes on: " + c.unfit
		}
		if c.next != nil {
			note = "it goes over to build " + c.next.image.String()
		}
		infos[i] = PoolInfo{
			Name: c.Name, Binary: c.Binary, Build: c.build.image.String(), Procs: c.Procs, Slots: c.Slots, State: c.state(),
			Note: note, DropIn: c.dropIn, Paused: c.paused, Kinds: listed(c.Kinds), Queues: queueNames(c.Queues), Isolate: listed(c.Isolate),
			Env: envNames(c.Env), Dir: c.Dir, User: c.User, Limits: c.Limits.String(),
			Args: listed(c.Args), Recycle: c.Recycle.String(), StopTimeout: c.StopTimeout.String(), BootTimeout: c.BootTimeout.String(),
		}
	}
	for _, s := range l.seats {
		if s.crew != nil && s.life.phase == connected {
			infos[s.crew.place].Connected++
		}
	}
	for i := range infos {
		switch info := &infos[i]; {
		case info.State != "running":
		case info.Paused:
			info.State = "paused"
		case info.Connected == 0:
			info.State = "starting"
		}
	}
	return append(infos, l.dropIns.refused...)
}

// listed is a list that is never null in JSON.
func listed(names []string) []string { return append([]string{}, names...) }

func queueNames(queues []broker.Queue) []string {
	names := make([]string, len(queues))
	for i, q := range queues {
		names[i] = q.String()
	}
	return names
}

// envNames leaves out values, which may be secrets.
func envNames(env []string) []string {
	names := make([]string, len(env))
	for i, entry := range env {
		names[i], _, _ = strings.Cut(entry, "=")
	}
	return names
}

func (c *crew) state() string {
	switch {
	case c.halted:
		return "halted"
	case c.spate.on():
		return "crash-looping"
	case c.roll.phase == trying || c.roll.phase == rolling:
		return "rolling"
	case c.roll.phase == held:
		return "old build"
	}
	return "running"
}
