package postgres

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

const (
	maintainEvery = time.Hour
	maintainAgain = time.Minute // after an error, such as a lock that could not be had
	orphansEvery  = 24          // turns: it walks over all that have semaphores, children or deadlines
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

// DropOrphans drops what is kept of strands that are gone: semaphores, ended children and deadlines, which brokers of a time
// before there was any of that leave behind, and the children of dead strands that history has forgotten. Their pages are
// resolved. It works in portions, as Maintain does.
func (s *Store) DropOrphans(ctx context.Context) error {
	var after pgtype.UUID
	for {
		reached, err := query(ctx, s, pgx.RowTo[pgtype.UUID], "orphans", after)
		if err != nil {
			return s.failed(err, "drop what strands have left that are gone")
		}
		if after = reached[0]; !after.Valid {
			return nil
		}
	}
}

// RunMaintenance maintains the schema at once and then every hour until ctx ends, and drops orphans at once and every day.
func (s *Store) RunMaintenance(ctx context.Context) error {
	for turn := 0; ; {
		err := s.Maintain(ctx)
		if err == nil && turn%orphansEvery == 0 {
			err = s.DropOrphans(ctx)
		}
		wait := maintainEvery
		switch {
		case err == nil:
			turn++
		case ctx.Err() == nil:
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
