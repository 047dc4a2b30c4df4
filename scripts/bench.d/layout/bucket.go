package layout

import (
	"context"
	"fmt"
	"slices"
)

// bucketFigures are what an insert costs with or without the column bucket, which Postgres computes from the id.
type bucketFigures struct {
	Bucket bool    `json:"bucket"`
	Insert usage   `json:"insert"`
	Table  float64 `json:"table_bytes"` // for each row
}

// measureBucket inserts into two copies of the table, in turn.
func measureBucket(ctx context.Context, cfg config, t *table, r *report) error {
	if !slices.Contains(cfg.loads, "insert") || t.queues > 1 {
		return nil
	}
	for range cfg.rounds {
		for _, with := range []bool{true, false} {
			f, err := t.insertWith(ctx, with, cfg.drain)
			if err != nil {
				return fmt.Errorf("insert, bucket %t: %w", with, err)
			}
			progress("insert: bucket %t: %.1f us", with, f.Insert.CPU)
			r.Inserts = append(r.Inserts, f)
		}
	}
	return nil
}

// insertWith inserts n strands into a copy of the table, which has the column bucket or not.
func (t *table) insertWith(ctx context.Context, bucket bool, n int) (f bucketFigures, err error) {
	f.Bucket = bucket
	create := []string{
		`drop table if exists respirate.copy`,
		`create table respirate.copy (like respirate.strand including all) with (fillfactor = 45)`,
	}
	if !bucket {
		create = append(create, `alter table respirate.copy drop column bucket`)
	}
	if err := t.exec(ctx, create...); err != nil {
		return f, err
	}
	if f.Insert, err = t.measure(ctx, func() (int, error) { return n, t.insert(ctx, "copy", n) }); err != nil {
		return f, err
	}
	var size int64
	err = t.db.QueryRow(ctx, `select pg_relation_size('respirate.copy')`).Scan(&size)
	f.Table = float64(size) / float64(n)
	return f, err
}
