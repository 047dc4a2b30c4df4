package client_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx" of database/sql
	_ "github.com/lib/pq"              // the driver "postgres" of database/sql

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/postgres"
	"github.com/respirated/respirated/broker/postgres/private/privatetest"
	"github.com/respirated/respirated/client"
)

// fixture is a database with the schema in it, and what a test wants to reach it by.
type fixture struct {
	t      testing.TB
	url    string
	pool   *pgxpool.Pool
	client *client.Client[pgx.Tx]
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	url := privatetest.Copy(t, "migrated", func(ctx context.Context, url string) error {
		return migrateUp(ctx, postgres.Config{URL: url})
	})
	f := &fixture{t: t, url: url, pool: openPool(t, url)}
	f.client = newClient(t, f.pool, nil)
	return f
}

func migrate(t testing.TB, cfg postgres.Config) {
	t.Helper()
	if err := migrateUp(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}

func migrateUp(ctx context.Context, cfg postgres.Config) error {
	migrator, err := postgres.NewMigrator(ctx, cfg)
	if err != nil {
		return err
	}
	defer migrator.Close()
	_, err = migrator.Up(ctx)
	return err
}

func openPool(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	return openPoolConfig(t, config)
}

func openPoolConfig(t testing.TB, config *pgxpool.Config) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func newClient(t testing.TB, db client.PgxDB, config *client.Config) *client.Client[pgx.Tx] {
	t.Helper()
	if config == nil {
		config = &client.Config{}
	}
	config.Logger = slog.New(slog.DiscardHandler)
	c, err := client.New(db, config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// drivers of database/sql, which are as different from each other as drivers get.
var drivers = []string{"pgx", "postgres"}

func (f *fixture) openSQL(driver string) *sql.DB {
	f.t.Helper()
	db, err := sql.Open(driver, f.url)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = db.Close() })
	return db
}

func (f *fixture) exec(sql string, args ...any) {
	f.t.Helper()
	if _, err := f.pool.Exec(f.t.Context(), sql, args...); err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
}

// scalar reads a single value.
func scalar[T any](f *fixture, sql string, args ...any) T {
	f.t.Helper()
	var v T
	if err := f.pool.QueryRow(f.t.Context(), sql, args...).Scan(&v); err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func (f *fixture) count() int {
	f.t.Helper()
	return scalar[int](f, "select count(*) from respirate.strand")
}

func (f *fixture) insert(args client.Args, opts *client.InsertOpts) string {
	f.t.Helper()
	result, err := f.client.Insert(f.t.Context(), args, opts)
	if err != nil {
		f.t.Fatal(err)
	}
	return result.ID
}

func (f *fixture) get(id string) *client.StrandRow {
	f.t.Helper()
	row, err := f.client.StrandGet(f.t.Context(), id)
	if err != nil {
		f.t.Fatal(err)
	}
	return row
}

// store is a broker's view of the same database.
func (f *fixture) store() *postgres.Store {
	f.t.Helper()
	store, err := postgres.Open(f.t.Context(), postgres.Config{URL: f.url})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(store.Close)
	return store
}

// lease takes a strand as a broker does, under a token that nobody has had before.
func lease(t testing.TB, store *postgres.Store, id string) broker.Pair {
	t.Helper()
	parsed, err := broker.ParseID(id)
	if err != nil {
		t.Fatal(err)
	}
	pair := broker.Pair{ID: parsed}
	rand.Read(pair.Token[:])
	strands, err := store.Lease(t.Context(), []broker.Pair{pair}, time.Minute)
	if err != nil || len(strands) != 1 {
		t.Fatalf("lease %s: %d strands, %v", id, len(strands), err)
	}
	return pair
}

// end leases a strand, and ends it as the report says.
func end(t testing.TB, store *postgres.Store, id string, report broker.Report) {
	t.Helper()
	report.Pair, report.Seq = lease(t, store, id), 1
	finish(t, store, report)
}

func finish(t testing.TB, store *postgres.Store, report broker.Report) {
	t.Helper()
	verdicts, err := store.Commit(t.Context(), []broker.Report{report})
	if err != nil || verdicts[0].State != broker.Applied {
		t.Fatalf("commit %s: %v, %v", report.ID, verdicts, err)
	}
}

func done(value string) broker.Report { return broker.Report{Act: broker.Exit, Value: []byte(value)} }

func dead() broker.Report {
	return broker.Report{Act: broker.Fail, Final: true, Failure: &broker.Failure{Class: "TestError", Message: "no luck", Worker: "here:1"}}
}

// mail is the args type of most tests.
type mail struct {
	To string `json:"to"`
}

func (mail) Kind() string { return "mail" }

func raw(kind, text string) client.RawArgs {
	return client.RawArgs{Name: kind, JSON: json.RawMessage(text)}
}

// many makes n params for kind mail.
func many(n int) []client.InsertManyParams {
	params := make([]client.InsertManyParams, n)
	for i := range params {
		params[i].Args = mail{To: fmt.Sprint(i)}
	}
	return params
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// must is for calls that have to succeed: must(call())(t).
func must[V any](v V, err error) func(testing.TB) V {
	return func(t testing.TB) V {
		t.Helper()
		check(t, err)
		return v
	}
}
