package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/respirated/respirated/client/internal/driver"
	"github.com/respirated/respirated/protocol"
)

// The verbs of this file change strands by hand. They need the rights that the SQL function respirate.grant_operator(role)
// gives, and leave an [Audit], in which by is who does it; "" = the role of the connection.

// StrandEdit replaces the args of the frame of a strand that runs next, or that would if a dead or cancelled strand were
// retried. It tells the state that the strand is in. One that a worker runs gives [ErrLeased], one that is done [ErrDone], one that is
// not there [ErrNotFound].
func (c *Client[TTx]) StrandEdit(ctx context.Context, id string, args json.RawMessage, by string) (State, error) {
	return c.alone(ctx, func(db driver.Conn) (State, error) { return c.edit(ctx, db, id, args, by) })
}

// StrandEditTx is StrandEdit inside the caller's transaction, which is of no use any more after an error.
func (c *Client[TTx]) StrandEditTx(ctx context.Context, tx TTx, id string, args json.RawMessage, by string) (State, error) {
	return c.edit(ctx, c.in(tx), id, args, by)
}

// StrandRetryAt has a strand go on at a label, now and with its tries counted anew: one that waits, or one that has
// finished, which comes back. That its program has such a label is for the caller to know. One that a worker runs gives
// [ErrLeased], one that is not there [ErrNotFound].
func (c *Client[TTx]) StrandRetryAt(ctx context.Context, id, label, by string) (State, error) {
	return c.alone(ctx, func(db driver.Conn) (State, error) { return c.retryAt(ctx, db, id, label, by) })
}

// StrandRetryAtTx is StrandRetryAt inside the caller's transaction, which is of no use any more after an error.
func (c *Client[TTx]) StrandRetryAtTx(ctx context.Context, tx TTx, id, label, by string) (State, error) {
	return c.retryAt(ctx, c.in(tx), id, label, by)
}

func (c *Client[TTx]) edit(ctx context.Context, db driver.Conn, id string, args json.RawMessage, by string) (State, error) {
	text, err := encodeValue(args)
	if err == nil && len(args) == 0 {
		err = errors.New("is empty")
	}
	if err != nil {
		return "", fmt.Errorf("edit strand: args %w", err)
	}
	return c.byHand(ctx, db, "edit", c.sql.edit, id, string(text), by)
}

func (c *Client[TTx]) retryAt(ctx context.Context, db driver.Conn, id, label, by string) (State, error) {
	if err := protocol.CheckName(label); err != nil {
		return "", fmt.Errorf("retry strand: label %w", err)
	}
	return c.byHand(ctx, db, "retry", c.sql.retryAt, id, label, by)
}

// byHand runs edit.sql or retry_at.sql.
func (c *Client[TTx]) byHand(ctx context.Context, db driver.Conn, verb, statement, id, what, by string) (State, error) {
	id, err := protocol.CanonicalID(id)
	if err != nil {
		return "", fmt.Errorf("%s strand: id %w", verb, err)
	}
	if err := checkOptionalName(by); err != nil {
		return "", fmt.Errorf("%s strand: by %w", verb, err)
	}
	var state *string
	err = db.Query(ctx, func(scan driver.Scan) error { return scan(&state) }, statement, id, what, by)
	switch {
	case sqlState(err) == stateOver:
		return "", fmt.Errorf("%s strand: %w: %w", verb, ErrDone, err)
	case sqlState(err) == stateInUse:
		return "", fmt.Errorf("%s strand: %w: %w", verb, ErrLeased, err)
	case err != nil:
		return "", fmt.Errorf("%s strand %s: %w", verb, id, err)
	case state == nil:
		return "", fmt.Errorf("%s strand %s: %w", verb, id, ErrNotFound)
	}
	c.cfg.Logger.InfoContext(ctx, "strand steered", "verb", verb, "strand", id, "state", *state, "by", by)
	return State(*state), nil
}
