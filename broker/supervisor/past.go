package supervisor

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/respirated/respirated/broker"
)

// What a daemon has learnt of its pools outlives it in workers.json, if it is killed or becomes another program: who follows
// does not try again at once what has failed. An orderly end, or another boot, forgets all but pauses: whoever starts a daemon
// then means what is there now.

// past is what a daemon leaves of a pool, besides its workers.
type past struct {
	Name   string `json:"name"`
	Paused bool   `json:"-"` // see [state]

	Configured string     `json:"configured,omitempty"` // the sum of the pool that Set is in place of
	Set        *Pool      `json:"set,omitempty"`        // what somebody has made of it; nil = nobody has
	Old        *pastBuild `json:"old,omitempty"`        // what its processes are started from; nil = what its path has
	failures
}

// pastBuild is a build as a later daemon may find it again.
type pastBuild struct {
	Pool  Pool   `json:"pool"`
	Image string `json:"image"` // "" = not known
}

// failures are those of a pool as it was started from one version of its binary in one way.
type failures struct {
	Image  string      `json:"image,omitempty"`
	RunsAs string      `json:"runs_as,omitempty"` // see [Pool.runsAs]
	Halted bool        `json:"halted,omitempty"`
	Held   bool        `json:"held,omitempty"`   // this version is held back, and another one goes on
	Deaths []time.Time `json:"deaths,omitempty"` // early ones of late
	Since  time.Time   `json:"looping,omitzero"` // it crash-loops; zero = it does not
	TryAt  time.Time   `json:"try_at,omitzero"`  // the next try then
	Seats  []pastSeat  `json:"seats,omitempty"`  // those that back off, or would do so for longer than usual
	Note   string      `json:"note,omitempty"`
}

// pastSeat is a seat whose last processes died too early.
type pastSeat struct {
	Index  int       `json:"index"`
	Deaths int       `json:"deaths"` // in a row
	Until  time.Time `json:"until,omitzero"`
}

// pool is what there is to run where this is configured: what somebody has made of it, unless it is configured in another way
// now.
func (p past) pool(configured Pool) (_ Pool, set bool) {
	if p.Set == nil || p.Set.Name != configured.Name || p.Configured != configured.sum() {
		return configured, false
	}
	return *p.Set, true
}

