// Package hub is where the processes of one measurement meet: workers and an inserter, written in Go or for Node, connect
// to a socket of the harness. Both sides send lines of words:
//
//	hello worker PID       the process is loaded, and waits for its start
//	hello inserter PID     the process is connected to the database, and waits for commands
//	first NS               when its first handler began, by the clock of clock.go
//	n TOTAL                how many handlers have ended in it; told when that has changed, each MS
//	s SEQ NS               when the handler of a traced job began
//	c SEQ NS               when the commit of a traced job, or of a signal, had returned
//	v NAME VALUE           what a program has to tell
//	done NS                the command is done, and has taken so long
//	fail TEXT              it was not
//
//	go MS                  to workers: start
//	bulk FROM N BATCH SIZE
//	                       to the inserter: insert N jobs with args of SIZE bytes, in batches
//	single FROM N GAP      insert N traced jobs, each in a transaction of its own, about GAP ms apart
//	load FROM RATE MS      insert RATE traced jobs a second for so long, in a batch each 10 ms
//	signal FROM N GAP STEP signal N of the strands that sleep, each STEP further, about GAP ms apart
//
// A process ends when the harness closes the connection, so that none is left behind. Nothing of it touches the database:
// watching does not load what is watched.
package hub

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// Hub is the harness's side.
type Hub struct {
	listener net.Listener
	serving  sync.WaitGroup

	mu       sync.Mutex // guards all below
	closed   bool
	workers  []*member
	every    time.Duration // how often started workers report; 0 = they wait for their start
	inserter *member
	handled  int64
	first    Instant // when the first handler of all began; 0 = none has
	began    map[int]Instant
	commits  map[int]Instant
	values   map[string]int64
	answer   string        // to the command that the inserter works on; "" = none yet
	changed  chan struct{} // closed, and replaced, whenever any of this changes
}

// member is a process that has said hello.
type member struct {
	conn    net.Conn
	pid     int
	handled int64
}

// Listen makes a hub on a socket.
func Listen(path string) (*Hub, error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen for the measured processes: %w", err)
	}
	h := &Hub{listener: l, began: make(map[int]Instant), commits: make(map[int]Instant), values: make(map[string]int64), changed: make(chan struct{})}
	h.serving.Go(h.accept)
	return h, nil
}

// Close ends all processes that have said hello.
func (h *Hub) Close() {
	_ = h.listener.Close() // which removes the socket
	h.mu.Lock()
	h.closed = true
	for _, m := range h.workers {
		_ = m.conn.Close()
	}
	if h.inserter != nil {
		_ = h.inserter.conn.Close()
	}
	h.mu.Unlock()
	h.serving.Wait()
}

func (h *Hub) accept() {
	for {
		conn, err := h.listener.Accept()
		if err != nil {
			return
		}
		h.serving.Go(func() { h.serve(conn) })
	}
}

// serve reads what one process says, until it ends.
func (h *Hub) serve(conn net.Conn) {
	defer conn.Close()
	m := &member{conn: conn}
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		if !h.hear(m, lines.Text()) {
			return
		}
	}
}

// hear takes in a line. It is false when the process should not go on.
func (h *Hub) hear(m *member, line string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	word, rest, _ := strings.Cut(line, " ")
	var seq int
	var total int64
	var at Instant
	switch word {
	case "hello":
		return h.welcome(m, rest)
	case "first":
		if _, err := fmt.Sscan(rest, &at); err == nil && (h.first == 0 || at < h.first) {
			h.first = at
		}
	case "n":
		if _, err := fmt.Sscan(rest, &total); err == nil {
			h.handled += total - m.handled
			m.handled = total
		}
	case "s":
		if _, err := fmt.Sscan(rest, &seq, &at); err == nil && h.began[seq] == 0 { // a second run of it is no news
			h.began[seq] = at
		}
		return true // nobody waits for a single one
	case "c":
		if _, err := fmt.Sscan(rest, &seq, &at); err == nil {
			h.commits[seq] = at
		}
		return true
	case "v":
		var name string
		if _, err := fmt.Sscan(rest, &name, &total); err == nil {
			h.values[name] = total
		}
	case "done", "fail":
		h.answer = line
	}
	h.tell()
	return true
}

func (h *Hub) welcome(m *member, rest string) bool {
	var role string
	if _, err := fmt.Sscan(rest, &role, &m.pid); err != nil || h.closed {
		return false
	}
	defer h.tell()
	if role == "inserter" {
		h.inserter = m
		return true
	}
	h.workers = append(h.workers, m)
	return h.every == 0 || m.start(h.every) == nil // one that comes later starts at once
}

func (m *member) start(every time.Duration) error {
	if _, err := fmt.Fprintln(m.conn, "go", every.Milliseconds()); err != nil {
		return fmt.Errorf("start worker %d: %w", m.pid, err)
	}
	return nil
}

