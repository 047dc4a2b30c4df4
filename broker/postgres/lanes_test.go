package postgres

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/respirated/respirated/broker"
)

// A strand may be committed a little after its schedule, when a scan has already found one that comes after it. The scans
// that go on find it nevertheless.
func TestScanGoesOnAMomentBeforeWhatHasJustBecomeDue(t *testing.T) {
	at := time.Now()
	for name, c := range map[string]struct{ found, want time.Time }{
		"long due":        {at.Add(-time.Second), at.Add(-time.Second)},
		"due just before": {at.Add(-late / 2), at.Add(-late)},
		"due at the scan": {at, at.Add(-late)},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLanes()
			l.pass(map[int32]place{7: {pgtype.Timestamptz{Time: c.found, Valid: true}, broker.ID{1}}}, nil, at)
			if got := l.placeOf(7).schedule.Time; !got.Equal(c.want) {
				t.Errorf("goes on %v before the scan, want %v", at.Sub(got), at.Sub(c.want))
			}
		})
	}
}

// Lanes are asked in the order of what is next in them: by priority, then by time; what was found empty comes last.
func TestLanesAreAskedInTheOrderOfWhatIsNext(t *testing.T) {
	l := newLanes()
	now := time.Now()
	var found []lane
	for i := range int32(2 * fewLanes) {
		floor := pgtype.Timestamptz{Time: now.Add(-time.Duration(i) * time.Second), Valid: true}
		found = append(found, lane{number: i, kind: "k", priority: int16(5 - i%2), floor: floor})
	}
	l.load([]string{"k"}, found, walk{at: now, took: 1})
	const empty = 2*fewLanes - 1 // the oldest of the first priority
	l.exhaust([]spot{{lane: found[empty]}}, now)
	spots, _ := l.start(broker.ScanRequest{Kinds: []string{"k"}})
	last := fewLanes - 1 // of those of the first priority, which are odd
	for i, at := range spots[:last] {
		if want := int32(empty - 2*(i+1)); at.number != want {
			t.Fatalf("lane %d is asked as number %d, want %d", at.number, i, want)
		}
	}
	if got := spots[last].number; got != empty {
		t.Errorf("lane %d is the last of its priority, want the one that was found empty, %d", got, empty)
	}
}

// What has come into a lane since it was found empty may be much. As the scan goes on in it, others are next.
func TestLaneThatWasEmptyOnceDoesNotStayAhead(t *testing.T) {
	l := newLanes()
	now := time.Now()
	l.exhaust([]spot{{lane: lane{number: 1}}}, now)
	l.exhaust([]spot{{lane: lane{number: 2}}}, now.Add(time.Second))
	further := place{schedule: pgtype.Timestamptz{Time: now.Add(2 * time.Second), Valid: true}}
	l.pass(map[int32]place{1: further}, nil, now.Add(time.Minute))
	first, second := spot{lane{number: 1}, l.placeOf(1)}, spot{lane{number: 2}, l.placeOf(2)}
	if l.compare(second, first) >= 0 {
		t.Error("the lane that was found empty first is asked first, want the one where less has been found since")
	}
}

// The entries of what scans have found since the floors were asked for are stepped over by each scan from there. Those of
// another kind may have been asked for alone.
func TestFloorsAreLeftBehindByWhatScansFind(t *testing.T) {
	l := newLanes()
	now := time.Now()
	load := func(kind string, number int32) {
		l.load([]string{kind}, []lane{{number: number, kind: kind, floor: pgtype.Timestamptz{Time: now, Valid: true}}}, walk{at: now, took: 1})
	}
	both := []string{"k", "other"}
	load("k", 1)
	l.pass(nil, map[string]int{"k": aboveMost - 1}, now)
	if !l.near(both) {
		t.Errorf("after %d strands the floors count as far, want near", aboveMost-1)
	}
	l.pass(nil, map[string]int{"k": 1}, now)
	load("other", 2)
	if l.near(both) {
		t.Errorf("after %d strands the floors count as near, want far", aboveMost)
	}
	if !l.near(both[1:]) {
		t.Error("the floors of another kind count as far, want near")
	}
	load("k", 1)
	if !l.near(both) {
		t.Error("floors that have just been asked for count as far, want near")
	}
}
