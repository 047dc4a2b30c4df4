package client_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker/postgres"
	"github.com/respirated/respirated/client"
)

func TestInsertStoresEveryOption(t *testing.T) {
	f := newFixture(t)
	at := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	opts := client.InsertOpts{
		ID:          "6BA7B810-9dad-41d1-80b4-00c04fd430c8",
		Queue:       "out",
		Tenant:      "acme",
		Priority:    2,
		ScheduledAt: at,
		MaxTries:    3,
		Label:       "resume",
		Tags:        []string{`a "b"`, `c\d`, "NULL", "é"},
		Metadata:    json.RawMessage(`{"trace": "x"}`),
		Keep:        true,
	}
	result, err := f.client.Insert(t.Context(), mail{To: "a@b"}, &opts)
	if err != nil {
		t.Fatal(err)
	}
	if want := (client.InsertResult{ID: strings.ToLower(opts.ID), Kind: "mail", Opts: opts}); !cmp.Equal(*result, want) {
		t.Errorf("result: %s", cmp.Diff(want, *result))
	}
	want := &client.StrandRow{ID: result.ID, Tenant: "acme", Queue: "out", Priority: 2, Kind: "mail", Label: "resume",
		State: client.Deferred, ScheduledAt: &at, MaxTries: 3, Args: json.RawMessage(`{"to": "a@b"}`), Tags: opts.Tags,
		Metadata: opts.Metadata, Keep: true}
	got := f.get(result.ID)
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(client.StrandRow{}, "CreatedAt")); diff != "" {
		t.Error(diff)
	}
	if age := time.Since(got.CreatedAt).Abs(); age > time.Minute {
		t.Errorf("created %v ago", age)
	}
}

func TestInsertWithoutOptionsGetsTheDefaults(t *testing.T) {
	f := newFixture(t)
	id := f.insert(mail{To: "a"}, nil)
	want := &client.StrandRow{ID: id, Queue: "default", Priority: 5, Kind: "mail", Label: "start", State: client.Ready, MaxTries: 25,
		Args: json.RawMessage(`{"to": "a"}`)}
	if diff := cmp.Diff(want, f.get(id), cmpopts.IgnoreFields(client.StrandRow{}, "CreatedAt", "ScheduledAt")); diff != "" {
		t.Error(diff)
	}
}

// urgent is a kind with options of its own.
type urgent struct{}

func (urgent) Kind() string { return "urgent" }
func (urgent) InsertOpts() client.InsertOpts {
	return client.InsertOpts{Queue: "of args", Priority: 1}
}

func TestOptionsOfTheCallWinOverThoseOfArgsAndThoseOverTheConfig(t *testing.T) {
	f := newFixture(t)
	c := newClient(t, f.pool, &client.Config{InsertOpts: client.InsertOpts{Queue: "of config", Priority: 9, MaxTries: 7}})
	result, err := c.Insert(t.Context(), urgent{}, &client.InsertOpts{Queue: "of call"})
	if err != nil {
		t.Fatal(err)
	}
	row := f.get(result.ID)
	if row.Queue != "of call" || row.Priority != 1 || row.MaxTries != 7 {
		t.Errorf("got queue %q, priority %d, max tries %d; want of call, 1, 7", row.Queue, row.Priority, row.MaxTries)
	}
}

func TestInsertTxIsThereOnceItsTransactionCommits(t *testing.T) {
	f := newFixture(t)
	for _, commit := range []bool{false, true} {
		tx, err := f.pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		checkTx(t, f, f.client, tx, commit, func() error {
			if commit {
				return tx.Commit(t.Context())
			}
			return tx.Rollback(t.Context())
		})
	}
}

func TestInsertTxWorksWithAnyDriverOfDatabaseSQL(t *testing.T) {
	f := newFixture(t)
	for _, driver := range drivers {
		for _, commit := range []bool{false, true} {
			db := f.openSQL(driver)
			tx, err := db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			c := newSQLClient(t, db)
			checkTx(t, f, c, tx, commit, func() error {
				if commit {
					return tx.Commit()
				}
				return tx.Rollback()
			})
		}
	}
}

