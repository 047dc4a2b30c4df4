package postgres

import (
	"slices"
	"sync"
	"time"

	"github.com/respirated/respirated/broker"
)

// broken remembers strands whose rows could not be read, and when that was tried last. Each try costs the server the memory
// for all of the row, and us the halving of a batch, so such a row is tried again only now and then, until somebody has
// repaired or deleted it.
type broken struct {
	mu    sync.Mutex // guards tried
	tried map[broker.ID]time.Time
}

const (
	mostBroken  = 10_000 // bounds the memory; forgetting one costs one more try
	brokenPause = time.Minute
)

// without leaves out the pairs that were tried lately.
func (b *broken) without(pairs []broker.Pair, now time.Time) []broker.Pair {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.tried) == 0 {
		return pairs
	}
	return slices.DeleteFunc(slices.Clone(pairs), func(p broker.Pair) bool {
		at, is := b.tried[p.ID]
		return is && now.Sub(at) < brokenPause
	})
}

// some says whether any was tried lately.
func (b *broken) some(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, at := range b.tried {
		if now.Sub(at) < brokenPause {
			return true
		}
	}
	return false
}

// note remembers a strand, and says whether it was not known before.
func (b *broken) note(id broker.ID, now time.Time) (fresh bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, known := b.tried[id]
	if b.tried == nil || len(b.tried) >= mostBroken {
		b.tried = make(map[broker.ID]time.Time)
	}
	b.tried[id] = now
	return !known
}
