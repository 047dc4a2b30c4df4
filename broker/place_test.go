package broker

import (
	"strings"
	"testing"
	"time"
)

// brokerID is that of a broker in the tests of a place, whose own is 9.
func brokerID(n byte) ID { return ID{15: n} }

// seat is a place in a test, with what it says of changes.
type seat struct {
	t *testing.T
	place
}

func newSeat(t *testing.T, p Partition) *seat {
	t.Helper()
	p, err := p.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	s := &seat{t, newPlace(brokerID(9), p, 1)}
	s.serves(t0, []string{"k"})
	s.divide(t0)
	return s
}

// sit has the place get a number beside others that the database knows.
func (s *seat) sit(now int64, number int, others ...Presence) *seat {
	s.t.Helper()
	if !s.join(now) {
		s.t.Fatal("the place does not ask for a number")
	}
	s.joined(now, Joined{number, others}, nil)
	return s
}

// says checks what the place tells now, and has it told, without that anybody hears it.
func (s *seat) says(now int64) Presence {
	s.t.Helper()
	said := s.speak(now)
	if said == nil {
		s.t.Fatal("the place says nothing")
	}
	s.spoken(now, *said, nil)
	return *said
}

// echo has the place hear itself.
func (s *seat) echo(now int64) { s.heard(now, Presence{Broker: s.self, Number: s.number}) }

// beats has the place say and hear its own word whenever it wants to, until then.
func (s *seat) beats(from, until int64) {
	for now := from; now < until; now = s.next(now) {
		if said := s.speak(now); said != nil {
			s.spoken(now, *said, nil)
			s.echo(now)
		}
	}
}

// divided checks the division, and why it is so; "" = it is as before.
func (s *seat) divided(now int64, rank, of int, why string) {
	s.t.Helper()
	got := ""
	if c := s.divide(now); c != nil {
		got = strings.Join(c.why, ", ")
	}
	equal(s.t, "why", got, why)
	if d := s.parts.division; d.rank != rank || d.of != of {
		s.t.Errorf("rank %d of %d, want %d of %d", d.rank, d.of, rank, of)
	}
}

func present(broker byte, number int) Presence {
	return Presence{Broker: brokerID(broker), Number: number}
}

func TestPartitionPartsCoverAllIDsAndAreDisjoint(t *testing.T) {
	for n := 1; n <= 4096; n++ {
		end := uint64(0)
		for rank := 1; rank <= n; rank++ {
			part := division{rank, rank, n}.slice()
			if part.Lo != end || part.end() <= part.Lo {
				t.Fatalf("part %d of %d is %v, want one that begins at %08x", rank, n, part, end)
			}
			end = part.end()
		}
		if end != space {
			t.Fatalf("the last of %d parts ends at %x", n, end)
		}
	}
}

func TestPartitionBoundariesAreThoseOfRespirate(t *testing.T) {
	for of, want := range map[int]string{
		1: "00000000-ffffffff",
		2: "00000000-7fffffff 80000000-ffffffff",
		3: "00000000-55555554 55555555-aaaaaaa9 aaaaaaaa-ffffffff",
		6: "00000000-2aaaaaa9 2aaaaaaa-55555554 55555555-7fffffff 80000000-aaaaaaa9 aaaaaaaa-d5555554 d5555555-ffffffff",
	} {
		var got []string
		for rank := range of {
			got = append(got, division{rank + 1, rank + 1, of}.slice().String())
		}
		equal(t, "parts", strings.Join(got, " "), want)
	}
}

