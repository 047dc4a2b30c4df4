package client

import (
	"context"
	"fmt"

	"github.com/respirated/respirated/client/internal/driver"
	"github.com/respirated/respirated/client/internal/pgtext"
	"github.com/respirated/respirated/protocol"
)

// StrandCancel ends a strand. One that is running is asked to stop, and ends soon: the state told is then [Leased]. One
// that has finished already stays as it is. One that is not there gives [ErrNotFound].
func (c *Client[TTx]) StrandCancel(ctx context.Context, id string) (State, error) {
	return c.alone(ctx, func(db driver.Conn) (State, error) { return c.steer(ctx, db, "cancel", c.sql.cancel, id) })
}

// StrandCancelTx is StrandCancel inside the caller's transaction.
func (c *Client[TTx]) StrandCancelTx(ctx context.Context, tx TTx, id string) (State, error) {
	return c.steer(ctx, c.in(tx), "cancel", c.sql.cancel, id)
}

// StrandRetry makes a strand due now. A finished one comes back where it ended, with its tries counted anew and, if it was
// dead, with the children that it had; a running one goes on as it does, and the state told is then [Leased]. One that is not
// there gives [ErrNotFound].
func (c *Client[TTx]) StrandRetry(ctx context.Context, id string) (State, error) {
	return c.alone(ctx, func(db driver.Conn) (State, error) { return c.steer(ctx, db, "retry", c.sql.retry, id) })
}

// StrandRetryTx is StrandRetry inside the caller's transaction.
func (c *Client[TTx]) StrandRetryTx(ctx context.Context, tx TTx, id string) (State, error) {
	return c.steer(ctx, c.in(tx), "retry", c.sql.retry, id)
}

// StrandWake makes a live strand due now; one that is running runs once more after its nap. One that is not live gives
// [ErrNotFound].
func (c *Client[TTx]) StrandWake(ctx context.Context, id string) error {
	return c.atomically(ctx, true, func(db driver.Conn) error { return c.wake(ctx, db, id) })
}

// StrandWakeTx is StrandWake inside the caller's transaction.
func (c *Client[TTx]) StrandWakeTx(ctx context.Context, tx TTx, id string) error {
	return c.wake(ctx, c.in(tx), id)
}

// alone runs a verb that is a single statement.
func (c *Client[TTx]) alone(ctx context.Context, verb func(driver.Conn) (State, error)) (state State, err error) {
	err = c.atomically(ctx, true, func(db driver.Conn) error {
		state, err = verb(db)
		return err
	})
	return state, err
}

func (c *Client[TTx]) steer(ctx context.Context, db driver.Conn, verb, statement, id string) (State, error) {
	id, err := protocol.CanonicalID(id)
	if err != nil {
		return "", fmt.Errorf("%s strand: id %w", verb, err)
	}
	states, err := steerAll(ctx, db, statement, []string{id})
	if err != nil {
		return "", fmt.Errorf("%s strand %s: %w", verb, id, err)
	}
	if states[0] == "" {
		return "", fmt.Errorf("%s strand %s: %w", verb, id, ErrNotFound)
	}
	c.cfg.Logger.InfoContext(ctx, "strand steered", "verb", verb, "strand", id, "state", states[0])
	return states[0], nil
}

// steerAll runs cancel.sql or retry.sql. The state of a strand that is not there is "".
func steerAll(ctx context.Context, db driver.Conn, statement string, ids []string) ([]State, error) {
	states := make([]State, 0, len(ids))
	err := db.Query(ctx, func(scan driver.Scan) error {
		var state *string
		err := scan(&state)
		if state == nil {
			state = new(string)
		}
		states = append(states, State(*state))
		return err
	}, statement, pgtext.Array(ids))
	return states, err
}

func (c *Client[TTx]) wake(ctx context.Context, db driver.Conn, id string) error {
	id, err := protocol.CanonicalID(id)
	if err != nil {
		return fmt.Errorf("wake strand: id %w", err)
	}
	var found bool
	if err := db.Query(ctx, func(scan driver.Scan) error { return scan(&found) }, c.sql.wake, id); err != nil {
		return fmt.Errorf("wake strand %s: %w", id, err)
	}
	if !found {
		return fmt.Errorf("wake strand %s: %w", id, ErrNotFound)
	}
	c.cfg.Logger.InfoContext(ctx, "strand steered", "verb", "wake", "strand", id)
	return nil
}
