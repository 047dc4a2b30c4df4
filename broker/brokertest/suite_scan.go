package brokertest

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/respirated/respirated/broker"
)

var scanCases = []testCase{
	{"ScanFindsInOrderOfPriorityThenSchedule", func(tr *trial) {
		var want []broker.ID
		for _, c := range []struct {
			opts string
			age  time.Duration
		}{
			{`{"priority":1}`, time.Minute},
			{`{"priority":5}`, 5 * time.Minute},
			{`{"priority":5,"queue":"other"}`, 4 * time.Minute},
			{`{"priority":5,"tenant":"other"}`, 3 * time.Minute},
			{`{"priority":5,"queue":"other"}`, 2 * time.Minute},
			{`{"priority":9}`, time.Hour},
		} {
			id := tr.insert(c.opts)
			tr.store.Age(id, c.age)
			want = append(want, id)
		}
		tr.finds(want...)
	}},
	{"ScanFindsInOrderOfIDWhereSchedulesAreEqual", func(tr *trial) {
		ids := []broker.ID{{0x20, 2}, {0xF0, 3}, {0x10, 1}}
		at := time.Now().Add(time.Hour).Format(time.RFC3339)
		for _, id := range ids {
			tr.insertAs(id, kind, fmt.Sprintf(`{"at":%q}`, at))
			tr.store.Age(id, 2*time.Hour)
		}
		tr.finds(ids[2], ids[0], ids[1])
	}},
	{"ScanFindsFirstWhatCameFirst", func(tr *trial) {
		var want []broker.ID
		for range 5 {
			want = append(want, tr.insert(""))
		}
		tr.finds(want...)
	}},
	{"ScanFindsOnlyTheQueuesAskedFor", func(tr *trial) {
		a := tr.insertAs(newID(), "a", `{"queue":"x"}`)
		b := tr.insertAs(newID(), "a", `{"queue":"x","tenant":"t"}`)
		c := tr.insertAs(newID(), "a", "")
		d := tr.insertAs(newID(), "b", "")
		x, tx := broker.Queue{Name: "x"}, broker.Queue{Tenant: "t", Name: "x"}
		for _, c := range []struct {
			queues broker.Queues
			want   []broker.ID
		}{
			{broker.Queues{Names: []broker.Queue{x}}, []broker.ID{a, d}},
			{broker.Queues{Names: []broker.Queue{tx, {Name: "none"}}}, []broker.ID{b, d}},
			{broker.Queues{Names: []broker.Queue{x, tx}, But: true}, []broker.ID{c, d}},
			{broker.Queues{}, []broker.ID{d}},
		} {
			req := broker.ScanRequest{Kinds: []string{"a", "b"}, Queues: map[string]broker.Queues{"a": c.queues}, Bottom: true}
			tr.equal("found in some queues", candidates(tr.scan(req)), c.want)
		}
		tr.equal("found in all", candidates(tr.scan(broker.ScanRequest{Kinds: []string{"a", "b"}, Bottom: true})), []broker.ID{a, b, c, d})
	}},
	{"ScanOfSomeQueuesPassesOverNothingInOthers", func(tr *trial) {
		x := tr.insertAs(newID(), kind, `{"queue":"x"}`)
		other := tr.insert("")
		some := map[string]broker.Queues{kind: {Names: []broker.Queue{{Name: "x"}}}}
		tr.equal("found in x", candidates(tr.scan(broker.ScanRequest{Kinds: []string{kind}, Queues: some, Bottom: true})), []broker.ID{x})
		some = map[string]broker.Queues{kind: {Names: []broker.Queue{{Name: "x"}}, But: true}}
		tr.equal("found in the others", candidates(tr.scan(broker.ScanRequest{Kinds: []string{kind}, Queues: some})), []broker.ID{other})
	}},
	{"ScanTellsKindLabelAndPriority", func(tr *trial) {
		id := tr.insertAs(newID(), "other", `{"priority":3}`)
		got := tr.scan(broker.ScanRequest{Kinds: []string{"other"}})
		tr.equal("candidates", ageless(got), []broker.Candidate{{ID: id, Kind: "other", Queue: theQueue, Label: "start", Priority: 3}})
	}},
	{"ScanFindsOnlyTheKindsAskedFor", func(tr *trial) {
		a := tr.insertAs(newID(), "a", "")
		b := tr.insertAs(newID(), "b", "")
		tr.insertAs(newID(), "c", "")
		tr.findsOf([]string{"a", "b"}, a, b)
		tr.findsOf([]string{"b"}, b)
		tr.findsOf([]string{"z"})
	}},
	{"ScanFindsOnlyItsSlice", scanFindsOnlyItsSlice},
	{"ScanFindsOfEachKindOnlyItsSlice", scanFindsOfEachKindOnlyItsSlice},
	{"ScanPassesOverWhatCannotStart", func(tr *trial) {
		tr.insert(`{"in":3600}`)
		tr.insertLeased("")
		asked := tr.insertLeased("")
		tr.store.Cancel(asked.ID)
		tr.expire(asked.ID)
		unlock := tr.store.Lock(asked.ID)
		defer unlock()
		tr.finds()
	}},
	{"ScanFindsAStrandWhoseLeaseRanOut", func(tr *trial) {
		p := tr.insertLeased("")
		tr.expire(p.ID)
		tr.finds(p.ID)
	}},
	{"ScanFindsAStrandWhoseRenewedLeaseRanOut", func(tr *trial) {
		p := tr.insertLeased("")
		tr.renewed(p)
		tr.finds()
		tr.expire(p.ID)
		tr.finds(p.ID)
	}},
	{"ScanPassesOverAPausedQueueOfOneTenant", func(tr *trial) {
		paused := tr.insert(`{"queue":"q","tenant":"a"}`)
		other := tr.insert(`{"queue":"q","tenant":"b"}`)
		tr.store.Pause("a", "q", true)
		late := tr.insert(`{"queue":"q","tenant":"a"}`)
		tr.finds(other)
		tr.store.Pause("a", "q", false)
		tr.finds(paused, other, late)
	}},
	{"ScanFindsWhatBecameDueWhileItsQueueWasPaused", func(tr *trial) {
		id := tr.insert(`{"queue":"q","in":3600}`)
		tr.finds()
		tr.store.Pause("", "q", true)
		tr.store.Age(id, 2*time.Hour)
		tr.finds()
		tr.store.Pause("", "q", false)
		tr.finds(id)
	}},
	{"ScanFromTheBottomTakesNothing", func(tr *trial) {
		id := tr.insert("")
		tr.finds(id)
		tr.finds(id)
		tr.lease(id)
		tr.finds()
	}},
	{"ScanGoesOnBehindEarlierScans", scanGoesOnBehindEarlierScans},
	{"ScanWithoutBottomFindsWhatIsNew", func(tr *trial) {
		request := broker.ScanRequest{Kinds: []string{kind}}
		tr.insertDue(2 * time.Second)
		tr.insertDue(2 * time.Second)
		tr.finds(candidates(tr.scan(broker.ScanRequest{Kinds: []string{kind}, Bottom: true}))...)
		fresh := tr.insertDue(time.Second)
		tr.equal("found behind", candidates(tr.scan(request)), []broker.ID{fresh})
		tr.equal("found behind that", candidates(tr.scan(request)), []broker.ID(nil))
	}},
	{"ScanOfKnownLanesFindsWhatIsNewThere", func(tr *trial) {
		first := tr.insert("")
		tr.finds(first)
		tr.lease(first)
		fresh := []broker.ID{tr.insertDue(time.Second / 2), tr.insert("")}
		request := broker.ScanRequest{Kinds: []string{kind}, Bottom: true, Known: true}
		tr.equal("found in the known lanes", candidates(tr.scan(request)), fresh)
		tr.equal("found there again", candidates(tr.scan(request)), fresh)
	}},
	{"ScanTellsWhetherTheLimitWasReached", func(tr *trial) {
		for range 3 {
			tr.insert("")
		}
		request := broker.ScanRequest{Kinds: []string{kind}, Bottom: true, Limit: 2}
		got := tr.scan(request)
		tr.equal("found of 3 with limit 2", len(got.Candidates), 2)
		tr.equal("more than 2", got.More, true)
		request.Limit = 10
		got = tr.scan(request)
		tr.equal("found of 3 with limit 10", len(got.Candidates), 3)
		tr.equal("more than 10", got.More, false)
	}},
	{"ScanTellsWhenTheNextStrandIsDue", func(tr *trial) {
		tr.insertAs(newID(), "other", `{"in":60}`)
		tr.insert(`{"in":600}`)
		tr.insert(`{"in":3600}`)
		got := tr.scan(broker.ScanRequest{Kinds: []string{kind}, Bottom: true})
		tr.about("next due", got.NextDue, 10*time.Minute)
	}},
	{"ScanIsInNoHurryForAStrandThatIsDueInAges", func(tr *trial) {
		tr.insert(`{"at":"9999-12-31T00:00:00Z"}`)
		if got := tr.scan(broker.ScanRequest{Kinds: []string{kind}, Bottom: true}).NextDue; got < 24*time.Hour {
			tr.t.Errorf("next due: got %v, want a long time", got)
		}
	}},
	{"ScanTellsAboutHowLargeAStrandIs", func(tr *trial) {
		id := newID()
		noise := base64.StdEncoding.EncodeToString(make100K())
		tr.insertAll(broker.Insert{ID: id, Kind: kind, Args: fmt.Appendf(nil, "%q", noise)})
		got := tr.scan(broker.ScanRequest{Kinds: []string{kind}, Bottom: true}).Candidates
		if len(got) != 1 || got[0].Bytes < len(noise)/2 || got[0].Bytes > len(noise)*2 {
			tr.t.Errorf("scan: got %+v, want one of about %d bytes", got, len(noise))
		}
	}},
	{"ScanNamesStrandsThatMustRunAloneAfterTwoCrashes", func(tr *trial) {
		id := tr.insert("")
		for crashes := range 2 {
			tr.alone(fmt.Sprintf("after %d crashes", crashes), id, false)
			s := tr.lease(id)
			tr.applied(broker.Report{Pair: pairOf(s), Act: broker.Crash, Failure: &broker.Failure{Exit: "signal: killed"}})
			tr.arrive(id)
		}
		tr.alone("after 2 crashes", id, true)
	}},
	{"ScanNamesStrandsThatMustRunAloneAfterFiveLosses", func(tr *trial) {
		id := tr.insert("")
		for losses := range 5 {
			tr.alone(fmt.Sprintf("after %d losses", losses), id, false)
			tr.lease(id)
			tr.expire(id)
		}
		tr.alone("after 5 losses", id, true)
	}},
	{"ScanIsSettledSomeTimeAfterAnAnnouncement", func(tr *trial) {
		tr.announce(broker.Announcement{Broker: newID(), Kinds: []string{kind}, Busy: true})
		tr.until("settled", func() bool {
			return tr.scan(broker.ScanRequest{Kinds: []string{kind}, Bottom: true}).Settled
		})
	}},
}

