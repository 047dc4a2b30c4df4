package broker

import (
	"encoding/json"
	"hash/fnv"
	"slices"
)

// database is one of the databases whose strands a schedule hands out: what is known of it, and what is under way there.
// Workers and their credit belong to no database. At most one statement of each kind is in flight in each, and errors put
// off what goes to that one alone: a database that is down, or slow, holds up no other.
type database struct {
	s  *schedule // whose it is
	no int       // its place in s.databases

	buffer   buffer
	alone    []sighting // waiting for a worker of their own; at most leastAhead
	reserved []workerNo // kept free for them

	commits commits

	leasing    []Pair // in flight; nil = none
	leaseAsked int64
	leaseAfter int64 // not before, after an error
	taking     *take // in flight, or lost; nil = none
	left       left  // by former brokers
	renewing   []Pair
	renewAsked int64
	renewAfter int64
	renewDue   bool // some lease may be due for renewal

	calls     []called // from outside runs, in the order in which they came; at most mostCalls, and maxBytes of them
	callBytes int      // what those hold
	calling   *called  // in flight; nil = none

	lent int // slots of runs here that have been given to other databases' strands

	place   place
	scanner scanner
	notice  notice
}

func newDatabase(s *schedule, no int, seed uint64) *database {
	return &database{
		s: s, no: no,
		buffer:  newBuffer(),
		commits: commits{carriers: map[copyOf]carrier{}},
		place:   newPlace(s.broker, s.partition, seed+uint64(no)),
		notice:  notice{changed: true},
	}
}

// take takes in the answer to a statement, or a hint.
func (d *database) take(now int64, ev event, fx *effects) {
	switch ev := ev.(type) {
	case hinted:
		d.hint(now, ev.Hint)
	case scanned:
		d.scanner.found(d, now, ev)
	case leased:
		d.grant(now, ev, fx)
	case took:
		d.took(now, ev, fx)
	case foundLeft:
		d.foundLeft(now, ev)
	case recovered:
		d.recovered(now, ev)
	case committed:
		d.settle(now, ev, fx)
	case renewed:
		d.extend(now, ev, fx)
	case joined:
		d.place.joined(now, ev.Joined, ev.err)
	case announced:
		d.notice.told(d, now, ev.err)
	case told:
		d.place.spoken(now, ev.Presence, ev.err)
	case inserted:
		d.inserted(ev, fx)
	case signalled:
		d.signalled(ev, fx)
	default:
		panic("bug: unknown event")
	}
}

// ask decides which statements are next.
func (d *database) ask(now int64, req *requests) {
	d.divide(now, req)
	d.recover(now, req)
	d.askLeft(now, req)
	d.scanner.decide(d, now, req)
	d.write(now, req)
	d.callNext(req)
	d.notice.decide(d, now, req)
}

// next is when something becomes possible here by time alone, later than after; 0 = never.
func (d *database) next(after int64) (next int64) {
	for _, at := range []int64{d.scanner.next(d), d.commits.next(), d.notice.next(), d.leaseAfter, d.recoverNext(), d.left.next(), d.renewNext(), d.place.next(after)} {
		if at > after && (next == 0 || at < next) {
			next = at
		}
	}
	return next
}

// settled says whether nothing is under way here any more.
func (d *database) settled(now int64) bool {
	return d.commits.empty() && d.leasing == nil && d.taking == nil && d.renewing == nil && d.calling == nil && len(d.calls) == 0 && d.place.left(now)
}

// behind says whether this database does not answer. What waits for it shall not take the slots of others' strands.
func (d *database) behind(now int64) bool {
	late := func(asked int64) bool { return now-asked >= lateAnswer }
	return d.commits.after > now || d.commits.flying != nil && late(d.commits.asked) || d.leasing != nil && late(d.leaseAsked)
}

// discard drops a candidate.
func (d *database) discard(id ID) {
	d.buffer.discard(id)
	d.alone = slices.DeleteFunc(d.alone, func(c sighting) bool { return c.ID == id })
}

// of is the database that a run is in.
func (s *schedule) of(r *run) *database { return s.databases[r.of] }

// after is the database to ask when d does not know a strand.
func (s *schedule) after(d *database) *database { return s.databases[(d.no+1)%len(s.databases)] }

// others is how many more databases may be asked for a strand that one does not know.
func (s *schedule) others() int { return len(s.databases) - 1 }

// look has every database scanned, since workers want something else.
func (s *schedule) look() {
	for _, d := range s.databases {
		d.scanner.now = true
	}
}

// announce has every database be told what is new about our workers.
func (s *schedule) announce() {
	for _, d := range s.databases {
		d.notice.changed = true
	}
}

// lendSlots gives the slots that wait for a database which does not answer to the strands of the others. No more of its own
// is leased until all of them are settled, so that what a worker holds is bounded by what it wants, once for each database.
// With one database there is nobody to lend to.
func (s *schedule) lendSlots(now int64) {
	for _, d := range s.databases {
		if s.others() == 0 || !d.behind(now) {
			continue
		}
		for _, r := range s.sorted(func(r *run) bool { return r.of == d.no && r.state != running && !r.lent }) {
			s.lend(r)
		}
	}
}

// lend frees the slot of a run that its worker is not done with.
func (s *schedule) lend(r *run) {
	w := s.workers[r.worker]
	if w == nil {
		return
	}
	r.lent = true
	w.lent++
	s.of(r).lent++
	s.free(w, r)
}

// unlend ends the loan of a run's slot, and says whether there was one. w is its worker, if there still is one.
func (s *schedule) unlend(w *worker, r *run) bool {
	if !r.lent {
		return false
	}
	r.lent = false
	s.of(r).lent--
	if w != nil {
		w.lent--
	}
	return true
}

// retake takes the slot of a run back, if it is free.
func (s *schedule) retake(w *worker, r *run) bool {
	if r.alone || w.credit() == 0 {
		return false
	}
	s.unlend(w, r)
	w.held++
	w.bytesHeld += r.bytes
	s.recount(w)
	return true
}

// DatabaseOf says to which of so many databases the strands of a tenant are inserted, from 0. It is what a broker over several
// databases does with what workers insert outside of runs, so that others who insert can do the same. No tenant is in the first.
func DatabaseOf(tenant string, databases int) int {
	if tenant == "" || databases < 2 {
		return 0
	}
	h := fnv.New32a()
	h.Write([]byte(tenant))
	return int(h.Sum32() % uint32(databases))
}

// homeOf is the database for inserts that are made together, and whether there is one for all of them.
func homeOf(inserts []Insert, databases int) (home int, one bool) {
	if databases < 2 {
		return 0, true
	}
	for i := range inserts {
		next := DatabaseOf(tenantOf(inserts[i].Opts), databases)
		if i > 0 && next != home {
			return 0, false
		}
		home = next
	}
	return home, true
}

// tenantOf reads the tenant out of options. Where there is none to read the store says what is wrong with them.
func tenantOf(opts []byte) string {
	var said struct {
		Tenant string `json:"tenant"`
	}
	_ = json.Unmarshal(opts, &said)
	return said.Tenant
}
