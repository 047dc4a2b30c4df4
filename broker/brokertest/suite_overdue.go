package brokertest

import (
	"time"

	"github.com/respirated/respirated/broker"
)

// lower is the slice of who scans in the cases of overdue strands.
var lower = broker.Slice{Hi: 1 << 31}

const overdue = time.Minute

var overdueCases = []testCase{
	{"OverdueStrandsOfOthersAreFoundWithOnesOwn", func(tr *trial) {
		own := tr.insertAged(0x10, time.Second, "")
		tr.insertAged(0x90, overdue/2, "")
		old := tr.insertAged(0x90, 2*overdue, "")
		tr.insertAged(0xf0, -time.Hour, "")
		tr.findsOverdue(old, own)
		tr.equal("without the wish", candidates(tr.scan(broker.ScanRequest{Kinds: []string{kind}, Bottom: true, Slice: lower})), []broker.ID{own})
	}},
	{"OverdueStrandsAreFoundInTheOrderOfTheirStart", func(tr *trial) {
		third := tr.insertAged(0xf0, 3*overdue, "")
		second := tr.insertAged(0x20, 4*overdue, "")
		first := tr.insertAged(0x90, 5*overdue, "")
		urgent := tr.insertAged(0x91, 2*overdue, `{"priority":1}`)
		tr.findsOverdue(urgent, first, second, third)
	}},
	{"OverdueStrandsAreNoMoreThanTheLimit", func(tr *trial) {
		for age := range 10 {
			tr.insertAged(0x90, time.Duration(age+2)*overdue, "")
		}
		got := tr.scan(broker.ScanRequest{Kinds: []string{kind}, Bottom: true, Slice: lower, Overdue: overdue, Limit: 4})
		tr.equal("found", len(got.Candidates), 4)
		tr.equal("more", got.More, true)
	}},
	{"OverdueStrandsAreFoundAgainFromTheBottomAlone", func(tr *trial) {
		old := tr.insertAged(0x90, 2*overdue, "")
		tr.findsOverdue(old)
		tr.findsOverdue(old)
		got := tr.scan(broker.ScanRequest{Kinds: []string{kind}, Slice: lower, Overdue: overdue})
		tr.equal("found by going on", candidates(got), []broker.ID(nil))
	}},
	{"OverdueStrandsHideNothingOfOnesOwnFromLaterScans", func(tr *trial) {
		old := tr.insertAged(0x90, 2*overdue, "")
		own := tr.insertAged(0x10, 2*time.Second, "")
		tr.findsOverdue(old, own)
		late := tr.insertAged(0x11, time.Second, "")
		got := tr.scan(broker.ScanRequest{Kinds: []string{kind}, Slice: lower})
		tr.equal("found by going on", candidates(got), []broker.ID{late})
	}},
	{"OverdueStrandsThatCannotStartArePassedOver", func(tr *trial) {
		paused := tr.insertAged(0x90, 2*overdue, `{"queue":"q"}`)
		tr.store.Pause("", "q", true)
		leased := tr.insertAged(0x91, 2*overdue, "")
		tr.lease(leased)
		tr.findsOverdue()
		tr.store.Pause("", "q", false)
		tr.findsOverdue(paused)
	}},
	{"OverdueCountsFromTheEndOfALeaseThatRanOut", func(tr *trial) {
		id := tr.insertAged(0x90, 2*overdue, "")
		tr.lease(id)
		tr.expire(id)
		tr.findsOverdue()
		tr.store.Age(id, overdue)
		tr.findsOverdue(id)
	}},
	{"OverdueStrandsThatAreCancelledAreEndedByWhoeverScans", func(tr *trial) {
		id := tr.insertAged(0x90, 2*overdue, "")
		tr.lease(id)
		tr.store.Cancel(id)
		tr.expire(id)
		tr.store.Age(id, overdue)
		tr.findsOverdue()
		tr.finished(id, Cancelled)
	}},
	{"NextDueIsOfTheSliceAlone", func(tr *trial) {
		tr.insertAged(0x90, -time.Minute, "")
		tr.insertAged(0x10, -10*time.Minute, "")
		got := tr.scan(broker.ScanRequest{Kinds: []string{kind}, Bottom: true, Slice: lower, Overdue: overdue})
		tr.about("next due", got.NextDue, 10*time.Minute)
	}},
	{"AgeIsTheTimeSinceTheSchedule", func(tr *trial) {
		tr.insertAged(0x10, 5*time.Minute, "")
		tr.ages(5 * time.Minute)
	}},
	{"AgeIsTheTimeSinceTheEndOfALeaseThatRanOut", func(tr *trial) {
		id := tr.insertAged(0x10, time.Hour, "")
		tr.lease(id)
		tr.expire(id)
		tr.store.Age(id, 5*time.Minute)
		tr.ages(5 * time.Minute)
	}},
}

// insertAged adds a strand of the bucket that could have started so long ago.
func (tr *trial) insertAged(bucket byte, age time.Duration, opts string) broker.ID {
	tr.t.Helper()
	id := newID()
	id[0] = bucket
	tr.insertAs(id, kind, opts)
	tr.store.Age(id, age)
	return id
}

// findsOverdue checks what the owner of the lower half finds from the bottom, if it asks for what is overdue, too.
func (tr *trial) findsOverdue(want ...broker.ID) {
	tr.t.Helper()
	got := tr.scan(broker.ScanRequest{Kinds: []string{kind}, Bottom: true, Slice: lower, Overdue: overdue})
	tr.equal("found", candidates(got), want)
}

// ages checks how old the one strand is that is due, give or take what the test takes.
func (tr *trial) ages(want time.Duration) {
	tr.t.Helper()
	got := tr.scan(broker.ScanRequest{Kinds: []string{kind}, Bottom: true}).Candidates
	if len(got) != 1 || got[0].Age < want || got[0].Age > want+tolerance {
		tr.t.Errorf("found %+v, want one of age %v", got, want)
	}
}
