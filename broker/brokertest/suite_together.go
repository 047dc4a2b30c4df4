package brokertest

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"sync"

	"github.com/respirated/respirated/broker"
)

// What several brokers do at once, and hear of each other.
var togetherCases = []testCase{
	{"JoinNamesTheOthersThatHaveANumberAndAreThere", func(tr *trial) {
		var want []broker.Presence
		for _, number := range []int{3, 1, 3} {
			id := newID()
			want = append(want, broker.Presence{Broker: id, Number: tr.join(id, number, 256, ttl).Number})
		}
		tr.announce(broker.Announcement{Broker: newID(), Kinds: []string{kind}}) // has none
		gone := newID()
		tr.join(gone, 4, 256, ttl)
		tr.leave(gone)
		got := tr.join(want[1].Broker, 0, 256, ttl)
		want = []broker.Presence{want[0], want[2]}
		slices.SortFunc(want, func(a, b broker.Presence) int { return bytes.Compare(a.Broker[:], b.Broker[:]) })
		tr.equal("members", got.Members, want)
	}},
	{"JoinOfManyAtOnceGivesEachANumberOfItsOwn", func(tr *trial) {
		numbers := make([]int, 8)
		var wg sync.WaitGroup
		for i := range numbers {
			wg.Go(func() {
				got, err := tr.store.Join(tr.ctx, broker.JoinRequest{Broker: newID(), Most: len(numbers)}, ttl)
				if err != nil {
					tr.t.Errorf("join: %v", err)
				}
				numbers[i] = got.Number
			})
		}
		wg.Wait()
		slices.Sort(numbers)
		tr.equal("numbers", numbers, []int{1, 2, 3, 4, 5, 6, 7, 8})
	}},
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
	return slices.ContainsFunc(h.all, func(hint broker.Hint) bool { return hint.Presence != nil && reflect.DeepEqual(*hint.Presence, p) })
}
