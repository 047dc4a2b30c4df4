package broker

import (
	"testing"

	"github.com/respirated/respirated/protocol"
)

// agree has a worker say hello on terms, and want n strands of k.
func (b *bench) agree(now int64, session sessionID, uuid string, n int, t Terms) effects {
	return b.step(now,
		greeted{session: session, worker: uuid, key: "key of " + uuid, name: uuid, kinds: []protocol.Kind{{Name: "k"}}, terms: t},
		wanted{session: session, n: n},
	)
}

func TestAPausedWorkerFinishesWhatItHoldsAndGetsNothing(t *testing.T) {
	b := newBench(t)
	b.agree(t0, 1, "w", 2, Terms{})
	pairs, _ := b.lease(t0, due(1))
	b.step(t0, amended{"key of w", Terms{Paused: true}})
	fx := b.step(t0+6*second, found(due(2)), hinted{})
	if fx.lease != nil || fx.scan != nil {
		t.Errorf("lease %v, scan %+v for a paused worker", fx.lease, fx.scan)
	}
	if fx = b.step(t0+6*second, reported{session: 1, reports: []Report{exitOf(pairs[0])}}); len(fx.commit) != 1 {
		t.Errorf("commit %v, want the result of what it held", fx.commit)
	}
	b.step(t0+6*second, verdicts(Applied))
	if fx = b.step(t0+7*second, amended{"key of w", Terms{}}); fx.scan == nil || !fx.scan.Bottom {
		t.Fatalf("scan %+v when it is resumed, want one from the bottom", fx.scan)
	}
	equal(t, "leased", b.byWorker(b.step(t0+7*second, found(due(2))).lease), map[string]string{"w": "2"})
}

func TestWhatAPausedWorkerDoesNotGetGoesToOthers(t *testing.T) {
	b := newBench(t)
	b.agree(t0, 1, "v", 2, Terms{Paused: true})
	b.agree(t0, 2, "w", 2, Terms{})
	alone := due(2)
	alone.Alone = true
	fx := b.step(t0, found(due(1)))
	equal(t, "leased", b.byWorker(fx.lease), map[string]string{"w": "1"})
	b.step(t0, leased{}) // somebody else was faster
	equal(t, "leased", b.byWorker(b.step(t0+6*second, found(alone)).lease), map[string]string{"w": "2"})
}

// TestAChainEndsAtTheNextLabelOfAPausedWorker: the rest of the strand is for others.
func TestAChainEndsAtTheNextLabelOfAPausedWorker(t *testing.T) {
	b := newBench(t)
	b.agree(t0, 1, "w", 2, Terms{})
	pairs, _ := b.lease(t0, due(1))
	b.step(t0, amended{"key of w", Terms{Paused: true}})
	hop := Report{Pair: pairs[0], Seq: 1, Act: Hop, Label: "next", Stay: true}
	if fx := b.step(t0, reported{session: 1, reports: []Report{hop}}); len(fx.commit) != 1 || fx.commit[0].Stay {
		t.Errorf("commit %+v, want a hop that does not stay", fx.commit)
	}
}

// TestAKindIsRunAloneFromWhenItsPoolSaysSo: also what is at hand, and until it does not any more.
func TestAKindIsRunAloneFromWhenItsPoolSaysSo(t *testing.T) {
	b := newBench(t)
	b.agree(t0, 1, "w", 1, Terms{})
	pairs, _ := b.lease(t0, due(1))
	b.step(t0, found(due(2)))
	b.step(t0, wanted{session: 1, n: 10}, amended{"key of w", Terms{Isolate: []string{"k", "none of its kinds"}}})
	if fx := b.step(t0+6*second, found(due(2), due(3))); fx.lease != nil {
		t.Errorf("leased %v beside a strand that runs", fx.lease)
	}
	b.step(t0+6*second, reported{session: 1, reports: []Report{exitOf(pairs[0])}})
	fx := b.step(t0+6*second, verdicts(Applied))
	equal(t, "leased", b.byWorker(fx.lease), map[string]string{"w": "2"})
	if b.step(t0+6*second, amended{"key of w", Terms{}}); b.isolates("k") {
		t.Error("the kind is run alone still")
	}
}

func TestTermsOfAProcessThatIsNotConnectedChangeNothing(t *testing.T) {
	b := newBench(t)
	b.agree(t0, 1, "w", 1, Terms{})
	b.step(t0, amended{"key of another", Terms{Paused: true}}, amended{"", Terms{Paused: true}})
	b.lease(t0, due(1))
	b.step(t0, parted{1}, amended{"key of w", Terms{Paused: true}})
	b.step(t0, greeted{session: 2, worker: "w", key: "key of w", kinds: []protocol.Kind{{Name: "k"}}, terms: Terms{Paused: true}}, wanted{session: 2, n: 5})
	if fx := b.step(t0+6*second, found(due(2))); fx.lease != nil {
		t.Errorf("leased %v for a worker that came back paused", fx.lease)
	}
}
