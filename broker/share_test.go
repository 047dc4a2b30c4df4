package broker

import (
	"fmt"
	"testing"
	"time"
)

// newShare is a schedule that shares the ids with others. Its broker has id 9.
func newShare(t *testing.T, p Partition) *bench {
	t.Helper()
	l := testLimits()
	var err error
	if l.partition, err = p.withDefaults(); err != nil {
		t.Fatal(err)
	}
	return benchOf(t, newSchedule(brokerID(9), [32]byte{1}, l))
}

// joinAs connects a worker and has the broker get a number beside others, and hear itself. It returns what follows.
func (b *bench) joinAs(now int64, number int, others ...Presence) effects {
	b.t.Helper()
	if fx := b.connect(now, 1, "w", 5); fx.join == nil {
		b.t.Fatal("no number is asked for")
	}
	fx := b.step(now, joined{Joined: Joined{Number: number, Members: others}})
	if fx.present == nil {
		b.t.Fatal("the others are not told")
	}
	return b.step(now, told{Presence: *fx.present}, presenceOf(9, number))
}

// calm answers what a broker asks when it has just joined, so that nothing is in flight.
func (b *bench) calm() {
	b.t.Helper()
	b.step(t0, scanned{}, announced{})
	b.step(t0 + hintApart) // the look after the first announcement
	if fx := b.step(t0+hintApart, scanned{ScanResult: ScanResult{Settled: true}}); fx.scan != nil || fx.announce != nil {
		b.t.Fatalf("scan %+v, announcement %+v; want calm", fx.scan, fx.announce)
	}
}

func presenceOf(broker byte, number int) hinted {
	p := present(broker, number)
	return hinted{Hint{Presence: &p}}
}

// at is a candidate with a place in the space of ids.
func at(place byte, age time.Duration) Candidate {
	return Candidate{ID: ID{0: place, 15: 1}, Kind: "k", Priority: 5, Age: age}
}

// asks lets time pass, with every scan answered by the candidates that answer gives, until it is over. Announcements and
// presences arrive.
func (b *bench) asks(from, until int64, answer func(now int64, req *ScanRequest) []Candidate) {
	fx := b.step(from)
	for now := from; now < until; {
		var evs []event
		if fx.scan != nil {
			evs = append(evs, scanned{ScanResult: ScanResult{Candidates: answer(now, fx.scan)}})
		}
		if fx.announce != nil {
			evs = append(evs, announced{})
		}
		if fx.present != nil {
			evs = append(evs, told{Presence: *fx.present}, hinted{Hint{Presence: fx.present}})
		}
		if fx.lease != nil {
			evs = append(evs, leased{granted: strandsOf(fx.lease)})
		}
		if evs == nil {
			now = max(now+1000, b.nextTick())
			evs = []event{heard{1}}
		}
		fx = b.step(now, evs...)
	}
}

func TestPartitionIsJoinedBeforeAnythingIsScannedOrAnnounced(t *testing.T) {
	b := newShare(t, Partition{Number: Auto})
	fx := b.connect(t0, 1, "w", 5)
	if fx.scan != nil || fx.announce != nil || fx.present != nil {
		t.Fatalf("scan %v, announcement %v, presence %v; want none before there is a number", fx.scan, fx.announce, fx.present)
	}
	equal(t, "asked", fx.join, &JoinRequest{Broker: brokerID(9), Most: 256})
	fx = b.step(t0, joined{Joined: Joined{Number: 1}})
	if fx.scan == nil || !fx.scan.Slice.Whole() || !fx.scan.Bottom {
		t.Errorf("scan %+v, want one for all ids from the bottom", fx.scan)
	}
	equal(t, "told", fx.present, &Presence{Broker: brokerID(9), Number: 1, Kinds: hashKinds([]string{"k"})})
	if a := fx.announce; a == nil || a.Number != 1 || a.Rank != 1 || a.Members != 1 {
		t.Errorf("announced %+v, want 1 of 1", a)
	}
}

