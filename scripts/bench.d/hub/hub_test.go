package hub

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// system is a queue without a database: what its client inserts, its worker handles after a delay.
type system struct {
	worker *Line
	delay  time.Duration
	fail   error
}

func (s system) Insert(ctx context.Context, args Args) error { return s.InsertMany(ctx, []Args{args}) }

func (s system) InsertMany(_ context.Context, jobs []Args) error {
	for _, args := range jobs {
		time.AfterFunc(s.delay, func() { s.worker.Handle(args) })
	}
	return s.fail
}

// meet makes a hub with one worker and one inserter in this process.
func meet(t *testing.T, s system) *Hub {
	t.Helper()
	dir, err := os.MkdirTemp("", "hub-") // t.TempDir's path is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	h, err := Listen(filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	t.Cleanup(func() {
		h.Close()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	if s.worker, err = Dial(filepath.Join(dir, "s"), "worker"); err != nil {
		t.Fatal(err)
	}
	s.worker.hungUp = func() { ended <- nil }
	inserter, err := Dial(filepath.Join(dir, "s"), "inserter")
	if err != nil {
		t.Fatal(err)
	}
	go func() { ended <- inserter.Serve(context.Background(), s) }()
	pids, err := h.Workers(t.Context(), 1)
	if err != nil || len(pids) != 1 || pids[0] != os.Getpid() {
		t.Fatalf("workers %v, %v", pids, err)
	}
	if err := h.Go(); err != nil {
		t.Fatal(err)
	}
	if err := s.worker.Await(); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestBacklogIsHandledOnce(t *testing.T) {
	h := meet(t, system{})
	before := Now()
	took, err := h.Bulk(t.Context(), 0, 2500, 1000, 60)
	if err != nil || took <= 0 {
		t.Fatalf("took %v, %v", took, err)
	}
	first, err := h.Handled(t.Context(), 2500)
	if err != nil || first < before || first > Now() {
		t.Errorf("the first began at %d, %v; the test at %d", first, err, before)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*reportEvery)
	defer cancel()
	if _, err := h.Handled(ctx, 2501); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "2500 of 2501") {
		t.Errorf("waiting for one more than there are ended with %v", err)
	}
}

func TestDelayIsFromCommitToBegin(t *testing.T) {
	const delay = 30 * time.Millisecond
	h := meet(t, system{delay: delay})
	if err := h.Single(t.Context(), 100, 5, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if err := h.Load(t.Context(), 200, 1000, 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	for from, atLeast := range map[int]int{100: 5 + 20, 200: 20} {
		delays, err := h.Delays(t.Context(), from)
		if err != nil || len(delays) < atLeast {
			t.Errorf("%d delays from %d on, %v; want at least %d", len(delays), from, err, atLeast)
		}
		for _, d := range delays {
			if d < delay/2 || d > time.Minute {
				t.Errorf("a delay is %v, want about %v", d, delay)
			}
		}
	}
}

func TestHandlerThatWasFasterThanTheAnswerHasNoDelay(t *testing.T) {
	h := &Hub{commits: map[int]Instant{1: 1000}, began: map[int]Instant{1: 900}, changed: make(chan struct{})}
	delays, err := h.Delays(t.Context(), 1)
	if err != nil || len(delays) != 1 || delays[0] != 0 {
		t.Errorf("delays %v, %v", delays, err)
	}
}

func TestFailedInsertTellsWhy(t *testing.T) {
	h := meet(t, system{fail: errors.New("the table is full")})
	if _, err := h.Bulk(t.Context(), 0, 1, 1, 60); err == nil || !strings.Contains(err.Error(), "the table is full") {
		t.Errorf("got %v", err)
	}
}

func TestInserterThatComesAfterTheStartIsGivenOnlyCommands(t *testing.T) {
	h := &Hub{every: reportEvery, changed: make(chan struct{})}
	inserter := &member{} // which a word to it would make panic
	if !h.welcome(inserter, "inserter 7") || h.inserter != inserter {
		t.Errorf("the inserter of pid %d is not welcome", inserter.pid)
	}
}

func TestArgsWeighWhatWasAsked(t *testing.T) {
	for _, n := range []int{0, 9, 123_456} {
		for _, size := range []int{60, 100, 64 << 10} {
			text, err := json.Marshal(NewArgs(n, size, false))
			if err != nil || len(text) != size {
				t.Errorf("args %d are %d bytes, %v; want %d", n, len(text), err, size)
			}
		}
	}
}
