package privatetest_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker/postgres/private/privatetest"
)

func TestEachTestGetsAnEmptyDatabaseOfItsOwn(t *testing.T) {
	for range 2 {
		conn, err := pgx.Connect(t.Context(), privatetest.URL(t))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		if _, err := conn.Exec(t.Context(), "create table here (id int)"); err != nil {
			t.Error(err)
		}
	}
}

func TestCopiesAreOfOneOriginalAndApart(t *testing.T) {
	made := 0
	fill := func(ctx context.Context, url string) error {
		made++
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, "create table filled as select 1 as n")
		return err // and somebody is still connected
	}
	for range 2 {
		conn, err := pgx.Connect(t.Context(), privatetest.Copy(t, "original", fill))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		if got, err := conn.Exec(t.Context(), "update filled set n = n + 1 where n = 1"); err != nil || got.RowsAffected() != 1 {
			t.Errorf("got %v and error %v, want a table as it was filled", got, err)
		}
	}
	if made != 1 {
		t.Errorf("the original was made %d times, want once", made)
	}
}

func TestAKilledServerComesBackWithWhatWasCommitted(t *testing.T) {
	server := privatetest.Server(t)
	url, err := server.Database(t.Context(), "ledger")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "create table kept as select 7 as n"); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	if _, err := conn.Exec(t.Context(), "select 1"); err == nil {
		t.Error("a connection outlived the server")
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err = pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var n int
	if err := conn.QueryRow(t.Context(), "select n from kept").Scan(&n); err != nil || n != 7 {
		t.Errorf("got %d, %v; want 7", n, err)
	}
}
