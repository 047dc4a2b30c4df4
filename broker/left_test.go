package broker

import "testing"

// What a worker has said that it holds, or that its result follows, is no one's to give back.
func TestOnlyWhatNoWorkerHoldsOfAFormerBrokersLeasesIsGivenBack(t *testing.T) {
	b := newBench(t)
	mark := Mark{1, 2, 3}
	leasedBefore := func(n byte) Pair { return Pair{strandID(n), Token{1, 2, 3, 15: n}} }
	held, done, lost := leasedBefore(1), leasedBefore(2), leasedBefore(3)
	b.connect(t0, 1, "w", 3, hold{held, "k", false}, hold{done, "k", true})
	fx := b.step(t0, reclaiming{[]Mark{mark}})
	equal(t, "asked", fx.left, []Mark{mark})
	b.renewing = nil // the renewal of what is held
	if fx = b.step(t0, foundLeft{err: ErrAway}); fx.left != nil {
		t.Error("asks again at once after an error")
	}
	fx = b.step(t0 + second)
	equal(t, "asked again", fx.left, []Mark{mark})
	b.renewing, b.renewDue = nil, false
	fx = b.step(t0+second, foundLeft{pairs: []Pair{held, done, lost}})
	equal(t, "given back", fx.commit, []Report{{Pair: lost, Act: Yield}})
	if fx = b.step(t0+2*second, verdicts(Applied)); fx.left != nil {
		t.Error("asks again after an answer")
	}
}

func TestTokensBeginWithTheMarkOfTheirBroker(t *testing.T) {
	one, other := newSchedule(ID{1}, [32]byte{1}, testLimits()), newSchedule(ID{1}, [32]byte{2}, testLimits())
	seen := map[Token]bool{}
	for range 1000 {
		token := one.token()
		if !one.mark.Marks(token) || other.mark.Marks(token) || seen[token] || token[6]>>4 != 4 || token[8]>>6 != 2 {
			t.Fatalf("token %s of a broker with mark %x", token, one.mark)
		}
		seen[token] = true
	}
	text, err := one.mark.MarshalText()
	var read Mark
	if err != nil || read.UnmarshalText(text) != nil || read != one.mark {
		t.Errorf("mark %x is read as %x", one.mark, read)
	}
	for _, bad := range []string{"", "00", "zz11223344556677", "001122334455667788"} {
		if new(Mark).UnmarshalText([]byte(bad)) == nil {
			t.Errorf("%q is read as a mark", bad)
		}
	}
}
