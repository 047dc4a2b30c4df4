package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/client"
)

// odd are strands whose texts are hard on escaping, with options of every sort.
func odd() []client.InsertManyParams {
	at := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	return []client.InsertManyParams{
		{Args: raw("plain", `{}`)},
		{Args: raw("escapes", "[ \"tab\\t\", \n\t\"new\\nline\\r\",\r\n \"back\\\\slash\", \"\\\\N\", \"\\u00e9 é 世\"]")},
		{Args: raw("end of copy", `"\\."`)},
		{Args: raw("numbers", `[1e5, -0.0, 1.50, 12345678901234567890123456789]`)},
		{Args: raw(`quotes "'\`, `null`), InsertOpts: &client.InsertOpts{Queue: `{,}`, Tenant: `\N`, Label: `\.`}},
		{Args: raw("tags", `1`), InsertOpts: &client.InsertOpts{Tags: []string{`a,b`, `"`, `\`, `{}`, "NULL", " ", "é\u2028"}}},
		{Args: raw("no tags", `1`), InsertOpts: &client.InsertOpts{Tags: []string{}}},
		{Args: raw("meta", `1`), InsertOpts: &client.InsertOpts{Metadata: json.RawMessage(` {"a": "\\\n"}`)}},
		{Args: raw("no meta", `1`), InsertOpts: &client.InsertOpts{Metadata: json.RawMessage(` null `)}},
		{Args: raw("later", `1`), InsertOpts: &client.InsertOpts{ScheduledAt: at, Priority: 9, MaxTries: 32767, Keep: true}},
		{Args: urgent{}},
	}
}

func TestCopyAndFunctionStoreTheSame(t *testing.T) {
	f := newFixture(t)
	params := odd()
	results, err := f.client.InsertMany(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	byFunction := make([]*client.StrandRow, len(results))
	for i, r := range results {
		byFunction[i] = f.get(r.ID)
	}
	f.exec("delete from respirate.strand")
	if n, err := f.client.InsertManyFast(t.Context(), params); n != len(params) || err != nil {
		t.Fatalf("got %d, %v", n, err)
	}
	page, err := f.client.StrandList(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	byKind := func(a, b *client.StrandRow) int { return strings.Compare(a.Kind, b.Kind) }
	slices.SortFunc(byFunction, byKind)
	slices.SortFunc(page.Strands, byKind)
	now := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".ScheduledAt" },
		cmp.Comparer(func(a, b *time.Time) bool { return a.Sub(*b).Abs() < time.Minute }))
	if diff := cmp.Diff(byFunction, page.Strands, now, cmpopts.IgnoreFields(client.StrandRow{}, "ID", "CreatedAt")); diff != "" {
		t.Errorf("by function (-), by COPY (+):\n%s", diff)
	}
}

func TestCopiedStrandsStartInTheOrderInWhichTheyWereGiven(t *testing.T) {
	f := newFixture(t)
	params := make([]client.InsertManyParams, 200)
	for i := range params {
		params[i].Args = raw("k", fmt.Sprint(i))
	}
	if _, err := f.client.InsertManyFast(t.Context(), params); err != nil {
		t.Fatal(err)
	}
	disorder := scalar[int](f, `select count(*) from (
		select args::int <> row_number() over (order by lane, schedule, id) - 1 as wrong from respirate.strand) s where wrong`)
	if disorder != 0 {
		t.Errorf("%d of 200 strands are not where they were in the call", disorder)
	}
}

func TestInsertsTakeMoreThanOneStatementHolds(t *testing.T) {
	f := newFixture(t)
	params := many(20)
	for i := range params {
		params[i].Args = raw("big", fmt.Sprintf(`"%0900000d"`, i))
	}
	if results, err := f.client.InsertMany(t.Context(), params); len(results) != 20 || err != nil {
		t.Fatalf("got %d, %v", len(results), err)
	}
	if n, err := f.client.InsertManyFast(t.Context(), params); n != 20 || err != nil {
		t.Fatalf("got %d, %v", n, err)
	}
	if n := scalar[int](f, "select count(distinct args) from respirate.strand"); n != 20 || f.count() != 40 {
		t.Errorf("got %d different strands of %d", n, f.count())
	}
}

func TestCopiedStrandsHaveRandomIDs(t *testing.T) {
	f := newFixture(t)
	if _, err := f.client.InsertManyFast(t.Context(), many(5000)); err != nil {
		t.Fatal(err)
	}
	if n := scalar[int](f, "select count(distinct bucket) from respirate.strand"); n != 256 {
		t.Errorf("5000 strands are in %d of 256 buckets", n)
	}
	if n := scalar[int](f, "select count(*) from respirate.strand where id::text !~ '^.{14}4.{4}[89ab]'"); n != 0 {
		t.Errorf("%d ids are no UUIDs of version 4", n)
	}
}

func TestNoStrandIsScheduledInThePast(t *testing.T) {
	f := newFixture(t)
	start := time.Now().Add(-time.Second)
	past := []client.InsertManyParams{{Args: mail{}, InsertOpts: &client.InsertOpts{ScheduledAt: start.Add(-time.Hour)}}}
	err := pgx.BeginFunc(t.Context(), f.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), "select pg_sleep(0.01)"); err != nil {
			return err
		}
		_, manyErr := f.client.InsertManyTx(t.Context(), tx, past)
		_, fastErr := f.client.InsertManyFastTx(t.Context(), tx, past)
		return errors.Join(manyErr, fastErr)
	})
	if err != nil {
		t.Fatal(err)
	}
	// created_at is when the transaction began, and who scheduled at that time came before strands that others committed since.
	if n := scalar[int](f, "select count(*) from respirate.strand where schedule > created_at"); n != 2 {
		t.Errorf("%d of 2 strands are scheduled when they were inserted", n)
	}
}