func scanFindsOnlyItsSlice(tr *trial) {
	at := func(place uint32) (id broker.ID) {
		id = newID()
		binary.BigEndian.PutUint32(id[:], place)
		return tr.insertAs(id, kind, "")
	}
	first, below, middle, last := at(0), at(0x7FFFFFFF), at(0x80000000), at(0xFFFFFFFF)
	inBucket := at(0x80010000)
	for _, c := range []struct {
		slice broker.Slice
		want  []broker.ID
	}{
		{broker.Slice{}, []broker.ID{first, below, middle, last, inBucket}},
		{broker.Slice{Hi: 1 << 32}, []broker.ID{first, below, middle, last, inBucket}},
		{broker.Slice{Hi: 0x80000000}, []broker.ID{first, below}},
		{broker.Slice{Lo: 0x80000000}, []broker.ID{middle, last, inBucket}},
		{broker.Slice{Lo: 0x80000000, Hi: 0xFFFFFFFF}, []broker.ID{middle, inBucket}},
		{broker.Slice{Lo: 0x80000001, Hi: 0x80010001}, []broker.ID{inBucket}},
		{broker.Slice{Lo: 0x80000001, Hi: 0x80010000}, nil},
	} {
		got := candidates(tr.scan(broker.ScanRequest{Kinds: []string{kind}, Bottom: true, Slice: c.slice}))
		tr.equal(fmt.Sprintf("found in %#x", c.slice), got, c.want)
	}
}

