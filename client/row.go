package client

import (
	"errors"
	"fmt"

	"github.com/respirated/respirated/protocol"
)

// row is one strand on its way into the database, checked.
type row struct {
	index int // its place in the call
	kind  string
	args  []byte      // JSON
	opts  *InsertOpts // merged; not to be changed, since rows without options of their own share them
}

// size is about how many bytes the row takes in a statement.
func (r *row) size() int {
	const short = 100 // id, time, names and numbers
	n := short + len(r.args) + len(r.opts.Metadata)
	for _, tag := range r.opts.Tags {
		n += len(tag)
	}
	return n
}

// rows checks everything before anything is sent, so that a refusal names the culprit and costs the caller's
// transaction nothing. The functions of the schema check the same again; a COPY relies on what was done here.
func (c *Client[TTx]) rows(params []InsertManyParams) ([]row, error) {
	rows := make([]row, len(params))
	for i, p := range params {
		r, err := newRow(p, &c.cfg.InsertOpts)
		if err != nil {
			return nil, refused(err, i, p)
		}
		r.index = i
		rows[i] = r
	}
	return rows, nil
}

// fieldError is an [InsertError] that does not know its strand yet.
type fieldError struct {
	field string
	why   error
}

func (e *fieldError) Error() string { return e.field + " " + e.why.Error() }

func refused(err error, index int, p InsertManyParams) error {
	e := &InsertError{Index: index, Why: err.Error()}
	var field *fieldError
	if errors.As(err, &field) {
		e.Field, e.Why = field.field, field.why.Error()
	}
	if p.Args != nil {
		e.Kind = p.Args.Kind()
	}
	return fmt.Errorf("insert: %w", e)
}

func newRow(p InsertManyParams, defaults *InsertOpts) (row, error) {
	if p.Args == nil {
		return row{}, &fieldError{"args", errors.New("is nil")}
	}
	r := row{kind: p.Args.Kind(), opts: mergeOpts(p, defaults)}
	if err := protocol.CheckName(r.kind); err != nil {
		return row{}, &fieldError{"kind", err}
	}
	var err error
	if r.args, err = encodeArgs(p.Args); err != nil {
		return row{}, &fieldError{"args", err}
	}
	return r, checkOpts(r.opts)
}
