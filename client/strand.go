package client

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/respirated/respirated/client/internal/driver"
	"github.com/respirated/respirated/client/internal/pgtext"
	"github.com/respirated/respirated/protocol"
)

// State is what becomes of a strand, or has become of it.
type State string

// The states. The first four are those of live strands.
const (
	Ready     State = "ready"     // due; runs when a worker that serves its kind has room
	Deferred  State = "deferred"  // due later: scheduled, napping, or backing off after a failure
	Leased    State = "leased"    // a worker runs it
	Paused    State = "paused"    // its queue is paused
	Done      State = "done"      // its program has exited
	Cancelled State = "cancelled" // by somebody, or by itself
	Dead      State = "dead"      // it has used up its tries, or has ended workers too often
)

var (
	liveStates     = []State{Ready, Deferred, Leased, Paused}
	finishedStates = []State{Done, Cancelled, Dead}
	allStates      = slices.Concat(liveStates, finishedStates)
)

// StrandRow is a strand as the database has it.
type StrandRow struct {
	ID           string          `json:"id"`
	Tenant       string          `json:"tenant,omitempty"`
	Queue        string          `json:"queue"`
	Priority     int             `json:"priority"`
	Kind         string          `json:"kind"`
	Label        string          `json:"label"`
	State        State           `json:"state"`
	CreatedAt    time.Time       `json:"created_at"`
	ScheduledAt  *time.Time      `json:"scheduled_at,omitempty"` // due from then on; nil once finished
	LeasedUntil  *time.Time      `json:"leased_until,omitempty"` // nil unless some worker has it, or had it until it vanished
	CancelAt     *time.Time      `json:"cancel_at,omitempty"`    // when somebody asked for its end while it was running
	FinishedAt   *time.Time      `json:"finished_at,omitempty"`  // nil while it is live
	Try          int             `json:"try"`                    // failures so far
	MaxTries     int             `json:"max_tries"`
	Crashes      int             `json:"crashes,omitempty"` // deaths of workers that held it
	Rescues      int             `json:"rescues,omitempty"` // leases of it that ran out
	Parent       string          `json:"parent,omitempty"`
	ChildrenLeft int             `json:"children_left,omitempty"`
	Args         json.RawMessage `json:"args"`            // as inserted
	Stack        json.RawMessage `json:"stack,omitempty"` // frames, once a run has stored one
	Value        json.RawMessage `json:"value,omitempty"` // what it exited with
	Tags         []string        `json:"tags,omitempty"`
	Metadata     json.RawMessage `json:"metadata,omitempty"`
	Keep         bool            `json:"keep,omitempty"`
	Attempts     []Attempt       `json:"attempts,omitempty"` // the last failures, oldest first; only StrandGet and StrandWait read them
}

// Attempt is the record of a run that failed.
type Attempt struct {
	At      time.Time `json:"at"`
	Try     int       `json:"try"`     // failures before this one
	Outcome string    `json:"outcome"` // "failed", "crashed" or "cancelled"
	Class   string    `json:"class"`
	Message string    `json:"message"`
	Trace   string    `json:"trace,omitempty"`
	Worker  string    `json:"worker"`
	Host    string    `json:"host"`
	Exit    string    `json:"exit,omitempty"`    // how a crashed worker ended
	Stderr  string    `json:"stderr,omitempty"`  // its last lines
	MaxRSS  int64     `json:"max_rss,omitempty"` // bytes of memory that it had in use at most; 0 = not known
	CPUMS   int64     `json:"cpu_ms,omitempty"`  // milliseconds of CPU that it had used; 0 = not known
}

// attemptsShown is how many failures of a strand are read, the latest.
const attemptsShown = 100

// StrandGet reads a strand, live or finished. One that is not there gives [ErrNotFound].
func (c *Client[TTx]) StrandGet(ctx context.Context, id string) (*StrandRow, error) {
	return c.strandGet(ctx, c.pool(), id)
}

// StrandGetTx is StrandGet as the caller's transaction sees it.
func (c *Client[TTx]) StrandGetTx(ctx context.Context, tx TTx, id string) (*StrandRow, error) {
	return c.strandGet(ctx, c.in(tx), id)
}

func (c *Client[TTx]) strandGet(ctx context.Context, db driver.Conn, id string) (*StrandRow, error) {
	id, err := protocol.CanonicalID(id)
	if err != nil {
		return nil, fmt.Errorf("get strand: id %w", err)
	}
	row, err := c.findStrand(ctx, db, id)
	if err == nil {
		row.Attempts, err = c.attempts(ctx, db, id)
	}
	if err != nil {
		return nil, fmt.Errorf("get strand %s: %w", id, err)
	}
	return row, nil
}

// findStrand looks among the live, then among the finished, then among the live again: a strand may finish, or be
// brought back, between two looks.
func (c *Client[TTx]) findStrand(ctx context.Context, db driver.Conn, id string) (*StrandRow, error) {
	for _, statement := range []string{c.sql.live, c.sql.finished, c.sql.live} {
		rows, err := readStrands(ctx, db, statement, []string{id})
		if err != nil {
			return nil, err
		}
		if len(rows) > 0 {
			return rows[0], nil
		}
	}
	return nil, ErrNotFound
}

// readStrands runs live.sql or finished.sql.
func readStrands(ctx context.Context, db driver.Conn, statement string, ids []string) ([]*StrandRow, error) {
	var rows []*StrandRow
	err := db.Query(ctx, func(scan driver.Scan) error {
		row, err := scanStrand(scan)
		rows = append(rows, row)
		return err
	}, statement, pgtext.Array(ids))
	return rows, err
}

func scanStrand(scan driver.Scan) (*StrandRow, error) {
	var r StrandRow
	var state, args, stack, value, tags, metadata string
	err := scan(&r.ID, &r.Tenant, &r.Queue, &r.Priority, &r.Kind, &r.Label, &state,
		&r.CreatedAt, &r.ScheduledAt, &r.LeasedUntil, &r.CancelAt, &r.FinishedAt, &r.Try, &r.MaxTries, &r.Crashes, &r.Rescues,
		&r.Parent, &r.ChildrenLeft, &args, &stack, &value, &tags, &metadata, &r.Keep)
	if err != nil {
		return nil, err
	}
	r.State = State(state)
	r.Args, r.Stack, r.Value, r.Metadata = rawJSON(args), rawJSON(stack), rawJSON(value), rawJSON(metadata)
	return &r, json.Unmarshal([]byte(tags), &r.Tags)
}

// rawJSON is nil where there is none, so that it is left out when it is written.
func rawJSON(text string) json.RawMessage {
	if text == "" {
		return nil
	}
	return json.RawMessage(text)
}

func (c *Client[TTx]) attempts(ctx context.Context, db driver.Conn, id string) ([]Attempt, error) {
	var attempts []Attempt
	err := db.Query(ctx, func(scan driver.Scan) error {
		var a Attempt
		err := scan(&a.At, &a.Try, &a.Outcome, &a.Class, &a.Message, &a.Trace, &a.Worker, &a.Host, &a.Exit, &a.Stderr, &a.MaxRSS, &a.CPUMS)
		attempts = append(attempts, a)
		return err
	}, c.sql.attempts, id, attemptsShown)
	return attempts, err
}
