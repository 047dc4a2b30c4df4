package client

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/respirated/respirated/client/internal/driver"
	"github.com/respirated/respirated/protocol"
)

// programShown is how many semaphores, children and audits of a strand are read.
const programShown = 20

// Program is what a strand has as a program, besides its frames.
type Program struct {
	Semaphores []Semaphore `json:"semaphores,omitempty"` // that wait for it: the first 20
	Waiting    int         `json:"waiting,omitempty"`    // how many do
	Children   []Child     `json:"children,omitempty"`   // the first 20, those that have ended before those that live
	Ended      int         `json:"ended,omitempty"`      // how many have ended and are not reaped
	Deadlines  []Deadline  `json:"deadlines,omitempty"`  // that are not over, by frame
	Pages      []PageRow   `json:"pages,omitempty"`      // that are open
	Audits     []Audit     `json:"audits,omitempty"`     // the last 20, oldest first
}

// Semaphore is a signal that waits for a strand.
type Semaphore struct {
	ID     int64           `json:"id"`
	Name   string          `json:"name"`
	Value  json.RawMessage `json:"value,omitempty"`
	SentAt time.Time       `json:"sent_at"`
}

// Child is a strand that another one waits for, or that has ended and is not reaped.
type Child struct {
	ID      string          `json:"id"`
	Kind    string          `json:"kind"`
	State   State           `json:"state"`
	Value   json.RawMessage `json:"value,omitempty"`
	EndedAt *time.Time      `json:"ended_at,omitempty"` // nil = it lives
}

// Deadline is when a frame should have reached a label.
type Deadline struct {
	Frame   int        `json:"frame"` // how many callers it has
	Kind    string     `json:"kind"`
	Target  string     `json:"target"`
	At      time.Time  `json:"at"`
	PagedAt *time.Time `json:"paged_at,omitempty"` // when its page was opened
}

// Audit is the record of what was done to a strand by hand.
type Audit struct {
	At     time.Time       `json:"at"`
	Who    string          `json:"who"`  // as they say
	Role   string          `json:"role"` // of the database, that they were logged in as
	What   string          `json:"what"` // edit, retry or resolve
	Before json.RawMessage `json:"before"`
	After  json.RawMessage `json:"after"`
}

// StrandProgram reads what a strand has as a program. One that is not there has nothing.
func (c *Client[TTx]) StrandProgram(ctx context.Context, id string) (*Program, error) {
	return c.strandProgram(ctx, c.pool(), id)
}

// StrandProgramTx is StrandProgram as the caller's transaction sees it.
func (c *Client[TTx]) StrandProgramTx(ctx context.Context, tx TTx, id string) (*Program, error) {
	return c.strandProgram(ctx, c.in(tx), id)
}

func (c *Client[TTx]) strandProgram(ctx context.Context, db driver.Conn, id string) (*Program, error) {
	id, err := protocol.CanonicalID(id)
	if err != nil {
		return nil, fmt.Errorf("read the program of a strand: id %w", err)
	}
	var text string
	var p Program
	if err = db.Query(ctx, func(scan driver.Scan) error { return scan(&text) }, c.sql.program, id, programShown); err == nil {
		err = json.Unmarshal([]byte(text), &p)
	}
	if err != nil {
		return nil, fmt.Errorf("read the program of strand %s: %w", id, err)
	}
	return &p, nil
}

// Frame is one frame of a strand's stack.
type Frame struct {
	Kind  string          `json:"kind"`
	Label string          `json:"label"` // where it is, or, of a caller, where it goes on
	Args  json.RawMessage `json:"args"`
	Ret   json.RawMessage `json:"ret,omitempty"` // what the frame above it has returned
}

// Frames is the strand's stack as section 7 of PROTOCOL.md lays it out: the frame that runs next first, then its callers.
// What a worker has stored there in a form of its own is left out.
func (r *StrandRow) Frames() []Frame {
	var stack []json.RawMessage
	if json.Unmarshal(r.Stack, &stack) != nil || len(stack) == 0 {
		return []Frame{{Kind: r.Kind, Label: r.Label, Args: r.Args}}
	}
	frames := []Frame{{Kind: r.Kind, Label: r.Label, Args: stack[0]}}
	for i, raw := range stack[1:] {
		var fields map[string]json.RawMessage
		if json.Unmarshal(raw, &fields) == nil && i == 0 && len(fields) == 1 && fields["ret"] != nil {
			frames[0].Ret = fields["ret"]
			continue
		}
		var caller Frame
		if json.Unmarshal(raw, &caller) == nil && caller.Kind != "" {
			frames = append(frames, caller)
		}
	}
	return frames
}
