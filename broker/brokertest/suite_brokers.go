package brokertest

import (
	"time"

	"github.com/respirated/respirated/broker"
)

// What brokers know of each other, and what they find of each other's.
var brokerCases = []testCase{
	{"JoinGivesTheLowestNumberThatNobodyHas", func(tr *trial) {
		first, second, third := newID(), newID(), newID()
		for i, id := range []broker.ID{first, second, third} {
			tr.equal("number", tr.join(id, 0, 256, ttl).Number, i+1)
		}
		tr.leave(second)
		got := tr.join(newID(), 0, 256, ttl)
		tr.equal("joined when the second had left", got, broker.Joined{Number: 2, Members: []broker.Presence{
			{Broker: first, Number: 1}, {Broker: third, Number: 3},
		}})
	}},
	{"JoinTakesTheNumberThatIsAskedForWhoeverHasIt", func(tr *trial) {
		first := newID()
		tr.join(first, 7, 256, ttl)
		tr.equal("joined", tr.join(newID(), 7, 256, ttl), broker.Joined{Number: 7, Members: []broker.Presence{{Broker: first, Number: 7}}})
		tr.equal("number of the next", tr.join(newID(), 0, 256, ttl).Number, 1)
	}},
	{"JoinOnceMoreGivesTheSameNumber", func(tr *trial) {
		tr.join(newID(), 0, 256, ttl)
		id := newID()
		tr.join(id, 0, 256, ttl)
		got := tr.join(id, 0, 256, ttl)
		tr.equal("number", got.Number, 2)
		tr.equal("other members", len(got.Members), 1)
	}},
	{"JoinAnewGivesTheFormerNumberUp", func(tr *trial) {
		id := newID()
		tr.join(id, 0, 256, ttl)
		tr.join(id, 5, 256, ttl)
		tr.equal("joined", tr.join(newID(), 0, 256, ttl), broker.Joined{Number: 1, Members: []broker.Presence{{Broker: id, Number: 5}}})
	}},
	{"JoinTellsWhenNoNumberIsFree", func(tr *trial) {
		first, second := newID(), newID()
		tr.join(first, 2, 2, ttl)
		tr.join(second, 0, 2, ttl)
		tr.equal("number of the third", tr.join(newID(), 0, 2, ttl).Number, 0)
		tr.equal("number of the first when it joins anew", tr.join(first, 0, 1, ttl).Number, 0)
		tr.equal("number of the third, later", tr.join(newID(), 0, 2, ttl).Number, 2)
	}},
	{"JoinTakesTheNumberOfABrokerThatIsSilent", func(tr *trial) {
		tr.join(newID(), 0, 256, -time.Second)
		tr.equal("joined", tr.join(newID(), 0, 256, ttl), broker.Joined{Number: 1})
	}},
	{"AnnouncementKeepsTheNumberOrGivesItUp", func(tr *trial) {
		id := newID()
		tr.join(id, 0, 256, -time.Second)
		tr.announce(broker.Announcement{Broker: id, Number: 1, Rank: 1, Members: 1})
		next := newID()
		tr.equal("beside it", tr.join(next, 0, 256, ttl), broker.Joined{Number: 2, Members: []broker.Presence{{Broker: id, Number: 1}}})
		tr.announce(broker.Announcement{Broker: id})
		tr.equal("when it scans no more", tr.join(next, 0, 256, ttl), broker.Joined{Number: 1})
	}},
	{"LeaveOfABrokerThatHasANumberTellsTheOthers", func(tr *trial) {
		told := make(chan broker.Presence, 10)
		stop := tr.store.Listen(func(h broker.Hint) {
			if h.Presence != nil {
				told <- *h.Presence
			}
		})
		defer stop()
		none, drained, killed, last := newID(), newID(), newID(), newID()
		tr.leave(none)
		tr.join(drained, 3, 256, ttl)
		tr.announce(broker.Announcement{Broker: drained})
		tr.leave(drained)
		tr.join(killed, 2, 256, ttl)
		tr.leave(killed)
		tr.leave(killed)
		tr.join(last, 1, 256, ttl)
		tr.leave(last)
		tr.equal("told first", <-told, broker.Presence{Broker: killed, Number: 2, Left: true})
		tr.equal("told next", <-told, broker.Presence{Broker: last, Number: 1, Left: true})
	}},
	{"TellIsWellWithNobodyListening", func(tr *trial) {
		for _, p := range []broker.Presence{{Broker: newID(), Number: 1}, {Broker: newID(), Number: 4096, Left: true}} {
			if err := tr.store.Tell(tr.ctx, p); err != nil {
				tr.t.Errorf("tell: %v", err)
			}
		}
	}},
	{"ScanTellsHowLongAStrandHasWaited", func(tr *trial) {
		id := tr.insert("")
		tr.store.Age(id, time.Hour)
		tr.waited("since its schedule", id, time.Hour)
		p := pairOf(tr.lease(id))
		tr.store.Age(p.ID, ttl+time.Minute)
		tr.waited("since its lease ran out", id, time.Minute)
	}},
	{"ScanFindsWhatIsOverdueElsewhereInOrder", func(tr *trial) {
		theirs, ours := tr.aged(0x10, 3*time.Hour), tr.aged(0x90, 2*time.Hour)
		below, young := tr.aged(0x20, time.Hour), tr.aged(0x30, 10*time.Minute)
		youngest := tr.aged(0x91, time.Minute)
		req := broker.ScanRequest{Kinds: []string{kind}, Bottom: true, Slice: upperHalf}
		tr.equal("without overdue", candidates(tr.scan(req)), []broker.ID{ours, youngest})
		req.Overdue = 30 * time.Minute
		tr.equal("overdue for half an hour", candidates(tr.scan(req)), []broker.ID{theirs, ours, below, youngest})
		req.Overdue = 5 * time.Minute
		tr.equal("overdue for five minutes", candidates(tr.scan(req)), []broker.ID{theirs, ours, below, young, youngest})
		req.Overdue, req.Slice = time.Minute, broker.Slice{Lo: 0x20000000, Hi: 0x90000000}
		tr.equal("overdue below and above", candidates(tr.scan(req)), []broker.ID{theirs, ours, below, young, youngest})
	}},
	{"ScanForWhatIsOverdueHasOneLimitForAll", func(tr *trial) {
		theirs, ours, more := tr.aged(0x10, 3*time.Hour), tr.aged(0x90, 2*time.Hour), tr.aged(0x91, time.Hour)
		req := broker.ScanRequest{Kinds: []string{kind}, Bottom: true, Slice: upperHalf, Overdue: time.Minute, Limit: 2}
		got := tr.scan(req)
		tr.equal("first", candidates(got), []broker.ID{theirs, ours})
		tr.equal("more", got.More, true)
		req.Bottom = false
		tr.equal("behind that", candidates(tr.scan(req)), []broker.ID{more})
	}},
	{"ScanThatGoesOnLeavesOutWhatIsOverdueElsewhere", func(tr *trial) {
		tr.aged(0x10, time.Hour)
		ours := tr.aged(0x90, time.Hour)
		tr.equal("found", candidates(tr.scan(broker.ScanRequest{
			Kinds: []string{kind}, Slice: upperHalf, Overdue: time.Minute,
		})), []broker.ID{ours})
	}},
	{"ScanForWhatIsOverdueTellsWhenTheNextOfItsSliceIsDue", func(tr *trial) {
		theirs, ours := newID(), newID()
		theirs[0], ours[0] = 0x10, 0x90
		tr.insertAs(theirs, kind, `{"in":60}`)
		tr.insertAs(ours, kind, `{"in":600}`)
		got := tr.scan(broker.ScanRequest{Kinds: []string{kind}, Bottom: true, Slice: upperHalf, Overdue: time.Minute})
		tr.about("next due", got.NextDue, 10*time.Minute)
	}},
	{"ScanCountsALostHostsStrandsAsOverdueOnceTheirLeasesAre", func(tr *trial) {
		id := tr.aged(0x10, time.Hour)
		tr.lease(id)
		tr.store.Age(id, ttl+time.Minute)
		req := broker.ScanRequest{Kinds: []string{kind}, Bottom: true, Slice: upperHalf, Overdue: 10 * time.Minute}
		tr.equal("a minute later", candidates(tr.scan(req)), []broker.ID(nil))
		req.Overdue = 30 * time.Second
		tr.equal("with a shorter patience", candidates(tr.scan(req)), []broker.ID{id})
	}},
}

