package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker/postgres"
	"github.com/respirated/respirated/broker/postgres/private/privatetest"
	"github.com/respirated/respirated/client"
	"github.com/respirated/respirated/cmd/internal/demo"
)

// patience is how long a test waits for what must happen. Nothing is asserted about being faster.
const patience = 60 * time.Second

// host is one host under test: a daemon as a process of its own, which may be killed and started again, its workers,
// and a database.
type host struct {
	t      testing.TB
	dir    string // of the socket, which has a short enough path
	url    string
	flags  []string
	under  []string   // command that the daemon is started with, if any
	files  []*os.File // that it gets, from descriptor 3 on
	ledger string
	bin    string // folder of the programs; "" = those that were built for the tests

	stderr *os.File // of the daemon; nil = log

	daemon *exec.Cmd
	log    *os.File
	db     *database
}

// migrated is the URL of a fresh database with the schema in it.
func migrated(t testing.TB) string {
	t.Helper()
	return privatetest.Copy(t, "migrated", func(ctx context.Context, url string) error {
		cfg := fileConfig{DatabaseURLs: urls{url}, Schema: postgres.DefaultSchema}
		return migrateUp(ctx, cfg, slog.New(slog.DiscardHandler))
	})
}

// newHost migrates the database. Nothing runs yet.
func newHost(t testing.TB, url string, flags ...string) *host {
	t.Helper()
	dir, err := os.MkdirTemp("", "respirate-host-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	h := &host{t: t, dir: dir, url: url, flags: flags, ledger: filepath.Join(dir, "ledger")}
	h.migrate()
	h.connect()
	if h.log, err = os.Create(filepath.Join(dir, "daemon.log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.tellLog)
	return h
}

func (h *host) migrate() {
	h.t.Helper()
	cfg := fileConfig{DatabaseURLs: urls{h.url}, Schema: postgres.DefaultSchema}
	if err := migrateUp(h.t.Context(), cfg, slog.New(slog.DiscardHandler)); err != nil {
		h.t.Fatal(err)
	}
}

// connect makes the test's own connection; again after the database was away.
func (h *host) connect() {
	h.t.Helper()
	var err error
	cfg := fileConfig{DatabaseURLs: urls{h.url}, Schema: postgres.DefaultSchema}
	if h.db, err = connect(h.t.Context(), cfg, client.InsertOpts{}); err != nil {
		h.t.Fatal(err)
	}
	db := h.db
	h.t.Cleanup(func() { db.close(context.Background()) })
}

func (h *host) socket() string { return filepath.Join(h.dir, "run", "respirate.sock") }

// start starts a daemon and returns once it answers. The test's end stops it.
func (h *host) start() {
	h.t.Helper()
	h.launch()
	h.eventually("the daemon answers", func() bool { return askDaemon(h.t.Context(), h.socket(), "/api/v1/status", new(daemonStatus)) == nil })
}

// launch starts a daemon and does not wait for anything.
func (h *host) launch() {
	h.t.Helper()
	args := slices.Concat(h.under, []string{filepath.Join(cmp.Or(h.bin, programs(h.t)), "respirated")},
		[]string{"run", "--database-url", h.url, "--socket", h.socket(), "--log-level", "debug"}, h.flags)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr, cmd.ExtraFiles = cmp.Or(h.stderr, h.log), h.files
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.daemon = cmd
	h.t.Cleanup(func() { h.stop(cmd) })
}

// stop ends a daemon in peace, unless it is gone already, and checks that it says nothing bad.
func (h *host) stop(cmd *exec.Cmd) {
	h.t.Helper()
	if cmd.ProcessState != nil {
		return
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		h.t.Errorf("stop the daemon: %v", err)
	}
	if err := cmd.Wait(); err != nil {
		h.t.Errorf("the daemon ended with %v", err)
	}
	for _, w := range h.leftWorkers() {
		h.t.Errorf("worker %d is left behind", w)
	}
}

// kill ends the daemon as a crash would.
func (h *host) kill() {
	h.t.Helper()
	if err := h.daemon.Process.Kill(); err != nil {
		h.t.Fatal(err)
	}
	_ = h.daemon.Wait() // killed
}

// workers waits until n workers have connected, and returns their pids in order.
func (h *host) workers(n int) []int {
	h.t.Helper()
	var pids []int
	h.eventually(fmt.Sprintf("%d workers have connected", n), func() bool {
		var workers []workerStatus
		if err := askDaemon(h.t.Context(), h.socket(), "/api/v1/workers", &workers); err != nil {
			h.t.Log(err) // it may be too busy for an answer
			return false
		}
		pids = pids[:0]
		for _, w := range workers {
			if w.Connected {
				pids = append(pids, w.PID)
			}
		}
		return len(pids) == n
	})
	slices.Sort(pids)
	return pids
}

// leftWorkers are processes that know our socket, in order: they are told apart from those of other tests by it.
func (h *host) leftWorkers() []int {
	var left []int
	environs, _ := filepath.Glob("/proc/[0-9]*/environ") // elsewhere than on Linux nothing is found
	for _, name := range environs {
		text, err := os.ReadFile(name)
		if err != nil || !strings.Contains(string(text), "RESPIRATE_SOCKET="+h.socket()+"\x00") {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(name, "/proc/%d/environ", &pid); err == nil {
			left = append(left, pid)
		}
	}
	slices.Sort(left)
	return left
}

// insertLedger inserts n strands that take a while and then add a line to the ledger. It returns their ids.
func (h *host) insertLedger(n int, each time.Duration) []string {
	h.t.Helper()
	return h.insertLedgers(n, demo.Ledger{For: demo.Duration(each)})
}

func (h *host) insertLedgers(n int, args demo.Ledger) []string {
	h.t.Helper()
	args.Path = h.ledger
	params := make([]client.InsertManyParams, n)
	for i := range params {
		params[i].Args = args
	}
	results, err := h.db.InsertMany(h.t.Context(), params)
	if err != nil {
		h.t.Fatal(err)
	}
	ids := make([]string, n)
	for i, r := range results {
		ids[i] = r.ID
	}
	return ids
}

// once is for strands that are dead after a failure of their own.
var once = &client.InsertOpts{MaxTries: 1}

func (h *host) insertOne(args client.Args, opts *client.InsertOpts) string {
	h.t.Helper()
	inserted, err := h.db.Insert(h.t.Context(), args, opts)
	if err != nil {
		h.t.Fatal(err)
	}
	return inserted.ID
}

// lines reads the ledger: by strand, the pids that ran it to its end.
func (h *host) lines() map[string][]int {
	h.t.Helper()
	text, err := os.ReadFile(h.ledger)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		h.t.Fatal(err)
	}
	ran := make(map[string][]int)
	for line := range strings.SplitAfterSeq(string(text), "\n") {
		if !strings.HasSuffix(line, "\n") {
			break // it is being written
		}
		fields := strings.Fields(line) // id, try, pid: read without fmt, which would take as long as the strands themselves
		if len(fields) != 3 {
			h.t.Fatalf("line %q of the ledger", line)
		}
		pid, err := strconv.Atoi(fields[2])
		if err != nil {
			h.t.Fatalf("line %q of the ledger: %v", line, err)
		}
		ran[fields[0]] = append(ran[fields[0]], pid)
	}
	return ran
}

// awaitLines waits until the ledger has at least n strands.
func (h *host) awaitLines(n int) {
	h.t.Helper()
	h.reaches(n, "strands that have run", func() int { return len(h.lines()) })
}

// awaitDone waits until all strands that were inserted are done.
func (h *host) awaitDone(n int) {
	h.t.Helper()
	h.reaches(n, "strands that are done", h.doneHere)
	if done := h.doneHere(); done != n {
		h.t.Errorf("%d strands are done, want %d", done, n)
	}
	if live := h.count("select count(*) from respirate.strands"); live != 0 {
		h.t.Errorf("%d strands are still live", live)
	}
}

// awaitState waits until a strand is in that state.
func (h *host) awaitState(id string, state client.State) {
	h.t.Helper()
	h.eventually(fmt.Sprintf("strand %s is %s", id, state), func() bool {
		row, err := h.db.StrandGet(h.t.Context(), id)
		return err == nil && row.State == state
	})
}

// count runs a query that gives one number.
func (h *host) count(query string, args ...any) (n int) {
	h.t.Helper()
	if err := h.db.conn.QueryRow(h.t.Context(), query, args...).Scan(&n); err != nil {
		h.t.Fatalf("%s: %v", query, err)
	}
	return n
}

// list runs a query that gives one text in each row.
func (h *host) list(query string) []string {
	h.t.Helper()
	rows, err := h.db.conn.Query(h.t.Context(), query)
	if err != nil {
		h.t.Fatal(err)
	}
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		h.t.Fatal(err)
	}
	return texts
}

// exactlyOnce checks that each strand ran to its end, and once.
func (h *host) exactlyOnce(ids []string) {
	h.t.Helper()
	ran := h.lines()
	for _, id := range ids {
		if pids := ran[id]; len(pids) != 1 {
			h.t.Errorf("strand %s ran %d times, in %v", id, len(pids), pids)
		}
		delete(ran, id)
	}
	for id := range ran {
		h.t.Errorf("strand %s ran, and nobody has inserted it", id)
	}
}

// eventually polls until ok.
func (h *host) eventually(what string, ok func() bool) {
	h.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// tellLog shows what the daemons said when a test has failed.
func (h *host) tellLog() {
	defer h.log.Close()
	if !h.t.Failed() {
		return
	}
	text, err := os.ReadFile(h.log.Name())
	if err != nil {
		h.t.Error(err)
	}
	const most = 20_000
	h.t.Logf("the daemon's log:\n%s", text[max(0, len(text)-most):])
}

// reaches polls a number until it is n at least. Patience is for each step of it, as how much is done in a minute is no matter of
// these tests.
func (h *host) reaches(n int, what string, now func() int) {
	h.t.Helper()
	last, end := -1, time.Time{}
	for {
		switch got := now(); {
		case got >= n:
			return
		case got != last:
			last, end = got, time.Now().Add(patience)
		case time.Now().After(end):
			h.t.Fatalf("%d %s, want %d: no more have come in %v", got, what, n, patience)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// inShort is a number of strands, fewer with -short, and where all programs take several times as long.
func inShort(n int) int {
	switch {
	case testing.Short():
		return n / 4
	case raceEnabled:
		return n / 2
	}
	return n
}
