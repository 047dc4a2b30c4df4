package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/client"
)

func TestStrandGetShowsAFinishedStrandWithItsAttempts(t *testing.T) {
	f := newFixture(t)
	store := f.store()
	id := f.insert(mail{To: "a"}, &client.InsertOpts{Tags: []string{"x"}, Keep: true})
	end(t, store, id, broker.Report{Act: broker.Fail, Failure: &broker.Failure{Class: "Timeout", Message: "too slow", Trace: "at a", Worker: "w:1"}})
	end(t, store, id, done(`{"sent": true}`))
	got := f.get(id)
	want := &client.StrandRow{ID: id, Queue: "default", Priority: 5, Kind: "mail", Label: "start", State: client.Done, Try: 1, MaxTries: 25,
		Args: json.RawMessage(`{"to": "a"}`), Value: json.RawMessage(`{"sent": true}`), Tags: []string{"x"}, Keep: true,
		Attempts: []client.Attempt{{Outcome: "failed", Class: "Timeout", Message: "too slow", Trace: "at a", Worker: "w:1"}}}
	ignore := []cmp.Option{
		cmpopts.IgnoreFields(client.StrandRow{}, "CreatedAt", "FinishedAt"),
		cmpopts.IgnoreFields(client.Attempt{}, "At", "Host"),
	}
	if diff := cmp.Diff(want, got, ignore...); diff != "" {
		t.Error(diff)
	}
	if got.FinishedAt == nil || got.FinishedAt.Before(got.CreatedAt) || got.Attempts[0].At.Before(got.CreatedAt) {
		t.Errorf("created %v, failed %v, finished %v", got.CreatedAt, got.Attempts[0].At, got.FinishedAt)
	}
}

func TestStrandGetShowsWhoHoldsALeasedStrand(t *testing.T) {
	f := newFixture(t)
	id := f.insert(mail{}, nil)
	lease(t, f.store(), id)
	if row := f.get(id); row.State != client.Leased || row.LeasedUntil == nil || row.LeasedUntil.Before(time.Now()) {
		t.Errorf("got state %s, leased until %v", row.State, row.LeasedUntil)
	}
}

func TestStrandGetReadsTimesThatGoCannotWrite(t *testing.T) {
	f := newFixture(t)
	id := f.insert(mail{}, nil)
	f.exec("update respirate.strand set schedule = '200000-01-01', created_at = '4000-01-01 BC'")
	row := f.get(id)
	if _, err := json.Marshal(row); err != nil || row.State != client.Deferred {
		t.Errorf("got %v, %v", row, err)
	}
}

func TestAStrandThatIsNotThereIsNotFound(t *testing.T) {
	f := newFixture(t)
	const nobody = "00000000-0000-4000-8000-000000000000"
	for name, call := range calls(t.Context(), f.client) {
		if err := call(nobody); !errors.Is(err, client.ErrNotFound) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestAnIDThatIsNoUUIDIsRefused(t *testing.T) {
	f := newFixture(t)
	for name, call := range calls(t.Context(), f.client) {
		if err := call("' or true --"); err == nil || errors.Is(err, client.ErrNotFound) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func calls(ctx context.Context, c *client.Client[pgx.Tx]) map[string]func(id string) error {
	return map[string]func(id string) error{
		"StrandGet":    func(id string) error { _, err := c.StrandGet(ctx, id); return err },
		"StrandCancel": func(id string) error { _, err := c.StrandCancel(ctx, id); return err },
		"StrandRetry":  func(id string) error { _, err := c.StrandRetry(ctx, id); return err },
		"StrandWake":   func(id string) error { return c.StrandWake(ctx, id) },
		"StrandWait":   func(id string) error { _, err := c.StrandWait(ctx, id); return err },
	}
}

func TestReadsWorkWithAnyDriverOfDatabaseSQL(t *testing.T) {
	f := newFixture(t)
	store := f.store()
	live := f.insert(mail{}, &client.InsertOpts{Tags: []string{"a"}, Metadata: json.RawMessage(`{}`)})
	over := f.insert(mail{}, nil)
	end(t, store, over, dead())
	check(t, store.Announce(t.Context(), broker.Announcement{Broker: broker.ID{1}, Host: "h", Kinds: []string{"mail"}}, time.Minute))
	for _, driver := range drivers {
		c := newSQLClient(t, f.openSQL(driver))
		for _, id := range []string{live, over} {
			if diff := cmp.Diff(f.get(id), must(c.StrandGet(t.Context(), id))(t)); diff != "" {
				t.Errorf("%s: %s", driver, diff)
			}
		}
		page := must(c.StrandList(t.Context(), &client.StrandListParams{Kinds: []string{"mail"}, States: []client.State{client.Ready, client.Dead}}))(t)
		if len(page.Strands) != 2 || page.After != "" {
			t.Errorf("%s: got %d strands, then %q", driver, len(page.Strands), page.After)
		}
		if brokers := must(c.BrokerList(t.Context()))(t); len(brokers) != 1 {
			t.Errorf("%s: got %d brokers", driver, len(brokers))
		}
		if state := must(c.StrandRetry(t.Context(), over))(t); state != client.Ready {
			t.Errorf("%s: got %s", driver, state)
		}
		end(t, store, over, dead())
	}
}

func TestBrokerListShowsWhatBrokersAnnounce(t *testing.T) {
	f := newFixture(t)
	a := broker.Announcement{Broker: broker.ID{1}, Host: "here", PID: 7, Busy: true, Kinds: []string{"mail", "noop"}, Workers: 3, Slots: 30, Build: "b1"}
	check(t, f.store().Announce(t.Context(), a, time.Minute))
	want := []*client.BrokerRow{{ID: a.Broker.String(), Host: "here", PID: 7, Build: "b1", Hi: 1 << 32, Kinds: a.Kinds, Workers: 3, Slots: 30,
		Busy: true, Alive: true}}
	got := must(f.client.BrokerList(t.Context()))(t)
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(client.BrokerRow{}, "AliveUntil", "StartedAt")); diff != "" {
		t.Error(diff)
	}
}