// tell wakes those who wait for a change. The caller holds mu.
func (h *Hub) tell() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// until waits until a question about the guarded state is answered with yes.
func (h *Hub) until(ctx context.Context, yes func() bool) error {
	for {
		h.mu.Lock()
		ok, changed := yes(), h.changed
		h.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Workers waits until n workers are there, and returns their process ids.
func (h *Hub) Workers(ctx context.Context, n int) (pids []int, err error) {
	err = h.until(ctx, func() bool { return len(h.workers) >= n })
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.workers {
		pids = append(pids, m.pid)
	}
	if err != nil {
		return nil, fmt.Errorf("wait for %d workers, of which %d came: %w", n, len(pids), err)
	}
	return pids, nil
}

const (
	reportEvery = 20 * time.Millisecond // how often a worker tells how far it is
	fewWorkers  = 32                    // where there are more, each tells as much less often: all together would be a load
)

// Go lets all workers start, and those that come later.
func (h *Hub) Go() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.every = reportEvery * time.Duration(max(1, len(h.workers)/fewWorkers))
	for _, m := range h.workers {
		if err := m.start(h.every); err != nil {
			return err
		}
	}
	return nil
}

// Count is how many handlers have ended, as far as was reported. What a worker has not reported when it ends is missing for good.
func (h *Hub) Count() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.handled
}

// Handled waits until n handlers have ended since the hub was made. It returns when the first of all began.
func (h *Hub) Handled(ctx context.Context, n int) (first Instant, err error) {
	err = h.until(ctx, func() bool { return h.handled >= int64(n) })
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		return first, fmt.Errorf("%d of %d jobs were handled: %w", h.handled, n, err)
	}
	return h.first, nil
}

// Bulk has the inserter insert n jobs as fast as it can, and returns how long that took.
func (h *Hub) Bulk(ctx context.Context, from, n, batch, size int) (time.Duration, error) {
	return h.command(ctx, "bulk", from, n, batch, size)
}

// Single has the inserter insert n traced jobs, each in a transaction of its own, about gap apart.
func (h *Hub) Single(ctx context.Context, from, n int, gap time.Duration) error {
	_, err := h.command(ctx, "single", from, n, int(gap.Milliseconds()))
	return err
}

// Load has the inserter insert traced jobs at a rate a second for a while.
func (h *Hub) Load(ctx context.Context, from, rate int, d time.Duration) error {
	_, err := h.command(ctx, "load", from, rate, int(d.Milliseconds()))
	return err
}

// Signal has the inserter send signals to n sleepers, each in a transaction of its own, about gap apart.
func (h *Hub) Signal(ctx context.Context, from, n int, gap time.Duration, step int) error {
	_, err := h.command(ctx, "signal", from, n, int(gap.Milliseconds()), step)
	return err
}

// Value waits until a program has told that value.
func (h *Hub) Value(ctx context.Context, name string) (value int64, err error) {
	err = h.until(ctx, func() (ok bool) { value, ok = h.values[name]; return ok })
	if err != nil {
		return 0, fmt.Errorf("wait for a program to tell %q: %w", name, err)
	}
	return value, nil
}

func (h *Hub) command(ctx context.Context, word string, numbers ...int) (took time.Duration, err error) {
	if err := h.until(ctx, func() bool { return h.inserter != nil }); err != nil {
		return 0, fmt.Errorf("wait for the inserter: %w", err)
	}
	line := word
	for _, n := range numbers {
		line += fmt.Sprint(" ", n)
	}
	h.mu.Lock()
	h.answer = ""
	_, err = fmt.Fprintln(h.inserter.conn, line)
	h.mu.Unlock()
	if err != nil {
		return 0, fmt.Errorf("ask the inserter for %s: %w", word, err)
	}
	if err := h.until(ctx, func() bool { return h.answer != "" }); err != nil {
		return 0, fmt.Errorf("wait for the inserter to %s: %w", word, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	why, failed := strings.CutPrefix(h.answer, "fail ")
	if failed {
		return 0, errors.New(why)
	}
	_, err = fmt.Sscanf(h.answer, "done %d", &took)
	return took, err
}

// Delays are the times from the return of a commit to the begin of the handler, of the traced jobs from a number on. It
// waits until all of them have begun. A handler may begin before the inserter has its answer: that is no delay.
func (h *Hub) Delays(ctx context.Context, from int) (delays []time.Duration, err error) {
	missing := 0
	collect := func() bool {
		delays, missing = delays[:0], 0
		for seq, commit := range h.commits {
			if began := h.began[seq]; seq >= from && began == 0 {
				missing++
			} else if seq >= from {
				delays = append(delays, max(0, began.Since(commit)))
			}
		}
		return missing == 0
	}
	if err := h.until(ctx, collect); err != nil {
		return nil, fmt.Errorf("%d traced jobs did not begin: %w", missing, err)
	}
	return delays, nil
}
