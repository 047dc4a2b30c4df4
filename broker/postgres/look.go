package postgres

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/respirated/respirated/broker"
)

// A look is the commit of reports that are not plain, or that the plain statements did not accept: strands with
// parents or children, those that end as cancelled or dead, inserts, and all that failed the fence. It is one
// transaction: it locks every row that it touches, in the order of ids and without waiting for anybody, judges, and
// then writes. Parents are counted down, and signals sent, in statements after those that apply the reports, so that a
// strand's nap may meet its child's exit, or a signal to it, in a batch in any order.
type look struct {
	tx      pgx.Tx
	sql     statements
	host    string
	entries []*entry                // no strand twice
	rows    map[broker.ID]lockedRow // those we have locked
	present map[broker.ID]bool      // those that somebody else has locked
	fates   map[broker.ID]fate      // of the strands whose report is applied
	woken   []broker.ID             // strands that others may have to be told of
	parents uuids                   // of watched children that are new
	watched uuids                   // those
}

func (s *Store) commitLooked(ctx context.Context, entries []*entry) error {
	return s.commitWithin(ctx, entries, 0)
}

// commitAgain is commitLooked for what had to wait the last time.
func (s *Store) commitAgain(ctx context.Context, entries []*entry) error {
	return s.commitWithin(ctx, entries, lockTimeout/20)
}

// commitWithin waits no longer than that for anybody; 0 = for the usual time.
func (s *Store) commitWithin(ctx context.Context, entries []*entry, wait time.Duration) error {
	reports := make([]*broker.Report, len(entries))
	for i, e := range entries {
		reports[i] = e.report
	}
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if wait > 0 {
			if _, err := tx.Exec(ctx, "set local lock_timeout = "+milliseconds(wait)); err != nil {
				return err
			}
		}
		l := &look{tx: tx, sql: s.sql, host: s.host(), entries: entries, fates: make(map[broker.ID]fate)}
		if err := l.lock(ctx); err != nil {
			return err
		}
		if err := l.findPresent(ctx); err != nil {
			return err
		}
		if err := l.findOwn(ctx); err != nil {
			return err
		}
		l.judge()
		return l.write(ctx)
	})
	if err != nil {
		for i, e := range entries { // what we have come to know is undone
			e.report, e.own, e.verdict = reports[i], false, broker.Verdict{}
		}
	}
	return err
}

// lock locks the strands, their parents, and those that they signal.
func (l *look) lock(ctx context.Context) error {
	ids, _, _ := fenceColumns(l.entries)
	rows, err := l.tx.Query(ctx, l.sql.get("lock"), ids, l.targets())
	if err != nil {
		return err
	}
	l.rows = make(map[broker.ID]lockedRow, len(ids))
	for rows.Next() {
		var r lockedRow
		var id broker.ID
		var token, parent pgtype.UUID
		err := rows.Scan((*[16]byte)(&id), &token, &r.held, &r.seq, &r.cancelled, &r.try, &r.maxTries, &r.crashes, &parent, &r.lane,
			&r.timed, &r.late)
		if err != nil {
			return err
		}
		r.token, r.parent = token.Bytes, parent.Bytes
		l.rows[id] = r
	}
	return rows.Err()
}

// findPresent tells the rows that somebody else has locked from those that are gone.
func (l *look) findPresent(ctx context.Context) error {
	var missing uuids
	note := func(id broker.ID) {
		if _, locked := l.rows[id]; !locked && id != (broker.ID{}) {
			missing = append(missing, id)
		}
	}
	for _, e := range l.entries {
		note(e.report.ID)
		note(l.rows[e.report.ID].parent)
		for i := range e.report.Signals {
			note(e.report.Signals[i].ID)
		}
	}
	l.present = make(map[broker.ID]bool, len(missing))
	if missing == nil {
		return nil
	}
	rows, err := l.tx.Query(ctx, l.sql.get("present"), missing)
	if err != nil {
		return err
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[[16]byte])
	for _, id := range found {
		l.present[id] = true
	}
	return err
}

