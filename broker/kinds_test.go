package broker

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/respirated/respirated/protocol"
)

// serving has a broker of that number say which kinds it serves.
func serving(broker byte, number int, kinds ...string) Presence {
	return Presence{Broker: brokerID(broker), Number: number, Kinds: hashKinds(kinds)}
}

// newHirer is a seat whose workers serve these kinds.
func newHirer(t *testing.T, p Partition, kinds ...string) *seat {
	t.Helper()
	s := newSeat(t, p)
	s.place = newPlace(brokerID(9), s.Partition, 1)
	s.serves(t0, kinds)
	s.divide(t0)
	return s
}

// part is the part of a kind.
func (s *seat) part(kind string) string { return s.parts.among(kind).slice().String() }

func TestKindIsDividedAmongThoseWhoServeIt(t *testing.T) {
	s := newHirer(t, Partition{Number: 2}, "a", "b", "c").sit(t0, 2)
	s.heard(t0, serving(1, 1, "a"))
	s.heard(t0, serving(3, 3, "a", "b", "x"))
	s.heard(t0, serving(4, 4))
	s.divided(t0, 2, 3, "joined, 1 has come, 3 has come, 4 has come")
	for kind, want := range map[string]string{"a": "55555555-aaaaaaa9", "b": "00000000-7fffffff", "c": "00000000-ffffffff"} {
		equal(t, kind, s.part(kind), want)
	}
	equal(t, "divided otherwise", len(s.parts.otherwise), 2)
}

func TestKindsThatAllServeAreDividedInOneWay(t *testing.T) {
	s := newHirer(t, Partition{Number: 2}, "a", "b").sit(t0, 2)
	s.heard(t0, serving(1, 1, "a", "b", "x"))
	s.divided(t0, 2, 2, "joined, 1 has come")
	if s.parts.otherwise != nil || s.part("a") != "80000000-ffffffff" || len(s.parts.ours) != 1 {
		t.Errorf("got the parts %+v, want one", s.parts)
	}
}

func TestPartitionOfWhoHasNoWorkersGoesToTheOthers(t *testing.T) {
	s := newHirer(t, Partition{Number: 1}, "a").sit(t0, 1)
	s.heard(t0, serving(2, 2))
	s.divide(t0)
	s.divided(t0, 1, 1, "")
	s.heard(t0, serving(2, 2, "a"))
	s.divided(t0, 1, 2, "2 has workers")
	s.heard(t0, serving(2, 2, "a", "b"))
	s.divided(t0, 1, 2, "")
	s.heard(t0, serving(2, 2, "b"))
	s.divided(t0, 1, 2, "2 serves other kinds")
	equal(t, "part", s.part("a"), "00000000-ffffffff")
	s.heard(t0, serving(2, 2))
	s.divided(t0, 1, 1, "2 has no workers")
}

func TestPartitionWithoutWorkersIsNone(t *testing.T) {
	s := newHirer(t, Partition{Number: 1}).sit(t0, 1, present(2, 2))
	s.divided(t0, 0, 1, "joined, 2 has come")
	equal(t, "told", s.says(t0).Kinds, []uint32{})
	equal(t, "range", s.parts.division.slice().String(), "none")
	if s.parts.hull() != nowhere() || s.parts.mayHave([]byte{0, 0x80, 0xff}) || s.parts.elsewhere || s.parts.ofAll(7) != 0 {
		t.Errorf("got the parts %+v, want none", s.parts)
	}
}

func TestKindsOfWhoIsOnlyReadOfAreAll(t *testing.T) {
	s := newHirer(t, Partition{Number: 1}, "a").sit(t0, 1, present(2, 2))
	s.divided(t0, 1, 2, "joined, 2 has come")
	s.heard(t0, serving(2, 2, "b"))
	s.divided(t0, 1, 2, "2 serves other kinds")
	equal(t, "part", s.part("a"), "00000000-ffffffff")
	s.heard(t0, present(2, 2)) // an older build
	s.divided(t0, 1, 2, "2 serves other kinds")
	equal(t, "part", s.part("a"), "00000000-7fffffff")
}

func TestKindThatIsNewIsToldAtOnce(t *testing.T) {
	s := newHirer(t, Partition{Number: 1}, "a").sit(t0, 1)
	s.says(t0)
	now := t0 + second
	s.serves(now, []string{"a", "b"})
	s.divide(now)
	equal(t, "told", s.says(now).Kinds, hashKinds([]string{"a", "b"}))
}