func TestIdleBrokersAreToldOfACopyOnceItCommits(t *testing.T) {
	f := newFixture(t)
	f.exec(`insert into respirate.broker (broker, host, pid, build, lo, hi, kinds, workers, slots, busy, alive_until)
		values (gen_random_uuid(), 'h', 1, '', 0, 1::bigint << 32, '{mail}', 1, 1, false, now() + interval '1 hour')`)
	listener, err := pgx.Connect(t.Context(), f.url)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close(t.Context())
	if _, err := listener.Exec(t.Context(), "listen respirate_wake"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.client.InsertManyFast(t.Context(), many(3)); err != nil {
		t.Fatal(err)
	}
	for {
		note, err := listener.WaitForNotification(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if note.Payload == "" { // the others tell of the new lane
			break
		}
	}
}

func TestARoleThatIsGrantedAClientsRightsCanDoAllThatAClientDoes(t *testing.T) {
	f := newFixture(t)
	role := "app_" + scalar[string](f, "select current_database()")
	f.exec("create role " + role)
	t.Cleanup(func() {
		if _, err := f.pool.Exec(context.Background(), "drop owned by "+role+"; drop role "+role); err != nil {
			t.Error(err)
		}
	})
	f.exec("select respirate.grant_client('" + role + "')")
	config := f.pool.Config()
	config.ConnConfig.RuntimeParams["role"] = role
	pool := openPoolConfig(t, config)
	c := newClient(t, pool, nil)

	id := must(c.Insert(t.Context(), mail{}, nil))(t).ID
	must(c.InsertManyFast(t.Context(), many(3)))(t)
	must(c.StrandGet(t.Context(), id))(t)
	must(c.StrandList(t.Context(), &client.StrandListParams{Kinds: []string{"mail"}}))(t)
	must(c.BrokerList(t.Context()))(t)
	check(t, c.StrandWake(t.Context(), id))
	must(c.StrandCancel(t.Context(), id))(t)
	must(c.StrandWait(t.Context(), id))(t)
	must(c.StrandRetry(t.Context(), id))(t)
	must(c.StrandCancelMany(t.Context(), &client.StrandManyParams{Kinds: []string{"mail"}}))(t)
	must(c.StrandRetryMany(t.Context(), &client.StrandManyParams{Kinds: []string{"mail"}, States: []client.State{client.Cancelled}}))(t)
	if _, err := pool.Exec(t.Context(), "update respirate.strand set try = 0"); err == nil {
		t.Error("the role may update strands")
	}
}