func TestPartitionThatCannotBeIsRefused(t *testing.T) {
	for _, p := range []Partition{
		{Number: 257}, {Number: -2}, {Number: 4, Most: 3}, {Number: 1, Most: -1}, {Number: 1, Most: 4097}, {Number: 1, Gaps: 7},
	} {
		if _, err := p.withDefaults(); err == nil {
			t.Errorf("%+v is taken", p)
		}
	}
	for _, p := range []Partition{{}, {Number: Auto}, {Number: 256}, {Number: 4096, Most: 4096}} {
		if _, err := p.withDefaults(); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

func TestPartitionNumbersThatComeAreHeardAtOnce(t *testing.T) {
	s := newSeat(t, Partition{Number: 1}).sit(t0, 1)
	s.divided(t0, 1, 1, "joined")
	s.heard(t0, present(2, 2))
	s.divided(t0, 1, 2, "2 has come")
	s.heard(t0, present(3, 3))
	s.divided(t0, 1, 3, "3 has come")
	s.heard(t0, present(3, 3))
	s.divided(t0, 1, 3, "")
}

func TestPartitionGoodbyeIsHeardAtOnce(t *testing.T) {
	s := newSeat(t, Partition{Number: 2}).sit(t0, 2, present(1, 1), present(3, 3))
	s.divided(t0, 2, 3, "joined, 1 has come, 3 has come")
	s.heard(t0, Presence{Broker: brokerID(1), Number: 1, Left: true})
	s.divided(t0, 1, 2, "1 has left")
}

func TestPartitionDeadInTheMiddleLeavesNoGapByRank(t *testing.T) {
	s := newSeat(t, Partition{Number: 3}).sit(t0, 3, present(1, 1), present(2, 2))
	s.divided(t0, 3, 3, "joined, 1 has come, 2 has come")
	for now := t0; now < t0+7*second; now += second {
		s.heard(now, present(1, 1))
	}
	s.divided(t0+7*second, 2, 2, "2 is silent")
}

// TestPartitionDeadInTheMiddleLeavesAGapByRespiratesRule: n is the highest number heard.
func TestPartitionDeadInTheMiddleLeavesAGapByRespiratesRule(t *testing.T) {
	s := newSeat(t, Partition{Number: 1, Gaps: GapsOverdue}).sit(t0, 1)
	s.heard(t0, present(2, 2))
	s.heard(t0, present(3, 3))
	s.divided(t0, 1, 3, "joined, 2 has come, 3 has come")
	for now := t0; now < t0+7*second; now += second {
		s.heard(now, present(3, 3))
	}
	s.divided(t0+7*second, 1, 3, "")
	s.beats(t0+7*second, t0+14*second)
	s.divided(t0+14*second, 1, 1, "3 is silent")
}

func TestPartitionHighestNumberIsAtLeastOnesOwn(t *testing.T) {
	s := newSeat(t, Partition{Number: 200, Gaps: GapsOverdue}).sit(t0, 200, present(2, 2))
	s.divided(t0, 200, 200, "joined, 2 has come")
	if slice := s.parts.division.slice(); slice.Hi != space || slice.Lo != boundary(199, 200) {
		t.Errorf("slice %v, want the last of 200", slice)
	}
}

func TestPartitionCrashIsNoticedWithinSevenSecondsAndNotBeforeFour(t *testing.T) {
	for seed := range uint64(50) {
		s := newSeat(t, Partition{Number: 1})
		s.dice.Seed(seed, 0)
		s.sit(t0, 1)
		s.heard(t0, present(2, 2))
		s.divided(t0, 1, 2, "joined, 2 has come")
		s.beats(t0, t0+4*second)
		s.divided(t0+4*second, 1, 2, "")
		s.beats(t0+4*second, t0+7*second)
		s.divided(t0+7*second, 1, 1, "2 is silent")
	}
}

func TestPartitionOwnNumberIsNeverForgotten(t *testing.T) {
	s := newSeat(t, Partition{Number: 2}).sit(t0, 2, present(1, 1))
	for now := t0; now < t0+60*second; now += second {
		s.heard(now, present(1, 1))
	}
	s.heard(t0+60*second, Presence{Broker: s.self, Number: 2, Left: true})
	s.divided(t0+60*second, 2, 2, "joined, 1 has come")
}

func TestPartitionNobodyIsForgottenWhileNothingIsHeard(t *testing.T) {
	s := newSeat(t, Partition{Number: 1}).sit(t0, 1)
	s.heard(t0, present(2, 2))
	s.divided(t0, 1, 2, "joined, 2 has come")
	for now := t0; now < t0+60*second; now = s.next(now) {
		if said := s.speak(now); said != nil {
			s.spoken(now, *said, nil) // and nothing comes back
		}
	}
	now := t0 + 60*second
	s.echo(now)
	s.divided(now, 1, 2, "")
	s.connected(now)
	s.beats(now, now+4*second)
	s.divided(now+4*second, 1, 2, "")
	s.beats(now+4*second, now+7*second)
	s.divided(now+7*second, 1, 1, "2 is silent")
}

func TestPartitionThatIsNotOneChangesNothing(t *testing.T) {
	s := newSeat(t, Partition{Number: 1}).sit(t0, 1)
	for i, number := range []int{0, -1, 257, 1 << 40} {
		s.heard(t0, present(byte(i+1), number))
	}
	s.divided(t0, 1, 1, "joined")
}

func TestPartitionsInventedWithoutEndTakeLittleMemory(t *testing.T) {
	s := newSeat(t, Partition{Number: 1}).sit(t0, 1)
	for i := range 100_000 {
		s.heard(t0, Presence{Broker: ID{0: byte(i >> 16), 1: byte(i >> 8), 2: byte(i), 3: 1}, Number: 1 + i%256})
	}
	if n := len(s.others); n > 512 {
		t.Errorf("%d are kept, want at most two for each number", n)
	}
}

func TestPartitionNewcomerIsAnsweredAtOnceAndManyTogether(t *testing.T) {
	s := newSeat(t, Partition{Number: 1}).sit(t0, 1)
	s.says(t0)
	if at := s.next(t0); at < t0+7*second || at > t0+10*second {
		t.Errorf("alone, the next word is after %v, want about 10 s", time.Duration(at-t0))
	}
	now := t0 + second
	s.heard(now, present(2, 2))
	at := s.next(now)
	if at > now+int64(50*time.Millisecond) {
		t.Errorf("the answer comes after %v", time.Duration(at-now))
	}
	s.says(at)
	words := 0
	for n := byte(3); n < 203; n++ {
		s.heard(at+int64(n), present(n, int(n)))
	}
	for now = at; now < at+second; now = s.next(now) {
		if said := s.speak(now); said != nil {
			s.spoken(now, *said, nil)
			words++
		}
	}
	if words != 1 {
		t.Errorf("%d words for 200 newcomers, want 1", words)
	}
}

func TestPartitionIsToldEachTwoSecondsOrABitSooner(t *testing.T) {
	s := newSeat(t, Partition{Number: 1}).sit(t0, 1, present(2, 2))
	last := t0
	s.says(t0)
	s.echo(t0)
	for range 100 {
		at := s.next(last)
		s.says(at)
		if gap := at - last; gap < beat*3/4 || gap > beat {
			t.Errorf("%v between two words, want 1.5 to 2 s", time.Duration(gap))
		}
		last = at
	}
}

func TestPartitionIsScannedFromItsOwnEchoOnOrAfterTwoSeconds(t *testing.T) {
	s := newSeat(t, Partition{Number: Auto})
	if s.ready(t0) {
		t.Error("ready before it has joined")
	}
	s.sit(t0, 2, present(1, 1))
	if s.ready(t0) || !s.ready(t0+2*second) {
		t.Error("beside others it must wait, for two seconds at most")
	}
	s.says(t0)
	s.echo(t0 + 1)
	if !s.ready(t0 + 1) {
		t.Error("its own word has come back, so all that was said is heard")
	}
	if alone := newSeat(t, Partition{Number: Auto}).sit(t0, 1); !alone.ready(t0) {
		t.Error("alone it has nothing to wait for")
	}
	if none := newSeat(t, Partition{}); !none.ready(t0) || none.join(t0) || none.next(0) != 0 {
		t.Error("without partitions it must wait for nothing, and join nobody")
	}
}

func TestPartitionNumberIsAskedForUntilThereIsOne(t *testing.T) {
	s := newSeat(t, Partition{Number: Auto})
	s.join(t0)
	s.joined(t0, Joined{}, ErrAway)
	now := s.next(t0)
	equal(t, "first retry", now, t0+errorRetry)
	s.join(now)
	s.joined(now, Joined{Members: []Presence{present(1, 1)}}, nil)
	equal(t, "second retry", s.next(now), now+noneFree)
	if s.ready(now+60*second) || s.speak(now) != nil {
		t.Error("it scans or speaks without a number")
	}
	now += noneFree
	s.sit(now, 7)
	s.divided(now, 1, 1, "joined")
}

func TestPartitionNumberOfTwoIsGivenUpByTheOneWithTheHigherID(t *testing.T) {
	low, high := newSeat(t, Partition{Number: Auto}), newSeat(t, Partition{Number: Auto})
	low.self = brokerID(3)
	low.place.members.self = brokerID(3)
	low.sit(t0, 2)
	high.sit(t0, 2)
	low.divide(t0)
	high.divide(t0)
	now := t0 + second
	low.heard(now, present(9, 2))
	high.heard(now, present(3, 2))
	for _, s := range []*seat{low, high} {
		if c := s.divide(now); c == nil || c.why != nil || len(c.twins) != 1 {
			t.Fatalf("change %+v, want the twin alone named", c)
		}
	}
	high.divide(now)
	if low.join(now) || !high.join(now) {
		t.Fatal("not the higher alone asks for another number")
	}
	high.joined(now, Joined{3, []Presence{present(3, 2)}}, nil)
	high.divided(now, 2, 2, "moved from 2 to 3")
	low.heard(now, present(9, 3))
	low.divided(now, 1, 2, "2 has become 3")
	low.divide(now + 10*second)
	if low.join(now + 10*second) {
		t.Error("the lower asks for another, too")
	}
}

func TestPartitionNumberThatIsFixedIsKeptBesideATwin(t *testing.T) {
	s := newSeat(t, Partition{Number: 2}).sit(t0, 2)
	s.heard(t0, present(1, 2))
	c := s.divide(t0)
	equal(t, "twins", c.twins, []ID{brokerID(1)})
	s.divide(t0 + 60*second)
	if s.join(t0 + 60*second) {
		t.Error("a fixed number is given up")
	}
	equal(t, "division", s.parts.division, division{2, 1, 1})
}

// TestPartitionNumberBesideATwinThatDoesNotYieldIsGivenUp: the twin may have been told its number.
func TestPartitionNumberBesideATwinThatDoesNotYieldIsGivenUp(t *testing.T) {
	s := newSeat(t, Partition{Number: Auto}).sit(t0, 2)
	s.heard(t0, present(10, 2))
	s.divide(t0)
	if at := t0 + twinPatience; s.divide(at) != nil || !s.join(at) {
		t.Error("the number is kept for ever")
	}
}

// TestPartitionNumberThatChangesIsToldTwice: the last word of the old one went before it, but some may hear it after.
func TestPartitionNumberThatChangesIsToldTwice(t *testing.T) {
	s := newSeat(t, Partition{Number: Auto}).sit(t0, 2)
	s.says(t0)
	if s.speak(t0+againApart) != nil {
		t.Error("a first number is told twice")
	}
	s.joined(t0+second, Joined{Number: 4}, nil)
	equal(t, "told", s.says(t0+second).Number, 4)
	equal(t, "told again", s.says(t0+second+againApart).Number, 4)
	if s.speak(t0+second+2*againApart) != nil {
		t.Error("a number that has changed is told a third time")
	}
}

func TestPartitionOfACrashedPredecessorIsNoTwin(t *testing.T) {
	s := newSeat(t, Partition{Number: 2}).sit(t0, 2, present(1, 2))
	if c := s.divide(t0); len(c.twins) != 0 {
		t.Errorf("twins %v, which the database alone knows", c.twins)
	}
}

func TestPartitionTwinOfWhomTheDatabaseKnewIsNamedOnceItIsHeard(t *testing.T) {
	s := newSeat(t, Partition{Number: 2}).sit(t0, 2, present(1, 2))
	s.divide(t0)
	s.heard(t0+second, present(1, 2))
	c := s.divide(t0 + second)
	if c == nil || c.why != nil {
		t.Fatalf("change %+v, want the twin alone named", c)
	}
	equal(t, "twins", c.twins, []ID{brokerID(1)})
	s.heard(t0+2*second, present(1, 2))
	if c := s.divide(t0 + 2*second); c != nil {
		t.Errorf("change %+v, want it named once", c)
	}
}

func TestPartitionGoodbyeIsToldOnceAndWaitsForTheWordOnItsWay(t *testing.T) {
	s := newSeat(t, Partition{Number: 2}).sit(t0, 2)
	first := s.speak(t0)
	s.leave(t0)
	if s.left(t0) || s.speak(t0) != nil {
		t.Fatal("it does not wait for the word on its way")
	}
	s.spoken(t0, *first, nil)
	goodbye := s.says(t0)
	equal(t, "goodbye", goodbye, Presence{Broker: s.self, Number: 2, Left: true})
	if !s.left(t0) || s.speak(t0+60*second) != nil || s.next(t0) != 0 {
		t.Error("it is not over with the goodbye")
	}
}

func TestPartitionGoodbyeThatHangsHoldsNobodyUp(t *testing.T) {
	s := newSeat(t, Partition{Number: 2}).sit(t0, 2)
	s.leave(t0)
	s.speak(t0)
	if s.left(t0) || !s.left(t0+goodbyeTime) {
		t.Error("want a wait of two seconds")
	}
}

// We may have missed words, and others ours.
func TestPartitionIsToldAtOnceWhenTheConnectionIsThereAgain(t *testing.T) {
	s := newSeat(t, Partition{Number: 2}).sit(t0, 2, present(1, 1))
	now := t0 + 10*second
	s.beats(t0, now)
	for said := s.speak(now); said != nil; said = s.speak(now) {
		s.spoken(now, *said, nil)
		s.echo(now)
	}
	s.connected(now)
	if s.speak(now) == nil {
		t.Error("nothing is told")
	}
}

func TestPartitionThatDoesNotHearItselfAsksForAnotherConnection(t *testing.T) {
	s := newSeat(t, Partition{Number: 2}).sit(t0, 2, present(1, 1))
	now, asked := t0, 0
	for ; now < t0+60*second; now = s.next(now) {
		if said := s.speak(now); said != nil {
			s.spoken(now, *said, nil)
		}
		if s.deaf() {
			asked++
		}
	}
	if asked < 60/7 || asked > 15 {
		t.Errorf("asked %d times in a minute, want once each three words", asked)
	}
	s.beats(now, now+60*second)
	if s.deaf() {
		t.Error("asked though all comes back")
	}
}
