package client

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/respirated/respirated/client/internal/driver"
	"github.com/respirated/respirated/client/internal/pgtext"
)

// Args are what a strand is about. They are stored as JSON, and a worker gets them back in a type that has the same
// kind and fields.
type Args interface {
	// Kind names the program that runs the strand. It stays the same for as long as strands of it may exist.
	Kind() string
}

// ArgsWithInsertOpts are args whose kind has options of its own. An option of the call wins over them.
type ArgsWithInsertOpts interface {
	Args
	InsertOpts() InsertOpts
}

// RawArgs are args that are JSON already, of a kind that is not known until the program runs.
type RawArgs struct {
	Name string          // the kind
	JSON json.RawMessage // nil = {}
}

// Kind is the name.
func (a RawArgs) Kind() string { return a.Name }

// InsertManyParams is one strand of an InsertMany or InsertManyFast.
type InsertManyParams struct {
	Args       Args
	InsertOpts *InsertOpts // nil = none
}

// InsertResult is a strand that was inserted.
type InsertResult struct {
	ID   string
	Kind string
	Opts InsertOpts // as they were sent: those of the call over those of the args over those of the config
}

// What travels in one statement: at most batchRows strands, and about batchBytes of them.
const (
	batchRows  = 1000
	batchBytes = 4 << 20
)

// batch is how many of the rows, which are the next ones, make up one statement that takes most of them.
func batch(rows []row, most int) int {
	size := 0
	for i := range rows {
		size += rows[i].size()
		if i == most || i > 0 && size > batchBytes {
			return i
		}
	}
	return len(rows)
}

// Insert stores one strand. Where an error leaves open whether that happened, as a broken connection does, the call may
// be repeated safely if opts has an ID.
func (c *Client[TTx]) Insert(ctx context.Context, args Args, opts *InsertOpts) (*InsertResult, error) {
	return one(c.InsertMany(ctx, []InsertManyParams{{args, opts}}))
}

// InsertTx is Insert inside the caller's transaction: the strand exists if and when that commits. Input that is refused
// leaves the transaction as it was; an error of the database spoils it, as any does.
func (c *Client[TTx]) InsertTx(ctx context.Context, tx TTx, args Args, opts *InsertOpts) (*InsertResult, error) {
	return one(c.InsertManyTx(ctx, tx, []InsertManyParams{{args, opts}}))
}

func one(results []*InsertResult, err error) (*InsertResult, error) {
	if err != nil {
		return nil, err
	}
	return results[0], nil
}

// InsertMany stores strands, all or none, and returns them in the order given.
func (c *Client[TTx]) InsertMany(ctx context.Context, params []InsertManyParams) ([]*InsertResult, error) {
	rows, err := c.rows(params)
	if err != nil {
		return nil, err
	}
	single := batch(rows, batchRows) == len(rows)
	if !single {
		if _, err := c.target(ctx, c.pool(), rows); err != nil {
			return nil, err
		}
	}
	var results []*InsertResult
	err = c.atomically(ctx, single, func(db driver.Conn) error {
		results, err = c.insertRows(ctx, db, rows)
		return err
	})
	if err != nil {
		return nil, err
	}
	return results, nil
}

// InsertManyTx is InsertMany inside the caller's transaction.
func (c *Client[TTx]) InsertManyTx(ctx context.Context, tx TTx, params []InsertManyParams) ([]*InsertResult, error) {
	rows, err := c.rows(params)
	if err != nil {
		return nil, err
	}
	return c.insertRows(ctx, c.in(tx), rows)
}

func (c *Client[TTx]) insertRows(ctx context.Context, db driver.Conn, rows []row) ([]*InsertResult, error) {
	results := make([]*InsertResult, 0, len(rows))
	for len(rows) > 0 {
		n := batch(rows, batchRows)
		inserted, err := c.insertBatch(ctx, db, rows[:n])
		if err != nil {
			return nil, err
		}
		results = append(results, inserted...)
		rows = rows[n:]
	}
	c.cfg.Logger.DebugContext(ctx, "strands inserted", "count", len(results))
	return results, nil
}

// insertBatch inserts what one statement takes.
func (c *Client[TTx]) insertBatch(ctx context.Context, db driver.Conn, rows []row) ([]*InsertResult, error) {
	kinds, args, opts := make([]string, len(rows)), make([]string, len(rows)), make([]string, len(rows))
	for i, r := range rows {
		text, err := json.Marshal(*r.opts)
		if err != nil {
			return nil, fmt.Errorf("write the options of a strand of kind %q as JSON: %w", r.kind, err)
		}
		kinds[i], args[i], opts[i] = r.kind, string(r.args), string(text)
	}
	results := make([]*InsertResult, 0, len(rows))
	err := db.Query(ctx, func(scan driver.Scan) error {
		r := rows[len(results)]
		result := &InsertResult{Kind: r.kind, Opts: *r.opts}
		results = append(results, result)
		return scan(&result.ID)
	}, c.sql.insertMany, pgtext.Array(kinds), pgtext.Array(args), pgtext.Array(opts))
	if err != nil {
		return nil, fmt.Errorf("insert %d strands, first of kind %q: %w", len(rows), rows[0].kind, refusal(err, rows))
	}
	return results, nil
}
