package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/respirated/respirated/scripts/bench.d/hub"
	"github.com/respirated/respirated/scripts/bench.d/system"
)

// limitBatch is how many strands each statement of the raw loop takes.
const limitBatch = 1000

// limit measures what the design could do at most: one loop leases batches on one connection while another ends them on a
// second, with the product's own statements on its own table, and nothing else. Which strands there are is known
// beforehand.
func (l *lab) limit(ctx context.Context, s system.Respirate, jobs int) (r Limit, err error) {
	v, err := l.open(ctx, s)
	if err != nil {
		return r, err
	}
	defer func() {
		_, closeErr := v.close()
		err = errors.Join(err, closeErr)
	}()
	if _, err := v.insert(jobs, hub.SmallArgs); err != nil {
		return r, err
	}
	loop, err := newRawLoop(v.ctx, s.Root, v.place.URL)
	if err != nil {
		return r, err
	}
	defer loop.close()
	before, err := v.meter.Begin(v.ctx)
	if err != nil {
		return r, err
	}
	began := time.Now()
	if err := loop.run(v.ctx); err != nil {
		return r, err
	}
	took := time.Since(began)
	after, err := v.meter.End(v.ctx)
	return Limit{Rate: float64(jobs) / took.Seconds(), Cost: after.Since(before, jobs)}, err
}

// rawLoop leases and ends all strands of a table.
type rawLoop struct {
	lease, exit     string // the statements
	leasing, ending *pgx.Conn
	ids, tokens     [][16]byte // in the order in which a scan would show them
	sequence        []int32
	lanes           []int32
	leaseFor        time.Duration
}

func newRawLoop(ctx context.Context, root, url string) (_ *rawLoop, err error) {
	r := &rawLoop{leaseFor: 2 * time.Minute}
	for name, text := range map[string]*string{"lease": &r.lease, "exit_bare": &r.exit} {
		file, err := os.ReadFile(filepath.Join(root, "broker", "postgres", "sql", name+".sql"))
		if err != nil {
			return nil, fmt.Errorf("read a statement of the product: %w", err)
		}
		*text = string(file)
	}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	for _, conn := range []**pgx.Conn{&r.leasing, &r.ending} {
		if *conn, err = pgx.Connect(ctx, url); err != nil {
			return nil, err
		}
	}
	return r, r.look(ctx)
}

// look learns which strands there are.
func (r *rawLoop) look(ctx context.Context) error {
	if err := r.leasing.QueryRow(ctx, "select array_agg(lane) from respirate.lane").Scan(&r.lanes); err != nil {
		return fmt.Errorf("read the lanes: %w", err)
	}
	rows, err := r.leasing.Query(ctx, "select id, gen_random_uuid() from respirate.strand order by lane, schedule, id")
	if err != nil {
		return fmt.Errorf("read the strands: %w", err)
	}
	var id, token [16]byte
	_, err = pgx.ForEachRow(rows, []any{&id, &token}, func() error {
		r.ids, r.tokens, r.sequence = append(r.ids, id), append(r.tokens, token), append(r.sequence, 1)
		return nil
	})
	return err
}

// run leases on one connection while it ends on the other what was leased before.
func (r *rawLoop) run(ctx context.Context) error {
	type batch struct{ from, to int }
	leased := make(chan batch)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(leased)
		for from := 0; from < len(r.ids); from += limitBatch {
			b := batch{from, min(from+limitBatch, len(r.ids))}
			if err := all(ctx, r.leasing, b.to-b.from, r.lease, r.ids[b.from:b.to], r.tokens[b.from:b.to], r.leaseFor); err != nil {
				return fmt.Errorf("lease: %w", err)
			}
			select {
			case leased <- b:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	group.Go(func() error {
		for b := range leased {
			if err := all(ctx, r.ending, b.to-b.from, r.exit, r.ids[b.from:b.to], r.tokens[b.from:b.to], r.sequence[b.from:b.to], r.lanes); err != nil {
				return fmt.Errorf("exit: %w", err)
			}
		}
		return nil
	})
	return group.Wait()
}

// all runs a statement that must return n rows, whose columns are read and dropped.
func all(ctx context.Context, conn *pgx.Conn, n int, sql string, args ...any) error {
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	got := 0
	for rows.Next() {
		got++
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if got != n {
		return fmt.Errorf("the statement took %d rows instead of %d", got, n)
	}
	return nil
}

func (r *rawLoop) close() {
	for _, conn := range []*pgx.Conn{r.leasing, r.ending} {
		if conn != nil {
			_ = conn.Close(context.Background()) // the database is dropped
		}
	}
}
