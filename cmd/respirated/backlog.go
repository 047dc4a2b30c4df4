package main

import (
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	maxBacklog = 1 << 20     // bytes of log that may wait to be written
	flushTime  = time.Second // for them to be written when the program ends
)

// backlog is written to by those who must not be held up, as the loops of supervisor and broker, and writes to somebody who
// may: a full pipe, a terminal that was stopped. What is too much is dropped, and how many lines that were is told as soon as
// anything can be written again.
type backlog struct {
	out  io.Writer
	tell func(dropped int) // writes a line to out; set before anything is written

	mu      sync.Mutex // guards what follows
	waiting []byte
	dropped int  // lines that nobody was told of
	busy    bool // a goroutine writes, as long as there is something to write
	idle    sync.Cond
}

func newBacklog(out io.Writer) *backlog {
	b := &backlog{out: out}
	b.idle.L = &b.mu
	return b
}

// Write takes one line. It never waits for out, and never fails.
func (b *backlog) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting)+len(line) > maxBacklog {
		b.dropped++
		return len(line), nil
	}
	b.waiting = append(b.waiting, line...)
	if !b.busy {
		b.busy = true
		go b.pass()
	}
	return len(line), nil
}

// pass writes what waits. What was dropped came after that.
func (b *backlog) pass() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.waiting) > 0 || b.dropped > 0 {
		text, dropped := b.waiting, b.dropped
		b.waiting, b.dropped = nil, 0
		b.mu.Unlock()
		_, _ = b.out.Write(text) // there is nobody else to be told
		if dropped > 0 {
			b.tell(dropped)
		}
		b.mu.Lock()
	}
	b.busy = false
	b.idle.Broadcast()
}

// flush waits until all is written, but not for ever.
func (b *backlog) flush() {
	done := make(chan struct{})
	go func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for b.busy {
			b.idle.Wait()
		}
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(flushTime):
	}
}

// newLogger is the logger of a daemon, which holds up nobody. What it was told last is written once flush has returned.
func newLogger(out io.Writer, format logFormat, level logLevel) (log *slog.Logger, flush func()) {
	b := newBacklog(out)
	terminal := isTerminal(out)
	direct := slog.New(newHandler(out, terminal, format, level))
	b.tell = func(dropped int) {
		direct.Warn("lines of this log were dropped: whoever takes them does not keep up", "dropped", dropped)
	}
	return slog.New(newHandler(b, terminal, format, level)), b.flush
}