func newSQLClient(t *testing.T, db *sql.DB) *client.Client[*sql.Tx] {
	t.Helper()
	c, err := client.NewSQL(db, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// checkTx inserts in every way inside tx, and looks what there is after its end.
func checkTx[TTx any](t *testing.T, f *fixture, c *client.Client[TTx], tx TTx, committed bool, finish func() error) {
	t.Helper()
	before := f.count()
	one, err := c.InsertTx(t.Context(), tx, mail{To: "a"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.InsertManyTx(t.Context(), tx, many(2)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.InsertManyFastTx(t.Context(), tx, many(3)); n != 3 || err != nil {
		t.Fatalf("got %d, %v; want 3", n, err)
	}
	if _, err := c.StrandGetTx(t.Context(), tx, one.ID); err != nil {
		t.Errorf("inside the transaction: %v", err)
	}
	if n := f.count(); n != before {
		t.Errorf("%d strands are there before the end", n-before)
	}
	if err := finish(); err != nil {
		t.Fatal(err)
	}
	want := 0
	if committed {
		want = 6
	}
	if n := f.count() - before; n != want {
		t.Errorf("committed %t: got %d strands, want %d", committed, n, want)
	}
}

func TestInsertManyKeepsTheOrderOverManyStatements(t *testing.T) {
	f := newFixture(t)
	results, err := f.client.InsertMany(t.Context(), many(2345))
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != 2345 {
		t.Fatalf("got %d results", len(results))
	}
	for _, i := range []int{0, 999, 1000, 2344} {
		want := mail{To: strconv.Itoa(i)}.json()
		if got := f.get(results[i].ID); string(got.Args) != want {
			t.Errorf("number %d has args %s, want %s", i, got.Args, want)
		}
	}
}

func (m mail) json() string { return `{"to": "` + m.To + `"}` }

func TestInsertOfNothingIsFine(t *testing.T) {
	f := newFixture(t)
	if results, err := f.client.InsertMany(t.Context(), nil); len(results) != 0 || err != nil {
		t.Errorf("InsertMany: got %v, %v", results, err)
	}
	if n, err := f.client.InsertManyFast(t.Context(), nil); n != 0 || err != nil {
		t.Errorf("InsertManyFast: got %v, %v", n, err)
	}
}

func TestInsertOfAnIDThatExistsChangesNothing(t *testing.T) {
	f := newFixture(t)
	opts := &client.InsertOpts{ID: "00000000-0000-4000-8000-000000000001", Keep: true}
	if id := f.insert(mail{To: "first"}, opts); id != opts.ID {
		t.Errorf("got id %s", id)
	}
	again := []client.InsertManyParams{{Args: mail{To: "second"}, InsertOpts: opts}, {Args: mail{To: "other"}}}
	if n, err := f.client.InsertManyFast(t.Context(), again); n != 2 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	if row := f.get(opts.ID); string(row.Args) != (mail{To: "first"}).json() {
		t.Errorf("args are %s", row.Args)
	}
	end(t, f.store(), opts.ID, done("null"))
	f.insert(mail{To: "third"}, opts)
	if row := f.get(opts.ID); row.State != client.Done {
		t.Errorf("a finished strand came back: %+v", row)
	}
}

func TestARefusedStrandIsNamedAndNothingIsStored(t *testing.T) {
	f := newFixture(t)
	params := many(1500)
	params[1200].InsertOpts = &client.InsertOpts{Priority: 10}
	_, manyErr := f.client.InsertMany(t.Context(), params)
	_, fastErr := f.client.InsertManyFast(t.Context(), params)
	for _, err := range []error{manyErr, fastErr} {
		var refused *client.InsertError
		want := &client.InsertError{Index: 1200, Kind: "mail", Field: "opts.priority", Why: "is 10, not 1 to 9"}
		if !errors.As(err, &refused) || *refused != *want {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	if n := f.count(); n != 0 {
		t.Errorf("%d strands were stored", n)
	}
}

func TestAKindThatNobodyServesIsRefusedWhereAsked(t *testing.T) {
	f := newFixture(t)
	params := many(1500)
	params[1200].InsertOpts = &client.InsertOpts{RequireKind: true}
	for _, insert := range []func() error{
		func() error { _, err := f.client.InsertMany(t.Context(), params); return err },
		func() error { _, err := f.client.InsertManyFast(t.Context(), params); return err },
	} {
		var refused *client.InsertError
		if err := insert(); !errors.As(err, &refused) || refused.Index != 1200 || refused.Field != "kind" {
			t.Errorf("got %v", err)
		}
		if n := f.count(); n != 0 {
			t.Errorf("%d strands were stored", n)
		}
	}
	f.exec(`insert into respirate.broker (broker, host, pid, build, lo, hi, kinds, workers, slots, busy, alive_until)
		values (gen_random_uuid(), 'h', 1, '', 0, 1::bigint << 32, '{mail}', 1, 1, true, now() + interval '1 hour')`)
	if _, err := f.client.InsertMany(t.Context(), params); err != nil {
		t.Error(err)
	}
}

func TestRefusedInputLeavesTheTransactionUsable(t *testing.T) {
	f := newFixture(t)
	err := pgx.BeginFunc(t.Context(), f.pool, func(tx pgx.Tx) error {
		if _, err := f.client.InsertTx(t.Context(), tx, raw("mail", `"\u0000"`), nil); err == nil {
			t.Error("a NUL was taken")
		}
		_, err := f.client.InsertTx(t.Context(), tx, mail{To: "a"}, nil)
		return err
	})
	if err != nil || f.count() != 1 {
		t.Errorf("got %v, and %d strands", err, f.count())
	}
}

type broken struct{ C chan int }

func (broken) Kind() string { return "broken" }

func TestArgsThatAreNoJSONAreRefused(t *testing.T) {
	f := newFixture(t)
	for _, args := range []client.Args{nil, broken{C: make(chan int)}} {
		var refused *client.InsertError
		if _, err := f.client.Insert(t.Context(), args, nil); !errors.As(err, &refused) || refused.Field != "args" {
			t.Errorf("args %T: got %v", args, err)
		}
	}
}

func TestACallEndsAtItsDeadlineWhenTheDatabaseHangs(t *testing.T) {
	f := newFixture(t)
	err := pgx.BeginFunc(t.Context(), f.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), "lock table respirate.strand"); err != nil {
			return err
		}
		c := newClient(t, f.pool, &client.Config{Timeout: 100 * time.Millisecond})
		_, insertErr := c.Insert(t.Context(), mail{}, nil)
		_, copyErr := c.InsertManyFast(t.Context(), many(3))
		for _, err := range []error{insertErr, copyErr} {
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "the database did not answer within 100ms") {
				t.Errorf("got %v", err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestConfigThatCannotWorkIsRefused(t *testing.T) {
	for _, config := range []client.Config{
		{Schema: "Robert'); drop table"},
		{Schema: "pg_catalog"},
		{Schema: strings.Repeat("s", 59)},
		{Timeout: -1},
		{InsertOpts: client.InsertOpts{ID: "00000000-0000-4000-8000-000000000001"}},
	} {
		if _, err := client.New(nil, &config); err == nil {
			t.Errorf("%+v was taken", config)
		}
	}
}

func TestAClientWorksInTheSchemaItIsTold(t *testing.T) {
	f := newFixture(t)
	migrate(t, postgres.Config{URL: f.url, Schema: "elsewhere"})
	c := newClient(t, f.pool, &client.Config{Schema: "elsewhere"})
	if _, err := c.Insert(t.Context(), mail{}, nil); err != nil {
		t.Fatal(err)
	}
	if n, err := c.InsertManyFast(t.Context(), many(2)); n != 2 || err != nil {
		t.Fatalf("got %d, %v", n, err)
	}
	if n := scalar[int](f, "select count(*) from elsewhere.strand"); n != 3 || f.count() != 0 {
		t.Errorf("got %d there and %d here; want 3 and 0", n, f.count())
	}
}

func TestWhatTheDatabaseUndidIsTriedAgain(t *testing.T) {
	f := newFixture(t)
	f.exec(`create sequence tries;
		create function give_up() returns trigger language plpgsql as $$
		begin
			if nextval('public.tries') < 3 then raise exception 'no' using errcode = '40P01'; end if;
			return new;
		end $$;
		create trigger give_up before insert on respirate.strand for each row execute function give_up()`)
	f.insert(mail{}, nil)
	if n := f.count(); n != 1 {
		t.Errorf("got %d strands", n)
	}
	f.exec("alter sequence tries restart")
	if _, err := f.client.InsertManyFast(t.Context(), many(1)); err != nil {
		t.Error(err)
	}
	f.exec("alter sequence tries restart")
	err := pgx.BeginFunc(t.Context(), f.pool, func(tx pgx.Tx) error {
		_, err := f.client.InsertTx(t.Context(), tx, mail{}, nil)
		return err
	})
	if err == nil {
		t.Error("a spoilt transaction was gone on with")
	}
}

// manyInserter is a client of any database library.
type manyInserter interface {
	InsertMany(context.Context, []client.InsertManyParams) ([]*client.InsertResult, error)
}

// everyClient is a client of each library, by its name.
func (f *fixture) everyClient(config client.Config) map[string]manyInserter {
	f.t.Helper()
	clients := map[string]manyInserter{"pgx pool": must(client.New(f.pool, &config))(f.t)}
	for _, driver := range drivers {
		clients["database/sql "+driver] = must(client.NewSQL(f.openSQL(driver), &config))(f.t)
	}
	return clients
}

// The deadline is for each statement, so that a large insert may take its time.
func TestManyStatementsMayTakeLongerThanOne(t *testing.T) {
	t.Parallel() // it mostly sleeps
	f := newFixture(t)
	f.exec(`create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(0.7); return null; end $$;
		create trigger slow after insert on respirate.strand for each statement execute function slow();
		select respirate.lane('', 'default', 5, 'mail')`) // who makes a lane lets others wait for his transaction
	var group sync.WaitGroup
	for name, c := range f.everyClient(client.Config{Timeout: 5 * time.Second}) { // and they take 7 s, in statements of 500 each
		group.Go(func() {
			if _, err := c.InsertMany(t.Context(), many(5000)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	group.Wait()
	if n := f.count(); n != 15_000 {
		t.Errorf("got %d strands", n)
	}
}

func TestACallerWhoGivesUpLeavesNothingBehind(t *testing.T) {
	f := newFixture(t)
	f.exec(`create function wait() returns trigger language plpgsql as $$ begin perform pg_advisory_lock(7); return null; end $$;
		create trigger wait after insert on respirate.strand for each statement execute function wait()`)
	holder := must(f.pool.Acquire(t.Context()))(t)
	defer holder.Release()
	must(holder.Exec(t.Context(), "select pg_advisory_lock(7)"))(t)
	inserts := map[string]func(context.Context) error{
		"COPY": func(ctx context.Context) error { _, err := f.client.InsertManyFast(ctx, many(4000)); return err },
	}
	for name, c := range f.everyClient(client.Config{}) {
		inserts[name] = func(ctx context.Context) error { _, err := c.InsertMany(ctx, many(4000)); return err }
	}
	for name, insert := range inserts {
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error)
		go func() { failed <- insert(ctx) }()
		f.awaitWaiters(1)
		cancel()
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v", name, err)
		}
		f.awaitWaiters(0)
		if n := f.count(); n != 0 {
			t.Errorf("%s: %d strands were stored", name, n)
		}
	}
}

// awaitWaiters returns once so many sessions of this database wait for an advisory lock.
func (f *fixture) awaitWaiters(n int) {
	f.t.Helper()
	for scalar[int](f, `select count(*) from pg_locks where locktype = 'advisory' and not granted
		and database = (select oid from pg_database where datname = current_database())`) != n {
		time.Sleep(time.Millisecond)
	}
}
