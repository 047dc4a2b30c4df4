package postgres_test

import (
	"errors"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/postgres"
	"github.com/respirated/respirated/broker/postgres/private/privatetest"
)

// TestTakeThatWasCutOffLeasesNothingLater: nobody would know of that lease until it runs out.
func TestTakeThatWasCutOffLeasesNothingLater(t *testing.T) {
	server := privatetest.Server(t)
	direct, err := server.Database(t.Context(), "take")
	if err != nil {
		t.Fatal(err)
	}
	migrateUp(t, postgres.Config{URL: direct})
	s := newSubject(t, direct)
	s.run(`create function linger() returns trigger language plpgsql as $$
		begin
			while (select count(*) from pg_locks where locktype = 'advisory' and objid = 77) > 0 loop
				perform pg_sleep(0.01);
			end loop;
			return new;
		end $$`)
	s.run(`create trigger linger before update on respirate.strand for each row execute function linger()`)
	id := s.insert("")
	proxy, url := newProxy(t, server.TCPURL("take"))
	store := openStore(t, url)
	req := broker.ScanRequest{Kinds: []string{"one"}, Bottom: true, Limit: 1}
	if found, err := store.Scan(t.Context(), req); err != nil || len(found.Candidates) != 1 {
		t.Fatal(found, err) // and knows the lanes
	}
	holder, err := s.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Release()
	lock := func(sql string) {
		if _, err := holder.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	lock(`select pg_advisory_lock(77)`)
	tokens := []broker.Token{{1}}
	failed := make(chan error, 1)
	go func() {
		_, err := store.Take(t.Context(), req, tokens, time.Minute)
		failed <- err
	}()
	taking := func() bool {
		return one[bool](s, `select exists (select from pg_stat_activity where query like '%skip locked%' and state = 'active' and pid <> pg_backend_pid())`)
	}
	for !taking() {
		time.Sleep(time.Millisecond)
	}
	proxy.hangUp()
	if err := <-failed; !errors.Is(err, broker.ErrAway) {
		t.Fatalf("take: %v, want that the database is away", err)
	}
	lost := time.Now()
	<-proxy.refused // which was to have the server cancel the statement
	var held []broker.Pair
	for {
		if held, err = store.Held(t.Context(), req, tokens, time.Since(lost)); err == nil {
			break
		}
		if time.Since(lost) > time.Minute {
			t.Fatalf("held: %v", err)
		}
	}
	lock(`select pg_advisory_unlock(77)`)
	for taking() {
		time.Sleep(time.Millisecond)
	}
	if row, _ := s.Row(id); row.Leased && len(held) == 0 {
		t.Errorf("nothing was held, and then %+v is leased", row)
	}
}

// What a killed broker had leased is found among what others hold, and behind a backlog, and the backlog itself is not read.
func TestLookForLeasesOfKilledBrokersReadsNoBacklog(t *testing.T) {
	url := migrated(t)
	s := newPoolSubject(t, url)
	// By what is due first: 450 leases of its own, 450 of another broker's, one more of its own, a backlog, and 50 that it has renewed.
	s.run(`with q as (select respirate.lane('', 'q', 5, 'k') as lane)
		insert into respirate.strand (id, lane, args, schedule, token, lease)
		select gen_random_uuid(), q.lane, '{}',
			case when n > 20901 then now() + interval '30 s' else now() - interval '1 hour' + n * interval '1 ms' end,
			overlay(gen_random_uuid()::text placing case when n <= 450 or n = 901 or n > 20901 then '00000000-0000-4000' else '11111111-0000-4000' end from 1)::uuid,
			case when n <= 901 or n > 20901 then now() + interval '30 s' else '-infinity' end
		from q, generate_series(1, 20951) n`)
	s.run(`vacuum analyze respirate.strand`)
	left, err := openStore(t, url).Left(t.Context(), []broker.Mark{{6: 0x40}}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if want := 450 + 1 + 50; len(left) != want {
		t.Errorf("found %d leases, want %d", len(left), want)
	}

	rows, err := s.pool.Query(t.Context(), "explain analyze "+postgres.Statement("left"),
		[]string{"00000000-0000-4000-0000-000000000000"}, []string{"00000000-0000-4000-ffff-ffffffffffff"}, time.Minute, 20_000)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	plan := strings.Join(lines, "\n")
	m := regexp.MustCompile(`strand_ready on strand .*actual.* rows=([0-9.]+) loops=([0-9]+)`).FindStringSubmatch(plan)
	if m == nil {
		t.Fatalf("got no use of strand_ready:\n%s", plan)
	}
	each, _ := strconv.ParseFloat(m[1], 64)
	loops, _ := strconv.ParseFloat(m[2], 64)
	if each*loops > 2000 {
		t.Errorf("it read %.0f rows, want those that are leased and few more:\n%s", each*loops, plan)
	}
}
