package postgres_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/brokertest"
	"github.com/respirated/respirated/broker/postgres"
	"github.com/respirated/respirated/broker/postgres/private/privatetest"
)

func TestOpenSaysInOneLineWhatIsWrongAndWhatToDo(t *testing.T) {
	good := migrated(t)
	edited := func(edit func(*url.URL)) string {
		u, err := url.Parse(good)
		if err != nil {
			t.Fatal(err)
		}
		edit(u)
		return u.String()
	}
	for name, c := range map[string]struct {
		url  string
		want string
		away bool
	}{
		"no URL at all":    {"postgres//localhost", "should look like postgres://user:password@host:5432/name", false},
		"a bad port":       {"postgres://localhost:port/x", "should look like", false},
		"nobody there":     {"postgres://localhost:1/x", "is it running, and are host and port in the URL right?", true},
		"an unknown host":  {"postgres://no-such-host.invalid/x", "is it running", true},
		"no such database": {edited(func(u *url.URL) { u.Path = "/nothing" }), "create it, or check its name", false},
		"no such user":     {edited(func(u *url.URL) { u.User = url.User("nobody_knows") }), "cannot connect to the database", false},
		"a read-only mode": {edited(func(u *url.URL) {
			q := u.Query()
			q.Set("default_transaction_read_only", "on")
			u.RawQuery = q.Encode()
		}), "give the URL of the primary", true},
		"no schema there":   {privatetest.URL(t), "run `respirated migrate up`", false},
		"a server too slow": {"postgres://192.0.2.1/x?connect_timeout=1", "is it running", true},
	} {
		t.Run(name, func(t *testing.T) {
			store, err := postgres.Open(t.Context(), postgres.Config{URL: c.url})
			if err == nil {
				store.Close()
				t.Fatal("got no error")
			}
			if text := err.Error(); !strings.Contains(text, c.want) || strings.Contains(text, "\n") {
				t.Errorf("got %q, want one line with %q", text, c.want)
			}
			if got := errors.Is(err, broker.ErrAway); got != c.away {
				t.Errorf("away: got %t, want %t (%v)", got, c.away, err)
			}
		})
	}
}

