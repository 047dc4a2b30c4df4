package broker

import (
	"container/heap"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// simulation is many brokers that share the ids, each with the real schedule, in virtual time. Between them is a database
// that can be away, and notifications that can be lost, late, twice, and in any order. Their workers want strands, and there
// are none, so that all they do is about each other.
type simulation struct {
	t      testing.TB
	chance *rand.Rand
	most   int // highest partition number
	gaps   Gaps
	kinds  []string // that there are; each broker serves all, unless they differ
	differ bool     // each serves some, drawn by lot

	now     int64
	agenda  agenda
	planned uint64
	brokers []*simBroker // those that are there, in the order in which they came
	born    uint64
	rows    map[ID]simRow // the table of brokers
	away    bool          // the database
	weather weather

	covers    map[string]*cover // by kind
	agreed    bool              // all brokers have the slices that they should have
	agreedAt  int64             // since when
	told      int               // notifications sent
	delivered int               // and received
	changes   int               // of slices
}

// weather is what becomes of notifications.
type weather struct {
	lost, twice float64       // share of them
	late        time.Duration // at most
}

// simRow is what the database knows of a broker.
type simRow struct {
	number int
	until  int64
}

// simBroker is one broker of a simulation.
type simBroker struct {
	*place
	works   []string // the kinds that its workers serve
	tick    *appointment
	gone    bool
	deaf    bool // its LISTEN connection is broken
	paused  bool
	backlog []func()         // what came while it was paused
	hearsAt int64            // when the last notification that was sent in good weather comes
	covers  map[string]Slice // what it is accounted for, by kind
	standing
}

// standing is what is known of a broker besides the slices it is accounted for.
type standing struct {
	serving bool // it takes part
	known   int  // its number
}

// appointment is something that happens at a time: to a broker, or to the world if there is none. A broker to which nothing
// happens looks at the clock.
type appointment struct {
	at     int64
	order  uint64 // among those of one time
	broker *simBroker
	do     func()
}

// agenda is a heap of appointments.
type agenda []*appointment

func (a agenda) Len() int      { return len(a) }
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a agenda) Less(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].order < a[j].order
}

// Push implements heap.Interface.
func (a *agenda) Push(x any) { *a = append(*a, x.(*appointment)) }

// Pop implements heap.Interface.
func (a *agenda) Pop() any {
	last := len(*a) - 1
	x := (*a)[last]
	(*a)[last], *a = nil, (*a)[:last]
	return x
}

func newSimulation(t testing.TB, seed uint64) *simulation {
	sim := &simulation{t: t, chance: rand.New(rand.NewPCG(seed, 0)), most: 1000, now: t0, rows: map[ID]simRow{}, covers: map[string]*cover{}}
	return sim.know("k")
}

// know says which kinds there are.
func (sim *simulation) know(kinds ...string) *simulation {
	sim.kinds, sim.covers = kinds, map[string]*cover{}
	for _, kind := range kinds {
		sim.covers[kind] = newCover(sim.now)
	}
	return sim
}

