package broker

import (
	"errors"
	"testing"
	"time"
)

func TestWhatComesBackIsCounted(t *testing.T) {
	b := newBench(t)
	c := newCounts()
	b.connect(t0, 1, "w", 2)
	c.count(t0, b.database, scanned{ScanResult: ScanResult{Candidates: []Candidate{due(1), due(2)}}})
	c.count(t0, b.database, scanned{err: errors.New("away")})
	pairs, _ := b.lease(t0, due(1), due(2))
	b.step(t0, reported{session: 1, re: 1, reports: []Report{exitOf(pairs[0]), exitOf(pairs[1])}})
	c.count(t0, b.database, verdicts(Applied, Stale))
	for _, h := range []Hint{{Connected: true}, {Presence: &Presence{}}, {Bad: "x"}, {Cancel: true}, {Lanes: true}, {}, {Due: []byte{1}}} {
		c.count(t0, b.database, hinted{h})
	}
	got := c.told(t0)
	equal(t, "scans", got.Calls["scan"], Calls{2, 1})
	equal(t, "found", got.Found, uint64(2))
	equal(t, "applied", got.Applied["exit"], uint64(1))
	equal(t, "stale", got.Verdicts["stale"], uint64(1))
	equal(t, "hints", got.Hints, map[string]uint64{"presence": 2, "cancel": 1, "lanes": 1, "due": 2})
	equal(t, "connects", got.Connects, uint64(1))
}

func TestDelaysAreCountedByTheirBounds(t *testing.T) {
	b := newBench(t)
	c := newCounts()
	b.connect(t0, 1, "w", 1)
	b.step(t0, scanned{ScanResult: ScanResult{Candidates: []Candidate{due(1)}}})
	var id ID
	for id = range b.runs {
	}
	c.count(t0+3*int64(time.Second), b.database, leased{granted: []Strand{{ID: id}}})
	c.start(t0, 0)
	c.start(t0, int64(time.Hour))
	got := c.told(t0 + 4*int64(time.Second)).Delays
	var want Delays
	want.Counts[0], want.Counts[11], want.Counts[len(DelayBounds)] = 1, 1, 1
	want.Sum, want.P50, want.P95 = time.Hour+3*time.Second, 3*time.Second, time.Hour
	equal(t, "delays", got, want)
}