func TestStoreHoldsAtMostFourConnections(t *testing.T) {
	s := newSubject(t, migrated(t))
	done := make(chan struct{})
	for range 20 {
		go func() {
			defer func() { done <- struct{}{} }()
			for range 20 {
				if _, err := s.Scan(t.Context(), broker.ScanRequest{Kinds: []string{"a"}, Limit: 10, Bottom: true}); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	most := 0
	for running := 20; running > 0; {
		select {
		case <-done:
			running--
		default:
			most = max(most, one[int](s, `select count(*) from pg_stat_activity where application_name = 'respirated' and datname = current_database()`))
		}
	}
	if most < 1 || most > 4 {
		t.Errorf("connections: got %d, want 1 to 4", most)
	}
}

func TestConnectionsAreSetUpWhateverTheDatabaseSays(t *testing.T) {
	url := migrated(t)
	s := newPoolSubject(t, url)
	s.run(`do $$ begin execute format('alter database %I set default_transaction_isolation = ''serializable''', current_database()); end $$`)
	store := newSubject(t, url)
	insertOne(t, store.Store)
	// A serialization failure would show: two leases of one strand at once, again and again.
	for range 20 {
		id := store.insert("")
		got := make(chan int, 2)
		for range 2 {
			go func() {
				leased, err := store.Lease(t.Context(), []broker.Pair{{ID: id, Token: newToken()}}, hour)
				if err != nil {
					t.Error(err)
				}
				got <- len(leased)
			}()
		}
		if n := <-got + <-got; n != 1 {
			t.Fatalf("two leases at once: got %d strands, want 1", n)
		}
	}
}

func TestStoreSurvivesARestartOfTheServer(t *testing.T) {
	server := privatetest.Server(t)
	url, err := server.Database(t.Context(), "survival")
	if err != nil {
		t.Fatal(err)
	}
	migrateUp(t, postgres.Config{URL: url})
	store := openStore(t, url)
	ids, err := store.Insert(t.Context(), []broker.Insert{{Kind: "one", Args: []byte(`{}`)}, {Kind: "one", Args: []byte(`{}`)}})
	if err != nil {
		t.Fatal(err)
	}
	pairs := []broker.Pair{{ID: ids[0], Token: newToken()}, {ID: ids[1], Token: newToken()}}
	if leased, err := store.Lease(t.Context(), pairs, hour); err != nil || len(leased) != 2 {
		t.Fatalf("lease: got %d and error %v", len(leased), err)
	}

	server.Kill()
	_, err = store.Commit(t.Context(), []broker.Report{exitOf(pairs[0])})
	if !errors.Is(err, broker.ErrAway) || !postgres.Retryable(err) {
		t.Errorf("commit while the server is away: got %v, want it to say so", err)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	verdicts := commitOnceBack(t, store, exitOf(pairs[0]), exitOf(pairs[1]))
	if verdicts[0].State != broker.Applied || verdicts[1].State != broker.Applied {
		t.Errorf("commit after the restart: got %+v, want both applied", verdicts)
	}
	got, err := store.Scan(t.Context(), broker.ScanRequest{Kinds: []string{"one"}, Limit: 10, Bottom: true})
	if err != nil || len(got.Candidates) != 0 {
		t.Errorf("scan after the restart: got %+v and error %v, want nothing", got, err)
	}
}

// A primary that was demoted keeps its connections, but takes no writes any more.
func TestStoreLeavesAServerThatBecameReadOnly(t *testing.T) {
	server := privatetest.Server(t)
	url, err := server.Database(t.Context(), "demoted")
	if err != nil {
		t.Fatal(err)
	}
	migrateUp(t, postgres.Config{URL: url})
	s := newSubject(t, url)
	p := s.lease(s.insert(""))[0]
	readOnly := func(value string) {
		s.run(`alter system set default_transaction_read_only = ` + value)
		s.run(`select pg_reload_conf()`)
		for one[string](s, `show default_transaction_read_only`) != value {
		}
	}
	readOnly("on")
	// Each backend learns of it by itself: until ours has, a report that changes nothing goes through.
	stale := exitOf(broker.Pair{ID: p.ID})
	for end := time.Now().Add(30 * time.Second); ; {
		_, err := s.Commit(t.Context(), []broker.Report{stale})
		if errors.Is(err, broker.ErrAway) {
			break
		}
		if err != nil || time.Now().After(end) {
			t.Fatalf("commit over an old connection: got %v, want the database away", err)
		}
	}
	if _, err := s.Commit(t.Context(), []broker.Report{exitOf(p)}); !errors.Is(err, broker.ErrAway) {
		t.Errorf("commit over a new connection: got %v, want the database away", err)
	}
	readOnly("off")
	commitOnceBack(t, s.Store, exitOf(p))
}

// commitOnceBack repeats a commit for as long as the server is away.
func commitOnceBack(t *testing.T, store *postgres.Store, reports ...broker.Report) []broker.Verdict {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		verdicts, err := store.Commit(ctx, reports)
		if err == nil {
			return verdicts
		}
		if !errors.Is(err, broker.ErrAway) {
			t.Fatalf("commit: %v, want it away or well", err)
		}
	}
}

func TestCommitUnderWayOutlivesItsContext(t *testing.T) {
	s := newSubject(t, migrated(t))
	p := s.lease(s.insert(""))[0]
	unlock := s.Lock(p.ID)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan broker.VerdictState, 1)
	go func() {
		verdicts, err := s.Commit(ctx, []broker.Report{exitOf(p)})
		if err != nil {
			t.Errorf("commit: %v, want it to go on", err)
			done <- 0
			return
		}
		done <- verdicts[0].State
	}()
	for one[int](s, `select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`) == 0 {
	}
	cancel()
	unlock()
	if got := <-done; got != broker.Applied && got != broker.Later {
		t.Errorf("got verdict %d, want an answer", got)
	}
	if _, err := s.Commit(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("commit begun after the end: got %v, want it refused", err)
	}
}

func TestErrorsOfOtherKindsAreNotTakenForAbsence(t *testing.T) {
	url := migrated(t)
	s := newSubject(t, url)
	s.run(`drop table respirate.attempt cascade; drop function respirate.tell(text, uuid[])`)
	_, err := s.Insert(t.Context(), []broker.Insert{{Kind: "a", Args: []byte(`1`)}})
	if err == nil || errors.Is(err, broker.ErrAway) || postgres.Retryable(err) {
		t.Errorf("got %v, want a fault to report", err)
	}
}

// A scan for a hint is not to wait for the answer whether its connection lives, so it may meet a dead one.
func TestScanOutlivesItsConnection(t *testing.T) {
	s := newSubject(t, migrated(t))
	id := s.insert("")
	req := broker.ScanRequest{Kinds: []string{"one"}, Limit: 10, Bottom: true}
	if _, err := s.Scan(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	const ours = ` from pg_stat_activity where application_name = 'respirated' and datname = current_database()`
	if got := one[int](s, `select count(pg_terminate_backend(pid))`+ours); got != 1 {
		t.Fatalf("%d connections were ended, want the one of the scan", got)
	}
	brokertest.Eventually(t, "it is gone", func() bool { return one[int](s, `select count(*)`+ours) == 0 })
	got, err := s.Scan(t.Context(), req)
	if err != nil || len(got.Candidates) != 1 || got.Candidates[0].ID != id {
		t.Errorf("scan: got %+v and error %v, want %s", got.Candidates, err, id)
	}
}
