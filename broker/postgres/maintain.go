package postgres

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	maintainEvery = time.Hour
	maintainAgain = time.Minute // after an error, such as a lock that could not be had
)

// Maintain makes the partitions of the next days and forgets what the retentions say. When another broker is at it, it
// does nothing. It works in portions, so that no transaction takes long.
func (s *Store) Maintain(ctx context.Context) error {
	for {
		more, err := query(ctx, s, pgx.RowTo[bool], "maintain")
		if err != nil {
			return failed(err, "maintain the schema")
		}
		if !more[0] {
			return nil
		}
	}
}

// RunMaintenance maintains the schema at once and then every hour until ctx ends.
func (s *Store) RunMaintenance(ctx context.Context) error {
	for {
		wait := maintainEvery
		if err := s.Maintain(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("schema not maintained", "error", err)
			wait = maintainAgain
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait/2 + rand.N(wait)):
		}
	}
}
