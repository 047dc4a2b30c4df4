package client_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/client"
)

func TestCancelEndsAFreeStrandAndAsksARunningOne(t *testing.T) {
	f := newFixture(t)
	free, running := f.insert(mail{}, nil), f.insert(mail{}, nil)
	lease(t, f.store(), running)
	if state := must(f.client.StrandCancel(t.Context(), free))(t); state != client.Cancelled {
		t.Errorf("free: got %s", state)
	}
	if state := must(f.client.StrandCancel(t.Context(), running))(t); state != client.Leased {
		t.Errorf("running: got %s", state)
	}
	if row := f.get(free); row.State != client.Cancelled {
		t.Errorf("free: is %s", row.State)
	}
	if row := f.get(running); row.CancelAt == nil {
		t.Error("running: nobody has asked it to stop")
	}
	if state := must(f.client.StrandCancel(t.Context(), free))(t); state != client.Cancelled {
		t.Errorf("again: got %s", state)
	}
}

func TestRetryBringsADeadStrandBack(t *testing.T) {
	f := newFixture(t)
	id := f.insert(mail{}, nil)
	end(t, f.store(), id, dead())
	if state := must(f.client.StrandRetry(t.Context(), id))(t); state != client.Ready {
		t.Errorf("got %s", state)
	}
	if row := f.get(id); row.State != client.Ready || row.Try != 0 || len(row.Attempts) != 1 {
		t.Errorf("got state %s, try %d, %d attempts", row.State, row.Try, len(row.Attempts))
	}
}

func TestWakeMakesADeferredStrandReady(t *testing.T) {
	f := newFixture(t)
	id := f.insert(mail{}, &client.InsertOpts{ScheduledAt: time.Now().Add(time.Hour)})
	check(t, f.client.StrandWake(t.Context(), id))
	if row := f.get(id); row.State != client.Ready {
		t.Errorf("got %s", row.State)
	}
}

func TestVerbsInATransactionHappenWhenItCommits(t *testing.T) {
	f := newFixture(t)
	ids := []string{f.insert(mail{}, nil), f.insert(mail{}, nil)}
	later := f.insert(mail{}, &client.InsertOpts{ScheduledAt: time.Now().Add(time.Hour)})
	regret := errors.New("regret")
	verbs := func(tx pgx.Tx) error {
		_, cancelErr := f.client.StrandCancelTx(t.Context(), tx, ids[0])
		_, manyErr := f.client.StrandCancelManyTx(t.Context(), tx, &client.StrandManyParams{Kinds: []string{"mail"}, States: []client.State{client.Ready}})
		_, retryErr := f.client.StrandRetryTx(t.Context(), tx, ids[0])
		_, retryManyErr := f.client.StrandRetryManyTx(t.Context(), tx, &client.StrandManyParams{All: true, States: []client.State{client.Cancelled}})
		page, listErr := f.client.StrandListTx(t.Context(), tx, nil)
		if listErr == nil && len(page.Strands) != 3 {
			t.Errorf("the transaction sees %d strands", len(page.Strands))
		}
		return errors.Join(cancelErr, manyErr, retryErr, retryManyErr, listErr, f.client.StrandWakeTx(t.Context(), tx, later))
	}
	err := pgx.BeginFunc(t.Context(), f.pool, func(tx pgx.Tx) error { return errors.Join(verbs(tx), regret) })
	if !errors.Is(err, regret) || f.get(later).State != client.Deferred {
		t.Fatalf("got %v, and the strand is %s", err, f.get(later).State)
	}
	check(t, pgx.BeginFunc(t.Context(), f.pool, verbs))
	if row := f.get(later); row.State != client.Ready {
		t.Errorf("got %s", row.State)
	}
}

func TestVerbsOnManyReachEveryMatchInBatches(t *testing.T) {
	f := newFixture(t)
	must(f.client.InsertManyFast(t.Context(), many(1234)))(t)
	other := f.insert(urgent{}, nil)
	mails := &client.StrandManyParams{Kinds: []string{"mail"}}
	if n := must(f.client.StrandCancelMany(t.Context(), mails))(t); n != 1234 {
		t.Errorf("cancelled %d", n)
	}
	if f.count() != 1 || f.get(other).State != client.Ready {
		t.Errorf("%d strands are left, and the other is %s", f.count(), f.get(other).State)
	}
	if n := must(f.client.StrandRetryMany(t.Context(), mails))(t); n != 0 {
		t.Errorf("retried %d strands that are not dead", n)
	}
	mails.States = []client.State{client.Cancelled}
	if n := must(f.client.StrandRetryMany(t.Context(), mails))(t); n != 1234 {
		t.Errorf("retried %d", n)
	}
	if n := must(f.client.StrandCancelMany(t.Context(), &client.StrandManyParams{All: true}))(t); n != 1235 {
		t.Errorf("cancelled %d of all", n)
	}
}

func TestVerbsOnManyWantToBeToldThatAllAreMeant(t *testing.T) {
	f := newFixture(t)
	f.insert(mail{}, nil)
	for _, params := range []*client.StrandManyParams{
		nil,
		{States: []client.State{client.Ready}},
		{Kinds: []string{"mail"}, States: []client.State{client.Done}},
		{Kinds: []string{"mail"}, States: []client.State{"running"}},
	} {
		if n, err := f.client.StrandCancelMany(t.Context(), params); n != 0 || err == nil {
			t.Errorf("%+v: got %d, %v", params, n, err)
		}
	}
	if f.count() != 1 {
		t.Error("something was cancelled")
	}
}

// watched tells of each query.
type watched struct {
	client.PgxDB
	queries chan struct{}
}

func (w watched) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	w.queries <- struct{}{}
	return w.PgxDB.Query(ctx, sql, args...)
}

func TestWaitReturnsWhenTheStrandHasFinished(t *testing.T) {
	f := newFixture(t)
	id := f.insert(mail{}, &client.InsertOpts{Keep: true})
	f.exec("update respirate.queue set retention = '0'")
	store := f.store()
	report := done("7")
	report.Pair, report.Seq = lease(t, store, id), 1

	looks := watched{f.pool, make(chan struct{})}
	rows := make(chan *client.StrandRow)
	go func() {
		row, err := newClient(t, looks, nil).StrandWait(t.Context(), id)
		if err != nil {
			t.Error(err)
		}
		rows <- row
	}()
	for range 3 {
		<-looks.queries // the strand is live, and looked at
	}
	finish(t, store, report)
	for {
		select {
		case <-looks.queries:
		case row := <-rows:
			if row == nil || row.State != client.Done || string(row.Value) != "7" {
				t.Errorf("got %+v", row)
			}
			return
		}
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	f := newFixture(t)
	id := f.insert(mail{}, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := f.client.StrandWait(ctx, id); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestWaitForAStrandThatIsNotKeptSaysSo(t *testing.T) {
	f := newFixture(t)
	id := f.insert(mail{}, nil)
	f.exec("update respirate.queue set retention = '0'")
	end(t, f.store(), id, done("null"))
	if _, err := f.client.StrandWait(t.Context(), id); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}
