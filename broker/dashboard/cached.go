package dashboard

import (
	"context"
	"errors"
	"sync"
	"time"
)

// cached is an answer that is asked for at most once in a while, however many want it. Who comes while it is asked for waits for
// that; nobody for much longer than patience.
type cached[T any] struct {
	ask  func(context.Context) (T, error)
	keep time.Duration

	mu     sync.Mutex // guards what follows, and is held while asking
	answer T          // the last one that came without an error
	came   time.Time  // when; zero = none has
	err    error      // of the last question
	asked  time.Time  // when that was; zero = never
}

// errAway is that a database is known to be away, and not asked.
var errAway = errors.New("the database is away")

func newCached[T any](keep time.Duration, ask func(context.Context) (T, error)) *cached[T] {
	return &cached[T]{ask: ask, keep: keep}
}

// get is the answer, or an error.
func (c *cached[T]) get(ctx context.Context) (answer T, err error) {
	answer, _, err = c.last(ctx)
	if err != nil {
		var none T
		return none, err
	}
	return answer, nil
}

// before is the last answer without asking for another one.
func (c *cached[T]) before() (T, time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answer, c.came, errAway
}

// last is the answer, or an error and the answer before, with the time when that came. Who asks asks for all, and so does not
// stop when they leave.
func (c *cached[T]) last(ctx context.Context) (T, time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked.IsZero() || time.Since(c.asked) >= c.keep {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		answer, err := c.ask(ctx)
		if c.asked, c.err = time.Now(), err; err == nil {
			c.answer, c.came = answer, c.asked
		}
	}
	return c.answer, c.came, c.err
}