func scanFindsOfEachKindOnlyItsSlice(tr *trial) {
	at := func(first byte, kind string, age time.Duration) (id broker.ID) {
		id = newID()
		id[0] = first
		tr.insertAs(id, kind, "")
		tr.store.Age(id, age)
		return id
	}
	lowA, highA, lowB, highB := at(0x10, "a", 4*time.Hour), at(0x90, "a", 3*time.Hour), at(0x10, "b", 2*time.Hour), at(0x90, "b", time.Hour)
	lowC, youngC := at(0x10, "c", 30*time.Minute), at(0x11, "c", time.Minute)
	tr.insertAs(newID(), "d", "")
	req := broker.ScanRequest{
		Kinds: []string{"a", "b", "c"}, Bottom: true, Slice: upperHalf,
		Otherwise: map[string]broker.Slice{"a": {}, "b": {Hi: 0x80000000}, "d": {}},
	}
	tr.equal("found", candidates(tr.scan(req)), []broker.ID{lowA, highA, lowB})
	req.Overdue = 10 * time.Minute
	tr.equal("found, with what is overdue", candidates(tr.scan(req)), []broker.ID{lowA, highA, lowB, highB, lowC})
	req.Overdue = time.Second
	tr.equal("found, with more that is", candidates(tr.scan(req)), []broker.ID{lowA, highA, lowB, highB, lowC, youngC})
	req.Kinds, req.Overdue = []string{"c"}, 0
	tr.equal("found of one that is not named", candidates(tr.scan(req)), []broker.ID(nil))
}