func TestKindThatIsServedNoMoreIsGivenUpAfterABeat(t *testing.T) {
	s := newHirer(t, Partition{Number: 1}, "a", "b").sit(t0, 1)
	s.heard(t0, serving(2, 2, "a"))
	s.divided(t0, 1, 2, "joined, 2 has come")
	s.says(t0)
	now := t0 + second/2
	s.serves(now, []string{"a"})
	for ; now < t0+second/2+beat; now = s.next(now) {
		s.divided(now, 1, 2, "")
		if said := s.speak(now); said != nil {
			equal(t, "told", said.Kinds, hashKinds([]string{"a", "b"}))
			s.spoken(now, *said, nil)
		}
	}
	equal(t, "time", now, t0+second/2+beat)
	s.divided(now, 1, 2, "serves other kinds")
	equal(t, "told", s.says(now).Kinds, hashKinds([]string{"a"}))
}

func TestWorkersThatAreStartedAnewMoveNothing(t *testing.T) {
	s := newHirer(t, Partition{Number: 1}, "a", "b").sit(t0, 1)
	s.divided(t0, 1, 1, "joined")
	s.says(t0)
	for now := t0 + second; now < t0+20*second; now += 2 * second {
		s.serves(now, nil)
		s.serves(now+second/2, []string{"a"})
		s.serves(now+second, []string{"a", "b"})
		s.divided(now+beat, 1, 1, "")
	}
	for now := s.next(t0); now < t0+20*second; now = s.next(now) {
		if said := s.speak(now); said != nil {
			s.spoken(now, *said, nil)
			if now < t0+8*second {
				t.Errorf("told after %v, want no word before its time", time.Duration(now-t0))
			}
		}
	}
}

// A worker of another build takes the place of one: its kinds are told at once, and the others later.
func TestKindsThatTakeThePlaceOfOthersAreToldBeforeThoseAreGivenUp(t *testing.T) {
	s := newHirer(t, Partition{Number: 1}, "a").sit(t0, 1)
	s.divide(t0)
	s.serves(t0, []string{"b"})
	s.divide(t0)
	equal(t, "at once", s.says(t0).Kinds, hashKinds([]string{"a", "b"}))
	s.divide(t0 + beat)
	equal(t, "after a beat", s.says(t0+beat).Kinds, hashKinds([]string{"b"}))
}

func TestKindsThatAreTooManyToSayAreAll(t *testing.T) {
	var kinds []string
	for i := range mostKinds + 1 {
		kinds = append(kinds, fmt.Sprintf("%03d", i))
	}
	s := newHirer(t, Partition{Number: 1}, kinds...).sit(t0, 1)
	s.heard(t0, serving(2, 2, "007"))
	s.divided(t0, 1, 2, "joined, 2 has come")
	equal(t, "told", s.says(t0).Kinds, []uint32(nil))
	equal(t, "part of what both serve", s.part("007"), "00000000-7fffffff")
	equal(t, "part of what one serves", s.part("008"), "00000000-ffffffff")
	if n := len(hashKinds(kinds[1:])); n != mostKinds {
		t.Errorf("%d kinds are told of, want %d", n, mostKinds)
	}
}

func TestKindsCountForNothingByRespiratesRule(t *testing.T) {
	s := newHirer(t, Partition{Number: 1, Gaps: GapsOverdue}, "a").sit(t0, 1)
	s.heard(t0, serving(2, 2))
	s.divided(t0, 1, 2, "joined, 2 has come")
	equal(t, "told", s.says(t0).Kinds, []uint32(nil))
	equal(t, "part", s.part("a"), "00000000-7fffffff")
	s.serves(t0, nil)
	s.divided(t0+beat, 1, 2, "")
}

func TestKindsThatABrokerSaysItHas(t *testing.T) {
	some, none := []uint32{2, 4, 6}, []uint32{}
	for _, c := range []struct {
		kinds, those []uint32
		want         bool
	}{
		{some, some, true}, {some, []uint32{4}, true}, {some, none, true}, {some, []uint32{4, 5}, false}, {some, []uint32{7}, false},
		{some, nil, false}, {nil, some, true}, {nil, nil, true}, {none, nil, false}, {none, some, false}, {none, none, true},
	} {
		if got := hasKinds(c.kinds, c.those); got != c.want {
			t.Errorf("%v has %v: %v, want %v", c.kinds, c.those, got, c.want)
		}
	}
	if !hasKind(some, 4) || hasKind(some, 5) || !hasKind(nil, 5) || hasKind(none, 5) || sameKinds(nil, none) {
		t.Error("a kind is had that is not, or is not that is")
	}
}

