package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker"
)

// cleanupContext outlives the test's own.
func cleanupContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func (s *subject) now() time.Time { return one[time.Time](s, `select now()`) }

func (s *subject) maintain() {
	s.t.Helper()
	if err := s.Maintain(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// partitions counts those of days, from the given day on.
func (s *subject) partitions(of string) int {
	return one[int](s, `select count(*) from pg_inherits where inhparent = $1::text::regclass and inhrelid::regclass::text ~ '_[0-9]{8}$'`, of)
}

func TestMaintainMakesPartitionsAhead(t *testing.T) {
	s := newSubject(t, migrated(t))
	for _, table := range []string{"respirate.history", "respirate.attempt"} {
		if got := s.partitions(table); got != 8 {
			t.Errorf("%s after migrating: got %d partitions, want today's and seven more", table, got)
		}
		s.run(`do $$ declare p regclass; begin
			for p in select inhrelid from pg_inherits where inhparent = '` + table + `'::regclass and inhrelid::regclass::text ~ '_[0-9]{8}$'
			loop execute format('drop table %s', p); end loop; end $$`)
	}

	// A missing partition never fails a commit: the default one takes the row.
	id := s.insert("")
	s.apply(exitOf(s.lease(id)[0]))
	if n := one[int](s, `select count(*) from respirate.history_default`); n != 1 {
		t.Fatalf("rows in the default partition: got %d, want 1", n)
	}
	// And it moves when its partition is made.
	s.maintain()
	s.maintain()
	if n := one[int](s, `select count(*) from respirate.history_default`); n != 0 || s.partitions("respirate.history") != 8 {
		t.Errorf("after maintaining: got %d rows in the default partition and %d partitions, want 0 and 8", n, s.partitions("respirate.history"))
	}
	if f, ok := s.Finished(id); !ok || f.State != "done" {
		t.Errorf("got %+v (found: %t), want it done", f, ok)
	}
	if indexes := one[int](s, `select count(*) from pg_index where indrelid = (
		select inhrelid from pg_inherits where inhparent = 'respirate.history'::regclass and inhrelid::regclass::text ~ '_[0-9]{8}$' limit 1)`); indexes != 2 {
		t.Errorf("indexes of a partition: got %d, want 2", indexes)
	}
}

func TestMaintainForgetsWhatTheRetentionsSay(t *testing.T) {
	s := newSubject(t, migrated(t))
	s.run(`insert into respirate.queue (tenant, queue, retention) values ('', 'long', '20 days'), ('', 'week', '7 days'), ('', 'hour', '1 hour'), ('', 'none', '0')`)
	s.run(`select respirate.add_partition('respirate.history', 'finished_at', current_date - n) from generate_series(1, 40) n`)
	s.run(`insert into respirate.history (id, finished_at, created_at, priority, try, max_tries, crashes, rescues, keep, tenant, queue, kind, label, state, args)
		select gen_random_uuid(), now() - age, now(), 5, 0, 1, 0, 0, keep, '', queue, age::text, 'x', state, '{}'
		from unnest('{long,week,hour,none}'::text[]) queue, unnest('{done,dead}'::text[]) state,
			unnest('{30 min,2 hours,8 days,19 days,22 days,100 days}'::interval[]) age, unnest('{f,t}'::boolean[]) keep`)
	s.run(`insert into respirate.attempt_default (strand, at, try, outcome, class, message, trace, worker, host, exit, stderr)
		select gen_random_uuid(), now() - age, 0, 'failed', '', '', '', '', '', '', '' from unnest('{1 day,100 days}'::interval[]) age`)
	s.maintain()

	left := func(queue, state string, keep bool) string {
		return one[string](s, `select coalesce(string_agg(kind, ', ' order by finished_at desc), '') from respirate.history
			where queue = $1 and state = $2 and keep = $3`, queue, state, keep)
	}
	const all = "00:30:00, 02:00:00, 8 days, 19 days"
	for _, c := range []struct {
		queue, state string
		keep         bool
		want         string
	}{
		{"long", "done", false, all},
		{"week", "done", false, "00:30:00, 02:00:00"},
		{"hour", "done", false, "00:30:00"},
		{"none", "done", false, ""},
		{"none", "done", true, all}, // kept on purpose, for as long as anything is
		{"hour", "dead", false, all},
	} {
		if got := left(c.queue, c.state, c.keep); got != c.want {
			t.Errorf("%+v: got %s", c, got)
		}
	}
	if n := one[int](s, `select count(*) from respirate.attempt`); n != 1 {
		t.Errorf("attempts: got %d, want the young one", n)
	}
}

func TestMaintainGoesOnUntilAllIsForgotten(t *testing.T) {
	s := newSubject(t, migrated(t))
	s.run(`insert into respirate.queue (tenant, queue, retention) values ('', 'q', '1 hour')`)
	s.run(`insert into respirate.history (id, finished_at, created_at, priority, try, max_tries, crashes, rescues, keep, tenant, queue, kind, label, state, args)
		select gen_random_uuid(), now() - interval '2 hours', now(), 5, 0, 1, 0, 0, false, '', 'q', 'k', 'x', 'done', '{}' from generate_series(1, 25000)`)
	s.maintain()
	if n := one[int](s, `select count(*) from respirate.history`); n != 0 {
		t.Errorf("rows left: got %d, want 0", n)
	}
}

func TestRunMaintenanceBeginsAtOnceAndEndsWithItsContext(t *testing.T) {
	s := newSubject(t, migrated(t))
	s.run(`drop table respirate.history_` + s.now().UTC().AddDate(0, 0, 3).Format("20060102"))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.RunMaintenance(ctx) }()
	eventually(t, "the partition is made", func() bool { return s.partitions("respirate.history") >= 8 }) // one more if it is a new day
	cancel()
	if err := <-done; err != nil {
		t.Errorf("got %v, want nil", err)
	}
}

func TestMaintainLeavesTheWorkToWhoIsAtIt(t *testing.T) {
	s := newSubject(t, migrated(t))
	tx := s.begin(pgx.TxOptions{}, `select respirate.maintain()`)
	s.maintain() // returns at once
	s.commitTx(tx)
}

func TestMaintainForgetsDeadBrokers(t *testing.T) {
	s := newSubject(t, migrated(t))
	s.announce(broker.Announcement{Broker: newID()}, -25*time.Hour)
	s.announce(broker.Announcement{Broker: newID()}, -time.Hour)
	s.maintain()
	if n := one[int](s, `select count(*) from respirate.brokers where not alive`); n != 1 {
		t.Errorf("brokers: got %d, want the one that was there today", n)
	}
}
