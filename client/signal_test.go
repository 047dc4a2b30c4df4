package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/client"
)

// semaphore is what the view shows of one.
type semaphore struct {
	name  string
	value *string
}

func (f *fixture) semaphores(id string) []semaphore {
	f.t.Helper()
	rows, err := f.pool.Query(context.Background(), `select name, value::text from respirate.semaphores where strand = $1::uuid order by id`, id)
	check(f.t, err)
	return must(pgx.CollectRows(rows, func(row pgx.CollectableRow) (s semaphore, err error) {
		err = row.Scan(&s.name, &s.value)
		return s, err
	}))(f.t)
}

func TestSignalIsStoredAndWakesItsStrand(t *testing.T) {
	f := newFixture(t)
	later := client.InsertOpts{ScheduledAt: time.Now().Add(time.Hour)}
	id, asleep := f.insert(mail{}, &later), f.insert(mail{}, &later)
	check(t, f.client.Signal(t.Context(), id, "paid", map[string]int{"eur": 12}))
	there := must(f.client.SignalMany(t.Context(), []client.SignalParams{
		{ID: asleep, Name: "a", Quiet: true},
		{ID: "00000000-0000-4000-8000-000000000000", Name: "b"},
		{ID: asleep, Name: "c", Value: json.RawMessage("null"), Quiet: true},
	}))(t)
	if len(there) != 3 || !there[0] || there[1] || !there[2] {
		t.Errorf("there: got %v, want the first and the third", there)
	}
	if row := f.get(id); row.State != client.Ready {
		t.Errorf("woken: is %s", row.State)
	}
	if row := f.get(asleep); row.State != client.Deferred {
		t.Errorf("signalled quietly: is %s", row.State)
	}
	if got := f.semaphores(id); len(got) != 1 || got[0].name != "paid" || *got[0].value != `{"eur": 12}` {
		t.Errorf("stored: got %+v", got)
	}
	if got := f.semaphores(asleep); len(got) != 2 || got[0].name != "a" || got[0].value != nil || got[1].name != "c" || *got[1].value != "null" {
		t.Errorf("stored: got %+v", got)
	}
}

func TestSignalInATransactionComesWhenItCommits(t *testing.T) {
	f := newFixture(t)
	id := f.insert(mail{}, &client.InsertOpts{ScheduledAt: time.Now().Add(time.Hour)})
	regret := errors.New("regret")
	send := func(tx pgx.Tx) error { return f.client.SignalTx(t.Context(), tx, id, "go", nil) }
	if err := pgx.BeginFunc(t.Context(), f.pool, func(tx pgx.Tx) error { return errors.Join(send(tx), regret) }); !errors.Is(err, regret) {
		t.Fatal(err)
	}
	if got := f.semaphores(id); len(got) != 0 {
		t.Errorf("stored by what was rolled back: got %+v", got)
	}
	check(t, pgx.BeginFunc(t.Context(), f.pool, send))
	if got := f.semaphores(id); len(got) != 1 || f.get(id).State != client.Ready {
		t.Errorf("stored: got %+v, and the strand is %s", got, f.get(id).State)
	}
}

func TestSignalToAStrandThatIsNotThereSaysSo(t *testing.T) {
	f := newFixture(t)
	id := f.insert(mail{}, nil)
	end(t, f.store(), id, done("1"))
	if err := f.client.Signal(t.Context(), id, "go", nil); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestSignalThatCannotBeStoredIsNamed(t *testing.T) {
	f := newFixture(t)
	id := f.insert(mail{}, nil)
	for field, bad := range map[string]client.SignalParams{
		"id":    {ID: "7", Name: "go"},
		"name":  {ID: id, Name: "two\nlines"},
		"value": {ID: id, Name: "go", Value: strings.Repeat("x", 1<<20)},
	} {
		var refused *client.SignalError
		_, err := f.client.SignalMany(t.Context(), []client.SignalParams{{ID: id, Name: "good"}, bad})
		if !errors.As(err, &refused) || refused.Index != 1 || refused.Field != field {
			t.Errorf("%s: got %v", field, err)
		}
	}
	for _, value := range []any{make(chan int), "\x00"} {
		if err := f.client.Signal(t.Context(), id, "go", value); err == nil {
			t.Errorf("value %v: was taken", value)
		}
	}
	if got := f.semaphores(id); len(got) != 0 {
		t.Errorf("stored: got %+v, want nothing", got)
	}
}
