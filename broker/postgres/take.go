package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/respirated/respirated/broker"
)

// Take implements [broker.Store]. It takes nothing where that would not be quick: in lanes that are not known or are many,
// far above their floors, or while there are rows that cannot be read, which fail the statements that meet them.
func (s *Store) Take(ctx context.Context, req broker.ScanRequest, tokens []broker.Token, ttl time.Duration) ([]broker.Strand, error) {
	spots := s.lanes.atFloors(req.Kinds)
	if len(spots) == 0 || len(spots) > fewLanes || s.broken.some(time.Now()) {
		return nil, nil
	}
	args := scanArgs(req, spots, len(tokens))
	args[len(args)-1] = tokenColumn(tokens) // which are the limit
	args = append(args, ttl)
	leased, err := s.queryLeases(withoutAsking(ctx), "take", len(tokens), args...)
	if pgconn.SafeToRetry(err) { // the connection had died before
		leased, err = s.queryLeases(ctx, "take", len(tokens), args...)
	}
	if err != nil {
		return nil, s.failed(err, "take %d strands", len(tokens))
	}
	strands, err := s.inLanes(ctx, leased)
	if err != nil {
		return nil, err
	}
	each := make(map[string]int)
	for i := range strands {
		each[strands[i].Kind]++
	}
	s.lanes.pass(nil, each, time.Time{})
	return strands, nil
}

// Held implements [broker.Store].
func (s *Store) Held(ctx context.Context, req broker.ScanRequest, tokens []broker.Token, ago time.Duration) ([]broker.Pair, error) {
	held, err := query(ctx, s, scanPair, "held", req.Kinds, tokenColumn(tokens), ago)
	if err != nil {
		return nil, s.failed(err, "look for what %d tokens hold", len(tokens))
	}
	return held, nil
}

// mostLeft is how many rows of a lane [Store.Left] looks at.
const mostLeft = 20_000

// Left implements [broker.Store].
func (s *Store) Left(ctx context.Context, marks []broker.Mark, ttl time.Duration) ([]broker.Pair, error) {
	low, high := make(uuids, len(marks)), make(uuids, len(marks))
	for i, m := range marks {
		for j := range high[i] {
			high[i][j] = 0xff
		}
		copy(low[i][:], m[:])
		copy(high[i][:], m[:])
	}
	left, err := query(ctx, s, scanPair, "left", low, high, ttl, mostLeft)
	if err != nil {
		return nil, s.failed(err, "look for what %d former brokers have leased", len(marks))
	}
	return left, nil
}

func scanPair(row pgx.CollectableRow) (p broker.Pair, err error) {
	err = row.Scan((*[16]byte)(&p.ID), (*[16]byte)(&p.Token))
	return p, err
}

func tokenColumn(tokens []broker.Token) uuids {
	column := make(uuids, len(tokens))
	for i, t := range tokens {
		column[i] = t
	}
	return column
}