func TestPartsOfDifferentKindsAreHeardOfTogether(t *testing.T) {
	first, last := division{1, 1, 4}, division{1, 4, 4}
	p := newParts(first, []string{"a", "b"}, map[string]division{"b": last})
	equal(t, "ours", p.ours, []Slice{{0, space / 4}, {3 * (space / 4), space}})
	equal(t, "announced", p.hull(), Slice{0, space})
	if !p.mayHave([]byte{0x3f}) || p.mayHave([]byte{0x40, 0xbf}) || !p.mayHave([]byte{0xc0}) || !p.elsewhere || p.ofAll(10) != 20 {
		t.Errorf("got %+v", p)
	}
	over := newParts(division{1, 2, 4}, []string{"a", "b", "c"}, map[string]division{"b": {1, 1, 2}, "c": {1, 2, 3}})
	equal(t, "what overlaps", over.ours, []Slice{{0, boundary(2, 3)}})
	only := newParts(first, []string{"b"}, map[string]division{"b": {1, 1, 1}})
	if only.elsewhere || !only.alone("b") || only.alone("a") || !only.hull().Whole() {
		t.Errorf("got %+v, want all of the one kind", only)
	}
}

// Of n brokers that serve the same each hears of an nth.
func TestPartsTellOfAllAsManyAsThereAreBrokers(t *testing.T) {
	for of := 1; of <= highestMost; of++ {
		for _, rank := range []int{1, 1 + of/2, of} {
			p := newParts(division{rank, rank, of}, []string{"k"}, nil)
			for _, n := range []int64{0, 1, busyAbove - 1, busyAbove} {
				if got := p.ofAll(n); got != n*int64(of) {
					t.Fatalf("%d of %d: %d tell of %d, want %d", rank, of, n, got, n*int64(of))
				}
			}
		}
	}
	if got := (parts{}).ofAll(7); got != 7 {
		t.Errorf("undivided, 7 tell of %d", got)
	}
}

// hire connects a worker that serves these kinds.
func (b *bench) hire(now int64, session sessionID, kinds ...string) effects {
	b.t.Helper()
	hello := greeted{session: session, worker: fmt.Sprint("w", session), name: "w"}
	for _, kind := range kinds {
		hello.kinds = append(hello.kinds, protocol.Kind{Name: kind})
	}
	return b.step(now, hello, wanted{session: session, n: 5})
}

// newMixed is a broker with number 1 whose workers serve a and b, beside one that serves b alone. Nothing is in flight.
func newMixed(t *testing.T) *bench {
	t.Helper()
	b := newShare(t, Partition{Number: 1})
	b.hire(t0, 1, "a", "b")
	fx := b.step(t0, joined{Joined: Joined{Number: 1}})
	fx = b.step(t0, told{Presence: *fx.present}, hinted{Hint{Presence: fx.present}})
	b.other(t0, "b")
	b.step(t0, scanned{}, announced{})
	b.step(t0+hintApart, scanned{}, announced{})
	b.rest(t0 + second)
	return b
}

// rest answers all that is asked, until nothing is.
func (b *bench) rest(now int64) {
	for fx := b.step(now); fx.scan != nil || fx.announce != nil || fx.present != nil; {
		var evs []event
		if fx.scan != nil {
			evs = append(evs, scanned{ScanResult: ScanResult{Settled: true}})
		}
		if fx.announce != nil {
			evs = append(evs, announced{})
		}
		if fx.present != nil {
			evs = append(evs, told{Presence: *fx.present})
		}
		fx = b.step(now, evs...)
	}
}

// other has the other broker say what it serves.
func (b *bench) other(now int64, kinds ...string) effects {
	p := serving(2, 2, kinds...)
	return b.step(now, hinted{Hint{Presence: &p}})
}

func TestScanIsForThePartOfEachKind(t *testing.T) {
	b := newMixed(t)
	now := t0 + 2*second
	fx := b.step(now, hinted{})
	if s := fx.scan; s == nil || s.SliceOf("a", Queue{}) != (Slice{0, space}) || s.SliceOf("b", Queue{}) != (Slice{0, space / 2}) {
		t.Fatalf("scan %+v, want one for all of a and the lower half of b", fx.scan)
	}
	upper := func(kind string) Candidate {
		return Candidate{ID: ID{0: 0x90, 15: kind[0]}, Kind: kind, Priority: 5, Age: time.Hour}
	}
	fx = b.step(now, scanned{ScanResult: ScanResult{Candidates: []Candidate{upper("a"), upper("b")}}})
	for _, p := range fx.lease {
		if r := b.runs[p.ID]; r.foreign != (r.kind == "b") {
			t.Errorf("a strand of %s in the upper half is of another's part: %v", r.kind, r.foreign)
		}
	}
	equal(t, "leased", len(fx.lease), 2)
	b.step(now, leased{granted: strandsOf(fx.lease)})
	equal(t, "threshold, which does not count what nobody else could start", b.scanner.delays.overdue(now), 5*time.Second)
}

