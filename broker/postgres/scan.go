package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/respirated/respirated/broker"
)

// Scan implements [broker.Store]. What is due in a lane that was made after the lanes were loaded is found by the next
// scan that loads them.
func (s *Store) Scan(ctx context.Context, req broker.ScanRequest) (broker.ScanResult, error) {
	result, err := s.scan(withoutAsking(ctx), req)
	if errors.Is(err, broker.ErrAway) { // perhaps it is only that connection, and it changes nothing: others are asked first
		result, err = s.scan(ctx, req)
	}
	return result, err
}

func (s *Store) scan(ctx context.Context, req broker.ScanRequest) (broker.ScanResult, error) {
	spots, err := s.lanesFor(ctx, req)
	if err != nil {
		return broker.ScanResult{}, s.failed(err, "load the lanes of %d kinds", len(req.Kinds))
	}
	found, end, err := s.scanLanes(ctx, req, spots)
	if err != nil {
		return broker.ScanResult{}, s.failed(err, "scan %d kinds", len(req.Kinds))
	}
	result := broker.ScanResult{
		Candidates: s.take(found, spots, end.at),
		More:       len(found) >= req.Limit,
		NextDue:    end.next,
		Settled:    s.settled(end.xmin),
	}
	if err := s.sweep(ctx, found); err != nil && ctx.Err() == nil {
		s.log.Warn("cancelled strands not ended", "error", err)
	}
	return result, nil
}

// lanesFor lists the lanes to scan and where to go on in each.
func (s *Store) lanesFor(ctx context.Context, req broker.ScanRequest) ([]spot, error) {
	for load := req.Bottom && !(req.Known && s.lanes.near(req.Kinds)); ; load = true {
		if load {
			if err := s.loadLanes(ctx, req.Kinds); err != nil {
				return nil, err
			}
		}
		if spots, known := s.lanes.start(req); known {
			return spots, nil
		}
	}
}

// loadLanes asks which lanes there are, and, when it is due, for their floors.
func (s *Store) loadLanes(ctx context.Context, kinds []string) error {
	start := time.Now()
	walking := s.lanes.walkDue(kinds, start)
	found, err := query(ctx, s, scanLane, "lanes", kinds, walking)
	if err != nil {
		return err
	}
	var walked walk
	if walking {
		walked = walk{at: time.Now(), took: max(time.Since(start), 1)}
	}
	s.lanes.load(kinds, found, walked)
	return nil
}

// dueRow is a row of scan.sql: a due strand.
type dueRow struct {
	id        broker.ID
	lane      int32
	schedule  pgtype.Timestamptz
	since     time.Time // when it could have started: its schedule, or the end of a lease that ran out
	label     string
	bytes     int32
	alone     bool
	cancelled bool // to be ended, not run
}

// smallPayload is what need not be told from nothing.
const smallPayload = 1 << 10

// payload is about how many bytes the strand will take in the broker; 0 = a few.
func (d dueRow) payload() int {
	if d.bytes <= smallPayload {
		return 0
	}
	return int(d.bytes)
}

// scanEnd is the last row of scan.sql.
type scanEnd struct {
	next time.Duration // until the next strand becomes due; 0 = not known
	xmin int64         // of the snapshot
	at   time.Time     // by the clock of the database
}

const (
	fewLanes  = 64 // lanes that one statement asks, at first
	moreLanes = 4  // each further statement of a scan asks so many times as many
)

// scanLanes finds due strands. Each lane has to be asked for as many as are wanted, since all may be there. So where
// there are many lanes, those come first that should start first, and the others only if that was not enough: all at
// once would read everything that waits in a thousand short lanes.
func (s *Store) scanLanes(ctx context.Context, req broker.ScanRequest, spots []spot) (all []dueRow, end scanEnd, err error) {
	for few := fewLanes; ; few *= moreLanes {
		some := spots[:min(few, len(spots))]
		spots = spots[len(some):]
		limit := req.Limit - len(all)
		found, ended, err := s.scanSome(ctx, req, some, limit)
		if err != nil {
			return nil, scanEnd{}, err
		}
		if all == nil {
			all, end = found, ended
		} else {
			all, end.next = append(all, found...), sooner(end.next, ended.next)
		}
		if len(found) < limit {
			s.lanes.exhaust(some, ended.at) // not by our clock: it is compared with schedules
		}
		if len(all) >= req.Limit || len(spots) == 0 {
			return all, end, nil
		}
	}
}

// sooner is the shorter of two waits, of which 0 means not known.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// scanSome asks some lanes for what is due.
func (s *Store) scanSome(ctx context.Context, req broker.ScanRequest, spots []spot, limit int) ([]dueRow, scanEnd, error) {
	found := make([]dueRow, 0, min(limit, usualBatch))
	var (
		end              scanEnd
		id               pgtype.UUID
		lane, size       pgtype.Int4
		label            pgtype.Text
		schedule, since  pgtype.Timestamptz
		alone, cancelled pgtype.Bool
		next             pgtype.Float8
		xmin             pgtype.Int8
	)
	err := each(ctx, s.pool, s.sql.get("scan"), func() {
		if id.Valid {
			found = append(found, dueRow{id.Bytes, lane.Int32, schedule, since.Time, label.String, size.Int32, alone.Bool, cancelled.Bool})
			return
		}
		end = scanEnd{next: until(next.Float64), xmin: xmin.Int64, at: schedule.Time}
	}, []any{&id, &lane, &schedule, &since, &label, &size, &alone, &cancelled, &next, &xmin}, scanArgs(req, spots, limit)...)
	return found, end, err
}

