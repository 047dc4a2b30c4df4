package layout

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// drainLoad is who drains what has been inserted.
type drainLoad struct {
	name   string
	queues bool // many, of which the first gets 90 % of the strands
	owners int  // brokers, with as many buckets each; they take turns
	pinned bool // a snapshot is held all the time
}

var drainLoads = []drainLoad{
	{"one", false, 1, false},
	{"one/16", false, 16, false},
	{"one/256", false, 256, false},
	{"many", true, 1, false},
	{"many/16", true, 16, false},
	{"pinned", false, 1, true},
}

// loadNames are what --loads knows.
func loadNames() []string {
	names := []string{"scan", "scan many", "insert"}
	for _, l := range drainLoads {
		names = append(names, l.name)
	}
	return names
}

// drainFigures are what inserting and draining cost a design in a load.
type drainFigures struct {
	Load   string `json:"load"`
	Design string `json:"design"`
	Insert usage  `json:"insert"`
	Drain  usage  `json:"drain"`
	Cut    bool   `json:"cut"`    // given up after drainMost, with strands left
	Bottom cost   `json:"bottom"` // of a scan that starts at the bottom, after a drain with a pinned horizon
	Floor  cost   `json:"floor"`  // of one that starts at the first live strand
}

const (
	drainMost = 15 * time.Second // of a design that is too slow
	listEvery = 20               // scans; then the stripes are listed anew, as late strands demand
	left      = 2 * limit        // strands left after a drain with a pinned horizon, to be scanned
)

// measureDrains fills and drains the table with each design in each load.
func measureDrains(ctx context.Context, cfg config, t *table, r *report) error {
	for _, l := range drainLoads {
		if !slices.Contains(cfg.loads, l.name) || l.queues != (t.queues > 1) {
			continue
		}
		for range cfg.rounds {
			for _, d := range cfg.designs {
				n := cfg.drain
				if l.pinned {
					n = cfg.pinned
				}
				f, err := t.live(ctx, d, l, n)
				if err != nil {
					return fmt.Errorf("drain, %s, design %s: %w", l.name, d.name, err)
				}
				progress("drain: %s, %s: %.0f/s, %.1f us", l.name, d.name, f.Drain.PerSecond, f.Drain.CPU)
				r.Drains = append(r.Drains, f)
			}
		}
	}
	return nil
}

// live has n strands inserted and drained.
func (t *table) live(ctx context.Context, d design, l drainLoad, n int) (f drainFigures, err error) {
	f = drainFigures{Load: l.name, Design: d.name}
	if err := t.exec(ctx, `truncate respirate.strand`); err != nil {
		return f, err
	}
	if err := t.carry(ctx, d); err != nil {
		return f, err
	}
	if f.Insert, err = t.measure(ctx, func() (int, error) { return n, t.insert(ctx, "strand", n) }); err != nil {
		return f, err
	}
	if err := t.exec(ctx, `vacuum analyze respirate.strand`); err != nil {
		return f, err
	}
	if !l.pinned {
		f.Drain, err = t.measure(ctx, func() (int, error) { return t.drain(ctx, d, l, n, &f.Cut) })
		return f, err
	}
	release, err := t.pin(ctx)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, release()) }()
	f.Drain, err = t.measure(ctx, func() (int, error) { return t.drain(ctx, d, l, n-left, &f.Cut) })
	if err != nil {
		return f, err
	}
	if f.Bottom, err = t.scanOnce(ctx, d, true); err != nil {
		return f, err
	}
	f.Floor, err = t.scanOnce(ctx, d, false)
	return f, err
}

// insert copies n strands by the thousand.
func (t *table) insert(ctx context.Context, into string, n int) error {
	for from := 0; from < n; from += limit {
		rows := pgx.CopyFromSlice(min(limit, n-from), func(i int) ([]any, error) {
			return []any{newUUID(), t.laneOf(from + i), args}, nil
		})
		if _, err := t.db.CopyFrom(ctx, pgx.Identifier{"respirate", into}, []string{"id", "lane", "args"}, rows); err != nil {
			return err
		}
	}
	return nil
}

// pin holds a snapshot until it is released.
func (t *table) pin(ctx context.Context) (release func() error, err error) {
	conn, err := connect(ctx, t.url)
	if err != nil {
		return nil, err
	}
	results := conn.PgConn().Exec(ctx, `begin isolation level repeatable read; select from respirate.strand limit 1`)
	if _, err := results.ReadAll(); err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	return func() error { return conn.Close(ctx) }, nil
}

// drain ends up to n strands, the owners one after the other.
func (t *table) drain(ctx context.Context, d design, l drainLoad, n int, cut *bool) (ended int, err error) {
	deadline := time.Now().Add(drainMost)
	width := 256 / l.owners
	for lo := 0; lo < 256 && ended < n && !*cut; lo += width {
		s := newScanner(t.db, d, owner{lanes: t.lanes(1), lo: lo, hi: lo + width}, t.product)
		some, err := t.drainOwner(ctx, s, n-ended, deadline)
		if err != nil {
			return ended, err
		}
		ended += some
		*cut = time.Now().After(deadline) && ended < n
	}
	if !*cut && ended < n {
		return ended, fmt.Errorf("only %d of %d strands were found", ended, n)
	}
	return ended, nil
}

