package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/respirated/respirated/broker"
)

// Insert implements [broker.Store].
func (s *Store) Insert(ctx context.Context, inserts []broker.Insert) ([]broker.ID, error) {
	if len(inserts) == 0 {
		return nil, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if bad := checkKinds(inserts); bad != nil {
		return nil, bad
	}
	rows := insertRows(inserts, broker.ID{})
	ctx, cancel := call(ctx)
	defer cancel()
	var made []insertedRow
	var err error
	for try := 0; try < lockTries && (try == 0 || contention(err)); try++ {
		made, err = insertInto(ctx, s.pool, s.sql, rows)
	}
	switch {
	case err == nil:
		return idsOf(made), nil
	case badData(err):
		return nil, s.whichInsert(ctx, rows, err)
	}
	return nil, s.failed(err, "insert %d strands", len(inserts))
}

// checkKinds refuses what cannot even be sent as text. It leaves the rest to the database.
func checkKinds(inserts []broker.Insert) error {
	for i, in := range inserts {
		if why := checkName(in.Kind); why != "" {
			return &broker.InsertError{Index: i, Field: "kind", Why: why}
		}
	}
	return nil
}

// insertRow is an insert and its parent (zero = none).
type insertRow struct {
	broker.Insert
	parent broker.ID
}

// insertedRow is a row of insert.sql.
type insertedRow struct {
	id    broker.ID
	fresh bool // it was not there before
}

// insertRows gives the children among inserts their parent.
func insertRows(inserts []broker.Insert, parent broker.ID) []insertRow {
	rows := make([]insertRow, len(inserts))
	for i, in := range inserts {
		rows[i].Insert = in
		if in.Child {
			rows[i].parent = parent
		}
	}
	return rows
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func insertInto(ctx context.Context, q querier, sql statements, rows []insertRow) ([]insertedRow, error) {
	ids, parents := make(optionalUUIDs, len(rows)), make(optionalUUIDs, len(rows))
	kinds := make([]string, len(rows))
	args, opts := make([][]byte, len(rows)), make([][]byte, len(rows))
	for i, r := range rows {
		ids[i], parents[i] = optional(r.ID), optional(r.parent)
		kinds[i], args[i] = r.Kind, orNull(r.Args)
		if len(r.Opts) > 0 {
			opts[i] = r.Opts
		}
	}
	found, err := q.Query(ctx, sql.get("insert"), ids, kinds, args, opts, parents)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(found, func(row pgx.CollectableRow) (r insertedRow, err error) {
		err = row.Scan((*[16]byte)(&r.id), &r.fresh)
		return r, err
	})
}

// orNull has missing args refused by name; an empty text would be a syntax error.
func orNull(doc []byte) []byte {
	if len(doc) == 0 {
		return nil
	}
	return doc
}

func idsOf(rows []insertedRow) []broker.ID {
	ids := make([]broker.ID, len(rows))
	for i, r := range rows {
		ids[i] = r.id
	}
	return ids
}

// whichInsert turns an error about one of several inserts into one that names it. Where the server does not say which
// it was, the inserts are tried one by one in a transaction that is given up.
func (s *Store) whichInsert(ctx context.Context, rows []insertRow, err error) error {
	if bad := insertError(err); bad != nil {
		return bad
	}
	for i, row := range rows {
		tried := s.tryInsert(ctx, row)
		if badData(tried) {
			return &broker.InsertError{Index: i, Field: s.badField(ctx, row.Insert), Why: dataError(tried)}
		}
		if tried != nil {
			return s.failed(tried, "look for the bad one of %d inserts", len(rows))
		}
	}
	return s.failed(err, "insert %d strands", len(rows))
}

// tryInsert says what would become of an insert.
func (s *Store) tryInsert(ctx context.Context, row insertRow) error {
	tx, err := s.pool.Begin(ctx)
	if err != nil {
		return err
	}
	_, err = insertInto(ctx, tx, s.sql, []insertRow{row})
	return errors.Join(err, tx.Rollback(ctx))
}

// insertError reads the error that respirate.refuse() and respirate.check_inserts() raise; nil for others.
func insertError(err error) *broker.InsertError {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || pg.Code != invalidParameter || pg.ColumnName == "" {
		return nil
	}
	bad := &broker.InsertError{Field: pg.ColumnName, Why: strings.TrimPrefix(pg.Message, pg.ColumnName+": ")}
	if _, err := fmt.Sscanf(pg.Detail, "insert %d", &bad.Index); err != nil {
		return nil
	}
	return bad
}

// badField is the part of a bad insert that Postgres refuses to read as jsonb.
func (s *Store) badField(ctx context.Context, in broker.Insert) string {
	if _, err := s.pool.Exec(ctx, "select $1::jsonb", in.Args); badData(err) {
		return "args"
	}
	return "opts"
}

// dataError is what the server says about bad data, in one line.
func dataError(err error) string {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return oneLine(err)
	}
	if pg.Detail == "" {
		return pg.Message
	}
	return pg.Message + ": " + pg.Detail
}
