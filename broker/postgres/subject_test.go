package postgres_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/brokertest"
	"github.com/respirated/respirated/broker/postgres"
	"github.com/respirated/respirated/broker/postgres/private/privatetest"
)

// The conformance suite holds for the real store.
func TestStoreKeepsThePromisesOfBrokerStore(t *testing.T) {
	url := migrated(t)
	pool := openPool(t, url)
	var clear strings.Builder
	for _, table := range []string{"strand", "lane", "queue", "history", "attempt", "broker", "semaphore", "child", "deadline", "page"} {
		clear.WriteString("delete from respirate." + table + ";")
	}
	brokertest.TestStore(t, func(t *testing.T) brokertest.Subject {
		sub := &subject{Store: openStore(t, url), t: t, pool: pool}
		sub.run(clear.String())
		return sub
	})
}

// migrated is the URL of a fresh database with the schema in it.
func migrated(t testing.TB) string {
	t.Helper()
	return privatetest.Copy(t, "migrated", func(ctx context.Context, url string) error {
		return up(ctx, postgres.Config{URL: url})
	})
}

func migrateUp(t testing.TB, cfg postgres.Config) {
	t.Helper()
	if err := up(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}

func up(ctx context.Context, cfg postgres.Config) error {
	m, err := postgres.NewMigrator(ctx, cfg)
	if err != nil {
		return err
	}
	defer m.Close()
	_, err = m.Up(ctx)
	return err
}

// subject is a store and a pool of the test's own, to look behind it.
type subject struct {
	*postgres.Store
	t    testing.TB
	pool *pgxpool.Pool
}

func newSubject(t testing.TB, url string) *subject {
	t.Helper()
	return &subject{Store: openStore(t, url), t: t, pool: openPool(t, url)}
}

// newPoolSubject is a subject without a store, for looking at the tables alone.
func newPoolSubject(t testing.TB, url string) *subject {
	t.Helper()
	return &subject{t: t, pool: openPool(t, url)}
}

func openStore(t testing.TB, url string) *postgres.Store {
	t.Helper()
	store, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return store
}

func openPool(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// run executes SQL behind the store's back.
func (s *subject) run(sql string, args ...any) {
	s.t.Helper()
	if _, err := s.pool.Exec(s.t.Context(), sql, args...); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
}

// one reads a single value.
func one[T any](s *subject, sql string, args ...any) T {
	s.t.Helper()
	var v T
	if err := s.pool.QueryRow(s.t.Context(), sql, args...).Scan(&v); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// found is false where a query has no row.
func (s *subject) found(err error) bool {
	s.t.Helper()
	if errors.Is(err, pgx.ErrNoRows) {
		return false
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return true
}

func seconds(f float64) time.Duration { return time.Duration(f * float64(time.Second)) }

func (s *subject) Row(id broker.ID) (brokertest.Row, bool) {
	s.t.Helper()
	var row brokertest.Row
	var due, left float64
	var parent pgtype.UUID
	err := s.pool.QueryRow(s.t.Context(), `
		select l.kind, s.label, s.stack, extract(epoch from s.schedule - clock_timestamp())::float8, s.lease > '-infinity',
			case when s.lease > '-infinity' then extract(epoch from s.lease - clock_timestamp())::float8 else 0 end,
			s.try, s.crashes, s.rescues, s.parent, s.children_left, s.cancel_at is not null, coalesce(s.inbox, 0),
			exists (select from respirate.child c where c.parent = s.parent and c.child = s.id and c.watched)
		from respirate.strand s join respirate.lane l using (lane) where s.id = $1`, [16]byte(id)).Scan(
		&row.Kind, &row.Label, &row.Stack, &due, &row.Leased, &left, &row.Try, &row.Crashes, &row.Rescues, &parent,
		&row.ChildrenLeft, &row.CancelAsked, &row.Inbox, &row.Watched)
	row.Due, row.Left, row.Parent = seconds(due), seconds(left), parent.Bytes
	return row, s.found(err)
}

func (s *subject) Finished(id broker.ID) (brokertest.Finished, bool) {
	s.t.Helper()
	var f brokertest.Finished
	err := s.pool.QueryRow(s.t.Context(), `select state, value from respirate.history where id = $1`, [16]byte(id)).
		Scan(&f.State, &f.Value)
	return f, s.found(err)
}

func (s *subject) Waiting(id broker.ID) broker.Inbox {
	s.t.Helper()
	var in broker.Inbox
	rows, err := s.pool.Query(s.t.Context(), `
		select m.id, m.name, m.value, m.sent_at from respirate.semaphore m where m.strand = $1 order by m.id`, [16]byte(id))
	if err == nil {
		in.Semaphores, err = pgx.CollectRows(rows, pgx.RowToStructByPos[broker.Semaphore])
	}
	if err != nil {
		s.t.Fatal(err)
	}
	rows, err = s.pool.Query(s.t.Context(), `
		select c.child, c.kind, c.state, c.value from respirate.child c
		where c.parent = $1 and c.state is not null order by c.ended_at, c.child`, [16]byte(id))
	if err != nil {
		s.t.Fatal(err)
	}
	in.Ended, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (e broker.Ended, err error) {
		err = row.Scan((*[16]byte)(&e.ID), &e.Kind, &e.State, &e.Value)
		return e, err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	in.Left = one[int](s, `select count(*) from respirate.child where parent = $1 and state is null`, [16]byte(id))
	return in
}

func (s *subject) Deadlines(id broker.ID) []brokertest.Deadline {
	s.t.Helper()
	rows, err := s.pool.Query(s.t.Context(), `
		select d.frame, d.target, extract(epoch from d.at - clock_timestamp())::float8, d.paged_at is not null
		from respirate.deadline d where d.strand = $1 order by d.frame`, [16]byte(id))
	if err != nil {
		s.t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (d brokertest.Deadline, err error) {
		var in float64
		err = row.Scan(&d.Frame, &d.Target, &in, &d.Paged)
		d.In = seconds(in)
		return d, err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}

func (s *subject) Pages(id broker.ID) []brokertest.Page {
	s.t.Helper()
	rows, err := s.pool.Query(s.t.Context(), `
		select p.frame, p.target, p.resolved_at is not null from respirate.page p where p.strand = $1 order by p.id`, [16]byte(id))
	if err != nil {
		s.t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[brokertest.Page])
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}

func (s *subject) OpenPages() {
	s.t.Helper()
	s.run(`select respirate.page_due()`)
}

func (s *subject) Attempts(id broker.ID) []broker.Failure {
	s.t.Helper()
	rows, err := s.pool.Query(s.t.Context(), `
		select class, message, trace, worker, exit, stderr, coalesce(max_rss, 0), coalesce(cpu_ms, 0) * 1000000
		from respirate.attempt where strand = $1 order by at`, [16]byte(id))
	if err != nil {
		s.t.Fatal(err)
	}
	failures, err := pgx.CollectRows(rows, pgx.RowToStructByPos[broker.Failure])
	if err != nil {
		s.t.Fatal(err)
	}
	return failures
}

func (s *subject) Cancel(id broker.ID) {
	s.t.Helper()
	s.run(`select respirate.cancel($1)`, [16]byte(id))
}

func (s *subject) Wake(id broker.ID) {
	s.t.Helper()
	s.run(`select respirate.wake($1)`, [16]byte(id))
}

func (s *subject) Retry(id broker.ID) {
	s.t.Helper()
	s.run(`select respirate.retry($1)`, [16]byte(id))
}

func (s *subject) Pause(tenant, queue string, paused bool) {
	s.t.Helper()
	s.run(`insert into respirate.queue (tenant, queue, paused_at) values ($1, $2, case when $3 then now() end)
		on conflict (tenant, queue) do update set paused_at = excluded.paused_at`, tenant, queue, paused)
}

func (s *subject) Age(id broker.ID, d time.Duration) {
	s.t.Helper()
	s.run(`update respirate.strand set schedule = schedule - $2::interval,
		lease = case when lease > '-infinity' then lease - $2::interval else lease end,
		deadline = deadline - $2::interval where id = $1`, [16]byte(id), d)
	s.run(`update respirate.deadline set at = at - $2::interval, first_at = first_at - $2::interval where strand = $1`, [16]byte(id), d)
	s.ForgetFloors()
}

func (s *subject) Listen(notify func(broker.Hint)) (stop func()) {
	s.t.Helper()
	channel, err := postgres.NewChannel(postgres.Config{URL: s.pool.Config().ConnString()})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	connected, ended := make(chan struct{}), make(chan error, 1)
	once := sync.OnceFunc(func() { close(connected) })
	go func() {
		ended <- channel.Run(ctx, func(h broker.Hint) {
			notify(h)
			if h.Connected {
				once()
			}
		})
	}()
	<-connected
	return func() { cancel(); <-ended }
}

func (s *subject) Step(r broker.Report) (end func(commit bool), err error) {
	s.t.Helper()
	report, err := stepJSON(r)
	if err != nil {
		return nil, err
	}
	tx := s.begin(pgx.TxOptions{}, `select`)
	_, err = tx.Exec(s.t.Context(), `select respirate.step($1, $2, $3, $4)`, [16]byte(r.ID), [16]byte(r.Token), int64(r.Seq), report)
	if err != nil {
		_ = tx.Rollback(s.t.Context())
		return nil, err
	}
	return func(commit bool) {
		done := tx.Rollback
		if commit {
			done = tx.Commit
		}
		if err := done(s.t.Context()); err != nil {
			s.t.Errorf("end a step: %v", err)
		}
	}, nil
}

// stepJSON is a report as respirate.step() takes it.
func stepJSON(r broker.Report) ([]byte, error) {
	type object map[string]any
	ms := func(d time.Duration) int64 { return max(d, 0).Milliseconds() }
	raw := func(doc []byte) json.RawMessage {
		if doc == nil {
			return json.RawMessage("null")
		}
		return doc
	}
	var enq, sig []object
	for _, in := range r.Inserts {
		enq = append(enq, object{"key": in.ID.String(), "kind": in.Kind, "args": raw(in.Args), "opts": raw(in.Opts), "child": in.Child, "watch": in.Watch})
	}
	for _, g := range r.Signals {
		one := object{"name": g.Name, "quiet": g.Quiet}
		if g.ID != (broker.ID{}) {
			one["s"] = g.ID.String()
		}
		if g.Value != nil {
			one["val"] = raw(g.Value)
		}
		sig = append(sig, one)
	}
	reap := []string{}
	for _, id := range r.Reaped {
		reap = append(reap, id.String())
	}
	report := object{"enq": enq, "sig": sig, "used": r.Used, "reap": reap}
	switch r.Act {
	case broker.Exit:
		report["act"] = "exit"
		if r.Value != nil {
			report["val"] = raw(r.Value)
		}
		return json.Marshal(report)
	case broker.Nap:
		report["act"] = "nap"
	case broker.Hop:
		report["act"], report["label"] = "hop", r.Label
		if r.Kind != "" {
			report["kind"] = r.Kind
		}
	}
	set := func(o object, key string, value any, given bool) { // a worker leaves out what is none
		if given {
			o[key] = value
		}
	}
	set(report, "ms", ms(r.Delay), r.Delay > 0)
	set(report, "stack", raw(r.Stack), r.Stack != nil)
	set(report, "frame", r.Frame, r.Frame > 0)
	if r.Due != nil {
		due := object{"target": r.Due.Target, "ms": ms(r.Due.In)}
		set(due, "most_ms", ms(r.Due.Most), r.Due.Most > 0)
		report["due"] = due
	}
	return json.Marshal(report)
}

func (s *subject) Lock(id broker.ID) (unlock func()) {
	s.t.Helper()
	tx := s.begin(pgx.TxOptions{}, `select`)
	if _, err := tx.Exec(s.t.Context(), `select from respirate.strand where id = $1 for update`, [16]byte(id)); err != nil {
		s.t.Fatal(err)
	}
	return func() {
		if err := tx.Rollback(s.t.Context()); err != nil {
			s.t.Errorf("unlock: %v", err)
		}
	}
}
