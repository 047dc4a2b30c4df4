package driver

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker/postgres/private/privatetest"
)

// breaking is read once, and the connection breaks meanwhile.
type breaking struct {
	sever    func()
	returned <-chan struct{} // closed once the COPY has returned
	t        *testing.T
}

func (b breaking) Read(p []byte) (int, error) {
	b.sever()
	select {
	case <-b.returned:
		b.t.Error("the COPY has returned while its rows are read")
	case <-time.After(200 * time.Millisecond): // in which it would have
	}
	return copy(p, "1\n"), nil
}

func TestABrokenCopyReturnsOnlyOnceItsRowsAreLeftAlone(t *testing.T) {
	url := privatetest.URL(t)
	other, db := connect(t, url), connect(t, url)
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "create table numbers (n int)"); err != nil {
		t.Fatal(err)
	}
	sever := func() {
		if _, err := other.Exec(t.Context(), "select pg_terminate_backend($1)", int(db.PgConn().PID())); err != nil {
			t.Error(err)
		}
	}
	returned := make(chan struct{})
	err = NewPgx(db).In(tx).CopyIn(t.Context(), breaking{sever, returned, t}, "copy numbers from stdin")
	close(returned)
	if err == nil {
		t.Error("the COPY over a broken connection has no error")
	}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	db, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close(context.Background()) })
	return db
}
