package postgres

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/respirated/respirated/broker"
)

// lane is a row of respirate.lane, with what its queue adds.
type lane struct {
	number   int32
	tenant   string
	queue    string
	priority int16
	kind     string
	history  bool               // its queue keeps done strands
	floor    pgtype.Timestamptz // no runnable strand is below; invalid = not asked
}

func scanLane(row pgx.CollectableRow) (l lane, err error) {
	err = row.Scan(&l.number, &l.tenant, &l.queue, &l.priority, &l.kind, &l.history, &l.floor)
	return l, err
}

// place is where a scan of a lane goes on: behind the strand of this schedule and id.
type place struct {
	schedule pgtype.Timestamptz
	id       broker.ID
}

// spot is a lane and where its scan goes on.
type spot struct {
	lane
	place
}

var bottom = place{schedule: pgtype.Timestamptz{InfinityModifier: pgtype.NegativeInfinity, Valid: true}}

// lanes remembers the lanes and how far each has been scanned.
//
// The scan's index begins with the entries of strands that are gone. Normally vacuum and the scans themselves remove
// those, but not while some transaction pins the horizon; then they pile up, and whoever starts at the very bottom
// steps over all of them. So each lane has a floor, the place of its first live strand at some time, and scans start
// there. Two things can be due below a floor: a strand committed more than a second after its schedule, and one whose
// clock was set back. Both are found by the next scan that asks for the floors anew. That costs the walk, so it is done
// as often as it takes no more than a twentieth of the time, which without a pinned horizon is with nearly every scan
// from the bottom, and at the latest after ten seconds.
//
// Strands that run for long are no trouble: a renewed lease moves its strand up the index.
type lanes struct {
	mu      sync.Mutex // guards what follows
	all     map[int32]lane
	bare    []int32           // all their numbers, if none keeps history; else nil
	served  map[string][]lane // by kind, of queues that are not paused, when they were loaded last
	cursors map[int32]place
	floors  map[int32]place
	dry     map[int32]time.Time // when a scan since the last from the bottom left nothing due in the lane
	walks   map[string]walk     // by kind
	above   map[string]int      // by kind: strands that scans have found since its floors were asked for last, as many entries to step over
}

const (
	walkShare = 20 // a walk may take one part in so many of the time
	walkMost  = 10 * time.Second
	aboveMost = 500 // strands to step over are cheaper than a round trip
)

// walk is the last time that the floors of a kind were asked for, together with others perhaps.
type walk struct {
	at   time.Time
	took time.Duration
}

// due says whether the floors may be asked for again.
func (w walk) due(now time.Time) bool {
	return now.Sub(w.at) >= min(walkShare*w.took, walkMost)
}

func newLanes() *lanes {
	l := &lanes{}
	l.reset()
	return l
}

// reset forgets everything, since the server may be another one, whose lanes have other numbers.
func (l *lanes) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = make(map[int32]lane)
	l.bare = nil
	l.served = make(map[string][]lane)
	l.cursors = make(map[int32]place)
	l.floors = make(map[int32]place)
	l.dry = make(map[int32]time.Time)
	l.walks = make(map[string]walk)
	l.above = make(map[string]int)
}

// walkDue says whether the next load of these kinds should ask for the floors.
func (l *lanes) walkDue(kinds []string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(kinds, func(kind string) bool { return l.walks[kind].due(now) })
}

// near says whether the floors of these kinds are near enough to what is due now to start a scan there.
func (l *lanes) near(kinds []string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	above := 0
	for _, kind := range kinds {
		above += l.above[kind]
	}
	return above < aboveMost
}

// load takes in the lanes of some kinds, and their floors where those were asked for. The scans start at the floors again.
func (l *lanes) load(kinds []string, found []lane, walked walk) {
	l.mu.Lock()
	defer l.mu.Unlock()
	floors := l.drop(kinds)
	for _, f := range found {
		l.served[f.kind] = append(l.served[f.kind], f)
		if f.floor.Valid {
			l.floors[f.number] = place{schedule: f.floor}
		} else if floor, ok := floors[f.number]; ok {
			l.floors[f.number] = floor
		}
	}
	if walked.took > 0 {
		for _, kind := range kinds {
			l.walks[kind], l.above[kind] = walked, 0
		}
	}
	l.remember(found)
}

