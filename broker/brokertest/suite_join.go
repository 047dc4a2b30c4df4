package brokertest

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/respirated/respirated/broker"
)

var joinCases = []testCase{
	{"JoinGivesTheLowestNumberThatNobodyHas", func(tr *trial) {
		var ids []broker.ID
		for want := range 3 {
			ids = append(ids, tr.join(want+1, broker.JoinRequest{}))
		}
		tr.leave(ids[1])
		tr.join(2, broker.JoinRequest{})
		tr.join(4, broker.JoinRequest{})
	}},
	{"JoinGivesAFixedNumberWhoeverElseHasIt", func(tr *trial) {
		first := tr.join(7, broker.JoinRequest{Number: 7})
		second := tr.join(7, broker.JoinRequest{Number: 7})
		tr.join(1, broker.JoinRequest{})
		got := tr.tryJoin(broker.JoinRequest{Broker: second, Number: 7}, ttl).Members
		tr.equal("the other with number 7", slices.Contains(got, broker.Presence{Broker: first, Number: 7}), true)
	}},
	{"JoinGivesNoNumberWhereAllAreTaken", func(tr *trial) {
		for want := range 2 {
			tr.join(want+1, broker.JoinRequest{Most: 2})
		}
		got := tr.tryJoin(broker.JoinRequest{Broker: newID(), Most: 2}, ttl)
		tr.equal("number", got.Number, 0)
		tr.equal("members", len(got.Members), 2)
	}},
	{"JoinNamesTheOthersThatHaveANumber", joinNamesTheOthers},
	{"JoinAgainKeepsOrChangesTheNumber", func(tr *trial) {
		id := tr.join(1, broker.JoinRequest{})
		tr.join(1, broker.JoinRequest{Broker: id})
		tr.join(5, broker.JoinRequest{Broker: id, Number: 5})
		tr.join(1, broker.JoinRequest{})
		tr.join(2, broker.JoinRequest{Broker: id})
	}},
	{"JoinGivesTheNumberOfABrokerThatHasFallenSilent", func(tr *trial) {
		tr.tryJoin(broker.JoinRequest{Broker: newID()}, 50*time.Millisecond)
		tr.until("free", func() bool {
			id := newID()
			got := tr.tryJoin(broker.JoinRequest{Broker: id}, ttl).Number
			tr.leave(id)
			return got == 1
		})
	}},
	{"JoinedNumberIsHeldByAnnouncementsAndGivenUpByThem", func(tr *trial) {
		id := newID()
		tr.tryJoin(broker.JoinRequest{Broker: id}, 200*time.Millisecond)
		tr.announce(broker.Announcement{Broker: id, Number: 1, Rank: 1, Members: 1})
		time.Sleep(250 * time.Millisecond)
		tr.leave(tr.join(2, broker.JoinRequest{}))
		tr.announce(broker.Announcement{Broker: id})
		tr.join(1, broker.JoinRequest{})
	}},
	{"JoinOfManyAtOnceGivesEachANumberOfItsOwn", joinOfManyAtOnce},
	{"TellReachesAllWhoListenAndWhoTells", func(tr *trial) {
		var heard [2]hints
		for i := range heard {
			defer tr.store.Listen(heard[i].add)()
		}
		for _, p := range []broker.Presence{
			{Broker: newID(), Number: 1}, {Broker: newID(), Number: 256}, {Broker: newID(), Number: 3, Left: true},
		} {
			if err := tr.store.Tell(tr.ctx, p); err != nil {
				tr.t.Fatalf("tell: %v", err)
			}
			for i := range heard {
				tr.until(fmt.Sprintf("heard by listener %d", i), func() bool { return heard[i].has(p) })
			}
		}
	}},
}

func joinNamesTheOthers(tr *trial) {
	var want []broker.Presence
	for _, number := range []int{3, 1, 3} {
		want = append(want, broker.Presence{Broker: tr.join(number, broker.JoinRequest{Number: number}), Number: number})
	}
	tr.announce(broker.Announcement{Broker: newID(), Kinds: []string{kind}}) // has none
	tr.leave(tr.join(4, broker.JoinRequest{Number: 4}))
	got := tr.tryJoin(broker.JoinRequest{Broker: want[1].Broker}, ttl)
	want = []broker.Presence{want[0], want[2]}
	slices.SortFunc(want, func(a, b broker.Presence) int { return bytes.Compare(a.Broker[:], b.Broker[:]) })
	tr.equal("members", got.Members, want)
}

func joinOfManyAtOnce(tr *trial) {
	const many = 8
	numbers := make([]int, many)
	var wg sync.WaitGroup
	for i := range numbers {
		wg.Go(func() {
			got, err := tr.store.Join(tr.ctx, broker.JoinRequest{Broker: newID(), Most: many}, ttl)
			if err != nil {
				tr.t.Errorf("join: %v", err)
			}
			numbers[i] = got.Number
		})
	}
	wg.Wait()
	slices.Sort(numbers)
	tr.equal("numbers", numbers, []int{1, 2, 3, 4, 5, 6, 7, 8})
}

// join has a broker join, a new one unless the request names one, and checks its number.
func (tr *trial) join(want int, req broker.JoinRequest) broker.ID {
	tr.t.Helper()
	if req.Broker == (broker.ID{}) {
		req.Broker = newID()
	}
	tr.equal("number", tr.tryJoin(req, ttl).Number, want)
	return req.Broker
}

func (tr *trial) tryJoin(req broker.JoinRequest, ttl time.Duration) broker.Joined {
	tr.t.Helper()
	if req.Most == 0 {
		req.Most = 256
	}
	req.Host, req.PID, req.Build = "here", 1, "test"
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

// hints are those that a listener has heard.
type hints struct {
	mu  sync.Mutex // guards all
	all []broker.Hint
}

func (h *hints) add(hint broker.Hint) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, hint)
}

// has says whether a presence was heard.
func (h *hints) has(p broker.Presence) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.ContainsFunc(h.all, func(hint broker.Hint) bool { return hint.Presence != nil && *hint.Presence == p })
}