// judge decides about all reports.
func (l *look) judge() {
	for _, e := range l.entries {
		if e.own {
			e.verdict = broker.Verdict{State: broker.Applied}
			continue
		}
		f := l.judgeOne(e.report)
		switch {
		case f.verdict != broker.Applied:
			e.verdict = broker.Verdict{State: f.verdict}
		case e.bad != "":
			e.verdict = broker.Verdict{State: broker.Invalid, Why: e.bad}
		default:
			e.verdict = broker.Verdict{State: broker.Applied, Stays: f.end == "" && stays(e.report)}
			e.mail = true
			l.fates[e.report.ID] = f
		}
	}
}

func (l *look) judgeOne(r *broker.Report) fate {
	row, locked := l.rows[r.ID]
	switch {
	case !locked && l.present[r.ID]:
		return fate{verdict: broker.Later}
	case !locked:
		return fate{verdict: broker.Gone}
	}
	f := judge(row, r)
	if f.verdict == broker.Applied && (f.end != "" && l.present[row.parent] || l.cannotSignal(r)) {
		return fate{verdict: broker.Later} // its parent would have to be counted down, or a strand to be signalled
	}
	return f
}

// ending and living are the applied reports, by whether their strand ends with it.
func (l *look) applied(ending bool) []*entry {
	return slices.DeleteFunc(slices.Clone(l.entries), func(e *entry) bool {
		f, ok := l.fates[e.report.ID]
		return !ok || (f.end != "") != ending
	})
}

// write applies what was judged.
func (l *look) write(ctx context.Context) error {
	if len(l.fates) == 0 {
		return nil
	}
	ending, living := l.applied(true), l.applied(false)
	children, err := l.insert(ctx)
	if err != nil {
		return err
	}
	lanes, err := l.hopLanes(ctx, living)
	if err != nil {
		return err
	}
	b := newBatch(l.sql, l.host)
	l.moveDeadlines(b, living)
	l.settle(b, living)
	silent := b.Len()
	_, fails, others := sortActs(living)
	b.goOn(others, lanes, true)
	b.fails(fails)
	expected := len(living)
	l.finish(b, ending)
	expected += len(ending)
	returning := b.Len()
	l.attempts(b, ending)
	l.adopt(b, children)
	l.signal(b)
	l.release(b, ending)
	l.openPages(b, living)
	if len(l.woken) > 0 {
		b.queue("tell", uuidsOf(l.woken))
	}
	return l.send(ctx, b, silent, returning, expected)
}

// send carries out the statements. Those between the first silent ones and the first returning ones return the strand of each
// report once.
func (l *look) send(ctx context.Context, b *plainBatch, silent, returning, expected int) error {
	changed := make(map[broker.ID]bool, expected)
	results := l.tx.SendBatch(ctx, &b.Batch)
	err := b.readIDs(results, silent, returning, changed)
	if closing := results.Close(); err == nil {
		err = closing
	}
	if err == nil && len(changed) != expected {
		return fmt.Errorf("bug: %d of %d judged and locked strands were changed", len(changed), expected)
	}
	return err
}

// insert makes the strands that reports bring along, in the order in which they were reported, and counts the new
// children of each that lives on. One that somebody wanted cancelled gets no children any more: they would be of its tree.
func (l *look) insert(ctx context.Context) (children map[broker.ID]int32, err error) {
	var rows []insertRow
	for _, e := range l.asReported() {
		inserts := e.report.Inserts
		if rests(e.report) && l.fates[e.report.ID].end == cancelled {
			inserts = slices.DeleteFunc(slices.Clone(inserts), func(in broker.Insert) bool { return in.Child })
		}
		rows = append(rows, insertRows(inserts, e.report.ID)...)
	}
	if rows == nil {
		return nil, nil
	}
	made, err := insertInto(ctx, l.tx, l.sql, rows)
	if err != nil {
		return nil, err
	}
	children = make(map[broker.ID]int32)
	seen := make(map[broker.ID]bool) // an id that comes twice is one child, of the first
	for i, m := range made {
		parent := rows[i].parent
		fresh := m.fresh && !seen[m.id] && parent != (broker.ID{})
		if fresh && l.fates[parent].end == "" {
			children[parent]++
		}
		if fresh && rows[i].Watch { // also by one that dies now, and may be retried
			l.parents, l.watched = append(l.parents, parent), append(l.watched, m.id)
		}
		seen[m.id] = true
	}
	return children, nil
}

