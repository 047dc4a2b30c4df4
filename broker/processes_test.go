package broker

import (
	"fmt"
	"strings"
	"testing"
)

// toldServed are [Processes] that write down what they are told of results.
type toldServed struct {
	Processes
	told []string
}

func (p *toldServed) Served(key string, results int) {
	p.told = append(p.told, fmt.Sprintf("%s %d", key, results))
}

func TestGoodResultsOfOurProcessesAreTold(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 3)
	granted, fx := b.lease(t0, due(1), due(2), due(3))
	equal(t, "handed strands", fx.handed, []string{"key of w"})
	failed := Report{Pair: granted[1], Seq: 1, Act: Fail}
	nap := Report{Pair: granted[2], Seq: 1, Act: Nap}
	b.step(t0, reported{session: 1, re: 7, reports: []Report{exitOf(granted[0]), failed, nap}})
	fx = b.step(t0, verdicts(Applied, Applied, Stale))
	equal(t, "brought good results", fx.served, []string{"key of w"})
}

func TestSupervisorIsToldOfResultsLessOftenTheMoreThereAre(t *testing.T) {
	p := &toldServed{}
	b, err := New(nil, p, Config{})
	if err != nil {
		t.Fatal(err)
	}
	b.handed("a")
	b.handed("a")
	for range 1000 {
		b.served("a")
	}
	if got := strings.Join(p.told[:4], ", "); got != "a 0, a 1, a 2, a 3" || len(p.told) > 100 {
		t.Errorf("was told %d times: %v", len(p.told), p.told)
	}
	b.schedule.exits["a"] = pastExit{}
	b.heed(exited{WorkerExit{Key: "a"}})
	b.served("a")
	if len(b.tallies) != 0 {
		t.Errorf("remembers %d processes that have ended", len(b.tallies))
	}
}
