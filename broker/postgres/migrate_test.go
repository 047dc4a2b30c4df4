package postgres_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/postgres"
	"github.com/respirated/respirated/broker/postgres/private/privatetest"
)

func newMigrator(t *testing.T, cfg postgres.Config) *postgres.Migrator {
	t.Helper()
	m, err := postgres.NewMigrator(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func TestMigrationsGoUpDownAndUpAgain(t *testing.T) {
	url := privatetest.URL(t)
	m := newMigrator(t, postgres.Config{URL: url})
	latest := int(postgres.LatestVersion())
	for range 2 {
		if steps, err := m.Up(t.Context()); err != nil || len(steps) != latest {
			t.Fatalf("up: got %v and error %v, want %d steps", steps, err, latest)
		}
		if steps, err := m.Up(t.Context()); err != nil || len(steps) != 0 {
			t.Fatalf("up once more: got %v and error %v, want nothing to do", steps, err)
		}
		insertOne(t, openStore(t, url))
		if steps, err := m.DownTo(t.Context(), 0); err != nil || len(steps) != latest {
			t.Fatalf("down: got %v and error %v, want %d steps", steps, err, latest)
		}
	}
	left := one[int](newPoolSubject(t, url), `select count(*) from pg_class c where relnamespace = 'respirate'::regnamespace
		and relname !~ '^schema_version'`)
	if left != 0 {
		t.Errorf("relations left after down: got %d, want 0", left)
	}
}

func TestMigrationsStepDownOneByOneAndLeaveTheEarlierOnesWorking(t *testing.T) {
	url := privatetest.URL(t)
	m := newMigrator(t, postgres.Config{URL: url})
	if _, err := m.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	for version := postgres.LatestVersion() - 1; version >= 0; version-- {
		steps, err := m.DownTo(t.Context(), version)
		if err != nil || len(steps) != 1 || steps[0].Version != version+1 || steps[0].Applied {
			t.Fatalf("down to %d: got %+v and error %v, want step %d taken back", version, steps, err, version+1)
		}
	}
}

// Some views are made anew on the way down.
func TestWhoMayReadAViewKeepsThatRightOnTheWayDown(t *testing.T) {
	url := privatetest.URL(t)
	m := newMigrator(t, postgres.Config{URL: url})
	if _, err := m.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := newSubject(t, url)
	s.run(`create role "Reader 1"`)
	defer s.run(`drop role "Reader 1"`)
	defer s.run(`drop owned by "Reader 1"`)
	s.run(`grant select on respirate.brokers, respirate.attempts to public, "Reader 1"`)
	readers := func() string {
		return one[string](s, `select string_agg(c.relname || ' ' || a.grantee::regrole::text || ' ' || a.privilege_type, ', ' order by c.relname, a.grantee)
			from pg_class c, aclexplode(c.relacl) a
			where c.oid in ('respirate.brokers'::regclass, 'respirate.attempts'::regclass) and a.grantee <> c.relowner`)
	}
	want := readers()
	if _, err := m.DownTo(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	if got := readers(); got != want {
		t.Errorf("rights after down: got %q, want %q", got, want)
	}
}

func TestMigrationStatusTellsWhatIsApplied(t *testing.T) {
	m := newMigrator(t, postgres.Config{URL: privatetest.URL(t)})
	check := func(applied bool) {
		t.Helper()
		steps, err := m.Status(t.Context())
		if err != nil || len(steps) != int(postgres.LatestVersion()) {
			t.Fatalf("status: got %+v and error %v", steps, err)
		}
		for i, s := range steps {
			if s.Version != int64(i+1) || s.Applied != applied || s.At.IsZero() == applied || !strings.HasPrefix(s.Name, "000") {
				t.Errorf("step %d: got %+v, want applied %t", i, s, applied)
			}
		}
	}
	check(false)
	if _, err := m.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(true)
}

func TestMigratorsAtTheSameTimeWaitForEachOther(t *testing.T) {
	url := privatetest.URL(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			m, err := postgres.NewMigrator(t.Context(), postgres.Config{URL: url})
			if err != nil {
				t.Error(err)
				return
			}
			defer m.Close()
			if _, err := m.Up(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	insertOne(t, openStore(t, url))
}

func TestSchemaMayHaveAnyNameAndTwoLiveSideBySide(t *testing.T) {
	url := privatetest.URL(t)
	stores := make(map[string]*postgres.Store)
	for _, schema := range []string{"respirate", "a", "_order_2", strings.Repeat("x", 53)} {
		cfg := postgres.Config{URL: url, Schema: schema}
		migrateUp(t, cfg)
		store, err := postgres.Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(store.Close)
		stores[schema] = store
	}
	for schema, store := range stores {
		insertOne(t, store)
		got, err := store.Scan(t.Context(), broker.ScanRequest{Kinds: []string{"one"}, Limit: 10, Bottom: true})
		if err != nil || len(got.Candidates) != 1 {
			t.Errorf("schema %s: got %+v and error %v, want its own strand alone", schema, got.Candidates, err)
		}
	}
}

func TestSchemaOfABadNameIsRefused(t *testing.T) {
	for _, schema := range []string{"A", "1a", `a"b`, "a.b", "pg_x", strings.Repeat("x", 54), "é"} {
		if _, err := postgres.Open(t.Context(), postgres.Config{Schema: schema}); err == nil || !strings.Contains(err.Error(), "small letters") {
			t.Errorf("%q: got %v, want it refused for its name", schema, err)
		}
	}
}

func TestOpenRefusesASchemaThatIsMissingOlderOrNewer(t *testing.T) {
	url := privatetest.URL(t)
	refused := func(what, fix string) {
		t.Helper()
		store, err := postgres.Open(t.Context(), postgres.Config{URL: url})
		if err == nil {
			store.Close()
		}
		if !errors.Is(err, postgres.ErrSchema) || !strings.Contains(err.Error(), fix) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want one line with %q", what, err, fix)
		}
	}
	refused("missing", "respirated migrate up")
	m := newMigrator(t, postgres.Config{URL: url})
	refused("empty", "respirated migrate up")
	if _, err := m.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := m.DownTo(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	refused("older", "respirated migrate up")
	if _, err := m.Up(t.Context()); err != nil {
		t.Fatal(err)
	}

	s := newPoolSubject(t, url)
	s.run(`insert into respirate.schema_version (version_id, is_applied) values (99, true)`)
	insertOne(t, openStore(t, url)) // it says that it still serves us
	s.run(`create or replace function respirate.oldest_binary() returns int language sql immutable as 'select 98'`)
	refused("newer", "install a newer respirated")
}

func TestUpSQLMakesTheSchemaByHand(t *testing.T) {
	url := privatetest.URL(t)
	script, err := postgres.UpSQL("by_hand")
	if err != nil {
		t.Fatal(err)
	}
	newPoolSubject(t, url).run(script)

	m := newMigrator(t, postgres.Config{URL: url, Schema: "by_hand"})
	if steps, err := m.Up(t.Context()); err != nil || len(steps) != 0 {
		t.Errorf("up after the script: got %v and error %v, want nothing to do", steps, err)
	}
	if diff, err := m.Validate(t.Context()); err != nil || diff != nil {
		t.Errorf("validate after the script: got %q and error %v, want no difference", diff, err)
	}
}

func TestValidateTellsWhatSomebodyChanged(t *testing.T) {
	for name, c := range map[string]struct{ sql, want string }{
		"nothing":               {`select 1`, ""},
		"an index on history":   {`create index on respirate.history (tenant)`, ""},
		"an index on strand":    {`create index on respirate.strand (lease)`, "unexpected: index on strand"},
		"a column added":        {`alter table respirate.strand add x int`, "unexpected: column x on strand"},
		"a column changed":      {`alter table respirate.strand alter label set default 'x'`, "missing or different: column label on strand"},
		"an index dropped":      {`drop index respirate.strand_ready`, "missing or different: index on strand"},
		"a setting changed":     {`alter table respirate.strand set (fillfactor = 100)`, "missing or different: options on strand"},
		"a function changed":    {`create or replace function respirate.backoff(try int) returns interval language sql as $$select '1 s'::interval$$`, "missing or different: function backoff"},
		"a trigger added":       {`create trigger t before update on respirate.strand for each row execute function suppress_redundant_updates_trigger()`, "unexpected: trigger t on strand"},
		"a constraint dropped":  {`alter table respirate.strand drop constraint strand_args`, "missing or different: constraint strand_args"},
		"a view changed":        {`create or replace view respirate.queues as select tenant, queue, null::timestamptz as paused_at, retention from respirate.queue`, "missing or different: view queues"},
		"a migration half done": {`drop function respirate.maintain()`, "missing or different: function maintain"},
	} {
		t.Run(name, func(t *testing.T) {
			url := migrated(t)
			newPoolSubject(t, url).run(c.sql)
			diff, err := newMigrator(t, postgres.Config{URL: url}).Validate(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if all := strings.Join(diff, "\n"); (c.want == "") != (all == "") || !strings.Contains(all, c.want) {
				t.Errorf("got %q, want %q", all, c.want)
			}
		})
	}
}

// insertOne shows that a store works.
func insertOne(t *testing.T, store *postgres.Store) broker.ID {
	t.Helper()
	ids, err := store.Insert(t.Context(), []broker.Insert{{Kind: "one", Args: []byte(`{}`)}})
	if err != nil || len(ids) != 1 {
		t.Fatalf("insert: got %v and error %v, want one id", ids, err)
	}
	return ids[0]
}