// hopLanes finds the lanes of strands that hop to another kind. Others may serve that, so they are told.
func (l *look) hopLanes(ctx context.Context, living []*entry) (map[broker.ID]int32, error) {
	var from []int32
	var kinds []string
	var ids []broker.ID
	for _, e := range living {
		if r := e.report; r.Act == broker.Hop && r.Kind != "" {
			from, kinds, ids = append(from, l.rows[r.ID].lane), append(kinds, r.Kind), append(ids, r.ID)
		}
	}
	if ids == nil {
		return nil, nil
	}
	rows, err := l.tx.Query(ctx, l.sql.get("hop_lane"), from, kinds)
	if err != nil {
		return nil, err
	}
	to, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	if err != nil {
		return nil, err
	}
	if len(to) != len(ids) {
		return nil, fmt.Errorf("%d of %d strands are in a lane that is not in respirate.lane", len(ids)-len(to), len(ids))
	}
	lanes := make(map[broker.ID]int32, len(ids))
	for i, id := range ids {
		lanes[id] = to[i]
	}
	l.woken = append(l.woken, ids...)
	return lanes, nil
}

// finish queues the ends.
func (l *look) finish(b *plainBatch, ending []*entry) {
	if len(ending) == 0 {
		return
	}
	ids, _, _ := fenceColumns(ending)
	b.queue("finish", ids,
		column(ending, func(r *broker.Report) string { return l.fates[r.ID].end }),
		column(ending, func(r *broker.Report) []byte { return valueOf(r) }),
		column(ending, stackOf),
		column(ending, func(r *broker.Report) int32 { return int32(l.fates[r.ID].try) }),
		column(ending, func(r *broker.Report) int32 { return int32(l.fates[r.ID].crashes) }))
}

func valueOf(r *broker.Report) []byte {
	if r.Act != broker.Exit {
		return nil
	}
	return r.Value
}

// attempts queues the records of the failures that ended strands.
func (l *look) attempts(b *plainBatch, ending []*entry) {
	noted := slices.DeleteFunc(slices.Clone(ending), func(e *entry) bool { return e.report.Failure == nil })
	if len(noted) == 0 {
		return
	}
	ids, _, _ := fenceColumns(noted)
	args := []any{ids,
		column(noted, func(r *broker.Report) int32 { return int32(l.rows[r.ID].try) }),
		column(noted, func(r *broker.Report) string { return outcome(r.Act) })}
	b.queue("attempt", append(append(args, failureColumns(noted)...), l.host)...)
}

// outcome is how the record of a failure calls it.
func outcome(a broker.Act) string {
	switch a {
	case broker.Crash:
		return "crashed"
	case broker.Cancel:
		return "cancelled"
	}
	return "failed"
}

// adopt queues the counting of new children, and which of them are watched.
func (l *look) adopt(b *plainBatch, children map[broker.ID]int32) {
	if ids, counts := counted(children); len(ids) > 0 {
		b.queue("children", ids, counts)
	}
	if l.watched != nil {
		b.queue("watch", l.parents, l.watched)
	}
}

// release queues the telling of parents.
func (l *look) release(b *plainBatch, ending []*entry) {
	var parents, children uuids
	for _, e := range ending {
		if parent := l.rows[e.report.ID].parent; parent != (broker.ID{}) {
			parents, children = append(parents, parent), append(children, e.report.ID)
		}
	}
	if parents != nil {
		b.queue("child_done", parents, children)
	}
}

// counted are two columns, in the order of ids.
func counted(counts map[broker.ID]int32) (ids uuids, ns []int32) {
	for id := range counts {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range ids {
		ns = append(ns, counts[id])
	}
	return ids, ns
}

func uuidsOf(ids []broker.ID) uuids {
	all := make(uuids, len(ids))
	for i, id := range ids {
		all[i] = id
	}
	return all
}
