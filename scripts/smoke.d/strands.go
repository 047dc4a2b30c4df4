package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// insert puts the strands in from a file, under random ids, which it returns.
func (f *fleet) insert(ctx context.Context) (map[string]bool, error) {
	ids := make(map[string]bool, strands)
	var lines bytes.Buffer
	for len(ids) < strands {
		id := newID()
		ids[id] = true
		fmt.Fprintf(&lines, `{"kind": "smoke", "args": {}, "opts": {"id": %q}}`+"\n", id)
	}
	file := filepath.Join(f.work, "strands.ndjson")
	if err := os.WriteFile(file, lines.Bytes(), 0o600); err != nil {
		return nil, err
	}
	_, err := f.respirated(ctx, "insert", "--file", file)
	return ids, err
}

// newID draws a UUID of version 4.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// strand is what `respirated strand list --json` tells of one.
type strand struct {
	ID    string `json:"id"`
	State string `json:"state"`
}

func (f *fleet) list(ctx context.Context, filter ...string) ([]strand, error) {
	out, err := f.respirated(ctx, append([]string{"strand", "list", "--json"}, filter...)...)
	if err != nil {
		return nil, err
	}
	var page struct {
		Strands []strand `json:"strands"`
	}
	if err := json.Unmarshal(out, &page); err != nil {
		return nil, fmt.Errorf("read the list of strands: %w", err)
	}
	return page.Strands, nil
}

// awaitEnd waits until no strand is left to run.
func (f *fleet) awaitEnd(ctx context.Context) error {
	most := patience
	if f.plan.gapStays() { // each nap there ends unnoticed until it is overdue
		most = 2 * patience
	}
	ctx, cancel := context.WithTimeoutCause(ctx, most, fmt.Errorf("not all strands ended within %v", most))
	defer cancel()
	return f.poll(ctx, func() (bool, error) {
		left, err := f.list(ctx, "--state", "ready,deferred,leased,paused", "--limit", "1")
		return err == nil && len(left) == 0, err
	})
}

// judgeStrands compares how the strands ended with how they should have.
func (f *fleet) judgeStrands(ctx context.Context, ids map[string]bool) error {
	ended, err := f.list(ctx, "--limit", strconv.Itoa(2*strands))
	if err != nil {
		return err
	}
	var wrong []error
	for _, s := range ended {
		switch {
		case !ids[s.ID]:
			wrong = append(wrong, fmt.Errorf("strand %s is there twice, or nobody inserted it", s.ID))
		case s.State != "done":
			wrong = append(wrong, fmt.Errorf("strand %s is %s", s.ID, s.State))
		}
		delete(ids, s.ID)
	}
	for id := range ids {
		wrong = append(wrong, fmt.Errorf("strand %s is lost", id))
	}
	return some(wrong)
}

// judgeOutputs counts what the workers printed.
func (f *fleet) judgeOutputs() error {
	files, err := filepath.Glob(filepath.Join(f.work, "*", "run", "log", "*.out*"))
	if err != nil {
		return err
	}
	var printed [256]int
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for _, b := range text {
			printed[b]++
		}
	}
	var wrong []error
	for _, digit := range []byte(labels) {
		if printed[digit] != strands {
			wrong = append(wrong, fmt.Errorf("label %c ran %d times instead of %d", digit, printed[digit], strands))
		}
		printed[digit] = 0
	}
	for b, n := range printed {
		if n != 0 {
			wrong = append(wrong, fmt.Errorf("the outputs hold %d of %q", n, byte(b)))
		}
	}
	return some(wrong)
}

// some shortens a list of complaints that says the same a thousand times.
func some(wrong []error) error {
	const most = 5
	if len(wrong) > most {
		wrong = append(wrong[:most:most], fmt.Errorf("and %d more", len(wrong)-most))
	}
	return errors.Join(wrong...)
}
