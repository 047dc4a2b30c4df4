// Package privatetest gives tests a real PostgreSQL.
//
// The tests of one binary share a server, started by the first that asks and ended with the binary; each test gets a
// database of its own. Clusters lie in memory where there is enough. See [private] for how a server is found, run and cleaned up.
package privatetest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/respirated/respirated/broker/postgres/private"
)

// startWithin is generous: the first start on a machine runs initdb, perhaps next to other busy packages.
const startWithin = 2 * time.Minute

// settings make tests fast. They give up what only a crash of the machine would cost; a crash of the server costs nothing.
// A log of a small size leaves room for other servers, as it may lie in memory.
var settings = map[string]string{"fsync": "off", "full_page_writes": "off", "max_connections": "200", "max_wal_size": "256MB"}

// shared starts the one server of this test binary. Nobody stops it: its keeper does, when the binary ends.
var shared = sync.OnceValues(func() (*private.Server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	return private.Start(ctx, private.Config{Template: true, Scratch: memory(), Settings: settings})
})

// databases counts the databases made, for their names.
var databases atomic.Int64

// URL is a fresh, empty database on the shared server, dropped when the test ends.
func URL(t testing.TB) string {
	t.Helper()
	server, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return database(t, server, "template0")
}

// originals are the databases that copies are made of, by name.
var originals sync.Map // of func() error, which makes it at the first call

// Copy is a fresh database on the shared server with what fill has put into another at the first call with this name:
// a copy takes less time. It is dropped when the test ends.
func Copy(t testing.TB, name string, fill func(ctx context.Context, url string) error) string {
	t.Helper()
	server, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	original, _ := originals.LoadOrStore(name, sync.OnceValue(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), startWithin) // of all tests, not of the first
		defer cancel()
		url, err := server.Database(ctx, name)
		if err == nil {
			err = fill(ctx, url)
		}
		if err == nil {
			err = server.Seal(ctx, name)
		}
		return err
	}))
	if err := original.(func() error)(); err != nil {
		t.Fatal(err)
	}
	return database(t, server, name)
}

func database(t testing.TB, server *private.Server, of string) string {
	t.Helper()
	name := fmt.Sprintf("test_%d", databases.Add(1))
	url, err := server.Copy(t.Context(), name, of)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := server.Drop(ctx, name); err != nil {
			t.Error(err)
		}
	})
	return url
}

// Server is a server for this test alone, which may kill and restart it. It is stopped when the test ends.
func Server(t testing.TB) *private.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startWithin)
	defer cancel()
	server, err := private.Start(ctx, private.Config{Template: true, TCP: true, Scratch: memory(), Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return server
}
