package brokertest

import (
	"context"
	"slices"
	"time"

	"github.com/respirated/respirated/broker"
)

// Take implements [broker.Store].
func (s *Store) Take(ctx context.Context, req broker.ScanRequest, tokens []broker.Token, ttl time.Duration) ([]broker.Strand, error) {
	var taken []broker.Strand
	err := s.call(ctx, Take, func(now time.Time) error {
		for _, r := range s.ahead(req, now) {
			if len(taken) == len(tokens) {
				break
			}
			if !r.candidate(now).Alone && !s.locked[r.id] {
				r.take(tokens[len(taken)], now, ttl)
				taken = append(taken, r.handed())
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return taken, nil
}

// Held implements [broker.Store].
func (s *Store) Held(ctx context.Context, req broker.ScanRequest, tokens []broker.Token, _ time.Duration) ([]broker.Pair, error) {
	var held []broker.Pair
	err := s.call(ctx, Held, func(now time.Time) error {
		for _, r := range s.live {
			if !r.free() && slices.Contains(tokens, r.token) {
				held = append(held, broker.Pair{ID: r.id, Token: r.token})
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return held, nil
}

// Left implements [broker.Store].
func (s *Store) Left(ctx context.Context, marks []broker.Mark, _ time.Duration) ([]broker.Pair, error) {
	var left []broker.Pair
	err := s.call(ctx, Left, func(now time.Time) error {
		for _, r := range s.live {
			if !r.free() && slices.ContainsFunc(marks, func(m broker.Mark) bool { return m.Marks(r.token) }) {
				left = append(left, broker.Pair{ID: r.id, Token: r.token})
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return left, nil
}
