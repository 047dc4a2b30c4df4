package dashboard

import (
	"context"
	"sync"
	"time"
)

// cached is an answer that is asked for at most once in a while, however many want it. Who comes while it is asked for waits for
// that; nobody for much longer than patience.
type cached[T any] struct {
	ask  func(context.Context) (T, error)
	keep time.Duration

	mu     sync.Mutex // guards what follows, and is held while asking
	answer T
	err    error
	at     time.Time // when it came; zero = none has
}

func newCached[T any](keep time.Duration, ask func(context.Context) (T, error)) *cached[T] {
	return &cached[T]{ask: ask, keep: keep}
}

// get is the answer, or an error. Who asks asks for all, and so does not stop when they leave.
func (c *cached[T]) get(ctx context.Context) (T, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at.IsZero() || time.Since(c.at) >= c.keep {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		c.answer, c.err = c.ask(ctx)
		c.at = time.Now()
	}
	return c.answer, c.err
}
