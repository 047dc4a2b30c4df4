package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/respirated/respirated/broker"
)

// These tests call the functions as plain SQL does.

func TestSQLInsertFillsInTheDefaults(t *testing.T) {
	s := newPoolSubject(t, migrated(t))
	id := one[string](s, `select respirate.insert('mail')`)
	got := one[string](s, `select concat_ws(' ', tenant = '', queue, priority, kind, label, state, try, max_tries, args, tags is null, metadata is null, keep,
		schedule between now() - interval '1 min' and now()) from respirate.strands where id = $1::text::uuid`, id)
	if want := "t default 5 mail start ready 0 25 {} t t f t"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestSQLInsertTakesEveryOption(t *testing.T) {
	s := newPoolSubject(t, migrated(t))
	id := one[string](s, `select respirate.insert('mail', '{"to":"a@b"}', '{"id":"6ba7b810-9dad-41d1-80b4-00c04fd430c8",
		"queue":"q", "tenant":"t", "priority":2, "at":"2999-01-02T03:04:05+02", "max_tries":3, "label":"two",
		"tags":["x","y"], "metadata":{"a":1}, "keep":true, "require_kind":false}')`)
	got := one[string](s, `select concat_ws(' ', tenant, queue, priority, kind, label, state, max_tries, args, tags, metadata, keep,
		schedule at time zone 'UTC') from respirate.strands where id = $1::text::uuid`, id)
	want := `t q 2 mail two deferred 3 {"to": "a@b"} {x,y} {"a": 1} t 2999-01-02 01:04:05`
	if id != "6ba7b810-9dad-41d1-80b4-00c04fd430c8" || got != want {
		t.Errorf("got  %s %s\nwant %s", id, got, want)
	}
}

func TestSQLInsertTakesNullForAnOptionAsNone(t *testing.T) {
	s := newPoolSubject(t, migrated(t))
	s.run(`select respirate.insert('a', '1', '{"id":null,"queue":null,"tenant":null,"priority":null,"at":null,"in":null,
		"max_tries":null,"label":null,"tags":null,"metadata":null,"keep":null,"require_kind":null}')`)
	if n := one[int](s, `select count(*) from respirate.strands where queue = 'default' and priority = 5 and max_tries = 25
		and label = 'start' and tags is null and metadata is null and state = 'ready'`); n != 1 {
		t.Errorf("strands with the defaults: got %d, want 1", n)
	}
}

func TestSQLInsertRefusesWhatItCannotTake(t *testing.T) {
	s := newPoolSubject(t, migrated(t))
	long := strings.Repeat("x", 256)
	for _, c := range []struct{ kind, args, opts, want string }{
		{"", `1`, `{}`, "kind: is empty"},
		{long, `1`, `{}`, "kind: is 256 bytes long"},
		{"a\nb", `1`, `{}`, "kind: \"a\\nb\" has a control character"},
		{"a\u0085b", `1`, `{}`, "has a control character"},
		{"k", `"` + strings.Repeat("x", 1<<20) + `"`, `{}`, "args: is 1048578 bytes long, at most 1048576 are allowed"},
		{"k", `1e131000`, `[1]`, "opts: [1] is not a JSON object"},
		{"k", `1`, `{"foo":1}`, "opts.foo: unknown option; known: at, id, in, keep"},
		{"k", `1`, `{"id":"x"}`, `opts.id: "x" is not a UUID`},
		{"k", `1`, `{"id":1}`, `opts.id: 1 is not a UUID`},
		{"k", `1`, `{"queue":""}`, `opts.queue: is empty`},
		{"k", `1`, `{"queue":"` + long + `"}`, `opts.queue: is 256 bytes long`},
		{"k", `1`, `{"queue":"a\tb"}`, `opts.queue: "a\tb" has a control character`},
		{"k", `1`, `{"queue":5}`, `opts.queue: 5 is not a text`},
		{"k", `1`, `{"tenant":"` + long + `"}`, `opts.tenant: is 256 bytes long`},
		{"k", `1`, `{"label":""}`, `opts.label: is empty`},
		{"k", `1`, `{"priority":0}`, `opts.priority: 0 is not between 1 and 9`},
		{"k", `1`, `{"priority":10}`, `opts.priority: 10 is not between 1 and 9`},
		{"k", `1`, `{"priority":1.5}`, `opts.priority: 1.5 is not a whole number`},
		{"k", `1`, `{"priority":"1"}`, `opts.priority: "1" is not a number`},
		{"k", `1`, `{"priority":1e400}`, `is not between 1 and 9`},
		{"k", `1`, `{"max_tries":0}`, `opts.max_tries: 0 is not between 1 and 32767`},
		{"k", `1`, `{"max_tries":32768}`, `opts.max_tries: 32768 is not between`},
		{"k", `1`, `{"at":"soon"}`, `opts.at: "soon" is not a time such as`},
		{"k", `1`, `{"at":"-infinity"}`, `opts.at: "-infinity" is not a time`},
		{"k", `1`, `{"at":5}`, `opts.at: 5 is not a time`},
		{"k", `1`, `{"at":"294277-01-01"}`, `opts.at: "294277-01-01" is not a time`},
		{"k", `1`, `{"in":"5"}`, `opts.in: "5" is not a number`},
		{"k", `1`, `{"in":1e300}`, `opts.in: `},
		{"k", `1`, `{"in":1,"at":"2026-01-01"}`, `opts.in: goes without opts.at`},
		{"k", `1`, `{"tags":"a"}`, `opts.tags: "a" is not an array of texts`},
		{"k", `1`, `{"tags":[1]}`, `opts.tags: 1 is not a text`},
		{"k", `1`, `{"tags":["a",""]}`, `opts.tags: is empty`},
		{"k", `1`, `{"tags":[` + strings.TrimSuffix(strings.Repeat(`"a",`, 101), ",") + `]}`, `opts.tags: has 101 entries`},
		{"k", `1`, `{"metadata":[]}`, `opts.metadata: [] is not a JSON object`},
		{"k", `1`, `{"metadata":{"a":"` + strings.Repeat("x", 1<<16) + `"}}`, `opts.metadata: is larger than 64 KiB`},
		{"k", `1`, `{"keep":1}`, `opts.keep: 1 is not true or false`},
		{"k", `1`, `{"require_kind":true}`, `kind: no worker serves "k" now`},
	} {
		_, err := s.pool.Exec(t.Context(), `select respirate.insert($1, $2, $3)`, c.kind, c.args, c.opts)
		pg, ok := errors.AsType[*pgconn.PgError](err)
		if !ok || pg.Code != "22023" || !strings.Contains(pg.Message, c.want) || !strings.HasPrefix(pg.Message, pg.ColumnName+": ") {
			t.Errorf("insert(%.40q, %.40q, %.60q): got %v, want 22023 %q", c.kind, c.args, c.opts, err, c.want)
		}
	}
	if n := one[int](s, `select (select count(*) from respirate.strand) + (select count(*) from respirate.lane)`); n != 0 {
		t.Errorf("rows left behind by what was refused: got %d, want 0", n)
	}
}

func TestSQLInsertManyTellsWhichIsBad(t *testing.T) {
	s := newPoolSubject(t, migrated(t))
	for _, c := range []struct{ sql, field, detail string }{
		{`select respirate.insert_many('{a,b,,c}', '{1,2,3,4}')`, "kind", "insert 2"},
		{`select respirate.insert_many('{a,b,c}', '{1,2,null}')`, "args", "insert 2"},
		{`select respirate.insert_many('{a,b,c}', '{1,2,3}', array['{}', '{"priority":3}', '{"priority":0}']::jsonb[])`, "opts.priority", "insert 2"},
		{`select respirate.insert_many('{a,b}', '{1}')`, "args", ""},
		{`select respirate.insert_many('{a}', '{1}', '{"{}","{}"}')`, "args", ""},
	} {
		_, err := s.pool.Exec(t.Context(), strings.ReplaceAll(c.sql, "{a,b,,c}", `{a,b,"",c}`))
		pg, ok := errors.AsType[*pgconn.PgError](err)
		if !ok || pg.ColumnName != c.field || pg.Detail != c.detail {
			t.Errorf("%s: got %v, want field %s, detail %q", c.sql, err, c.field, c.detail)
		}
	}
}

func TestSQLInsertManyGivesIDsInOrder(t *testing.T) {
	s := newPoolSubject(t, migrated(t))
	ids := one[[][16]byte](s, `select array_agg(id order by n) from respirate.insert_many(
		array(select 'k' || n % 3 from generate_series(1, 500) n), array(select to_jsonb(n) from generate_series(1, 500) n),
		array(select case when n % 2 = 0 then '{"priority":2}'::jsonb end from generate_series(1, 500) n)
	) with ordinality i (id, n)`)
	got := one[[]string](s, `select array_agg(s.kind || s.args || s.priority order by n)
		from unnest($1::uuid[]) with ordinality i (id, n) join respirate.strands s using (id)`, ids)
	if len(got) != 500 {
		t.Fatalf("got %d strands, want 500", len(got))
	}
	for i, g := range got {
		n := i + 1
		if want := fmt.Sprintf("k%d%d%d", n%3, n, map[bool]int{true: 2, false: 5}[n%2 == 0]); g != want {
			t.Fatalf("strand %d: got %s, want %s", i, g, want)
		}
	}
	if n := one[int](s, `select count(*) from respirate.lane`); n != 6 {
		t.Errorf("lanes: got %d, want 6", n)
	}
	if n := one[int](s, `select count(*) from respirate.insert_many('{}', '{}')`); n != 0 {
		t.Errorf("ids of no strands: got %d, want 0", n)
	}
}

func TestSQLInsertOfAnIDThatIsOrWasThereChangesNothing(t *testing.T) {
	s := newSubject(t, migrated(t))
	const id = `{"id":"6ba7b810-9dad-41d1-80b4-00c04fd430c8"}`
	again := func(when string) {
		t.Helper()
		got := one[string](s, `select respirate.insert('other', '2', $1::text::jsonb || '{"label":"x"}')`, id)
		if n := one[int](s, `select count(*) from respirate.strand where label = 'x'`); got != id[7:43] || n != 0 {
			t.Errorf("%s: got id %s and %d new rows, want the same id and none", when, got, n)
		}
	}
	live := s.insert(id)
	again("live")
	s.apply(exitOf(s.lease(live)[0]))
	again("in history")
	two := one[int](s, `select count(distinct id) from respirate.insert_many('{a,a}', '{1,2}', array[$1, $1]::jsonb[]) id`,
		`{"id":"00000000-0000-4000-8000-000000000000"}`)
	if rows := one[int](s, `select count(*) from respirate.strand where args in ('1', '2')`); two != 1 || rows != 1 {
		t.Errorf("twice in one call: got %d ids and %d rows, want 1 and 1", two, rows)
	}
}

func TestSQLInsertNeverSchedulesInThePast(t *testing.T) {
	s := newPoolSubject(t, migrated(t))
	s.run(`begin; select pg_sleep(0.05); select respirate.insert('a', '1', '{"at":"2001-01-01"}'), respirate.insert('a', '1', '{"in":-100}'),
		respirate.insert('a', '1'); commit`)
	if n := one[int](s, `select count(*) from respirate.strand where schedule >= created_at + interval '0.05 s'`); n != 3 {
		t.Errorf("strands scheduled at the time of their insert, not of their transaction's start: got %d, want 3", n)
	}
}

func TestSQLInsertRequiringAKindSeesLiveBrokersOnly(t *testing.T) {
	s := newSubject(t, migrated(t))
	insert := func() error {
		_, err := s.pool.Exec(t.Context(), `select respirate.insert('mail', '1', '{"require_kind":true}')`)
		return err
	}
	a := broker.Announcement{Broker: newID(), Kinds: []string{"other", "mail"}}
	s.announce(a, time.Hour)
	if err := insert(); err != nil {
		t.Errorf("served: got %v, want it inserted", err)
	}
	s.announce(a, -time.Second)
	if err := insert(); err == nil {
		t.Error("served by a broker that is silent: got it inserted, want it refused")
	}
}

func (s *subject) announce(a broker.Announcement, ttl time.Duration) {
	s.t.Helper()
	if err := s.Announce(s.t.Context(), a, ttl); err != nil {
		s.t.Fatal(err)
	}
}

func TestSQLVerbsTellTheState(t *testing.T) {
	s := newSubject(t, migrated(t))
	call := func(verb string, id broker.ID) string {
		t.Helper()
		return one[string](s, `select coalesce(respirate.`+verb+`($1)::text, 'null')`, [16]byte(id))
	}
	check := func(verb string, id broker.ID, want string) {
		t.Helper()
		if got := call(verb, id); got != want {
			t.Errorf("%s: got %s, want %s", verb, got, want)
		}
	}
	nobody := newID()
	check("wake", nobody, "false")
	check("cancel", nobody, "null")
	check("retry", nobody, "null")

	deferred := s.insert(`{"in":3600}`)
	check("retry", deferred, "ready")
	s.due(deferred)
	deferred = s.insert(`{"in":3600}`)
	check("wake", deferred, "true")
	s.due(deferred)
	check("cancel", deferred, "cancelled")
	check("cancel", deferred, "cancelled")
	check("wake", deferred, "false")
	check("retry", deferred, "ready")
	s.due(deferred)

	leased := s.lease(s.insert(""))[0]
	check("retry", leased.ID, "leased")
	check("cancel", leased.ID, "leased")
	asked := one[time.Time](s, `select cancel_at from respirate.strand where id = $1`, [16]byte(leased.ID))
	check("cancel", leased.ID, "leased")
	if again := one[time.Time](s, `select cancel_at from respirate.strand where id = $1`, [16]byte(leased.ID)); again != asked {
		t.Errorf("cancel asked twice: got %v, want the first time %v", again, asked)
	}
	s.apply(exitOf(leased))
	check("cancel", leased.ID, "done")
}

// due checks that a strand may start now.
func (s *subject) due(id broker.ID) {
	s.t.Helper()
	if row, ok := s.Row(id); !ok || row.Leased || row.Due > 0 {
		s.t.Errorf("%s: got %+v (found: %t), want it due", id, row, ok)
	}
}

func TestSQLRetryBringsAStrandBackWhereItDied(t *testing.T) {
	s := newSubject(t, migrated(t))
	id := s.insert(`{"label":"two","priority":3,"queue":"q","max_tries":2,"tags":["x"],"metadata":{"a":1},"keep":true}`)
	for range 2 {
		s.run(`select respirate.retry($1)`, [16]byte(id))
		s.apply(broker.Report{Pair: s.lease(id)[0], Seq: 1, Act: broker.Fail, Stack: []byte(`[{"n":7}]`), Failure: &broker.Failure{Class: "E"}})
	}
	if f, ok := s.Finished(id); !ok || f.State != "dead" {
		t.Fatalf("got %+v (found: %t), want it dead", f, ok)
	}
	s.run(`select respirate.retry($1)`, [16]byte(id))
	got := one[string](s, `select concat_ws(' ', queue, priority, kind, label, state, try, max_tries, crashes, rescues, args, first_args, stack, tags, metadata, keep)
		from respirate.strands where id = $1`, [16]byte(id))
	if want := `q 3 one two ready 0 2 0 0 {"n": 7} {} [{"n": 7}] {x} {"a": 1} t`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if _, ok := s.Finished(id); ok {
		t.Error("it is still in history")
	}
}

func TestBackoffDoublesUpToADay(t *testing.T) {
	s := newPoolSubject(t, migrated(t))
	for try, most := range map[int]float64{0: 1, 1: 1, 2: 2, 3: 4, 10: 512, 17: 65536, 18: 86400, 32767: 86400} {
		lo := one[float64](s, `select min(extract(epoch from respirate.backoff($1)))::float8 from generate_series(1, 200)`, try)
		hi := one[float64](s, `select max(extract(epoch from respirate.backoff($1)))::float8 from generate_series(1, 200)`, try)
		if lo < most/2 || hi > most || hi-lo < most/4 {
			t.Errorf("backoff(%d): got %v to %v s, want it spread between %v and %v", try, lo, hi, most/2, most)
		}
	}
}

func TestSQLInsertTakesWholeNumbersHoweverTheyAreWritten(t *testing.T) {
	s := newSubject(t, migrated(t))
	s.insert(`{"priority":5.0,"max_tries":3.0}`)
	s.insert(`{"priority":0.5e1,"max_tries":30e-1}`)
	if n := one[int](s, `select count(*) from respirate.strands where priority = 5 and max_tries = 3`); n != 2 {
		t.Errorf("strands of priority 5 with 3 tries: got %d, want 2", n)
	}
}

// Two at once, of which the second waits for the first: it must not say that there is nothing.
func TestSQLRetryOfTwoAtOnceTellsBothThatItIsReady(t *testing.T) {
	s := newSubject(t, migrated(t))
	id := s.insert("")
	s.Cancel(id)
	first := s.begin(pgx.TxOptions{}, fmt.Sprintf(`select respirate.retry('%s')`, id))
	second := make(chan string, 1)
	go func() { second <- s.retryText(id) }()
	s.awaitWaiting()
	s.commitTx(first)
	if got := <-second; got != "ready" {
		t.Errorf("second retry: got %q, want ready", got)
	}
	s.due(id)
}

func (s *subject) retryText(id broker.ID) string {
	var state string
	if err := s.pool.QueryRow(s.t.Context(), `select coalesce(respirate.retry($1), 'null')`, [16]byte(id)).Scan(&state); err != nil {
		return err.Error()
	}
	return state
}

// awaitWaiting returns once some session of this database waits for a lock.
func (s *subject) awaitWaiting() {
	s.t.Helper()
	eventually(s.t, "a session waits for a lock", func() bool {
		return one[bool](s, `select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')`)
	})
}

func TestSQLInsertOfAnIDWhoseEndIsBeingCommittedChangesNothing(t *testing.T) {
	s := newSubject(t, migrated(t))
	id := s.insert("")
	ending := s.begin(pgx.TxOptions{}, fmt.Sprintf(`select respirate.cancel('%s')`, id))
	made := make(chan error, 1)
	go func() {
		_, err := s.pool.Exec(t.Context(), `select respirate.insert('one', '{}', jsonb_build_object('id', $1::uuid))`, [16]byte(id))
		made <- err
	}()
	s.awaitWaiting()
	s.commitTx(ending)
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	_, live := s.Row(id)
	if f, ok := s.Finished(id); live || !ok || f.State != "cancelled" {
		t.Errorf("got live %t and in history %+v (found: %t), want it only in history", live, f, ok)
	}
}
