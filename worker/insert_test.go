package worker

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/respirated/respirated/protocol"
)

func TestInsertTravelsInTheResult(t *testing.T) {
	id := "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
	var first, second string
	r := runOne(t, muxOf(func(ctx context.Context, _ *Strand[sums]) (err error) {
		if first, err = Insert(ctx, sums{1, 2}, nil); err != nil {
			return err
		}
		second, err = Insert(ctx, plain{}, &InsertOpts{ID: strings.ToUpper(id), Queue: "mail", Priority: 2, Metadata: json.RawMessage(`{"k":1}`),
			ScheduledAt: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)})
		return err
	}), "sum")
	want := []protocol.Insert{
		{Key: first, Kind: "sum", Args: []byte(`{"a":1,"b":2}`)},
		{Key: id, Kind: "plain", Args: []byte(`{}`), Opts: []byte(`{"queue":"mail","priority":2,"at":"2030-01-02T03:04:05Z","metadata":{"k":1}}`)},
	}
	if d := cmp.Diff(want, r.Inserts); d != "" || second != id {
		t.Errorf("inserts (-want +got):\n%s(second id %s)", d, second)
	}
}

func TestInsertTravelsWithANapAndASnoozeToo(t *testing.T) {
	insert := func(ctx context.Context) { _, _ = Insert(ctx, plain{}, nil) }
	nap := progOf(func(ctx context.Context, _ *Strand[sums]) (Outcome, error) { insert(ctx); return Nap(0), nil })
	snooze := muxOf(func(ctx context.Context, _ *Strand[sums]) error { insert(ctx); return Snooze(0) })
	for name, mux := range map[string]*Mux{"nap": nap, "snooze": snooze} {
		if r := runOne(t, mux, "sum"); len(r.Inserts) != 1 {
			t.Errorf("%s: %d inserts, want 1", name, len(r.Inserts))
		}
	}
}

func TestInsertVanishesWhenTheHandlerFails(t *testing.T) {
	for name, end := range map[string]func() error{
		"error":  func() error { return errors.New("no") },
		"cancel": func() error { return Cancel(nil) },
		"panic":  func() error { panic("no") },
	} {
		t.Run(name, func(t *testing.T) {
			r := runOne(t, muxOf(func(ctx context.Context, _ *Strand[sums]) error {
				if _, err := Insert(ctx, plain{}, nil); err != nil {
					t.Error(err)
				}
				return end()
			}), "sum")
			if len(r.Inserts) != 0 {
				t.Errorf("inserts %+v, want none", r.Inserts)
			}
		})
	}
}

func TestInsertRefusesWhatTheBrokerWouldRefuse(t *testing.T) {
	var errs []error
	try := func(_ string, err error) { errs = append(errs, err) }
	nameOfNamed = "bad\x00"
	runOne(t, muxOf(func(ctx context.Context, _ *Strand[sums]) error {
		try(Insert(ctx, nil, nil))
		try(Insert(ctx, named{}, nil))
		try(Insert(ctx, unwritable{}, nil))
		try(Insert(ctx, plain{}, &InsertOpts{ID: "7"}))
		try(Insert(ctx, plain{}, &InsertOpts{ID: "6ba7b8109dad41d180b400c04fd430c8----"}))
		try(Insert(ctx, plain{}, &InsertOpts{Metadata: json.RawMessage(`{`)}))
		return nil
	}), "sum")
	for i, want := range []string{"args is nil", "has a control character", "encode args worker.unwritable", "is not a UUID", "is not a UUID",
		`encode the options for kind "plain"`} {
		wantError(t, errs[i], want)
	}
}

type unwritable struct{ C chan int }

func (unwritable) Kind() string { return "unwritable" }

func TestInsertNeedsARunningHandler(t *testing.T) {
	_, err := Insert(t.Context(), plain{}, nil)
	wantError(t, err, "not that of a running handler")

	var kept context.Context
	runOne(t, muxOf(func(ctx context.Context, _ *Strand[sums]) error { kept = ctx; return nil }), "sum")
	_, err = Insert(kept, plain{}, nil)
	wantError(t, err, "the handler has returned already")
}

func TestInsertStopsAtWhatFitsIntoOneResult(t *testing.T) {
	r := runOne(t, muxOf(func(ctx context.Context, _ *Strand[sums]) error {
		for range protocol.MaxItems {
			if _, err := Insert(ctx, plain{}, nil); err != nil {
				t.Error(err)
			}
		}
		_, err := Insert(ctx, plain{}, nil)
		wantError(t, err, "this run has inserted 1024 strands")
		return nil
	}), "sum")
	if len(r.Inserts) != protocol.MaxItems {
		t.Errorf("%d inserts arrived, want %d", len(r.Inserts), protocol.MaxItems)
	}
}