func TestPartitionIsAskedForAgainAfterAnError(t *testing.T) {
	b := newShare(t, Partition{Number: 3})
	b.connect(t0, 1, "w", 5)
	if fx := b.step(t0, joined{err: ErrAway}); fx.join != nil {
		t.Fatal("asked again without a pause")
	}
	if at := b.nextTick(); at != t0+errorRetry {
		t.Errorf("the next step is after %v, want the retry", time.Duration(at-t0))
	}
	fx := b.step(t0 + errorRetry)
	equal(t, "asked", fx.join, &JoinRequest{Broker: brokerID(9), Number: 3, Most: 256})
}

func TestPartitionBesideOthersIsScannedWhenOwnPresenceIsHeard(t *testing.T) {
	b := newShare(t, Partition{Number: Auto})
	b.connect(t0, 1, "w", 5)
	fx := b.step(t0, joined{Joined: Joined{Number: 2, Members: []Presence{present(1, 1)}}})
	if fx.scan != nil {
		t.Fatal("scanned at once")
	}
	fx = b.step(t0+1, presenceOf(9, 2))
	if fx.scan == nil || fx.scan.Slice != (Slice{space / 2, space}) {
		t.Errorf("scan %+v, want one for the upper half", fx.scan)
	}
}

func TestPartitionThatDoesNotHearItselfIsScannedAfterTwoSeconds(t *testing.T) {
	b := newShare(t, Partition{Number: Auto})
	b.connect(t0, 1, "w", 5)
	b.step(t0, joined{Joined: Joined{Number: 2, Members: []Presence{present(1, 1)}}}, heard{1})
	for now := t0; now < t0+2*second; now = b.nextTick() {
		if fx := b.step(now); fx.scan != nil {
			t.Fatalf("scanned after %v", time.Duration(now-t0))
		}
	}
	if fx := b.step(t0 + 2*second); fx.scan == nil {
		t.Error("no scan after 2 s")
	}
}

func TestWithoutPartitionNobodyIsAskedOrTold(t *testing.T) {
	b := newBench(t)
	fx := b.connect(t0, 1, "w", 5)
	if fx.join != nil || fx.present != nil || fx.scan == nil || !fx.scan.Slice.Whole() {
		t.Errorf("join %v, presence %v, scan %+v; want a scan for everything alone", fx.join, fx.present, fx.scan)
	}
	b.asks(t0, t0+60*second, func(now int64, req *ScanRequest) []Candidate {
		if req.Overdue != 0 {
			t.Error("it asks for what is overdue elsewhere, and there is no elsewhere")
		}
		return nil
	})
	if fx := b.step(t0+60*second, presenceOf(2, 2)); fx.change != nil || !b.place.parts.hull().Whole() {
		t.Errorf("the presence of another changes %+v", fx.change)
	}
	if fx := b.step(t0+60*second, draining{by: t0 + 61*second}); fx.present != nil {
		t.Error("it says goodbye, and has never said that it is there")
	}
}

func TestPartitionThatChangesIsScannedFromTheBottomAndAnnouncedAtOnce(t *testing.T) {
	b := newShare(t, Partition{Number: 1})
	b.joinAs(t0, 1)
	b.calm()
	now := t0 + 2*second
	fx := b.step(now, presenceOf(2, 2))
	equal(t, "why", fx.change.why, []string{"2 has come"})
	if fx.scan == nil || fx.scan.Slice != (Slice{0, space / 2}) || !fx.scan.Bottom || fx.scan.Known {
		t.Errorf("scan %+v, want one for the lower half from the bottom", fx.scan)
	}
	if a := fx.announce; a == nil || a.Slice != (Slice{0, space / 2}) || a.Rank != 1 || a.Members != 2 {
		t.Errorf("announced %+v, want the lower half", a)
	}
}

func TestPartitionThatChangesDuringAScanIsScannedAgain(t *testing.T) {
	b := newShare(t, Partition{Number: 1})
	if fx := b.joinAs(t0, 1); !b.scanner.flying {
		t.Fatalf("no scan is in flight, but %+v", fx)
	}
	b.step(t0, presenceOf(2, 2))
	fx := b.step(t0+1, scanned{})
	if fx.scan == nil || fx.scan.Slice != (Slice{0, space / 2}) || !fx.scan.Bottom {
		t.Errorf("scan %+v, want one for the new part from the bottom", fx.scan)
	}
}

