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
// does nothing. It works in portions, each in its own transaction, so that none takes long.
func (s *Store) Maintain(ctx context.Context) error {
	if err := s.exec(ctx, "maintain"); err != nil {
		return s.failed(err, "make and drop partitions")
	}
	partitions, err := query(ctx, s, pgx.RowTo[string], "mixed")
	if err != nil {
		return s.failed(err, "list the partitions of history")
	}
	for _, partition := range partitions {
		if err := s.forget(ctx, partition); err != nil {
			return s.failed(err, "forget old strands of %s", partition)
		}
	}
	return nil
}

func (s *Store) forget(ctx context.Context, partition string) error {
	for {
		more, err := query(ctx, s, pgx.RowTo[bool], "forget", partition)
		if err != nil || !more[0] {
			return err
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
