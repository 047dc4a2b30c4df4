// Package privatetest gives tests a real PostgreSQL.
//
// The tests of one binary share a server, started by the first that asks and ended with the binary; each test gets a
// database of its own. See [private] for how a server is found, run and cleaned up.
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

// settings make tests fast. Nothing of a test has to survive the machine's crash; the server's own crash loses nothing
// by them.
var settings = map[string]string{
	"fsync":               "off",
	"max_connections":     "200",
	"shared_buffers":      "64MB",
	"log_min_messages":    "fatal",
	"autovacuum":          "on",
	"max_wal_size":        "256MB",
	"wal_level":           "minimal",
	"max_wal_senders":     "0",
	"track_io_timing":     "off",
	"restart_after_crash": "on",
}

// shared starts the one server of this test binary. Nobody stops it: its keeper does, when the binary ends.
var shared = sync.OnceValues(func() (*private.Server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	return private.Start(ctx, private.Config{Template: true, Settings: settings})
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
	return database(t, server)
}

func database(t testing.TB, server *private.Server) string {
	t.Helper()
	name := fmt.Sprintf("test_%d", databases.Add(1))
	url, err := server.Database(t.Context(), name)
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
	server, err := private.Start(ctx, private.Config{Template: true, TCP: true, Settings: settings})
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