// TestPartitionThatHasMovedIsLookedAtOnceMoreWhenTheOthersKnow: until then inserters may have thought that nobody who is
// idle looks after these ids.
func TestPartitionThatHasMovedIsLookedAtOnceMoreWhenTheOthersKnow(t *testing.T) {
	b := newShare(t, Partition{Number: 1})
	b.joinAs(t0, 1, present(2, 2))
	b.calm()
	now := t0 + 2*second
	gone := present(2, 2)
	gone.Left = true
	if fx := b.step(now, hinted{Hint{Presence: &gone}}); fx.announce == nil {
		t.Fatal("the new part is not announced")
	}
	b.step(now, scanned{})
	if fx := b.step(now+hintApart, announced{}); fx.scan == nil || !fx.scan.Bottom {
		t.Errorf("scan %+v, want one more", fx.scan)
	}
}

func TestPartitionOfAnotherIsItsOwnAffair(t *testing.T) {
	b := newShare(t, Partition{Number: 1})
	b.joinAs(t0, 1, present(2, 2))
	b.calm()
	now := t0 + 2*second
	for _, h := range []struct {
		hint Hint
		want bool
	}{
		{Hint{Due: []byte{0x80, 0xff}}, false},
		{Hint{Presence: &Presence{Broker: brokerID(2), Number: 2}}, false},
		{Hint{Bad: "nonsense"}, false},
		{Hint{Due: []byte{0x80, 0x7f}}, true},
		{Hint{Due: []byte{0x00}}, true},
		{Hint{}, true},
		{Hint{Connected: true}, true},
		{Hint{Lanes: true, Due: []byte{0x80}}, true},
		{Hint{Cancel: true, Due: []byte{0x80}}, true},
	} {
		now += second / 10
		fx := b.step(now, hinted{h.hint})
		if (fx.scan != nil) != h.want {
			t.Errorf("hint %+v: scan %+v, want one: %v", h.hint, fx.scan, h.want)
		}
		for fx.scan != nil { // the first answer brings a round
			fx = b.step(now, scanned{ScanResult: ScanResult{Settled: true}})
		}
	}
}

// What a NOTIFY locks is the whole database, but of two brokers each hears of half of them.
func TestPartitionIsBusyAtItsShareOfTheNotifications(t *testing.T) {
	for hints, want := range map[int]bool{busyAbove/2 - 1: false, busyAbove / 2: true} {
		b := newShare(t, Partition{Number: 1})
		b.joinAs(t0, 1, present(2, 2))
		b.calm()
		now := t0 + second
		b.step(now, presenceOf(2, 2))
		b.scanner.since = now
		for range hints {
			b.step(now, hinted{})
		}
		if b.step(now+rateWindow, heard{1}); b.scanner.busy != want {
			t.Errorf("after %d hints in a window: busy %t, want %t", hints, b.scanner.busy, want)
		}
	}
}

func TestPartitionEdgesCountAsOwn(t *testing.T) {
	third := division{2, 2, 3}.slice() // 55555555 to aaaaaaaa
	for first, want := range map[byte]bool{0x54: false, 0x55: true, 0x80: true, 0xaa: true, 0xab: false} {
		if got := third.mayHave([]byte{first}); got != want {
			t.Errorf("%v may have an id that begins with %02x: %v, want %v", third, first, got, want)
		}
	}
}

