package broker

import (
	"slices"
	"testing"
	"time"
)

// idle is a schedule whose worker has n free slots and which has found nothing.
func idle(t *testing.T, n int) *bench {
	b := newBench(t)
	b.mostTaken = 8
	b.connect(t0, 1, "w", n)
	b.step(t0, announced{}, scanned{})
	b.step(t0 + hintApart)
	b.step(t0+hintApart, scanned{})
	if b.scanner.flying || b.scanner.now {
		t.Fatal("it is not idle")
	}
	return b
}

// taking has a hint come to an idle schedule.
func taking(t *testing.T, n int) (b *bench, tokens []Token) {
	t.Helper()
	b = idle(t, n)
	fx := b.step(t0+second, hinted{})
	if fx.take == nil || fx.scan != nil {
		t.Fatalf("take %v, scan %v; want a take first", fx.take, fx.scan)
	}
	return b, fx.take.tokens
}

func takenUnder(tokens ...Token) took {
	var pairs []Pair
	for i, token := range tokens {
		pairs = append(pairs, Pair{strandID(byte(i + 1)), token})
	}
	return took{strands: strandsOf(pairs)}
}

func yielded(fx effects) (ids []ID) {
	for _, r := range fx.commit {
		if r.Act == Yield {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

func TestIdleBrokerTakesWhatAHintTellsOf(t *testing.T) {
	b, tokens := taking(t, 3)
	if len(tokens) != 3 || tokens[0] == tokens[1] {
		t.Fatalf("tokens %v, want one for each free slot", tokens)
	}
	fx := b.step(t0+second+1, takenUnder(tokens[0]))
	equal(t, "sent", sent(fx, 1), []string{"strands"})
	if fx.scan == nil || !fx.scan.Bottom || !fx.scan.Known {
		t.Errorf("scan %+v, want the one that the hint is for", fx.scan)
	}
	r := b.runs[strandID(1)]
	if end := t0 + second + int64(105*time.Second); r.leaseEnd != end {
		t.Errorf("the holder must have stopped at %d, want %d: by when the take was asked for", r.leaseEnd, end)
	}
	if fx := b.step(t0+2*second, scanned{}, hinted{}); fx.take == nil || len(fx.take.tokens) != 2 {
		t.Errorf("the next take is %+v, want one for the two slots that are left", fx.take)
	}
}

func TestNothingIsLeasedWhileATakeIsInFlight(t *testing.T) {
	b, _ := taking(t, 3)
	b.buffer.add(sighting{Candidate: due(9), area: "k"})
	if fx := b.step(t0 + second + 1); fx.lease != nil {
		t.Errorf("leased %v, want nothing: the slots may be taken", fx.lease)
	}
	if fx := b.step(t0+second+2, took{}); len(fx.lease) != 1 {
		t.Errorf("leased %v after the answer, want the candidate", fx.lease)
	}
}

func TestOnlyAnIdleBrokerTakes(t *testing.T) {
	for name, c := range map[string]struct {
		hints int
		set   func(*bench)
	}{
		"no slot for each hint":  {4, func(*bench) {}},
		"a want and no hint":     {0, func(b *bench) { b.scanner.now = true }},
		"busy":                   {1, func(b *bench) { b.scanner.busy, b.scanner.since = true, t0+second }},
		"a backlog":              {1, func(b *bench) { b.scanner.more = true }},
		"a round is due":         {1, func(b *bench) { b.scanner.bottomAt = t0 }},
		"lanes are new":          {1, func(b *bench) { b.scanner.walked = nil }},
		"a candidate is at hand": {1, func(b *bench) { b.buffer.add(sighting{Candidate: Candidate{ID: strandID(7), Kind: "other"}}) }},
		"a lease is in flight":   {1, func(b *bench) { b.leasing = []Pair{} }},
	} {
		t.Run(name, func(t *testing.T) {
			b := idle(t, 3)
			c.set(b)
			fx := b.step(t0+second, slices.Repeat([]event{hinted{}}, c.hints)...)
			if fx.take != nil || fx.scan == nil {
				t.Errorf("take %v, scan %v; want a scan", fx.take, fx.scan)
			}
		})
	}
}

func TestWhatWasTakenForNobodyIsGivenBack(t *testing.T) {
	for name, meanwhile := range map[string]event{
		"its worker has left":           parted{1},
		"its worker wants nothing more": wanted{session: 1},
	} {
		t.Run(name, func(t *testing.T) {
			b, tokens := taking(t, 1)
			b.step(t0+second+1, meanwhile)
			fx := b.step(t0+second+2, takenUnder(tokens[0]))
			equal(t, "given back", yielded(fx), []ID{strandID(1)})
			equal(t, "sent", sent(fx, 1), []string(nil))
		})
	}
}

// A nap may be committed, and its answer be under way, when the strand is taken.
func TestStrandThatIsTakenBeforeItsResultIsAnsweredIsGivenBack(t *testing.T) {
	b := idle(t, 2)
	pairs, _ := b.lease(t0+second, due(1))
	b.scanner.more, b.scanner.flying = false, false
	b.step(t0+second, reported{session: 1, re: 1, reports: []Report{{Pair: pairs[0], Seq: 1, Act: Nap}}})
	fx := b.step(t0+2*second, hinted{})
	if fx.take == nil {
		t.Fatalf("scan %v, want a take", fx.scan)
	}
	b.step(t0+2*second, takenUnder(fx.take.tokens[0]))
	fx = b.step(t0+2*second, verdicts(Applied))
	equal(t, "given back", yielded(fx), []ID{strandID(1)})
}

func TestTakeOfUnknownOutcomeIsGivenBack(t *testing.T) {
	b, tokens := taking(t, 2)
	b.step(t0+second, took{err: ErrAway})
	fx := b.step(t0 + second + errorRetry)
	if fx.held == nil || !slices.Equal(fx.held.tokens, tokens) || fx.held.ago != errorRetry {
		t.Fatalf("asked for %+v, want what is held under the tokens", fx.held)
	}
	b.step(t0+2*second, recovered{err: ErrAway})
	if fx = b.step(t0 + 2*second + errorRetry); fx.held == nil || !slices.Equal(fx.held.tokens, tokens) {
		t.Fatalf("asked for %+v, want the same again", fx.held)
	}
	if at := b.step(t0+3*second, draining{by: t0 + 60*second}); at.finished {
		t.Error("a drain ends before it is known what is held")
	}
	fx = b.step(t0+3*second, recovered{held: []Pair{{strandID(1), tokens[1]}}})
	equal(t, "given back", yielded(fx), []ID{strandID(1)})
	if b.taking != nil {
		t.Error("the tokens are still kept")
	}
}
