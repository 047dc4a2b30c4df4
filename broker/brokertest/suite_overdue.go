package brokertest

import (
	"time"

	"github.com/respirated/respirated/broker"
)

const overdue = time.Minute

// What is found by the owner of the upper half of the ids, who asks for what is overdue elsewhere, too.
var overdueCases = []testCase{
	{"OverdueStrandsComeBehindThoseOfBetterPriority", func(tr *trial) {
		old := tr.aged(0x10, 3*overdue)
		urgent := tr.insertAs(newIDAt(0x11), kind, `{"priority":1}`)
		tr.store.Age(urgent, 2*overdue)
		ours := tr.aged(0x90, time.Second)
		tr.findsOverdue(urgent, old, ours)
	}},
	{"OverdueStrandsHideNothingOfOnesOwnFromLaterScans", func(tr *trial) {
		old, ours := tr.aged(0x10, 2*overdue), tr.aged(0x90, 2*time.Second)
		tr.findsOverdue(old, ours)
		late := tr.aged(0x91, time.Second)
		tr.equal("found by going on", candidates(tr.scan(broker.ScanRequest{Kinds: []string{kind}, Slice: upperHalf})), []broker.ID{late})
	}},
	{"OverdueStrandsThatCannotStartArePassedOver", func(tr *trial) {
		paused := tr.insertAs(newIDAt(0x10), kind, `{"queue":"q"}`)
		tr.store.Age(paused, 2*overdue)
		tr.store.Pause("", "q", true)
		tr.lease(tr.aged(0x11, 2*overdue))
		tr.findsOverdue()
		tr.store.Pause("", "q", false)
		tr.findsOverdue(paused)
	}},
	{"OverdueStrandsThatAreCancelledAreEndedByWhoeverScans", func(tr *trial) {
		id := tr.aged(0x10, 2*overdue)
		tr.lease(id)
		tr.store.Cancel(id)
		tr.expire(id)
		tr.findsOverdue()
		tr.equal("live before it is overdue", tr.row(id).CancelAsked, true)
		tr.store.Age(id, 2*overdue)
		tr.findsOverdue()
		tr.finished(id, Cancelled)
	}},
	{"NextDueIsOfTheSliceAlone", func(tr *trial) {
		tr.aged(0x10, -time.Minute)
		tr.aged(0x90, -10*time.Minute)
		got := tr.scan(broker.ScanRequest{Kinds: []string{kind}, Bottom: true, Slice: upperHalf, Overdue: overdue})
		tr.about("next due", got.NextDue, 10*time.Minute)
	}},
}

// newIDAt draws an id that begins with a byte.
func newIDAt(first byte) broker.ID {
	id := newID()
	id[0] = first
	return id
}

func (tr *trial) findsOverdue(want ...broker.ID) {
	tr.t.Helper()
	got := tr.scan(broker.ScanRequest{Kinds: []string{kind}, Bottom: true, Slice: upperHalf, Overdue: overdue})
	tr.equal("found", candidates(got), want)
}