func TestPartitionsOfOthersAreScannedForWhatIsOverdueEachFiveSeconds(t *testing.T) {
	offsets := map[int64]bool{}
	for seed := range byte(20) {
		b := newShare(t, Partition{Number: 1})
		b.place.dice.Seed(uint64(seed), 0)
		b.joinAs(t0, 1, present(2, 2))
		b.step(t0, scanned{}, announced{})
		var times []int64
		b.asks(t0, t0+30*second, func(now int64, req *ScanRequest) []Candidate {
			b.step(now, presenceOf(2, 2))
			if req.Overdue > 0 {
				equal(t, "threshold", req.Overdue, 5*time.Second)
				if !req.Bottom || req.Known {
					t.Errorf("asked by %+v, want a scan of all lanes from the bottom", req)
				}
				times = append(times, now)
			}
			return nil
		})
		if len(times) < 5 || len(times) > 6 {
			t.Fatalf("%d such scans in 30 s, want one each 5 s", len(times))
		}
		if times[0] > t0+5*second {
			t.Errorf("the first one is after %v", time.Duration(times[0]-t0))
		}
		offsets[(times[0]-t0)/(second/2)] = true
	}
	if len(offsets) < 5 {
		t.Errorf("20 brokers begin at %d different times, want them spread", len(offsets))
	}
}

// TestPartitionThresholdFollowsTheRealP95OfOwnDelays: as in respirate, but for the order.
func TestPartitionThresholdFollowsTheRealP95OfOwnDelays(t *testing.T) {
	var d delays
	equal(t, "without delays", d.overdue(t0), 5*time.Second)
	for range 19 {
		d.add(t0, 10*second)
	}
	d.add(t0, 60*second) // one of twenty
	equal(t, "with ten seconds", d.overdue(t0), 17*time.Second)
	d.add(t0, 60*second)
	equal(t, "with two of 21 above", d.overdue(t0), 77*time.Second)
	equal(t, "later", d.overdue(t0+11*second), 5*time.Second)
	for i := range 1000 {
		d.add(t0, int64(i)*second)
	}
	equal(t, "of the last 200", d.quantile(t0, 95), 989*second)
}

func TestPartitionThresholdCountsFromScheduleToStart(t *testing.T) {
	b := newShare(t, Partition{Number: 1})
	b.joinAs(t0, 1, present(2, 2))
	fx := b.step(t0, scanned{ScanResult: ScanResult{Candidates: []Candidate{at(0x10, 8*time.Second), at(0x90, time.Hour)}}})
	b.step(t0+2*second, leased{granted: strandsOf(fx.lease)})
	equal(t, "threshold", b.scanner.delays.overdue(t0+2*second), 17*time.Second)
}

func TestPartitionsOfOthersAreLookedAtAgainWhileTheyHaveOverdueStrands(t *testing.T) {
	for _, c := range []struct {
		name    string
		granted bool
		within  int64
	}{{"granted", true, second / 2}, {"locked by somebody", false, 5 * second}} {
		b := newShare(t, Partition{Number: 1})
		b.joinAs(t0, 1, present(2, 2))
		b.calm()
		b.scanner.oldAt = t0 + 2*second
		now := t0 + 2*second
		if fx := b.step(now, heard{1}, presenceOf(2, 2)); fx.scan == nil || fx.scan.Overdue == 0 {
			t.Fatalf("%s: scan %+v, want one for what is overdue", c.name, fx.scan)
		}
		fx := b.step(now, scanned{ScanResult: ScanResult{Candidates: []Candidate{at(0x90, time.Hour)}}})
		answer := leased{}
		if c.granted {
			answer.granted = strandsOf(fx.lease)
		}
		fx = b.step(now, answer)
		for fx.scan == nil || fx.scan.Overdue == 0 {
			evs := []event{heard{1}}
			if fx.scan != nil {
				evs = append(evs, scanned{})
			}
			now = max(now+1000, b.nextTick())
			fx = b.step(now, evs...)
		}
		if after := now - t0 - 2*second; after > c.within || !c.granted && after < c.within {
			t.Errorf("%s: the next one is after %v", c.name, time.Duration(after))
		}
	}
}

