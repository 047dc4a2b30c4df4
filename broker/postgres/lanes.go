package postgres

import (
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
	served  map[string][]lane // by kind, of queues that are not paused, as of the last scan from the bottom
	cursors map[int32]place
	floors  map[int32]place
	walks   map[string]walk // by kind
}

const (
	walkShare = 20 // a walk may take one part in so many of the time
	walkMost  = 10 * time.Second
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
	return &lanes{
		all:     make(map[int32]lane),
		served:  make(map[string][]lane),
		cursors: make(map[int32]place),
		floors:  make(map[int32]place),
		walks:   make(map[string]walk),
	}
}

// known says whether the lanes of all these kinds have been loaded.
func (l *lanes) known(kinds []string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, kind := range kinds {
		if _, ok := l.served[kind]; !ok {
			return false
		}
	}
	return true
}

// walkDue says whether the next load of these kinds should ask for the floors.
func (l *lanes) walkDue(kinds []string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(kinds, func(kind string) bool { return l.walks[kind].due(now) })
}

// load takes in the lanes of some kinds, and the floors if they were asked for. The scans start at the floors again.
func (l *lanes) load(kinds []string, found []lane, walked walk) {
	l.mu.Lock()
	defer l.mu.Unlock()
	stays := make(map[int32]bool, len(found))
	for _, f := range found {
		stays[f.number] = true
	}
	for _, kind := range kinds {
		for _, f := range l.served[kind] {
			if !stays[f.number] {
				delete(l.floors, f.number) // paused: nobody keeps its floor in mind meanwhile
			}
		}
		l.served[kind] = nil
		if walked.took > 0 {
			l.walks[kind] = walked
		}
	}
	for _, f := range found {
		l.all[f.number] = f
		l.served[f.kind] = append(l.served[f.kind], f)
		if f.floor.Valid {
			l.floors[f.number] = place{schedule: f.floor}
		}
	}
	clear(l.cursors)
}

// learn takes in lanes that were asked for by number.
func (l *lanes) learn(found []lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range found {
		l.all[f.number] = f
	}
}

// get gives a lane by number.
func (l *lanes) get(number int32) (lane, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, ok := l.all[number]
	return f, ok
}

// start lists the lanes of some kinds and where to go on in each.
func (l *lanes) start(kinds []string) ([]lane, []place) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var served []lane
	var places []place
	for _, kind := range kinds {
		for _, f := range l.served[kind] {
			served = append(served, f)
			places = append(places, l.placeOf(f.number))
		}
	}
	return served, places
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

// pass moves the cursor of a lane to a strand that a scan has returned.
func (l *lanes) pass(number int32, to place) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cursors[number] = to
}

// bare lists the lanes that keep no history, if no lane does; nil otherwise. Then done strands need only be deleted.
func (l *lanes) bare() []int32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var numbers []int32
	for number, f := range l.all {
		if f.history {
			return nil
		}
		numbers = append(numbers, number)
	}
	slices.Sort(numbers)
	return numbers
}