// draw is what the workers of a broker serve.
func (sim *simulation) draw() (kinds []string) {
	for _, kind := range sim.kinds {
		if !sim.differ || sim.chance.IntN(2) == 0 {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// hire has the workers of a broker serve these kinds from now on.
func (sim *simulation) hire(b *simBroker, kinds []string) {
	b.works = kinds
	sim.judge()
	sim.keep(&appointment{broker: b, do: func() { b.serves(sim.now, b.works) }})
}

// plan makes an appointment.
func (sim *simulation) plan(after time.Duration, a *appointment) *appointment {
	sim.planned++
	a.at, a.order = sim.now+int64(after), sim.planned
	heap.Push(&sim.agenda, a)
	return a
}

// after has something done after a while.
func (sim *simulation) after(d time.Duration, do func()) { sim.plan(d, &appointment{do: do}) }

// between is a time from least to most.
func (sim *simulation) between(least, most time.Duration) time.Duration {
	return least + time.Duration(sim.chance.Int64N(int64(most-least)+1))
}

// soon is how long database and network take for anything.
func (sim *simulation) soon() time.Duration {
	return sim.between(200*time.Microsecond, 5*time.Millisecond)
}

// run lets time pass.
func (sim *simulation) run(d time.Duration) {
	end := sim.now + int64(d)
	for len(sim.agenda) > 0 && sim.agenda[0].at <= end {
		a := heap.Pop(&sim.agenda).(*appointment)
		sim.now = a.at
		sim.keep(a)
	}
	sim.now = end
}

// keep has an appointment happen.
func (sim *simulation) keep(a *appointment) {
	switch b := a.broker; {
	case b == nil:
		a.do()
	case b.gone || a.do == nil && (a != b.tick || b.paused):
	case b.paused:
		b.backlog = append(b.backlog, a.do)
	default:
		if a.do != nil {
			a.do()
		}
		sim.look(b)
	}
}

// look does what a broker decides after something has happened.
func (sim *simulation) look(b *simBroker) {
	if b.join(sim.now) {
		sim.statement(b, func(err error) func() {
			got := sim.join(b, err)
			return func() {
				b.joined(sim.now, got, err)
				sim.after(sim.soon(), func() { sim.refresh(b) })
			}
		})
	}
	b.divide(sim.now)
	if said := b.speak(sim.now); said != nil {
		sim.statement(b, func(err error) func() {
			if err == nil {
				sim.notify(*said)
			}
			return func() { b.spoken(sim.now, *said, err) }
		})
	}
	b.tick = nil
	if next := b.next(sim.now); next > 0 {
		b.tick = sim.plan(time.Duration(max(next-sim.now, 0)), &appointment{broker: b})
	}
	sim.account(b)
}

// statement runs one in the database, and brings its answer.
func (sim *simulation) statement(b *simBroker, do func(err error) (answer func())) {
	sim.after(sim.soon(), func() {
		var err error
		if sim.away {
			err = ErrAway
		}
		sim.plan(sim.soon(), &appointment{broker: b, do: do(err)})
	})
}

// join is Store.Join.
func (sim *simulation) join(b *simBroker, err error) Joined {
	if err != nil || b.gone {
		return Joined{}
	}
	delete(sim.rows, b.self)
	got := Joined{Number: max(b.Partition.Number, 0)}
	taken := map[int]bool{}
	for id, row := range sim.rows {
		if row.until > sim.now {
			taken[row.number] = true
			got.Members = append(got.Members, Presence{Broker: id, Number: row.number})
		}
	}
	slices.SortFunc(got.Members, func(a, b Presence) int { return compareIDs(a.Broker, b.Broker) })
	for n := 1; got.Number == 0 && n <= b.Most; n++ {
		if !taken[n] {
			got.Number = n
		}
	}
	if got.Number != 0 {
		sim.rows[b.self] = simRow{got.Number, sim.now + int64(announceTTL)}
	}
	return got
}

// announce is Store.Announce, again and again.
func (sim *simulation) announce(b *simBroker) {
	if b.gone || b.leaving {
		return
	}
	sim.refresh(b)
	sim.after(time.Duration(announceEvery), func() { sim.announce(b) })
}

// refresh is one Store.Announce.
func (sim *simulation) refresh(b *simBroker) {
	if !sim.away && !b.gone && !b.paused && !b.leaving && !b.joining && b.number != 0 {
		sim.rows[b.self] = simRow{b.number, sim.now + int64(announceTTL)}
	}
}

// notify sends a presence to everybody who listens.
func (sim *simulation) notify(p Presence) {
	sim.told++
	for _, b := range sim.brokers {
		copies := 1
		if sim.chance.Float64() < sim.weather.lost {
			copies = 0
		} else if sim.chance.Float64() < sim.weather.twice {
			copies = 2
		}
		for range copies {
			delay := sim.soon() + sim.between(0, sim.weather.late)
			if sim.weather.late == 0 { // then Postgres keeps its promise: in the order of their commits
				delay = max(delay, time.Duration(b.hearsAt-sim.now))
				b.hearsAt = sim.now + int64(delay)
			}
			sim.after(delay, func() { sim.deliver(b, p) })
		}
	}
}

// deliver brings a presence to a broker, if it listens.
func (sim *simulation) deliver(b *simBroker, p Presence) {
	if b.deaf || sim.away || b.gone {
		return
	}
	sim.delivered++
	sim.keep(&appointment{broker: b, do: func() { b.heard(sim.now, p) }})
}

// start adds a broker: with that number, or the lowest that is free.
func (sim *simulation) start(number int) *simBroker {
	sim.born++
	var id ID
	binary.BigEndian.PutUint64(id[:], sim.chance.Uint64())
	binary.BigEndian.PutUint64(id[8:], sim.born)
	p := newPlace(id, Partition{Number: number, Most: sim.most, Gaps: sim.gaps}, sim.chance.Uint64())
	b := &simBroker{place: &p, covers: map[string]Slice{}}
	sim.brokers = append(sim.brokers, b)
	sim.judge()
	sim.connect(b, 0)
	sim.hire(b, sim.draw())
	sim.look(b)
	sim.after(time.Duration(announceEvery), func() { sim.announce(b) })
	return b
}

// connect has a broker listen after a while.
func (sim *simulation) connect(b *simBroker, after time.Duration) {
	b.deaf = true
	sim.after(after+sim.soon(), func() {
		switch {
		case b.gone:
		case sim.away:
			sim.connect(b, sim.between(0, 5*time.Second))
		default:
			b.deaf = false
			sim.keep(&appointment{broker: b, do: func() { b.connected(sim.now) }})
		}
	})
}

// crash ends a broker without a word.
func (sim *simulation) crash(b *simBroker) {
	b.gone = true
	sim.brokers = slices.DeleteFunc(sim.brokers, func(other *simBroker) bool { return other == b })
	sim.account(b)
	sim.judge()
}

// leave ends a broker in peace.
func (sim *simulation) leave(b *simBroker) {
	sim.keep(&appointment{broker: b, do: func() { b.leave(sim.now) }})
	sim.after(sim.soon(), func() { delete(sim.rows, b.self) }) // it announces that it has no number
	sim.after(100*time.Millisecond, func() {
		if !b.gone {
			sim.crash(b)
		}
	})
}

// pause stops a broker's process.
func (sim *simulation) pause(b *simBroker) {
	b.paused = true
	sim.account(b)
}

// resume lets a broker go on, with all that has come meanwhile. Its announcement is long due.
func (sim *simulation) resume(b *simBroker) {
	if b.gone {
		return // it was ended while it was paused
	}
	backlog := b.backlog
	b.paused, b.backlog = false, nil
	for _, do := range backlog {
		sim.keep(&appointment{broker: b, do: do})
	}
	sim.look(b)
	sim.after(sim.soon(), func() { sim.refresh(b) })
}

// some are so many brokers, drawn by lot.
func (sim *simulation) some(n int) []*simBroker {
	drawn := make([]*simBroker, 0, n)
	for _, i := range sim.chance.Perm(len(sim.brokers))[:n] {
		drawn = append(drawn, sim.brokers[i])
	}
	return drawn
}

// byNumber is the broker that is at this place among the numbers, from 0 on.
func (sim *simulation) byNumber(place int) *simBroker {
	sorted := slices.SortedFunc(slices.Values(sim.brokers), func(a, b *simBroker) int { return a.number - b.number })
	return sorted[place]
}

// account takes in what a broker looks after by now.
func (sim *simulation) account(b *simBroker) {
	before, changes := b.standing, sim.changes
	b.serving = !b.gone && !b.paused && !b.leaving && b.number != 0 && b.ready(sim.now)
	b.known = b.number
	for _, kind := range sim.kinds {
		slice := b.parts.among(kind).slice()
		covered, had := b.covers[kind]
		has := b.serving && slices.Contains(b.looksFor(), kind)
		if has && (slice.Lo >= slice.end() || slice.end() > space) {
			sim.t.Fatalf("after %v a broker has the range %v", time.Duration(sim.now-t0), slice)
		}
		if has == had && (!has || slice == covered) {
			continue
		}
		sim.changes++
		if had {
			sim.covers[kind].change(sim.now, covered, -1)
			delete(b.covers, kind)
		}
		if has {
			sim.covers[kind].change(sim.now, slice, +1)
			b.covers[kind] = slice
		}
	}
	if before != b.standing || changes != sim.changes { // most words change nothing, and there are many
		sim.judge()
	}
}

// looksFor are the kinds that the others believe a broker to look for. Its workers may be about to start anew.
func (b *simBroker) looksFor() []string {
	if b.gaps == GapsOverdue {
		return b.works
	}
	return b.place.kinds
}

// judge notes since when all brokers have the slices that they should have.
func (sim *simulation) judge() {
	if agreed := sim.agree(); agreed != sim.agreed {
		sim.agreed, sim.agreedAt = agreed, sim.now
	}
}

// agree says whether each broker has the slices that it should have.
func (sim *simulation) agree() bool {
	if slices.ContainsFunc(sim.brokers, func(b *simBroker) bool { return !b.serving }) {
		return false
	}
	for _, kind := range sim.kinds {
		if !sim.agreeOn(kind) {
			return false
		}
	}
	return true
}

// agreeOn says whether those who have workers for a kind, and nobody else, have the slices of it that they should have.
func (sim *simulation) agreeOn(kind string) bool {
	var numbers []int
	for _, b := range sim.brokers {
		if slices.Contains(b.works, kind) || sim.gaps == GapsOverdue {
			numbers = append(numbers, b.number)
		}
	}
	slices.Sort(numbers)
	numbers = slices.Compact(numbers)
	for _, b := range sim.brokers {
		got, has := b.covers[kind]
		if has != slices.Contains(b.works, kind) {
			return false
		}
		rank, of := 1+slices.Index(numbers, b.number), len(numbers)
		if sim.gaps == GapsOverdue {
			rank, of = b.number, numbers[of-1]
		}
		if has && (got.Lo != uint64(rank-1)<<32/uint64(of) || got.end() != uint64(rank)<<32/uint64(of)) {
			return false
		}
	}
	return true
}

// cover tells which of the ids of a kind are in somebody's slice, while anybody looks for it. It looks at so many places.
type cover struct {
	at      int64 // of the last change
	lookers int   // brokers that look for it
	holders [places]int
	since   [places]int64 // that nobody holds it
	bare    int           // places that nobody holds
	longest time.Duration // that a place was bare
	missing time.Duration // that places were bare, as a part of all
}

const places = 4096

func newCover(now int64) *cover {
	c := &cover{at: now, bare: places}
	c.bareSince(now)
	return c
}

// change takes in that a slice is held by one more, or one less.
func (c *cover) change(now int64, s Slice, by int) {
	if c.pass(now); c.lookers == 0 {
		c.bareSince(now)
	}
	c.lookers += by
	const each = space / places
	for i := (s.Lo + each - 1) / each; i < (s.end()+each-1)/each; i++ {
		before := c.holders[i]
		c.holders[i] += by
		switch {
		case before == 0:
			c.bare--
		case c.holders[i] == 0:
			c.bare++
			c.since[i] = now
		}
	}
}

// pass takes in that time has passed.
func (c *cover) pass(now int64) {
	if c.lookers > 0 {
		c.missing += time.Duration((now - c.at) * int64(c.bare) / places)
	}
	c.at = now
	if c.bare == 0 || c.lookers == 0 {
		return
	}
	for i, n := range c.holders {
		if n == 0 {
			c.longest = max(c.longest, time.Duration(now-c.since[i]))
		}
	}
}

// reset begins to count anew.
func (c *cover) reset(now int64) {
	c.pass(now)
	c.longest, c.missing = 0, 0
	c.bareSince(now)
}

func (c *cover) bareSince(now int64) {
	for i := range c.since {
		c.since[i] = now
	}
}
