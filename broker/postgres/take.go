package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/respirated/respirated/broker"
)

// Take implements [broker.Store]. It takes nothing where that would not be quick: in lanes that are not known or are many,
// far above their floors, or while there are rows that cannot be read, which fail the statements that meet them.
func (s *Store) Take(ctx context.Context, req broker.ScanRequest, tokens []broker.Token, ttl time.Duration) ([]broker.Strand, error) {
	spots := s.lanes.atFloors(req)
	if len(spots) == 0 || len(spots) > fewLanes || s.broken.some(time.Now()) {
		return nil, nil
	}
	name, args := takeArgs(req, spots, tokens, ttl)
	leased, err := s.takeUnder(withoutAsking(ctx), tokens, name, args)
	if pgconn.SafeToRetry(err) { // the connection had died before
		leased, err = s.takeUnder(ctx, tokens, name, args)
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

// takeArgs are the statement for a take and its parameters.
func takeArgs(req broker.ScanRequest, spots []spot, tokens []broker.Token, ttl time.Duration) (name string, args []any) {
	c := scanColumns(req, spots)
	if len(c.numbers) == 1 && c.overdue[0] == 0 {
		return "take_lane", []any{
			c.numbers[0], c.schedules[0], pgtype.UUID{Bytes: c.ids[0], Valid: true}, pgtype.UUID{Bytes: c.first[0], Valid: true},
			pgtype.UUID{Bytes: c.last[0], Valid: true}, tokenColumn(tokens), ttl,
		}
	}
	return "take", append(c.args(), tokenColumn(tokens), ttl)
}

// takeUnder takes, on a connection whose server process is kept in mind until the statement is known to be over.
func (s *Store) takeUnder(ctx context.Context, tokens []broker.Token, name string, args []any) (leasedRows, error) {
	within, cancel := call(ctx)
	defer cancel()
	conn, err := s.pool.Acquire(within)
	if err != nil {
		return leasedRows{}, err
	}
	defer conn.Release()
	s.mu.Lock()
	s.takers[tokens[0]] = conn.Conn().PgConn().PID()
	s.mu.Unlock()
	leased, err := s.queryLeases(ctx, conn, name, len(tokens), args...)
	if err == nil || sqlState(err) != "" || pgconn.SafeToRetry(err) {
		s.taken(tokens)
	}
	return leased, err
}

// taken forgets the server process of a take that is over.
func (s *Store) taken(tokens []broker.Token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.takers, tokens[0])
}

// endTake sees to it that a take whose connection broke so long ago leases nothing any more: the server may still be at it, or have
// yet to receive it.
func (s *Store) endTake(ctx context.Context, tokens []broker.Token, ago time.Duration) error {
	s.mu.Lock()
	process, open := s.takers[tokens[0]]
	s.mu.Unlock()
	if !open {
		return nil
	}
	ended, err := query(ctx, s, pgx.RowTo[bool], "taker", int32(process), ago)
	if err != nil {
		return s.failed(err, "end a take")
	}
	if len(ended) > 0 {
		return fmt.Errorf("a take whose connection broke is being ended: %w", broker.ErrAway)
	}
	s.taken(tokens)
	return nil
}

// Held implements [broker.Store].
func (s *Store) Held(ctx context.Context, req broker.ScanRequest, tokens []broker.Token, ago time.Duration) ([]broker.Pair, error) {
	if err := s.endTake(ctx, tokens, ago); err != nil {
		return nil, err
	}
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