// of is what counts for this version, run like this. A clock that was set back, or a file that is damaged, has nobody wait for
// longer than usual.
func (f failures) of(image, runsAs string, now time.Time) failures {
	if f.Image != image || f.RunsAs != runsAs {
		return failures{}
	}
	f.Since, f.TryAt = earlier(f.Since, now), earlier(f.TryAt, now.Add(tryEvery))
	if f.Since.IsZero() != f.TryAt.IsZero() {
		f.Since, f.TryAt = now, now
	}
	f.Deaths = lateDeaths(f.Deaths, now)
	f.Seats = slices.Clone(f.Seats)
	for i := range f.Seats {
		s := &f.Seats[i]
		s.Deaths, s.Until = max(s.Deaths, 0), earlier(s.Until, now.Add(backoffCap))
	}
	return f
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// lateDeaths are the deaths that may still be part of a spate; nil = there is none.
func lateDeaths(deaths []time.Time, now time.Time) (kept []time.Time) {
	for _, at := range deaths {
		if ago := now.Sub(at); ago >= 0 && ago <= within {
			kept = append(kept, at)
		}
	}
	return kept[max(0, len(kept)-enough):]
}

// pasts are those of pools of which there is something to say.
func (l *loop) pasts(now time.Time) []past {
	all := make([]past, len(l.crews))
	for i, c := range l.crews {
		if all[i] = (past{Name: c.Name}); !l.quitting {
			all[i] = c.leave(now)
		}
		all[i].Paused = c.paused
	}
	for _, s := range l.seats {
		if s.crew == nil || s.old != nil || l.quitting {
			continue
		}
		if k := s.life.deaths(now); k > 0 {
			seat := pastSeat{Index: s.index, Deaths: k}
			if s.life.phase == waiting {
				seat.Until = s.life.until
			}
			p := &all[s.crew.place]
			p.Seats = append(p.Seats, seat)
		}
	}
	for i, c := range l.crews {
		if p := &all[i]; !reflect.ValueOf(p.failures).IsZero() {
			p.Image, p.RunsAs, p.Note = c.seen.String(), c.runsAs(), c.note
		}
	}
	return slices.DeleteFunc(all, func(p past) bool { return reflect.DeepEqual(p, past{Name: p.Name}) })
}

// leave is what a crew leaves, but for its seats.
func (c *crew) leave(now time.Time) past {
	p := past{Name: c.Name}
	if !reflect.DeepEqual(c.Pool, c.configured) {
		set := c.Pool
		p.Set, p.Configured = &set, c.configured.sum()
	}
	if c.next != nil || c.roll.phase == held {
		p.Old = &pastBuild{Pool: c.build.pool, Image: c.build.image.String()}
	}
	p.failures = failures{
		Halted: c.halted && c.next == nil, // or else it is another build that has halted it
		Held:   c.roll.phase == held,
		Deaths: lateDeaths(c.spate.deaths, now), Since: c.spate.since, TryAt: c.spate.tryAt,
	}
	return p
}

// recollect has a crew be what a former daemon has left of it, if it has.
func (l *loop) recollect(c *crew) {
	c.past, c.Pool = l.past[c.configured.Name], c.configured
	if p, set := c.past.pool(c.configured); set {
		if p, err := l.checkSet(p); err != nil && !errors.As(err, new(unfit)) {
			l.log.Warn("pool is as configured: it cannot be as it was set", "pool", c.configured.Name, "error", err)
		} else {
			c.Pool = p
			l.log.Info("pool goes on as it was set", "pool", c.Name, "procs", c.Procs)
		}
	}
	c.build = newBuild(c.Pool)
	c.seen = c.build.image
	f := c.past.of(c.seen.String(), c.runsAs(), time.Now())
	c.past.failures = f
	c.paused, c.halted = c.past.Paused, f.Halted
	c.spate = spate{deaths: f.Deaths, since: f.Since, tryAt: f.TryAt}
	if f.Held {
		c.roll.phase = held
	}
	if f.Halted || f.Held || c.spate.on() {
		c.note = f.Note
		l.log.Warn("pool goes on as a former daemon has left it", "pool", c.Name, "state", c.state(), "note", c.note)
	}
}

// remember has a seat back off for as long as a former daemon would have had it.
func (s *seat) remember() {
	for _, p := range s.crew.past.Seats {
		if p.Index != s.index {
			continue
		}
		s.life.k = p.Deaths
		if !p.Until.IsZero() && !s.life.halted {
			s.life.enter(waiting, p.Until)
		}
	}
}

// holdOn has the old build of a crew go on whose new one is held back. Where it is lost, and there are seats to fill, the new
// one is all there is: then one process of that is tried at a time.
func (l *loop) holdOn(c *crew) {
	c.build.close()
	c.build = l.formerBuild(c)
	if c.halted || c.build.image != (image{}) || l.seatOf(c, func(s *seat) bool { return s.proc == nil }) == nil {
		return
	}
	c.build, c.roll = newBuild(c.Pool), roll{}
	now := time.Now()
	c.spate, c.note, l.unsaved = spate{since: now, tryAt: now}, fmt.Sprintf("build %s was held back, but the old one is lost: one process is tried each %v", c.seen, tryEvery), true
	l.log.Error("pool has lost its old build: "+c.note, "pool", c.Name, "binary", c.Binary)
	l.tell(Event{Kind: EventLoop, Pool: c.Name, Text: c.note})
	for _, s := range l.seats {
		if s.crew != c {
			continue
		}
		if s.life.parks = true; s.proc == nil {
			s.life.enter(parked, time.Time{})
		}
	}
}

// build is what the processes of a pool were started from, as far as it can be found without them.
func (p past) build(wanted Pool, f *Former) *build {
	b := &build{pool: wanted}
	if p.Old != nil && p.Old.Pool.Name == wanted.Name && p.Old.Pool.checkFields() == nil {
		b.pool = p.Old.Pool
	}
	if file, im := f.file(wanted.Name); file != nil {
		b.file, b.image = file, im
	} else if p.Old != nil && p.Old.Image != "" {
		at := newBuild(b.pool)
		if at.image.String() == p.Old.Image {
			return at
		}
		at.close()
	}
	return b
}

// FormerFile is what processes of a pool are started from, where its binary's path leads elsewhere by now.
type FormerFile struct {
	Pool  string `json:"pool"`
	Image string `json:"image"`
	FD    int    `json:"fd"` // 0 = not open

	from *os.File
}

// Keep keeps open what the next program needs. undo is for when there is none.
func (f *Former) Keep() (undo func(), err error) {
	for i := range f.Files {
		if f.Files[i].FD, err = broker.KeepOpen(f.Files[i].from); err != nil {
			f.close()
			return nil, err
		}
	}
	return f.close, nil
}

// keptFiles are those for Keep.
func (l *loop) keptFiles() (files []FormerFile) {
	for _, c := range l.crews {
		if from := c.build.kept(); from != nil {
			files = append(files, FormerFile{Pool: c.Name, Image: c.build.image.String(), from: from})
		}
	}
	return files
}

// file takes out the one of a pool; nil = there is none.
func (f *Former) file(pool string) (*os.File, image) {
	if f == nil {
		return nil, image{}
	}
	for i := range f.Files {
		k := &f.Files[i]
		if k.Pool != pool || k.FD <= 0 {
			continue
		}
		unix.CloseOnExec(k.FD)
		file := os.NewFile(uintptr(k.FD), "old build of "+pool)
		k.FD = 0
		if im, err := imageOfFile(file); err == nil && im.String() == k.Image {
			return file, im
		}
		file.Close()
	}
	return nil, image{}
}

// close closes those that nobody has taken.
func (f *Former) close() {
	if f == nil {
		return
	}
	for i := range f.Files {
		if fd := f.Files[i].FD; fd > 0 {
			_ = unix.Close(fd) // ours
			f.Files[i].FD = 0
		}
	}
}
