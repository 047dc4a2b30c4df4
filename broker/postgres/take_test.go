package postgres_test

import (
	"errors"
	"testing"
	"time"

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
