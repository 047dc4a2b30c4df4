package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker/postgres"
)

// pageRoom is a database with pages, and senders that send them into a file.
type pageRoom struct {
	*patient
	dir string
	log strings.Builder
	mu  sync.Mutex // guards log
}

func newPageRoom(t *testing.T) *pageRoom { return &pageRoom{patient: newPatient(t), dir: t.TempDir()} }

func (r *pageRoom) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(p)
}

func (r *pageRoom) logged() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.String()
}

// await waits until something has been logged.
func (r *pageRoom) await(t *testing.T, want string) {
	t.Helper()
	for end := time.Now().Add(patience); !strings.Contains(r.logged(), want); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never logged %q:\n%s", want, r.logged())
		}
	}
}

// sender is that of one daemon.
func (r *pageRoom) sender(command string) *pageSender {
	r.t.Helper()
	store, err := postgres.Open(r.t.Context(), postgres.Config{URL: r.cfg.DatabaseURLs.one()})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(store.Close)
	s := newPageSender(shellCommand(command), store, "here:1/app", slog.New(slog.NewTextHandler(r, nil)))
	s.pause = 0
	return s
}

func (r *pageRoom) open(n int) {
	r.t.Helper()
	r.sql(`insert into respirate.page (strand, frame, kind, target, due_at)
		select gen_random_uuid(), 0, 'k', 'ready', now() from generate_series(1, $1::int)`, n)
}

// sent are the lines of the file out.
func (r *pageRoom) sent() (lines []string) {
	r.t.Helper()
	text, err := os.ReadFile(filepath.Join(r.dir, "out"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		r.t.Fatal(err)
	}
	return strings.FieldsFunc(string(text), func(c rune) bool { return c == '\n' })
}

func (r *pageRoom) sendAll(s *pageSender) {
	r.t.Helper()
	if err := s.sendAll(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

func TestPagesOfSeveralDaemonsAreSentByOneOfThem(t *testing.T) {
	t.Parallel()
	r := newPageRoom(t)
	r.open(12)
	var all sync.WaitGroup
	for range 3 {
		s := r.sender("cat >> " + r.dir + "/out")
		all.Go(func() { r.sendAll(s) })
	}
	all.Wait()
	seen := map[int64]int{}
	for _, line := range r.sent() {
		var p sentPage
		if err := json.Unmarshal([]byte(line), &p); err != nil || p.Event != "opened" || p.Database != "here:1/app" || p.Page.Target != "ready" {
			t.Fatalf("%s: %v", line, err)
		}
		seen[p.Page.ID]++
	}
	for id := int64(1); id <= 12; id++ {
		if seen[id] != 1 {
			t.Errorf("page %d was sent %d times", id, seen[id])
		}
	}
	r.sql(`update respirate.page set resolved_at = now(), why = 'reached' where id = 3`)
	r.sendAll(r.sender("cat >> " + r.dir + "/out"))
	if lines := r.sent(); len(lines) != 13 || !strings.Contains(lines[12], `"event":"resolved"`) {
		t.Errorf("got %d lines, the last %s", len(lines), lines[len(lines)-1])
	}
}

func TestPageCommandThatFailsIsTriedAgainAndThenGivenUp(t *testing.T) {
	t.Parallel()
	r := newPageRoom(t)
	r.open(1)
	r.sendAll(r.sender("echo try >> " + r.dir + "/out; echo no luck >&2; exit 3"))
	if n := len(r.sent()); n != pageTries {
		t.Errorf("tried %d times, want %d", n, pageTries)
	}
	if log := r.logged(); strings.Count(log, "level=WARN") != pageTries-1 || strings.Count(log, "level=ERROR") != 1 || !strings.Contains(log, "exit status 3; it said: no luck") {
		t.Errorf("logged\n%s", log)
	}
	r.sql(`update respirate.page set resolved_at = now()`)
	r.sendAll(r.sender("cat >> " + r.dir + "/out"))
	if n := len(r.sent()); n != pageTries+1 {
		t.Errorf("that it is resolved was not sent: %d lines", n)
	}
}

func TestPageCommandThatHangsIsKilledWithAllThatItHasStarted(t *testing.T) {
	t.Parallel()
	r := newPageRoom(t)
	r.open(1)
	s := r.sender("sleep 1000.5 & sleep 1000.5")
	s.limit = 50 * time.Millisecond
	r.sendAll(s)
	if log := r.logged(); !strings.Contains(log, "it has taken longer than 50ms") {
		t.Errorf("logged\n%s", log)
	}
	if pids := processesWith("1000.5"); len(pids) > 0 {
		t.Errorf("left %v", pids)
	}
}

// What a daemon was about to send when it stopped is sent by the next one, as its first try.
func TestPageThatADaemonWasSendingWhenItStoppedIsSentByTheNext(t *testing.T) {
	t.Parallel()
	r := newPageRoom(t)
	r.open(1)
	fifo := filepath.Join(r.dir, "begun")
	s := r.sender("echo begun > " + fifo + "; sleep 1000.25")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	if text, err := os.ReadFile(fifo); err != nil || string(text) != "begun\n" {
		t.Fatalf("got %q and %v", text, err)
	}
	r.sendAll(r.sender("cat >> " + r.dir + "/out")) // it is taken
	if n := len(r.sent()); n != 0 {
		t.Fatalf("sent twice")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	var tries int
	if err := r.conn.QueryRow(t.Context(), `select told_tries from respirate.page`).Scan(&tries); err != nil || tries != 0 {
		t.Errorf("tries are %d, %v", tries, err)
	}
	r.sendAll(r.sender("cat >> " + r.dir + "/out"))
	if n := len(r.sent()); n != 1 {
		t.Errorf("sent %d times", n)
	}
}

func TestPageCommandSeesNothingOfTheDaemonsSecrets(t *testing.T) {
	t.Setenv("DATABASE_URL", "postgres://secret")
	r := newPageRoom(t)
	r.open(1)
	r.sendAll(r.sender("env >> " + r.dir + "/out"))
	for _, line := range r.sent() {
		if strings.Contains(line, "secret") {
			t.Error(line)
		}
	}
	if len(r.sent()) == 0 {
		t.Error("it sees no environment at all")
	}
}

// brokenPages are of a database that is away.
type brokenPages struct{ pageStore }

func (brokenPages) ClaimPage(context.Context, time.Duration) (*postgres.Page, error) {
	return nil, pgx.ErrTxClosed
}

func TestPageSenderSurvivesADatabaseThatIsAway(t *testing.T) {
	t.Parallel()
	lines, log := io.Pipe()
	s := newPageSender("true", brokenPages{}, "", slog.New(slog.NewTextHandler(log, nil)))
	s.every = time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	for range 3 {
		if n, err := lines.Read(make([]byte, 1000)); n == 0 || err != nil {
			t.Fatal(n, err)
		}
	}
	cancel()
	lines.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