func TestPartOfAKindThatMovesIsScannedFromTheBottomAndAnnounced(t *testing.T) {
	b := newMixed(t)
	now := t0 + 2*second
	fx := b.other(now, "a", "b")
	if s := fx.scan; s == nil || !s.Bottom || s.Otherwise != nil || s.Slice != (Slice{0, space / 2}) {
		t.Errorf("scan %+v, want one for the lower half from the bottom", fx.scan)
	}
	if a := fx.announce; a == nil || a.Slice != (Slice{0, space / 2}) || a.Rank != 1 || a.Members != 2 {
		t.Errorf("announced %+v, want the lower half", a)
	}
	equal(t, "why", fx.change.why, []string{"2 serves other kinds"})
	b.step(now, scanned{}, announced{})
	now += second
	fx = b.other(now)
	if s := fx.scan; s == nil || !s.Bottom || !s.Slice.Whole() || s.Otherwise != nil {
		t.Errorf("scan %+v, want one for everything from the bottom", fx.scan)
	}
}

func TestPartOfAKindThatMovesDuringAScanIsScannedAgain(t *testing.T) {
	b := newMixed(t)
	now := t0 + 2*second
	if fx := b.step(now, hinted{}); fx.scan == nil {
		t.Fatal("no scan is in flight")
	}
	b.other(now, "a", "b")
	if fx := b.step(now+1, scanned{}); fx.scan == nil || !fx.scan.Bottom || fx.scan.Otherwise != nil {
		t.Errorf("scan %+v, want one more from the bottom", fx.scan)
	}
}

func TestWorkersThatWantNothingGiveThePartUp(t *testing.T) {
	b := newMixed(t)
	now := t0 + 2*second
	b.step(now, wanted{session: 1, n: 0})
	if b.rest(now + beat - 1); b.place.parts.rank != 1 {
		t.Fatal("given up at once")
	}
	fx := b.step(now+beat, heard{1})
	if a := fx.announce; a == nil || a.Slice != nowhere() || a.Rank != 0 || a.Members != 1 {
		t.Errorf("announced %+v, want no part", a)
	}
	if p := fx.present; p == nil || len(p.Kinds) > 0 || p.Kinds == nil {
		t.Errorf("told %+v, want that nothing is served", p)
	}
	if b.step(now+beat, announced{}, told{Presence: *fx.present}, wanted{session: 1, n: 5}); !slices.Equal(b.place.kinds, []string{"a", "b"}) {
		t.Errorf("serves %v when the worker wants again", b.place.kinds)
	}
}

func TestWithoutElsewhereNothingIsLookedForThere(t *testing.T) {
	b := newMixed(t)
	now := t0 + 2*second
	b.other(now, "x")
	b.asks(now, now+20*second, func(now int64, req *ScanRequest) []Candidate {
		b.other(now, "x")
		if req.Overdue != 0 || !req.SliceOf("a", Queue{}).Whole() || !req.SliceOf("b", Queue{}).Whole() {
			t.Errorf("after %v a scan %+v, want all of a and b alone", time.Duration(now-t0), req)
		}
		return nil
	})
}

// Of a both hear half, and b is ours alone: a hint does not say of which kind it is, so it counts once where all are heard.
func TestBusyIsByTheShareOfIdsThatIsHeardOf(t *testing.T) {
	for hints, want := range map[int]bool{busyAbove - 1: false, busyAbove: true} {
		b := newMixed(t)
		now := t0 + second
		b.scanner.since = now
		for range hints {
			b.step(now, hinted{})
		}
		if b.step(now+rateWindow, heard{1}); b.scanner.busy != want {
			t.Errorf("after %d hints in a window: busy %t, want %t", hints, b.scanner.busy, want)
		}
	}
}

func TestSnapshotNamesTheRangesOfKindsThatAreDividedOtherwise(t *testing.T) {
	got := newMixed(t).snapshot(t0 + second).Partition
	equal(t, "otherwise", got.Otherwise, map[string]string{"a": "00000000-ffffffff"})
	equal(t, "range", got.Range, "00000000-7fffffff")
}
