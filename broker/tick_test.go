package broker

import "testing"

// steps counts how often a schedule to which nothing happens asks to be called within d. Each step takes a microsecond.
func (b *bench) steps(now, d int64) (n int) {
	for end := now + d; now < end; n++ {
		now = max(now+1000, b.nextTick())
		b.step(now)
	}
	return n
}

// TestWaitingForAnAnswerNeedsNoSteps: the database may hang for half a minute, and must not cost a core meanwhile.
func TestWaitingForAnAnswerNeedsNoSteps(t *testing.T) {
	for name, prepare := range map[string]func(*bench){
		"a renewal is due while a commit is in flight": func(b *bench) {
			pairs, _ := b.lease(t0, due(1), due(2))
			b.step(t0, hinted{Hint{Cancel: true}})
			b.step(t0, renewed{kept: []Kept{{Pair: pairs[0]}, {Pair: pairs[1]}}})
			b.step(t0, reported{session: 1, re: 1, reports: []Report{exitOf(pairs[0])}})
			b.step(t0+second, hinted{Hint{Cancel: true}})
		},
		"a report waits while a renewal is in flight": func(b *bench) {
			pairs, _ := b.lease(t0, due(1), due(2))
			b.step(t0, reported{session: 1, re: 1, reports: []Report{exitOf(pairs[0])}})
			b.step(t0, committed{err: ErrAway})
			b.step(t0 + errorRetry)
			b.step(t0+errorRetry, verdicts(Applied))
			b.step(t0+second, hinted{Hint{Cancel: true}})
			b.step(t0+second, reported{session: 1, re: 2, reports: []Report{exitOf(pairs[1])}})
		},
		"a lease has failed and then nobody wants anything": func(b *bench) {
			b.step(t0, scanned{ScanResult: ScanResult{Candidates: []Candidate{due(1), due(2), due(3)}}})
			b.step(t0, leased{err: ErrAway}, wanted{session: 1, n: 0})
			b.step(t0, verdicts(Applied, Applied))
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.connect(t0, 1, "w", 2)
			b.step(t0, announced{})
			prepare(b)
			if n := b.steps(t0+second, 10*second); n > 30 {
				t.Errorf("%d steps in 10 s, want a few each second", n)
			}
		})
	}
}
