package client

import (
	"context"
	"fmt"
	"time"

	"github.com/respirated/respirated/client/internal/driver"
	"github.com/respirated/respirated/protocol"
)

// Between two looks at a strand, StrandWait pauses for as long as this, growing from the first to the last.
const (
	firstLook = 20 * time.Millisecond
	lastLook  = 500 * time.Millisecond
)

// StrandWait waits until a strand has finished, and reads it. It waits for as long as ctx allows. A strand whose queue
// keeps no history leaves no trace to read, which gives [ErrNotFound]: insert it with InsertOpts.Keep.
func (c *Client[TTx]) StrandWait(ctx context.Context, id string) (*StrandRow, error) {
	id, err := protocol.CanonicalID(id)
	if err != nil {
		return nil, fmt.Errorf("wait for strand: id %w", err)
	}
	for pause := firstLook; ; pause = min(pause*3/2, lastLook) {
		row, err := c.ifFinished(ctx, id)
		if row != nil || err != nil {
			return row, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for strand %s: %w", id, context.Cause(ctx))
		}
	}
}

// ifFinished returns nil while the strand is live. That look is cheap: it reads no args.
func (c *Client[TTx]) ifFinished(ctx context.Context, id string) (*StrandRow, error) {
	var live bool
	if err := c.pool().Query(ctx, func(scan driver.Scan) error { return scan(&live) }, c.sql.isLive, id); err != nil {
		return nil, fmt.Errorf("wait for strand %s: %w", id, err)
	}
	if live {
		return nil, nil
	}
	row, err := c.StrandGet(ctx, id)
	if err != nil || row.FinishedAt == nil { // it may have been brought back in between
		return nil, err
	}
	return row, nil
}
