package brokertest

import (
	"time"

	"github.com/respirated/respirated/broker"
)

var takeCases = []testCase{
	{"TakeLeasesTheFirstOfWhatIsDue", func(tr *trial) {
		late := tr.insert(`{"queue":"mail","tenant":"acme","priority":2,"max_tries":7,"label":"pack","tags":["a","b"],"metadata":{"by":"me"}}`)
		first, second, third := tr.insertDue(time.Minute), tr.insertDue(time.Second), tr.insert("")
		tr.knowLanes()
		tokens := []broker.Token{newToken(), newToken(), newToken()}
		taken := tr.take(tokens...)
		tr.equal("taken", byID(taken), map[broker.ID]bool{late: true, first: true, second: true})
		for i := range taken {
			s := &taken[i]
			row := tr.row(s.ID)
			tr.equal("leased", row.Leased, true)
			tr.about("lease", row.Left, ttl)
			tr.equal("tokens taken again", len(tr.tryLease(pairOf(*s))), 1)
			if s.ID == late {
				tr.equal("as by a lease", *s, tr.tryLease(pairOf(*s))[0])
			}
		}
		tr.finds(third)
		tr.applied(broker.Report{Pair: pairOf(taken[0]), Seq: 1, Act: broker.Exit})
	}},
	{"TakeWithMoreTokensThanAreDueTakesWhatThereIs", func(tr *trial) {
		id := tr.insert("")
		tr.insert(`{"in":3600}`)
		tr.knowLanes()
		tr.equal("taken", byID(tr.take(newToken(), newToken())), map[broker.ID]bool{id: true})
		tr.equal("taken then", len(tr.take(newToken())), 0)
	}},
	{"TakePassesOverWhatIsNotForIt", func(tr *trial) {
		alone := tr.insert("")
		for range 2 {
			s := tr.lease(alone)
			tr.applied(broker.Report{Pair: pairOf(s), Act: broker.Crash, Failure: &broker.Failure{Exit: "signal: killed"}})
			tr.arrive(alone)
		}
		asked := tr.insertLeased("")
		tr.insertLeased("")
		tr.insertAs(newID(), "other", "")
		tr.insertAs(broker.ID{0x90, 1}, kind, "")
		locked := tr.insertAs(broker.ID{0x10, 1}, kind, "")
		free := tr.insertAs(broker.ID{0x10, 2}, kind, "")
		tr.store.Age(locked, time.Minute)
		tr.knowLanes() // which would end what is cancelled
		tr.store.Cancel(asked.ID)
		tr.expire(asked.ID)
		unlock := tr.store.Lock(locked)
		taken := tr.takeOf(broker.ScanRequest{Slice: broker.Slice{Hi: 0x80000000}}, newToken(), newToken(), newToken(), newToken(), newToken(), newToken())
		unlock()
		tr.equal("taken below the middle of the ids", taken, map[broker.ID]bool{free: true})
		tr.equal("alone is leased", tr.row(alone).Leased, false)
	}},
	{"TakeAtOnceByTwoGivesEachStrandToOne", func(tr *trial) {
		ids := map[broker.ID]bool{}
		for range 6 {
			ids[tr.insert("")] = true
		}
		tr.knowLanes()
		got := make(chan []broker.Strand, 2)
		for range 2 {
			tokens := []broker.Token{newToken(), newToken(), newToken(), newToken()}
			go func() {
				taken, err := tr.store.Take(tr.ctx, tr.takeRequest(len(tokens)), tokens, ttl)
				if err != nil {
					tr.t.Errorf("take: %v", err)
				}
				got <- taken
			}()
		}
		both := append(<-got, <-got...)
		for _, s := range both {
			if !ids[s.ID] {
				tr.t.Errorf("%s was taken twice, or never inserted", s.ID)
			}
			delete(ids, s.ID)
			tr.equal("lease kept", tr.renewed(pairOf(s)), []broker.Pair{pairOf(s)})
		}
	}},
	{"TakeOfALeaseThatRanOutIsCounted", func(tr *trial) {
		p := tr.insertLeased("")
		tr.expire(p.ID)
		tr.knowLanes()
		taken := tr.take(newToken())
		tr.equal("taken", byID(taken), map[broker.ID]bool{p.ID: true})
		tr.equal("rescues", tr.row(p.ID).Rescues, 1)
		tr.report(broker.Stale, broker.Report{Pair: p, Seq: 1, Act: broker.Exit})
	}},
	{"HeldFindsWhatATakeHasLeased", func(tr *trial) {
		tr.insertLeased("")
		id := tr.insert("")
		tr.knowLanes()
		tokens := []broker.Token{newToken(), newToken()}
		tr.equal("held before", len(tr.held(tokens...)), 0)
		tr.take(tokens...)
		want := []broker.Pair{{ID: id, Token: tokens[0]}}
		tr.equal("held", tr.held(tokens...), want)
		unlock := tr.store.Lock(id)
		tr.equal("held while it is locked", tr.held(tokens...), want)
		unlock()
		tr.applied(broker.Report{Pair: want[0], Act: broker.Yield})
		tr.equal("held after it was given back", len(tr.held(tokens...)), 0)
		tr.finds(id)
	}},
	{"LeftFindsWhatIsLeasedUnderAMark", func(tr *trial) {
		other, first, second := tr.insertLeased(""), tr.insertLeased(""), tr.insertLeased("")
		marks := []broker.Mark{broker.Mark(first.Token[:8]), broker.Mark(second.Token[:8])}
		tr.equal("left", tr.left(marks...), map[broker.Pair]bool{first: true, second: true})
		tr.equal("left by one", tr.left(marks[0]), map[broker.Pair]bool{first: true})
		tr.renewed(second)
		tr.equal("left after a renewal", tr.left(marks...), map[broker.Pair]bool{first: true, second: true})
		tr.applied(broker.Report{Pair: second, Act: broker.Yield}, broker.Report{Pair: other, Act: broker.Yield})
		tr.equal("left after one was given back", tr.left(marks...), map[broker.Pair]bool{first: true})
	}},
}

