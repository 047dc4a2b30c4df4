package supervisor

import "time"

// Exit statuses with a meaning, from sysexits.h.
const (
	exitTempFail = 75 // not now: back off
	exitConfig   = 78 // starting me again is of no use until something is changed
)

const (
	backoffBase  = 100 * time.Millisecond
	backoffCap   = 30 * time.Second
	healthyAfter = time.Minute      // connected for so long: the past is forgotten
	tempFailK    = 4                // the least k after exitTempFail: up to 1.6 s
	killWait     = 10 * time.Second // longest time from KILL to death, else it is stuck in the kernel
)

// rules are what lives have in common. jitter draws from [0, most].
type rules struct {
	stop   time.Duration // from TERM to KILL
	adopt  time.Duration // an adopted process has so long to say hello
	boot   time.Duration // so has one that was started here; 0 = as long as it likes
	jitter func(most time.Duration) time.Duration
}

// phase is where a seat is in its life. The words are those of [Info].State.
type phase string

const (
	idle      phase = "stopped"       // no process, none planned
	waiting   phase = "backing-off"   // no process; one is started at until
	starting  phase = "starting"      // has not said hello
	connected phase = "connected"     // has said hello
	adopted   phase = "adopted"       // of a former daemon; until then it may say hello
	ending    phase = "ending"        // TERM sent; KILL follows at until
	killed    phase = "killed"        // KILL sent; gives up at until
	stuck     phase = "stuck"         // did not die of KILL
	parked    phase = "crash-looping" // no process; one is started when the pool tries again
)

// alive tells whether there is a process in this phase.
func (p phase) alive() bool { return p != idle && p != waiting && p != parked }

// event is what happens to a seat.
type event interface{ event() }

type (
	begin   struct{}                       // fill the seat
	adopt   struct{ asked bool }           // the seat is filled by a former daemon's process, which may have been asked to end
	hello   struct{}                       // its process has connected
	end     struct{ within time.Duration } // end its process; another one follows. It is killed then; 0 = when its pool says
	quit    struct{}                       // end its process; none follows
	failed  struct{}                       // its process could not be started
	died    struct{ code int }             // its process is gone; code is the exit status, -1 where there is none
	halt    struct{}                       // its pool starts nothing for now
	resume  struct{}                       // its pool may start processes again
	recycle struct{}                       // another process shall take over
	park    struct{}                       // its pool dies again and again: start nothing by itself
	try     struct{}                       // start a process to see whether it lives
	unpark  struct{}                       // its pool lives again
	tick    struct{}                       // time has passed
)

func (begin) event()   {}
func (adopt) event()   {}
func (hello) event()   {}
func (end) event()     {}
func (quit) event()    {}
func (failed) event()  {}
func (died) event()    {}
func (halt) event()    {}
func (resume) event()  {}
func (recycle) event() {}
func (park) event()    {}
func (try) event()     {}
func (unpark) event()  {}
func (tick) event()    {}

// effect is what the loop shall do about a seat.
type effect int

const (
	nothing  effect = iota
	spawn           // start a process
	term            // TERM to the process
	kill            // KILL to the group
	giveUp          // say that it cannot be killed
	haltPool        // stop starting processes in this pool, and say so
)

// life decides when a seat's process is started and ended. It is a plain value and calls nothing but the jitter.
type life struct {
	rules  rules
	phase  phase
	until  time.Time // the next tick that matters; zero = none
	greet  time.Time // when the process first said hello; zero = not yet
	k      int       // deaths in a row that came too early
	asked  bool      // we have asked the process to end
	last   bool      // no process follows this one
	halted bool      // the pool starts nothing
	parks  bool      // the pool starts one process now and then
}

// isLate says whether the end that was asked for last is one for want of a hello.
func (l *life) isLate() bool { return l.greet.IsZero() && l.phase == ending }

func newLife(r rules) life { return life{rules: r, phase: idle} }

