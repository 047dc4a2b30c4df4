package client

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/respirated/respirated/client/internal/driver"
	"github.com/respirated/respirated/client/internal/pgtext"
	"github.com/respirated/respirated/protocol"
)

// InsertManyFast stores strands, all or none, and tells how many there are. It is the way for thousands: they go to the
// table by COPY. Those of one lane start in the order in which they are given. Options that need a look at the database first (ID, RequireKind), and drivers of database/sql, take the
// way of InsertMany.
func (c *Client[TTx]) InsertManyFast(ctx context.Context, params []InsertManyParams) (int, error) {
	rows, err := c.rows(params)
	if err != nil {
		return 0, err
	}
	plain, looked := c.copyable(rows)
	to, err := c.target(ctx, c.pool(), rows)
	if err != nil {
		return 0, err
	}
	err = c.atomically(ctx, false, func(db driver.Conn) error { return c.insertFast(ctx, db, plain, to, looked) })
	if err != nil {
		return 0, err
	}
	return len(rows), nil
}

// InsertManyFastTx is InsertManyFast inside the caller's transaction.
func (c *Client[TTx]) InsertManyFastTx(ctx context.Context, tx TTx, params []InsertManyParams) (int, error) {
	rows, err := c.rows(params)
	if err != nil {
		return 0, err
	}
	plain, looked := c.copyable(rows)
	to, err := c.target(ctx, c.in(tx), plain)
	if err != nil {
		return 0, err
	}
	if err := c.insertFast(ctx, c.in(tx), plain, to, looked); err != nil {
		return 0, err
	}
	return len(rows), nil
}

// copyable parts the rows that a COPY can take from those that the database must look at.
func (c *Client[TTx]) copyable(rows []row) (plain, looked []row) {
	if !c.db.CanCopy() {
		return nil, rows
	}
	if !slices.ContainsFunc(rows, looksAtDatabase) {
		return rows, nil
	}
	for _, r := range rows {
		if looksAtDatabase(r) {
			looked = append(looked, r)
		} else {
			plain = append(plain, r)
		}
	}
	return plain, looked
}

func looksAtDatabase(r row) bool { return r.opts.ID != "" || r.opts.RequireKind }

func (c *Client[TTx]) insertFast(ctx context.Context, db driver.Conn, plain []row, to copyTarget, looked []row) error {
	if _, err := c.insertRows(ctx, db, looked); err != nil {
		return err
	}
	if len(plain) == 0 {
		return nil
	}
	if err := c.copyRows(ctx, db, plain, to); err != nil {
		return fmt.Errorf("copy %d strands: %w", len(plain), err)
	}
	// Brokers are told after the rows are there, as insert_many does by itself.
	if err := db.Query(ctx, func(driver.Scan) error { return nil }, c.sql.hint); err != nil {
		return fmt.Errorf("tell brokers of %d strands: %w", len(plain), err)
	}
	c.cfg.Logger.DebugContext(ctx, "strands copied", "count", len(plain))
	return nil
}

// copyRows sends about batchBytes in one COPY, so that each gets the deadline of one statement.
func (c *Client[TTx]) copyRows(ctx context.Context, db driver.Conn, rows []row, to copyTarget) error {
	// Strands of one COPY are due at the same moment, and then the id decides: with ids in order they start in the order in
	// which they were given. They also lie in the table, and in both its indexes, as they will be read, which makes their
	// leases and ends cheaper.
	ids := protocol.NewIDs(len(rows))
	for len(rows) > 0 {
		n := batch(rows, len(rows))
		if err := db.CopyIn(ctx, &copyText{to: to, rows: rows[:n], ids: ids[:n]}, c.sql.copyStrands); err != nil {
			return err
		}
		rows, ids = rows[n:], ids[n:]
	}
	return nil
}

// copyText is the text of a COPY. It is written while it is read, so that the server works on the first rows while the
// next are written, and no more of it is held than the reader asks for at once.
type copyText struct {
	to    copyTarget
	rows  []row // not written yet
	ids   []string
	text  []byte // written
	taken int    // of that, by the reader
}

// Read implements io.Reader.
func (t *copyText) Read(p []byte) (int, error) {
	if t.taken == len(t.text) {
		t.write(len(p))
	}
	if len(t.text) == 0 {
		return 0, io.EOF
	}
	n := copy(p, t.text[t.taken:])
	t.taken += n
	return n, nil
}