// drop forgets the lanes of some kinds and gives their floors. A lane that does not come back is paused, and while it is
// nobody keeps its floor up to date.
func (l *lanes) drop(kinds []string) map[int32]place {
	floors := make(map[int32]place)
	for _, kind := range kinds {
		for _, f := range l.served[kind] {
			if floor, ok := l.floors[f.number]; ok {
				floors[f.number] = floor
				delete(l.floors, f.number)
			}
		}
		l.served[kind] = nil
	}
	return floors
}

// learn takes in lanes that were asked for by number.
func (l *lanes) learn(found []lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remember(found)
}

func (l *lanes) remember(found []lane) {
	for _, f := range found {
		l.all[f.number] = f
	}
	l.bare = l.bare[:0:0]
	for number, f := range l.all {
		if f.history {
			l.bare = nil
			return
		}
		l.bare = append(l.bare, number)
	}
}

// get gives lanes by number, and lists those that are not known.
func (l *lanes) get(numbers []int32) (known map[int32]lane, unknown []int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	known = make(map[int32]lane)
	for i, number := range numbers {
		if i > 0 && number == numbers[i-1] {
			continue // as usual
		}
		if f, ok := l.all[number]; ok {
			known[number] = f
		} else {
			unknown = append(unknown, number)
		}
	}
	return known, unknown
}

// withoutHistory lists the lanes that keep none, if no lane does; else nil. Then done strands need only be deleted.
func (l *lanes) withoutHistory() []int32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bare
}

// few says whether it is worth while to look up the lanes of finished strands together.
func (l *lanes) few() bool {
	const most = 16
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.all) <= most
}

// start lists the lanes that a scan is about and where to go on in each, first those whose strands should start first, as far
// as we know; false = some kind has not been loaded. From the bottom means from the floors.
func (l *lanes) start(req broker.ScanRequest) (spots []spot, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, kind := range req.Kinds {
		lanes, ok := l.served[kind]
		if !ok {
			return nil, false
		}
		for _, f := range lanes {
			if !f.among(req.Queues) {
				continue
			}
			if req.Bottom {
				delete(l.cursors, f.number)
				delete(l.dry, f.number)
			}
			spots = append(spots, spot{f, l.placeOf(f.number)})
		}
	}
	if len(spots) > fewLanes {
		slices.SortStableFunc(spots, l.compare)
	}
	return spots, true
}

// among says whether the lane's queue is asked for, among those of its kind.
func (l *lane) among(queues map[string]broker.Queues) bool {
	some, limited := queues[l.kind]
	return !limited || some.Has(broker.Queue{Tenant: l.tenant, Name: l.queue})
}

// atFloors lists the lanes that a take is about and where their first strands are, as far as that is known and near.
func (l *lanes) atFloors(req broker.ScanRequest) (spots []spot) {
	if !l.near(req.Kinds) {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, kind := range req.Kinds {
		lanes, ok := l.served[kind]
		if !ok {
			return nil
		}
		for _, f := range lanes {
			if !f.among(req.Queues) {
				continue
			}
			at := spot{f, bottom}
			if floor, ok := l.floors[f.number]; ok {
				at.place = floor
			}
			spots = append(spots, at)
		}
	}
	return spots
}

// compare orders lanes by priority, then by what is next in them. In one that was dry that is what has come since, and as
// much of that as has been found is behind it.
func (l *lanes) compare(a, b spot) int {
	return cmp.Or(cmp.Compare(a.priority, b.priority), l.nextOf(a).Compare(l.nextOf(b)))
}

func (l *lanes) nextOf(s spot) time.Time {
	next := s.schedule.Time // the zero time for the bottom
	if at := l.dry[s.number]; at.After(next) {
		return at
	}
	return next
}

func (l *lanes) placeOf(number int32) place {
	if p, ok := l.cursors[number]; ok {
		return p
	}
	if p, ok := l.floors[number]; ok {
		return p
	}
	return bottom
}

// late is how long after its schedule a strand may be committed and is still found by the next scan that goes on. What
// takes longer is found by the next from the bottom.
const late = 50 * time.Millisecond

// pass moves the cursors of lanes to the last of the strands that a scan at that time has found, so many of each kind, or a
// moment before: others may be committed yet that come before those.
func (l *lanes) pass(last map[int32]place, found map[string]int, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for kind, n := range found {
		l.above[kind] += n
	}
	sure := at.Add(-late)
	for number, p := range last {
		if p.schedule.Time.After(sure) {
			p = place{schedule: pgtype.Timestamptz{Time: sure, Valid: true}}
		}
		l.cursors[number] = p
	}
}

// exhaust notes that a scan at that time has found all that was due in some lanes.
func (l *lanes) exhaust(spots []spot, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range spots {
		l.dry[s.number] = at
	}
}