// step takes the time and one event and returns what to do.
func (l *life) step(now time.Time, ev event) effect {
	switch ev := ev.(type) {
	case begin:
		return l.start(now)
	case adopt:
		l.adopt(now, ev.asked)
	case hello:
		l.connect(now)
	case end:
		return l.end(now, ev.within)
	case quit:
		return l.quit(now)
	case failed:
		l.retry(now)
	case died:
		return l.die(now, ev.code)
	case halt:
		l.halt()
	case resume:
		return l.resume(now)
	case park:
		l.park()
	case try:
		if l.phase == parked {
			return l.start(now)
		}
	case unpark:
		l.unpark(now)
	case tick:
		return l.tick(now)
	}
	return nothing
}

func (l *life) enter(p phase, until time.Time) { l.phase, l.until = p, until }

func (l *life) start(now time.Time) effect {
	if l.phase.alive() {
		panic("bug: a process is started on a taken seat")
	}
	l.enter(starting, time.Time{})
	if l.rules.boot > 0 {
		l.until = now.Add(l.rules.boot)
	}
	l.greet, l.asked = time.Time{}, false
	return spawn
}

// adopt takes in a process. One that was asked to end is not asked again: many end at once then.
func (l *life) adopt(now time.Time, asked bool) {
	if l.enter(adopted, now.Add(l.rules.adopt)); asked {
		l.asked = true
		l.enter(ending, now.Add(l.rules.stop))
	}
}

// connect takes a hello. One from a process that is being ended changes nothing.
func (l *life) connect(now time.Time) {
	if l.phase == starting || l.phase == adopted {
		l.enter(connected, time.Time{})
		l.greet = now
	}
}

// end asks the process to end. Whoever asks again can only shorten its time.
func (l *life) end(now time.Time, within time.Duration) effect {
	by := now.Add(l.rules.stop)
	if within > 0 && within < l.rules.stop {
		by = now.Add(within)
	}
	switch l.phase {
	case starting, connected, adopted:
		l.asked = true
		l.enter(ending, by)
		return term
	case ending:
		if by.Before(l.until) {
			l.until = by
		}
	}
	return nothing
}

func (l *life) quit(now time.Time) effect {
	l.last = true
	if !l.phase.alive() {
		l.enter(idle, time.Time{})
	}
	return l.end(now, 0)
}

// deaths is how many in a row came too early, which those before a process that is well do not count for.
func (l *life) deaths(now time.Time) int {
	if !l.greet.IsZero() && now.Sub(l.greet) >= healthyAfter {
		return 0
	}
	return l.k
}

func (l *life) die(now time.Time, code int) effect {
	l.k = l.deaths(now)
	if code == exitTempFail {
		l.k = max(l.k, tempFailK)
	}
	news := code == exitConfig && !l.halted && !l.last
	l.halted = l.halted || news
	l.retry(now)
	if news {
		return haltPool
	}
	return nothing
}

// retry plans the next process, if there shall be one.
func (l *life) retry(now time.Time) {
	if l.last || l.halted {
		l.enter(idle, time.Time{})
		return
	}
	if l.parks {
		l.enter(parked, time.Time{})
		return
	}
	l.enter(waiting, now.Add(l.rules.jitter(backoff(l.k))))
	l.k++
}

func (l *life) park() {
	l.parks = true
	if l.phase == waiting {
		l.enter(parked, time.Time{})
	}
}

// unpark plans a start where there is none, with the past forgotten.
func (l *life) unpark(now time.Time) {
	l.parks, l.k = false, 0
	if l.phase == parked {
		l.retry(now)
	}
}

// backoff is the longest wait after k early deaths.
func backoff(k int) time.Duration {
	const enough = 9 // 2^9 * 100 ms is above the cap, and far from overflow
	return min(backoffCap, backoffBase<<min(k, enough))
}

func (l *life) halt() {
	l.halted = true
	if l.phase == waiting || l.phase == parked {
		l.enter(idle, time.Time{})
	}
}

func (l *life) resume(now time.Time) effect {
	l.halted, l.k = false, 0
	if l.phase != idle || l.last {
		return nothing
	}
	return l.start(now)
}

func (l *life) tick(now time.Time) effect {
	if l.until.IsZero() || now.Before(l.until) {
		return nothing
	}
	switch l.phase {
	case waiting:
		return l.start(now)
	case adopted, starting:
		return l.end(now, 0)
	case ending:
		l.enter(killed, now.Add(killWait))
		return kill
	case killed:
		l.enter(stuck, time.Time{})
		return giveUp
	}
	return nothing
}
