package layout

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// owner is what one broker looks after.
type owner struct {
	lanes  []int32 // served
	lo, hi int     // its buckets: [lo, hi)
}

// buckets lists those of the owner.
func (o owner) buckets() []int16 {
	all := make([]int16, 0, o.hi-o.lo)
	for b := o.lo; b < o.hi; b++ {
		all = append(all, int16(b))
	}
	return all
}

// bounds are the first and the last id of the owner's buckets.
func (o owner) bounds() (lo, hi uuid) {
	for i := range hi {
		hi[i] = 0xff
	}
	lo[0], hi[0] = byte(o.lo), byte(o.hi-1)
	return lo, hi
}

type uuid = [16]byte

// stripe is one value of all index columns before schedule, and how far it was read.
type stripe struct {
	lane   int32
	bucket int16
	low    pgtype.Timestamptz
	lowID  uuid
	dry    int // the product: 1 = nothing was left when it was asked last
}

// seen is a strand that a scan has found.
type seen struct {
	id uuid
	at pgtype.TID
}

// scanner finds the strands of one owner. It lists the stripes that have something due, and goes round among them.
type scanner struct {
	db      runner
	design  design
	owner   owner
	product statements
	ring    []stripe // those that may have more, the next one first
	width   int      // how many of them are asked at a time
	bottom  bool     // start at the very bottom of each stripe, not at its first strand
}

// runner runs the statements that read. A probe measures them on the way.
type runner interface {
	query(ctx context.Context, sql string, args []any, row func(pgx.Rows) error) error
}

func newScanner(db runner, d design, o owner, p statements) *scanner {
	return &scanner{db: db, design: d, owner: o, product: p}
}

// firstWidth is how many stripes are asked at first, mostWidth at most.
const (
	firstWidth = 64
	mostWidth  = 4096
)

var negativeInfinity = pgtype.Timestamptz{InfinityModifier: pgtype.NegativeInfinity, Valid: true}

// list finds the stripes that have something due.
func (s *scanner) list(ctx context.Context) error {
	s.ring, s.width = s.ring[:0], firstWidth
	if s.design.way == product {
		return s.listLanes(ctx)
	}
	lo, hi := s.owner.bounds()
	args := []any{s.owner.lanes, s.owner.buckets(), lo, hi}
	return s.db.query(ctx, s.design.listSQL(), args, func(rows pgx.Rows) error {
		var found stripe
		if err := rows.Scan(&found.lane, &found.bucket, &found.low); err != nil {
			return err
		}
		s.add(found)
		return nil
	})
}

// listLanes lists all lanes as the product does: with a floor, whether anything is due or not.
func (s *scanner) listLanes(ctx context.Context) error {
	mine := make(map[int32]bool, len(s.owner.lanes))
	for _, lane := range s.owner.lanes {
		mine[lane] = true
	}
	return s.db.query(ctx, s.product["lanes"], []any{[]string{kind}, true}, func(rows pgx.Rows) error {
		var found stripe
		if err := rows.Scan(&found.lane, nil, nil, nil, nil, nil, &found.low); err != nil {
			return err
		}
		if mine[found.lane] {
			s.add(found)
		}
		return nil
	})
}

func (s *scanner) add(found stripe) {
	if s.bottom {
		found.low = negativeInfinity
	}
	s.ring = append(s.ring, found)
}

// next finds the next strands; none = the stripes that were listed have nothing more.
func (s *scanner) next(ctx context.Context) ([]seen, error) {
	if s.design.way == product {
		return s.nextOfSome(ctx)
	}
	for len(s.ring) > 0 {
		asked := min(s.width, len(s.ring))
		found, err := s.ask(ctx, asked, (limit+asked-1)/asked)
		if err != nil || len(found) > 0 {
			return found, err
		}
	}
	return nil, nil
}