var upperHalf = broker.Slice{Lo: 0x80000000}

func (tr *trial) join(id broker.ID, number, most int, ttl time.Duration) broker.Joined {
	tr.t.Helper()
	req := broker.JoinRequest{Broker: id, Host: "h", PID: 1, Build: "b", Number: number, Most: most}
	got, err := tr.store.Join(tr.ctx, req, ttl)
	if err != nil {
		tr.t.Fatalf("join: %v", err)
	}
	return got
}

func (tr *trial) leave(id broker.ID) {
	tr.t.Helper()
	if err := tr.store.Leave(tr.ctx, id); err != nil {
		tr.t.Fatalf("leave: %v", err)
	}
}

// aged adds a strand whose id begins with a byte and that became due so long ago.
func (tr *trial) aged(first byte, age time.Duration) broker.ID {
	tr.t.Helper()
	id := tr.insertAs(newIDAt(first), kind, "")
	tr.store.Age(id, age)
	return id
}

// waited checks the age of the only strand that is due.
func (tr *trial) waited(what string, id broker.ID, want time.Duration) {
	tr.t.Helper()
	got := tr.scan(broker.ScanRequest{Kinds: []string{kind}, Bottom: true}).Candidates
	if len(got) != 1 || got[0].ID != id {
		tr.t.Fatalf("%s: got %+v, want %s alone", what, got, id)
	}
	if age := got[0].Age; age < want-skew || age > want+tolerance {
		tr.t.Errorf("%s: got an age of %v, want %v", what, age, want)
	}
}
