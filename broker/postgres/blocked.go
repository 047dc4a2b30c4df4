package postgres

import (
	"sync"

	"github.com/respirated/respirated/broker"
)

// blocked remembers strands whose rows were locked by somebody when we last came by. The statements that are cheap wait
// for a lock; those that do not wait are for these strands. So a locked row delays one batch, once.
type blocked struct {
	mu  sync.Mutex // guards ids
	ids map[broker.ID]struct{}
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
