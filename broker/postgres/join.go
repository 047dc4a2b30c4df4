package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/respirated/respirated/broker"
)

// Join implements [broker.Store].
func (s *Store) Join(_ context.Context, req broker.JoinRequest, _ time.Duration) (broker.Joined, error) {
	return broker.Joined{Number: max(req.Number, 1)}, nil
}

// Tell implements [broker.Store].
func (s *Store) Tell(ctx context.Context, p broker.Presence) error {
	payload := fmt.Sprintf("%d %s", p.Number, p.Broker)
	if p.Left {
		payload += " left"
	}
	if err := s.exec(ctx, "presence", s.partitionChannel, payload); err != nil {
		return s.failed(err, "tell the presence of broker %s", p.Broker)
	}
	return nil
}