func scanGoesOnBehindEarlierScans(tr *trial) {
	var want []broker.ID
	for range 10 {
		want = append(want, tr.insertDue(time.Minute))
	}
	request := broker.ScanRequest{Kinds: []string{kind}, Bottom: true, Limit: 4}
	tr.equal("first", candidates(tr.scan(request)), want[:4])
	request.Bottom = false
	tr.equal("second", candidates(tr.scan(request)), want[4:8])
	tr.equal("third", candidates(tr.scan(request)), want[8:])
	tr.equal("fourth", candidates(tr.scan(request)), []broker.ID(nil))
	request.Bottom = true
	tr.equal("from the bottom again", candidates(tr.scan(request)), want[:4])
}

// insertDue inserts a strand that has been due for so long: a scan that goes on need not pass over what has just become due.
func (tr *trial) insertDue(ago time.Duration) broker.ID {
	id := tr.insert("")
	tr.store.Age(id, ago)
	return id
}

// make100K makes bytes that nobody can compress.
func make100K() []byte {
	noise := make([]byte, 100<<10)
	rand.Read(noise)
	return noise
}

// plenty is more strands than any case inserts.
const plenty = 1000

// scan looks for strands, with a limit of plenty unless the request has one.
func (tr *trial) scan(req broker.ScanRequest) broker.ScanResult {
	tr.t.Helper()
	if req.Limit == 0 {
		req.Limit = plenty
	}
	got, err := tr.store.Scan(tr.ctx, req)
	if err != nil {
		tr.t.Fatalf("scan: %v", err)
	}
	return got
}

// finds checks what a scan from the bottom finds of the usual kind.
func (tr *trial) finds(want ...broker.ID) {
	tr.t.Helper()
	tr.findsOf([]string{kind}, want...)
}

func (tr *trial) findsOf(kinds []string, want ...broker.ID) {
	tr.t.Helper()
	got := candidates(tr.scan(broker.ScanRequest{Kinds: kinds, Bottom: true}))
	if !slices.Equal(got, want) {
		tr.t.Errorf("scan for %v: got %v, want %v", kinds, got, want)
	}
}

func candidates(r broker.ScanResult) (ids []broker.ID) {
	for _, c := range r.Candidates {
		ids = append(ids, c.ID)
	}
	return ids
}

// ageless lists what was found, without what time does to it.
func ageless(r broker.ScanResult) []broker.Candidate {
	found := slices.Clone(r.Candidates)
	for i := range found {
		found[i].Age = 0
	}
	return found
}

// alone checks whether a strand that is due is to run alone.
func (tr *trial) alone(when string, id broker.ID, want bool) {
	tr.t.Helper()
	got := ageless(tr.scan(broker.ScanRequest{Kinds: []string{kind}, Bottom: true}))
	tr.equal("alone "+when, got, []broker.Candidate{{ID: id, Kind: kind, Queue: theQueue, Label: "start", Priority: 5, Alone: want}})
}

// announce makes a broker known for the rest of the test.
func (tr *trial) announce(a broker.Announcement) {
	tr.t.Helper()
	if err := tr.store.Announce(tr.ctx, a, time.Hour); err != nil {
		tr.t.Fatalf("announce: %v", err)
	}
}

// until asks again and again until the answer is yes.
func (tr *trial) until(what string, yes func() bool) {
	tr.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !yes(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			tr.t.Fatalf("not %s after 30 s", what)
		}
	}
}