// scanArgs are the parameters of scan.sql: the lanes with their ranges as columns, and the limit.
func scanArgs(req broker.ScanRequest, spots []spot, limit int) []any {
	c := scanColumns(req, spots)
	return append(c.args(), limit)
}

func scanColumns(req broker.ScanRequest, spots []spot) columns {
	n := len(spots)
	c := columns{make([]int32, 0, n), make([]int16, 0, n), make([]pgtype.Timestamptz, 0, n), make(uuids, 0, n),
		make(uuids, 0, n), make(uuids, 0, n), make([]time.Duration, 0, n)}
	for _, at := range spots {
		c.ask(req, at)
	}
	return c
}

// until is a number of seconds, cut where it does not matter any more and does not fit into a Duration.
func until(seconds float64) time.Duration {
	const ages = 365 * 24 * time.Hour
	return time.Duration(min(seconds, ages.Seconds()) * float64(time.Second))
}

// columns are where a scan looks: for each range of ids in each lane a row.
type columns struct {
	numbers     []int32
	priorities  []int16
	schedules   []pgtype.Timestamptz
	ids         uuids
	first, last uuids
	overdue     []time.Duration // what could have started so long ago
}

func (c *columns) args() []any {
	return []any{c.numbers, c.priorities, c.schedules, c.ids, c.first, c.last, c.overdue}
}

// ask adds the slice of a lane, and, where a scan is for what is overdue elsewhere too, what is below and above it.
func (c *columns) ask(req broker.ScanRequest, at spot) {
	slice := req.SliceOf(at.kind, broker.Queue{Tenant: at.tenant, Name: at.queue})
	if slice.Hi == 0 {
		slice.Hi = 1 << 32
	}
	c.add(at, slice.Lo, slice.Hi, 0)
	if req.Bottom && req.Overdue > 0 {
		c.add(at, 0, slice.Lo, req.Overdue)
		c.add(at, slice.Hi, 1<<32, req.Overdue)
	}
}

// add adds the ids whose first 32 bits are in [lo, hi), if there are any.
func (c *columns) add(at spot, lo, hi uint64, overdue time.Duration) {
	if lo >= hi {
		return
	}
	var first, last [16]byte
	for i := range last {
		last[i] = 0xff
	}
	binary.BigEndian.PutUint32(first[:], uint32(lo))
	binary.BigEndian.PutUint32(last[:], uint32(hi-1))
	c.numbers, c.priorities = append(c.numbers, at.number), append(c.priorities, at.priority)
	c.schedules, c.ids = append(c.schedules, at.schedule), append(c.ids, at.id)
	c.first, c.last, c.overdue = append(c.first, first), append(c.last, last), append(c.overdue, overdue)
}

// take moves the cursors behind what was found at that time in the lanes served, and turns it into candidates. What is
// overdue elsewhere came in its place in the order, so that nothing of ours that was not found is before it.
func (s *Store) take(found []dueRow, spots []spot, at time.Time) []broker.Candidate {
	byNumber := make(map[int32]*lane, len(spots))
	for i := range spots {
		byNumber[spots[i].number] = &spots[i].lane
	}
	candidates := make([]broker.Candidate, 0, len(found))
	last, each := make(map[int32]place), make(map[string]int)
	for _, f := range found {
		l := byNumber[f.lane]
		last[f.lane] = place{f.schedule, f.id}
		each[l.kind]++
		if !f.cancelled {
			candidates = append(candidates, broker.Candidate{
				ID: f.id, Kind: l.kind, Queue: broker.Queue{Tenant: l.tenant, Name: l.queue}, Label: f.label, Priority: int(l.priority), Bytes: f.payload(), Alone: f.alone,
				Age: max(at.Sub(f.since), 0),
			})
		}
	}
	s.lanes.pass(last, each, at)
	return candidates
}

// sweep ends the cancelled strands among those found: no report will.
func (s *Store) sweep(ctx context.Context, found []dueRow) error {
	var ids uuids
	for _, f := range found {
		if f.cancelled {
			ids = append(ids, f.id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	slices.SortFunc(ids, func(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) })
	return s.sweepAll(ctx, ids)
}

// sweepAll ends strands with their trees. One of whose tree somebody has locked a row is left for the next scan, and holds up no
// other.
func (s *Store) sweepAll(ctx context.Context, ids uuids) error {
	err := s.exec(ctx, "sweep", ids)
	if !contention(err) {
		return err
	}
	if len(ids) == 1 {
		return nil
	}
	half := len(ids) / 2
	if err := s.sweepAll(ctx, ids[:half]); err != nil {
		return err
	}
	return s.sweepAll(ctx, ids[half:])
}
