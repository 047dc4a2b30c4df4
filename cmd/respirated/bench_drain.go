package main

import (
	"context"
	"fmt"
	"time"
)

const (
	drainPoll     = 10 * time.Millisecond
	drainProgress = 25 // polls
)

// drain lets the queue go and waits until it is empty. To ask whether there is any strand left reads all that are dead
// already; so while the last one is there, which is looked up by its id, only that is asked.
func (b *benchRun) drain(ctx context.Context, o *observer, db *database, host *benchHost, lastID string) error {
	b.progress.phase("running", b.jobs)
	cpu := host.cpu(ctx)
	began := time.Now()
	if err := o.do(ctx, db, "with resumed as (update "+b.table("queue")+" set paused_at = null) select "+b.table("tell")+"('lane', null)"); err != nil {
		return fmt.Errorf("resume the queue: %w", err)
	}
	ticker := time.NewTicker(drainPoll)
	defer ticker.Stop()
	left := "select exists (select from " + b.table("strand") + " where id = $1)"
	args := []any{lastID}
	for polls := 0; ; polls++ {
		var more bool
		if err := o.one(ctx, db, left, args, &more); err != nil {
			return fmt.Errorf("look whether all strands have run: %w", err)
		}
		switch {
		case !more && args == nil:
			return b.drained(ctx, o, db, host, time.Since(began), cpu)
		case !more:
			left, args = "select exists (select from "+b.table("strand")+")", nil
			continue
		}
		if polls%drainProgress == 0 && b.progress.shown() {
			b.showDeleted(ctx, o, db)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// drained takes the figures that end with the daemon.
func (b *benchRun) drained(ctx context.Context, o *observer, db *database, host *benchHost, took time.Duration, before hostCPU) error {
	b.report.ranFor(took)
	b.report.cost(host.cpu(ctx), before, peakMemory(host.pid()))
	err := o.one(ctx, db, "select count(*) from pg_stat_activity where application_name = $1", []any{brokerName(b.schema)}, &b.report.Connections)
	if err != nil {
		return fmt.Errorf("count the daemon's connections: %w", err)
	}
	return nil
}

// showDeleted is only for show: what the server tells is a second old.
func (b *benchRun) showDeleted(ctx context.Context, o *observer, db *database) {
	var deleted int
	if o.one(ctx, db, "select pg_stat_get_tuples_deleted($1::regclass)::int", []any{b.table("strand")}, &deleted) == nil {
		b.progress.set(deleted)
	}
}