func TestPartitionScanThatFailsIsNotRepeatedAllTheTime(t *testing.T) {
	b := newShare(t, Partition{Number: 1})
	b.joinAs(t0, 1, present(2, 2))
	b.calm()
	b.scanner.oldAt = t0
	scans := 0
	fx := b.step(t0 + second)
	for now := t0 + second; now < t0+11*second; {
		evs := []event{heard{1}}
		if fx.scan != nil {
			scans++
			evs = append(evs, scanned{err: ErrAway})
		} else {
			now = max(now+1000, b.nextTick())
		}
		fx = b.step(now, evs...)
	}
	if most := int(10 * second / errorRetry); scans > most+1 || scans < most/2 {
		t.Errorf("%d scans in 10 s, want one each %v", scans, time.Duration(errorRetry))
	}
}

func TestPartitionIsGivenBackWhenTheDrainBegins(t *testing.T) {
	b := newShare(t, Partition{Number: 1})
	b.joinAs(t0, 1, present(2, 2))
	b.step(t0, scanned{}, announced{})
	now := t0 + second
	fx := b.step(now, draining{by: now + 30*second})
	equal(t, "told", fx.present, &Presence{Broker: brokerID(9), Number: 1, Left: true})
	if a := fx.announce; a == nil || a.Number != 0 || a.Slots != 0 {
		t.Errorf("announced %+v, want no slots and no number", a)
	}
	if fx.finished {
		t.Fatal("it ends before the others know")
	}
	if fx := b.step(now, presenceOf(3, 3)); fx.change != nil || fx.scan != nil {
		t.Errorf("a newcomer changes %+v, and brings the scan %+v", fx.change, fx.scan)
	}
	if fx := b.step(now, told{Presence: *fx.present}); !fx.finished || fx.present != nil || fx.join != nil {
		t.Errorf("finished %v, presence %v, join %v; want the end", fx.finished, fx.present, fx.join)
	}
}

func TestPartitionCostsOneStatementEachTwoSecondsAndFewSteps(t *testing.T) {
	b := newShare(t, Partition{Number: 1})
	b.joinAs(t0, 1, present(2, 2))
	b.step(t0, scanned{}, announced{})
	words, steps, spoken := 0, 0, t0
	b.scanner.settleEnd = 0
	fx := b.step(t0 + hintApart)
	for now := t0 + hintApart; now < t0+60*second; steps++ {
		evs := []event{heard{1}}
		if fx.scan != nil {
			evs = append(evs, scanned{ScanResult: ScanResult{Settled: true}})
		}
		if fx.announce != nil {
			evs = append(evs, announced{})
		}
		if fx.present != nil {
			words++
			evs = append(evs, told{Presence: *fx.present}, hinted{Hint{Presence: fx.present}})
		}
		if now-spoken > second {
			spoken = now
			evs = append(evs, presenceOf(2, 2))
		}
		if len(evs) == 1 {
			now = max(now+1000, b.nextTick())
		}
		fx = b.step(now, evs...)
	}
	if words < 30 || words > 41 {
		t.Errorf("%d presences in a minute, want one each 1.5 to 2 s", words)
	}
	if steps > 300 {
		t.Errorf("%d steps in a minute of idleness", steps)
	}
}

func TestPartitionSnapshotNamesTheMembers(t *testing.T) {
	b := newShare(t, Partition{Number: 2, Gaps: GapsOverdue})
	b.joinAs(t0, 2, present(1, 1))
	b.step(t0, presenceOf(3, 2))
	got := b.snapshot(t0 + second).Partition
	equal(t, "snapshot", got, &PartitionSnapshot{
		Number: 2, Rank: 2, Of: 2, Range: "80000000-ffffffff", Gaps: "overdue", Ready: true,
		Members: []MemberSnapshot{
			{Broker: brokerID(1).String(), Number: 1, SilentMS: -1},
			{Broker: brokerID(3).String(), Number: 2, SilentMS: 1000, Twin: true},
		},
	})
	if newBench(t).snapshot(t0).Partition != nil {
		t.Error("there is one without partitions")
	}
}

func TestPartitionReasonsAreFew(t *testing.T) {
	var why []string
	for i := range 256 {
		why = append(why, fmt.Sprint(i, " has come"))
	}
	equal(t, "reasons", reasons(why), "0 has come, 1 has come, 2 has come, 3 has come, 4 has come, and 251 more")
}
