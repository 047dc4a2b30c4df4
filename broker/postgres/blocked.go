package postgres

import (
	"sync"
	"time"

	"github.com/respirated/respirated/broker"
)

// blocked remembers strands whose rows were locked by somebody when we last came by. The statements that are cheap wait
// for a lock; those that do not wait are for these strands, and for a while after a wait for all: who locks one row often
// locks many. So somebody's locks delay one lease and one commit each half a minute, however many there are.
type blocked struct {
	mu    sync.Mutex // guards what follows
	ids   map[broker.ID]struct{}
	until [2]time.Time // no statement of that sort waits for a lock before
}

// sort is a sort of statements. Each is wary on its own: rows that are due are locked by others than rows that run, and
// it is the commit whose wary way is dear.
type sort int

const (
	leases sort = iota
	commits
)

// waryFor is how long no statement waits for locks after one has waited in vain.
const waryFor = 30 * time.Second

// waited notes that a statement has waited for a lock in vain.
func (b *blocked) waited(which sort, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.until[which] = now.Add(waryFor)
}

// wary says that a statement of that sort has lately waited in vain.
func (b *blocked) wary(which sort, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return now.Before(b.until[which])
}

// mostBlocked bounds the memory. Forgetting one costs one more wait.
const mostBlocked = 10_000

func (b *blocked) has(id broker.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, is := b.ids[id]
	return is
}

func (b *blocked) any(ids uuids) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.ids) == 0 {
		return false
	}
	for _, id := range ids {
		if _, is := b.ids[id]; is {
			return true
		}
	}
	return false
}

// note remembers or forgets a strand.
func (b *blocked) note(id broker.ID, is bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !is {
		delete(b.ids, id)
		return
	}
	if b.ids == nil || len(b.ids) >= mostBlocked {
		b.ids = make(map[broker.ID]struct{})
	}
	b.ids[id] = struct{}{}
}