// write puts the next rows, at least so many bytes of them if there are, in place of those that were taken.
func (t *copyText) write(least int) {
	t.text, t.taken = slices.Grow(t.text[:0], least+least/8), 0 // the last row ends beyond least
	for len(t.rows) > 0 && len(t.text) < least {
		t.text = t.to.appendRow(t.text, t.ids[0], &t.rows[0])
		t.rows, t.ids = t.rows[1:], t.ids[1:]
	}
}

// laneKey is what strands of one lane have in common.
type laneKey struct {
	tenant, queue string
	priority      int
	kind          string
}

func (r *row) lane() laneKey {
	return laneKey{
		tenant:   r.opts.Tenant,
		queue:    cmp.Or(r.opts.Queue, protocol.DefaultQueue),
		priority: cmp.Or(r.opts.Priority, protocol.DefaultPriority),
		kind:     r.kind,
	}
}

func compareLanes(a, b laneKey) int {
	return cmp.Or(strings.Compare(a.tenant, b.tenant), strings.Compare(a.queue, b.queue),
		cmp.Compare(a.priority, b.priority), strings.Compare(a.kind, b.kind))
}

// copyTarget is what the rows of a COPY need to know of the database.
type copyTarget struct {
	lanes   map[laneKey]int
	now     time.Time // the database's clock
	nowText string    // the same as a COPY takes it
}

// target looks up each lane once, and makes the missing ones: before the transaction that uses them, if that is our own,
// since others who want the same new lane wait for who makes it. A strand that may be refused makes none.
//
// Nothing is remembered for the next call: the caller's transaction that made a lane may yet be rolled back, and a number
// that means another lane by then would misplace strands.
func (c *Client[TTx]) target(ctx context.Context, db driver.Conn, rows []row) (copyTarget, error) {
	to := copyTarget{lanes: make(map[laneKey]int)}
	for i := range rows {
		if !rows[i].opts.RequireKind {
			to.lanes[rows[i].lane()] = 0
		}
	}
	if len(to.lanes) == 0 {
		return to, nil
	}
	// In order, so that two clients who make several lanes do not wait for each other crosswise.
	keys := slices.SortedFunc(maps.Keys(to.lanes), compareLanes)
	i := 0
	err := db.Query(ctx, func(scan driver.Scan) error {
		var number int
		err := scan(&number, &to.now)
		to.lanes[keys[i]] = number
		i++
		return err
	}, c.sql.lanes, laneArrays(keys)...)
	if err != nil {
		return to, fmt.Errorf("find %d lanes, first of kind %q: %w", len(keys), keys[0].kind, err)
	}
	to.nowText = copyTime(to.now)
	return to, nil
}

// laneArrays turns lanes into one array for each column.
func laneArrays(keys []laneKey) []any {
	var columns [4][]string
	for _, k := range keys {
		for i, value := range [...]string{k.tenant, k.queue, strconv.Itoa(k.priority), k.kind} {
			columns[i] = append(columns[i], value)
		}
	}
	args := make([]any, len(columns))
	for i, column := range columns {
		args[i] = pgtext.Array(column)
	}
	return args
}

// appendRow writes the columns that copy_strands.sql lists, in COPY's text format.
func (to copyTarget) appendRow(text []byte, id string, r *row) []byte {
	o := r.opts
	text = pgtext.AppendField(text, id)
	text = pgtext.AppendField(text, to.schedule(o))
	text = pgtext.AppendInt(text, to.lanes[r.lane()])
	text = pgtext.AppendInt(text, cmp.Or(o.MaxTries, protocol.DefaultMaxTries))
	text = pgtext.AppendBool(text, o.Keep)
	text = pgtext.AppendField(text, cmp.Or(o.Label, protocol.DefaultLabel))
	text = pgtext.AppendField(text, r.args)
	if len(o.Tags) == 0 {
		text = pgtext.AppendNull(text)
	} else {
		text = pgtext.AppendField(text, pgtext.Array(o.Tags))
	}
	if o.Metadata == nil {
		text = pgtext.AppendNull(text)
	} else {
		text = pgtext.AppendField(text, o.Metadata)
	}
	return pgtext.EndRow(text)
}

// schedule is never in the past: that would put the strand before those who wait already.
func (to copyTarget) schedule(o *InsertOpts) string {
	if o.ScheduledAt.After(to.now) {
		return copyTime(o.ScheduledAt)
	}
	return to.nowText
}

func copyTime(at time.Time) string { return at.UTC().Format(time.RFC3339Nano) }
