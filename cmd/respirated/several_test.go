package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/respirated/respirated/broker/postgres/private/privatetest"
)

// twoDatabases are a host whose daemon serves the databases of two servers, and a view of the second one: the same socket and
// ledger, and a connection of its own.
func twoDatabases(t *testing.T, first, second string, flags ...string) (h, other *host) {
	t.Helper()
	other = &host{t: t, url: second}
	other.migrate()
	other.connect()
	h = newHost(t, first, append(flags, "--database-url", second)...)
	other.dir, other.ledger = h.dir, h.ledger
	return h, other
}

// databases is what the daemon tells of its databases.
func (h *host) databases() daemonStatus {
	h.t.Helper()
	var status daemonStatus
	if err := askDaemon(h.t.Context(), h.socket(), "/api/v1/status", &status); err != nil {
		h.t.Fatal(err)
	}
	if len(status.Databases) != 2 {
		h.t.Fatalf("the daemon tells of %+v, want two databases", status.Databases)
	}
	return status
}

// tells says whether a text has a name, and then this pattern.
func tells(text, name, pattern string) bool {
	return regexp.MustCompile(regexp.QuoteMeta(name) + pattern).MatchString(text)
}

func (h *host) doneHere() int {
	return h.count("select count(*) from respirate.finished where state = 'done'")
}

// TestTwoDatabasesAreServedByOneDaemon: the workers are shared. The server of the second database stops in the middle, and the
// strands of the first go on; it comes back, and all are done, each once.
func TestTwoDatabasesAreServedByOneDaemon(t *testing.T) {
	t.Parallel()
	server := privatetest.Server(t)
	h, other := twoDatabases(t, migrated(t), server.TCPURL("postgres"), append(demoWorkers(t, 4), "--partition", "auto")...)
	h.start()
	h.workers(4)
	n := inShort(2000)
	first, second := h.insertLedger(n, 20*time.Millisecond), other.insertLedger(n, 20*time.Millisecond)

	h.awaitLines(n / 4)
	for _, d := range h.databases().Databases {
		if d.Away || d.Partition == nil || d.Partition.Number != 1 || d.Partition.Of != 1 {
			t.Errorf("database %s is told as %+v, partition %+v; want that it is there, and one part of one", d.Name, d, d.Partition)
		}
	}
	server.Kill()
	h.eventually("the second database is away", func() bool { return h.databases().Databases[1].Away })
	if h.databases().Databases[0].Away {
		t.Error("the first database is told to be away as well")
	}
	before := h.doneHere()
	h.eventually("strands of the first go on without the second", func() bool { return h.doneHere() >= min(n, before+n/4) })
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	other.connect()

	h.awaitDone(n)
	other.awaitDone(n)
	h.exactlyOnce(slices.Concat(first, second))
	if failed := h.count("select count(*) from respirate.attempts") + other.count("select count(*) from respirate.attempts"); failed != 0 {
		t.Errorf("%d runs failed, want none", failed)
	}
	for _, host := range []*host{h, other} {
		if conns := host.count("select count(*) from pg_stat_activity where datname = current_database() and application_name = 'respirated' and pid <> pg_backend_pid()"); conns > 5 {
			t.Errorf("%d connections to a database, want 5 of the daemon at most", conns)
		}
	}
}

// TestNextDaemonFindsTheDatabasesOfWhatWorkersHold: the workers' hellos do not say which database a strand is in.
func TestNextDaemonFindsTheDatabasesOfWhatWorkersHold(t *testing.T) {
	t.Parallel()
	h, other := twoDatabases(t, migrated(t), migrated(t), demoWorkers(t, 4)...)
	h.start()
	before := h.workers(4)
	n := inShort(2000)
	first, second := h.insertLedger(n, 20*time.Millisecond), other.insertLedger(n, 20*time.Millisecond)

	for _, part := range []int{n / 4, n} {
		h.awaitLines(part)
		h.kill()
		h.start()
	}

	h.awaitDone(n)
	other.awaitDone(n)
	h.exactlyOnce(slices.Concat(first, second))
	if after := h.workers(4); !slices.Equal(after, before) {
		t.Errorf("workers are %v, were %v: some were restarted", after, before)
	}
	if failed := h.count("select count(*) from respirate.attempts") + other.count("select count(*) from respirate.attempts"); failed != 0 {
		t.Errorf("%d runs failed, want none", failed)
	}
}

func TestListingsTellOfSeveralDatabases(t *testing.T) {
	t.Parallel()
	h, other := twoDatabases(t, migrated(t), migrated(t), demoWorkers(t, 1)...)
	h.start()
	h.workers(1)
	names := []string{databaseName(h.url), databaseName(other.url)}
	h.eventually("the daemon has its part of both", func() bool {
		_, out, _ := call("worker", "list", "--socket", h.socket())
		return tells(out, names[0], " +connected +1 of 1") && tells(out, names[1], " +connected +1 of 1")
	})
	h.eventually("the second database knows the broker", func() bool {
		code, out, _ := call("broker", "list", "--json", "--socket", h.socket(), "--database-url", other.url)
		return code == 0 && strings.Contains(out, `"name": "`+names[0]) && strings.Contains(out, `"name": "`+names[1])
	})
	code, out, _ := call("doctor", "--socket", h.socket(), "--database-url", h.url, "--database-url", other.url)
	for _, name := range names {
		if code != 0 || !tells(out, name, " +schema +ok") {
			t.Errorf("doctor exits with %d, and does not tell of %s:\n%s", code, name, out)
		}
	}
}

func TestVerbsOfOneDatabaseRefuseSeveral(t *testing.T) {
	t.Parallel()
	two := []string{"--database-url", "postgres://east/app", "--database-url", "postgres://west/app"}
	for _, verb := range [][]string{
		{"strand", "list"}, {"insert", "k"}, {"broker", "list"}, {"migrate", "status"}, {"migrate", "down", "--to", "0"}, {"bench"},
	} {
		if code, _, errOut := call(append(verb, two...)...); code != exitUsage || !strings.Contains(errOut, "works with one database, and 2 are set") {
			t.Errorf("%v exits with %d and says %q, want %d and that it works with one", verb, code, errOut, exitUsage)
		}
	}
	for _, c := range []struct{ second, why string }{
		{"postgres://other:hush@east/app", "database east:5432/app is given twice"},
		{"", "one of several database URLs is empty"},
	} {
		code, _, errOut := call("run", "--database-url", "postgres://east/app", "--database-url", c.second)
		if code != exitUsage || !strings.Contains(errOut, c.why) || strings.Contains(errOut, "hush") {
			t.Errorf("with %q it exits with %d and says %q, want %d and %q", c.second, code, errOut, exitUsage, c.why)
		}
	}
}

func TestEachDatabaseIsMigrated(t *testing.T) {
	t.Parallel()
	urls := []string{privatetest.URL(t), privatetest.URL(t)}
	code, out, errOut := call("migrate", "up", "--database-url", urls[0], "--database-url", urls[1])
	if code != 0 {
		t.Fatalf("exits with %d: %s", code, errOut)
	}
	for _, u := range urls {
		if !strings.Contains(out, databaseName(u)+":") {
			t.Errorf("does not tell of %s:\n%s", databaseName(u), out)
		}
		code, _, errOut := call("migrate", "validate", "--database-url", u)
		if code != 0 {
			t.Errorf("%s is not migrated: %s", databaseName(u), errOut)
		}
	}
}
