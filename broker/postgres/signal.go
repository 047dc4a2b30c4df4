package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/protocol"
)

// lockTries is how often a signal waits for strands that somebody has locked, and an insert for one who inserts the same, each time
// for the lock timeout.
const lockTries = 10

// Signal implements [broker.Store].
func (s *Store) Signal(ctx context.Context, signals []broker.Signal) ([]bool, error) {
	if len(signals) == 0 {
		return nil, nil
	}
	for i := range signals {
		if why := checkSignal(&signals[i]); why != "" {
			return nil, &broker.SignalError{Index: i, Why: why}
		}
	}
	var found []bool
	var err error
	for try := 0; try < lockTries && (try == 0 || contention(err)); try++ {
		found, err = query(ctx, s, pgx.RowTo[bool], "signal", signalColumns(signals)...)
	}
	switch {
	case err == nil:
		return found, nil
	case badData(err):
		return nil, s.whichSignal(ctx, signals, err)
	}
	return nil, s.failed(err, "send %d signals", len(signals))
}

// checkSignal says what cannot even be sent as text, or is too long; "" = nothing.
func checkSignal(g *broker.Signal) (why string) {
	if why := checkName(g.Name); why != "" {
		return "name: " + why
	}
	if err := protocol.LongJSON(g.Value, broker.SignalBytes); err != nil {
		return "value: " + err.Error()
	}
	return ""
}

// signalColumns are the parameters of signal.sql.
func signalColumns(signals []broker.Signal) []any {
	ids, names := make(uuids, len(signals)), make([]string, len(signals))
	values, wakes := make([][]byte, len(signals)), make([]bool, len(signals))
	for i, g := range signals {
		ids[i], names[i], values[i], wakes[i] = g.ID, g.Name, g.Value, !g.Quiet
	}
	return []any{ids, names, values, wakes}
}

// whichSignal turns an error about one of several signals into one that names it. What the server does not say is found by
// having it read each value.
func (s *Store) whichSignal(ctx context.Context, signals []broker.Signal, err error) error {
	var n int
	pg, _ := errors.AsType[*pgconn.PgError](err)
	if _, scanErr := fmt.Sscanf(pg.Detail, "signal %d", &n); scanErr == nil && n >= 0 && n < len(signals) {
		return &broker.SignalError{Index: n, Why: pg.Message}
	}
	for i, g := range signals {
		_, tried := s.pool.Exec(ctx, "select octet_length($1::jsonb::text)", g.Value)
		if badData(tried) {
			return &broker.SignalError{Index: i, Why: "value: " + dataError(tried)}
		}
		if tried != nil {
			return s.failed(tried, "look for the bad one of %d signals", len(signals))
		}
	}
	return s.failed(err, "send %d signals", len(signals))
}