// ask reads up to share strands of each of the first stripes. Those that have more go to the end of the ring.
func (s *scanner) ask(ctx context.Context, asked, share int) ([]seen, error) {
	stripes := s.ring[:asked]
	counts := make([]int, asked)
	found := make([]seen, 0, asked*share)
	args := append(columns(stripes), s.bounds()...)
	args = append(args, share)
	if !s.design.byLane {
		args = append(args, s.owner.lanes)
	}
	err := s.db.query(ctx, s.design.scanSQL(), args, func(rows pgx.Rows) error {
		var n int
		var f seen
		var schedule pgtype.Timestamptz
		skipped := make([]any, len(rows.FieldDescriptions())-4)
		if err := rows.Scan(append([]any{&n, &f.at, &f.id, &schedule}, skipped...)...); err != nil {
			return err
		}
		counts[n-1]++
		stripes[n-1].low, stripes[n-1].lowID = schedule, f.id
		found = append(found, f)
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.turn(counts, share)
	if len(found) < limit/2 {
		s.width = min(2*s.width, mostWidth)
	}
	return found, nil
}

func (s *scanner) bounds() []any {
	lo, hi := s.owner.bounds()
	return []any{lo, hi}
}

// turn drops the stripes that came short of their share, and puts the others at the end.
func (s *scanner) turn(counts []int, share int) {
	asked := s.ring[:len(counts)]
	rest := append([]stripe(nil), s.ring[len(counts):]...)
	for i, count := range counts {
		if count == share {
			rest = append(rest, asked[i])
		}
	}
	s.ring = rest
}

// nextOfSome asks the lanes whose strands come first, each for all that is wanted, and more lanes only if that was not
// enough, as the product does.
func (s *scanner) nextOfSome(ctx context.Context) ([]seen, error) {
	slices.SortStableFunc(s.ring, func(a, b stripe) int {
		return cmp.Or(cmp.Compare(a.dry, b.dry), a.low.Time.Compare(b.low.Time))
	})
	var all []seen
	for from, few := 0, firstWidth; from < len(s.ring) && len(all) < limit; few *= 4 {
		some := s.ring[from:min(from+few, len(s.ring))]
		found, err := s.nextOf(ctx, some, limit-len(all))
		if err != nil {
			return nil, err
		}
		if len(found) < limit-len(all) {
			for i := range some {
				some[i].dry = 1
			}
		}
		all = append(all, found...)
		from += len(some)
	}
	return all, nil
}

// nextOf asks some lanes in one statement.
func (s *scanner) nextOf(ctx context.Context, some []stripe, limit int) ([]seen, error) {
	places := make(map[int32]*stripe, len(some))
	priorities := make([]int16, len(some))
	for i := range some {
		places[some[i].lane], priorities[i] = &some[i], 5
	}
	all := columns(some)
	lo, hi := s.owner.bounds()
	n := len(some)
	args := []any{all[0], priorities, all[2], all[3],
		slices.Repeat([]uuid{lo}, n), slices.Repeat([]uuid{hi}, n), make([]time.Duration, n), limit}
	var found []seen
	err := s.db.query(ctx, s.product["scan"], args, func(rows pgx.Rows) error {
		var id pgtype.UUID
		var lane pgtype.Int4
		var schedule pgtype.Timestamptz
		if err := rows.Scan(&id, &lane, &schedule, nil, nil, nil, nil, nil, nil, nil); err != nil || !id.Valid {
			return err
		}
		places[lane.Int32].low, places[lane.Int32].lowID = schedule, id.Bytes
		found = append(found, seen{id: id.Bytes})
		return nil
	})
	return found, err
}

// columns are the stripes as the first parameters of a scan.
func columns(stripes []stripe) []any {
	lanes, buckets := make([]int32, len(stripes)), make([]int16, len(stripes))
	lows, ids := make([]pgtype.Timestamptz, len(stripes)), make([]pgtype.UUID, len(stripes))
	for i, s := range stripes {
		lanes[i], buckets[i] = s.lane, s.bucket
		lows[i], ids[i] = s.low, pgtype.UUID{Bytes: s.lowID, Valid: true}
	}
	return []any{lanes, buckets, lows, ids}
}

// session is a connection that has the product's settings and keeps its statements prepared.
type session struct{ *pgx.Conn }

func (s session) query(ctx context.Context, sql string, args []any, row func(pgx.Rows) error) error {
	rows, err := s.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// probe is a session that has Postgres explain each statement before it is run.
type probe struct {
	session
	cost cost // of the statements so far
}

// cost is what Postgres says of statements.
type cost struct {
	Statements int     `json:"statements"`
	Ms         float64 `json:"ms"`
	Buffers    int     `json:"buffers"` // pages looked at
}

// explained is the part of EXPLAIN (FORMAT JSON) that we read.
type explained []struct {
	Plan struct {
		Hit  int `json:"Shared Hit Blocks"`
		Read int `json:"Shared Read Blocks"`
	}
	Time float64 `json:"Execution Time"`
}

func (p *probe) query(ctx context.Context, sql string, args []any, row func(pgx.Rows) error) error {
	execute, err := p.execute(ctx, sql, args)
	if err != nil {
		return err
	}
	var plan explained
	explain := "explain (analyze, buffers, timing off, format json) " + execute
	if err := p.QueryRow(ctx, explain, pgx.QueryExecModeSimpleProtocol).Scan(&plan); err != nil {
		return fmt.Errorf("%w in %s", err, sql)
	}
	p.cost.Statements++
	p.cost.Ms += plan[0].Time
	p.cost.Buffers += plan[0].Plan.Hit + plan[0].Plan.Read
	return p.session.query(ctx, sql, args, row)
}

// execute is SQL that runs a prepared statement. EXPLAIN of a statement itself would plan it for these arguments, while
// a broker uses a plan for any.
func (p *probe) execute(ctx context.Context, sql string, args []any) (string, error) {
	prepared, err := p.Prepare(ctx, sql, sql)
	if err != nil {
		return "", err
	}
	literals := make([]string, len(args))
	for i, arg := range args {
		text, err := p.TypeMap().Encode(prepared.ParamOIDs[i], pgtype.TextFormatCode, arg, nil)
		if err != nil {
			return "", err
		}
		literals[i] = "'" + strings.ReplaceAll(string(text), "'", "''") + "'"
	}
	return "execute " + pgx.Identifier{prepared.Name}.Sanitize() + "(" + strings.Join(literals, ", ") + ")", nil
}

// take gives the cost so far and begins anew.
func (p *probe) take() cost {
	c := p.cost
	p.cost = cost{}
	return c
}
