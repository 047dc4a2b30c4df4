package supervisor

import "time"

const (
	proofAfter  = 10 * time.Second // connected without a strand: the new build is believed
	proofAtMost = 5 * time.Minute  // busy without a result: it is believed
	mostTrials  = 2                // canaries that may fail
)

// rollPhase is where a pool is on its way to another build.
type rollPhase uint8

const (
	rolled  rollPhase = iota // there is no other build
	trying                   // one process of it, the canary, has to prove it
	rolling                  // it is proven: the others follow one by one
	held                     // it has failed: the old one goes on
)

// Events of a roll, besides hello, served, failed, died and tick, which are those of its canary.
type (
	changed struct{}              // there is another build
	served  struct{ results int } // see [broker.Processes]
	moved   struct{}              // no process of the old build is left
)

func (changed) event() {}
func (served) event()  {}
func (moved) event()   {}

// rollEffect is what the loop shall do about a pool that rolls.
type rollEffect int

const (
	keepOn   rollEffect = iota
	tryBuild            // start a canary
	moveOn              // the canary takes over, and each of the others is replaced
	holdBack            // end the canary, and keep the old build
	finish              // the new build is the build
)

// roll decides how a pool gets from one build to another. It is a plain value and calls nothing.
type roll struct {
	phase  rollPhase
	until  time.Time // the canary is believed then; zero = it is not connected
	failed int       // canaries
	greet  time.Time // when this canary said hello
}

// step takes the time and one event and returns what to do.
func (r *roll) step(now time.Time, ev event) rollEffect {
	switch ev := ev.(type) {
	case changed:
		*r = roll{phase: trying}
		return tryBuild
	case moved:
		if r.phase == rolling {
			*r = roll{}
			return finish
		}
	case hello, served, failed, died, tick:
		if r.phase == trying {
			return r.judge(now, ev)
		}
	}
	return keepOn
}

func (r *roll) judge(now time.Time, ev event) rollEffect {
	switch ev := ev.(type) {
	case hello:
		if r.greet.IsZero() {
			r.greet, r.until = now, now.Add(proofAfter)
		}
	case served:
		if ev.results > 0 {
			return r.believe()
		}
		r.until = now.Add(proofAtMost)
	case tick:
		if !r.until.IsZero() && !now.Before(r.until) {
			return r.believe()
		}
	case failed:
		return r.fail()
	case died:
		return r.fail()
	}
	return keepOn
}

func (r *roll) believe() rollEffect {
	*r = roll{phase: rolling}
	return moveOn
}

// fail counts a canary that has died. The next one is started after a while, as after any death.
func (r *roll) fail() rollEffect {
	r.failed++
	r.greet, r.until = time.Time{}, time.Time{}
	if r.failed < mostTrials {
		return keepOn
	}
	r.phase = held
	return holdBack
}

// settling tells a file that has come to rest from one that is being written.
type settling struct {
	image image
	since time.Time // it has been like this
}

// look takes in what is there now, and says whether it has been like this for long enough.
func (s *settling) look(now time.Time, im image, enough time.Duration) bool {
	if im != s.image {
		*s = settling{im, now}
	}
	return now.Sub(s.since) >= enough
}

// spate notices that the processes of a pool die again and again.
type spate struct {
	deaths []time.Time // early ones of late, oldest first; at most enough
	tryAt  time.Time   // the next try; zero = there is no spate
	since  time.Time
}

const (
	tooEarly = 10 * time.Second // a process that dies before has not lived
	within   = time.Minute
	enough   = 5 // so many early deaths make a spate
	tryEvery = 30 * time.Second
)

func (s *spate) on() bool { return !s.tryAt.IsZero() }

// died takes in a death that nobody asked for, and says whether a spate begins.
func (s *spate) died(now time.Time, uptime time.Duration) (begins bool) {
	if uptime >= tooEarly || s.on() {
		return false
	}
	s.deaths = append(s.deaths, now)
	if len(s.deaths) > enough {
		s.deaths = s.deaths[1:]
	}
	if len(s.deaths) < enough || now.Sub(s.deaths[0]) > within {
		return false
	}
	s.since, s.tryAt = now, now.Add(tryEvery)
	return true
}

// tries says whether it is time for another try.
func (s *spate) tries(now time.Time) bool {
	if !s.on() || now.Before(s.tryAt) {
		return false
	}
	s.tryAt = now.Add(tryEvery)
	return true
}

const (
	youngest    = time.Minute // a process that uses too much is not replaced before
	mostDoubled = 6           // times
)

// diet keeps a seat from getting one process after the other where each uses too much from its start.
type diet struct{ early int } // replacements in a row that came as soon as they could, or nearly so

// least is how old a process has to be before it is replaced for what it uses.
func (d diet) least(young time.Duration) time.Duration { return young << min(d.early, mostDoubled) }

// replaced takes in that a process of this age is.
func (d *diet) replaced(age, young time.Duration) {
	if age < 2*d.least(young) {
		d.early++
	} else {
		d.early = 0
	}
}

// wear is how much of its life a process has behind it.
type wear struct {
	strands int       // it has lived long enough then; 0 = never
	age     time.Time // or then; zero = never
}

// newWear draws the bounds of a process, each up to a tenth before the configured one.
func newWear(now time.Time, r Recycle, jitter func(time.Duration) time.Duration) wear {
	var w wear
	if r.Age > 0 {
		w.age = now.Add(r.Age - jitter(r.Age/10))
	}
	if r.Strands > 0 {
		w.strands = r.Strands - int(jitter(time.Duration(r.Strands/10)))
	}
	return w
}

// over says why a process has lived long enough; "" = it has not.
func (w wear) over(now time.Time, results int) string {
	switch {
	case !w.age.IsZero() && !now.Before(w.age):
		return "age"
	case w.strands > 0 && results >= w.strands:
		return "strands"
	}
	return ""
}
