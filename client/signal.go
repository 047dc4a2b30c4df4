package client

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/respirated/respirated/client/internal/driver"
	"github.com/respirated/respirated/client/internal/pgtext"
	"github.com/respirated/respirated/protocol"
)

// SignalParams is a semaphore for a strand: a durable signal, which stays until the strand has used it.
type SignalParams struct {
	ID    string // the strand
	Name  string // 1 to 255 bytes, without control characters
	Value any    // goes with it, as JSON of up to 256 KiB; nil = nothing does
	Quiet bool   // do not wake the strand: it finds the semaphore when it runs next
}

// SignalError says which of the semaphores handed in was refused, and why. Nothing of the call was sent.
type SignalError struct {
	Index int    // its place among those handed in, from 0
	Field string // "id", "name" or "value"
	Why   string
}

// Error names the semaphore, the field and the reason.
func (e *SignalError) Error() string { return fmt.Sprintf("signal %d: %s %s", e.Index, e.Field, e.Why) }

// Signal sends a semaphore to a live strand and wakes it: it is due now, or, if it is running, once more after its nap. One
// that is not live gives [ErrNotFound].
func (c *Client[TTx]) Signal(ctx context.Context, id, name string, value any) error {
	return found(c.SignalMany(ctx, []SignalParams{{ID: id, Name: name, Value: value}}))
}

// SignalTx is Signal inside the caller's transaction: the semaphore comes when that commits.
func (c *Client[TTx]) SignalTx(ctx context.Context, tx TTx, id, name string, value any) error {
	return found(c.SignalManyTx(ctx, tx, []SignalParams{{ID: id, Name: name, Value: value}}))
}

func found(there []bool, err error) error {
	if err == nil && !there[0] {
		return fmt.Errorf("signal strand: %w", ErrNotFound)
	}
	return err
}

// SignalMany sends semaphores, all in one transaction, and tells of each, in the order given, whether there is such a live
// strand; to those that are not there nothing is sent. Those of one strand come in the order given.
func (c *Client[TTx]) SignalMany(ctx context.Context, params []SignalParams) (there []bool, err error) {
	columns, err := signalColumns(params)
	if err != nil {
		return nil, err
	}
	err = c.atomically(ctx, true, func(db driver.Conn) error {
		there, err = c.signal(ctx, db, columns)
		return err
	})
	return there, err
}

// SignalManyTx is SignalMany inside the caller's transaction.
func (c *Client[TTx]) SignalManyTx(ctx context.Context, tx TTx, params []SignalParams) ([]bool, error) {
	columns, err := signalColumns(params)
	if err != nil {
		return nil, err
	}
	return c.signal(ctx, c.in(tx), columns)
}

// signalTexts are the parameters of signal_many.sql.
type signalTexts struct {
	ids, names, values, wakes []string
}

func signalColumns(params []SignalParams) (s signalTexts, err error) {
	for i, p := range params {
		id, err := protocol.CanonicalID(p.ID)
		if err != nil {
			return s, &SignalError{i, "id", err.Error()}
		}
		if err := protocol.CheckName(p.Name); err != nil {
			return s, &SignalError{i, "name", err.Error()}
		}
		value, err := encodeValue(p.Value)
		if err != nil {
			return s, &SignalError{i, "value", err.Error()}
		}
		s.ids, s.names = append(s.ids, id), append(s.names, p.Name)
		s.values, s.wakes = append(s.values, string(value)), append(s.wakes, strconv.FormatBool(!p.Quiet))
	}
	return s, nil
}

// encodeValue writes a value as JSON that Postgres can store; nil gives "".
func encodeValue(value any) ([]byte, error) {
	if value == nil {
		return nil, nil
	}
	text, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("cannot be written as JSON: %w", err)
	}
	return text, checkSize(protocol.MeasureMarshalled, text, protocol.MaxSignal)
}

func (c *Client[TTx]) signal(ctx context.Context, db driver.Conn, s signalTexts) ([]bool, error) {
	there := make([]bool, 0, len(s.ids))
	if len(s.ids) == 0 {
		return there, nil
	}
	err := db.Query(ctx, func(scan driver.Scan) error {
		there = append(there, false)
		return scan(&there[len(there)-1])
	}, c.sql.signalMany, pgtext.Array(s.ids), pgtext.Array(s.names), pgtext.Array(s.values), pgtext.Array(s.wakes))
	if err != nil {
		return nil, fmt.Errorf("send %d semaphores: %w", len(s.ids), err)
	}
	c.cfg.Logger.DebugContext(ctx, "semaphores sent", "count", len(there))
	return there, nil
}