// drainOwner ends up to n strands of one owner, until it finds none from the bottom.
func (t *table) drainOwner(ctx context.Context, s *scanner, n int, deadline time.Time) (ended int, err error) {
	for scans := 0; ended < n && time.Now().Before(deadline); scans++ {
		listed := scans%listEvery == 0
		if listed {
			if err := s.list(ctx); err != nil {
				return ended, err
			}
		}
		found, err := s.next(ctx)
		if err != nil {
			return ended, err
		}
		switch {
		case len(found) > 0:
			if err := t.end(ctx, s, found); err != nil {
				return ended, err
			}
			ended += len(found)
		case listed:
			return ended, nil
		default:
			scans = -1 // list again, to see that there are none
		}
	}
	return ended, nil
}

// epoch is that of the slice's owner.
const epoch = 1

// end leases and deletes what was found.
func (t *table) end(ctx context.Context, s *scanner, found []seen) error {
	var deleted int
	var err error
	switch s.design.way {
	case owned:
		ids, at := places(found)
		deleted, err = t.count(ctx, exitOwned, ids, at, s.owner.lanes, epoch)
	case ownedByID:
		sortByID(found)
		ids, _ := places(found)
		deleted, err = t.count(ctx, exitOwnedID, ids, s.owner.lanes, epoch)
	case byTID:
		deleted, err = t.endByTID(ctx, s, found)
	default:
		deleted, err = t.endByID(ctx, s, found)
	}
	if err == nil && deleted != len(found) {
		err = fmt.Errorf("%d of %d strands were deleted, though nobody else is there", deleted, len(found))
	}
	return err
}

func (t *table) endByID(ctx context.Context, s *scanner, found []seen) (int, error) {
	exit := exitID
	if s.design.way == product {
		exit = t.product["exit_bare"]
	}
	sortByID(found)
	ids, _ := places(found)
	tokens := newTokens(len(found))
	if _, err := t.count(ctx, t.product["lease"], ids, tokens, 2*time.Minute); err != nil {
		return 0, err
	}
	return t.count(ctx, exit, ids, tokens, ones(len(found)), s.owner.lanes)
}

func (t *table) endByTID(ctx context.Context, s *scanner, found []seen) (int, error) {
	sortByID(found)
	ids, at := places(found)
	var leased []seen
	var tokens []pgtype.UUID
	err := t.db.query(ctx, leaseTID, []any{ids, newTokens(len(found)), at}, func(rows pgx.Rows) error {
		var l seen
		var token pgtype.UUID
		skipped := make([]any, len(rows.FieldDescriptions())-3)
		if err := rows.Scan(append([]any{&l.id, &l.at, &token}, skipped...)...); err != nil {
			return err
		}
		leased, tokens = append(leased, l), append(tokens, token)
		return nil
	})
	if err != nil {
		return 0, err
	}
	ids, at = places(leased)
	return t.count(ctx, exitTID, ids, tokens, ones(len(leased)), s.owner.lanes, at)
}

// count runs a statement and says how many rows it returns.
func (t *table) count(ctx context.Context, sql string, args ...any) (n int, err error) {
	err = t.db.query(ctx, sql, args, func(pgx.Rows) error { n++; return nil })
	return n, err
}

// scanOnce measures the scan of 1,000 strands from the bottom of the index, or from the first live one.
func (t *table) scanOnce(ctx context.Context, d design, bottom bool) (cost, error) {
	p := &probe{session: t.db}
	s := newScanner(p, d, owner{lanes: t.lanes(1), lo: 0, hi: 256}, t.product)
	s.bottom = bottom
	if err := s.list(ctx); err != nil {
		return cost{}, err
	}
	p.take()
	_, err := s.next(ctx)
	return p.take(), err
}

func sortByID(found []seen) {
	slices.SortFunc(found, func(a, b seen) int { return bytes.Compare(a.id[:], b.id[:]) })
}

func places(found []seen) (ids []pgtype.UUID, at []pgtype.TID) {
	ids, at = make([]pgtype.UUID, len(found)), make([]pgtype.TID, len(found))
	for i, f := range found {
		ids[i], at[i] = pgtype.UUID{Bytes: f.id, Valid: true}, f.at
	}
	return ids, at
}

func newUUID() (id uuid) {
	rand.Read(id[:])
	return id
}

func newTokens(n int) []pgtype.UUID {
	tokens := make([]pgtype.UUID, n)
	for i := range tokens {
		tokens[i] = pgtype.UUID{Bytes: newUUID(), Valid: true}
	}
	return tokens
}

func ones(n int) []int32 { return slices.Repeat([]int32{1}, n) }
