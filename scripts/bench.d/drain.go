package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/scripts/bench.d/meter"
	"github.com/respirated/respirated/scripts/bench.d/system"
)

// backlog is what is to be worked off, and how.
type backlog struct {
	jobs      int
	size      int // of the args of each, in bytes
	processes int
	held      bool          // a transaction elsewhere is as old as the backlog
	idleFor   time.Duration // afterwards, to count what is asked of the database while nothing happens
}

// drain is one visit for a backlog.
func (l *lab) drain(ctx context.Context, s system.System, b backlog) (d Drain, err error) {
	v, err := l.open(ctx, s)
	if err != nil {
		return d, err
	}
	defer func() {
		transactions, closeErr := v.close()
		d.Transactions = float64(transactions) / float64(b.jobs)
		err = errors.Join(err, closeErr)
	}()
	inserted, err := v.insert(b.jobs, b.size)
	if err != nil {
		return d, err
	}
	if b.held {
		release, err := v.holdHorizon()
		if err != nil {
			return d, err
		}
		defer release()
	}
	if err := v.start(b.processes); err != nil {
		return d, err
	}
	if d, err = v.drain(b.jobs); err != nil {
		return d, err
	}
	d.System, d.Processes, d.Jobs, d.Insert = s.Name(), b.processes, b.jobs, inserted
	if b.idleFor > 0 {
		d.Idle, _, err = v.idle(b.idleFor)
	}
	return d, err
}

// holdHorizon opens a transaction with a snapshot, so that no row that dies before its release can be removed.
func (v *visit) holdHorizon() (release func(), err error) {
	conn, err := pgx.Connect(v.ctx, meter.AsHarness(v.place.URL))
	if err != nil {
		return nil, err
	}
	release = func() { _ = conn.Close(context.Background()) } // which rolls back
	if _, err := conn.Exec(v.ctx, "begin isolation level repeatable read; select txid_current()"); err != nil {
		release()
		return nil, fmt.Errorf("hold the horizon: %w", err)
	}
	return release, nil
}