func (tr *trial) left(marks ...broker.Mark) map[broker.Pair]bool {
	tr.t.Helper()
	left, err := tr.store.Left(tr.ctx, marks, ttl)
	if err != nil {
		tr.t.Fatalf("left: %v", err)
	}
	found := map[broker.Pair]bool{}
	for _, p := range left {
		found[p] = true
	}
	return found
}

// knowLanes has a scan meet the lanes that there are: a take looks into no others.
func (tr *trial) knowLanes() {
	tr.t.Helper()
	tr.scan(broker.ScanRequest{Kinds: []string{kind}, Bottom: true})
}

// theQueue is the queue of what is inserted without naming one.
var theQueue = broker.Queue{Name: "default"}

func (tr *trial) takeRequest(limit int) broker.ScanRequest {
	return broker.ScanRequest{Kinds: []string{kind}, Bottom: true, Known: true, Limit: limit}
}

func (tr *trial) take(tokens ...broker.Token) []broker.Strand {
	tr.t.Helper()
	taken, err := tr.store.Take(tr.ctx, tr.takeRequest(len(tokens)), tokens, ttl)
	if err != nil {
		tr.t.Fatalf("take: %v", err)
	}
	return taken
}

// takeOf takes in a slice.
func (tr *trial) takeOf(in broker.ScanRequest, tokens ...broker.Token) map[broker.ID]bool {
	tr.t.Helper()
	req := tr.takeRequest(len(tokens))
	req.Slice = in.Slice
	taken, err := tr.store.Take(tr.ctx, req, tokens, ttl)
	if err != nil {
		tr.t.Fatalf("take: %v", err)
	}
	return byID(taken)
}

func (tr *trial) held(tokens ...broker.Token) []broker.Pair {
	tr.t.Helper()
	held, err := tr.store.Held(tr.ctx, tr.takeRequest(len(tokens)), tokens, 0)
	if err != nil {
		tr.t.Fatalf("held: %v", err)
	}
	return held
}

func byID(strands []broker.Strand) map[broker.ID]bool {
	ids := map[broker.ID]bool{}
	for _, s := range strands {
		ids[s.ID] = true
	}
	return ids
}
