package protocol

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// ErrSlow says that the peer does not read: too much is queued for it, or a write did not end within [WriteTimeout].
var ErrSlow = errors.New("peer does not read")

// ErrClosed says that an Outbox takes nothing more, as it was closed or its connection failed.
var ErrClosed = errors.New("outbox closed")

// DefaultOutbox is the bound of an Outbox in bytes where nothing else is said.
const DefaultOutbox = 256 << 10

// An Outbox sends messages over a connection without making the sender wait. Whatever has been queued while one write was on its
// way goes out in the next one, so that a busy connection makes fewer system calls, not more.
//
// One goroutine calls Run, once; any may call Send, Queue, Flush and Close.
type Outbox struct {
	conn  net.Conn
	raw   syscall.RawConn // of conn; nil = it has none
	limit int
	wake  chan struct{} // has one element while Run may have something to do
	done  chan struct{} // closed when nothing will be written any more

	mu      sync.Mutex // guards what follows
	queued  []byte     // encoded, not yet handed to conn
	writing int        // bytes that conn is writing now
	begun   bool       // Run or Close writes
	closed  bool       // Send takes nothing more
}

// NewOutbox returns an Outbox for conn that holds at most limit bytes, or one message if that is larger.
func NewOutbox(conn net.Conn, limit int) *Outbox {
	o := &Outbox{conn: conn, limit: limit, wake: make(chan struct{}, 1), done: make(chan struct{})}
	if c, ok := conn.(syscall.Conn); ok {
		o.raw, _ = c.SyscallConn() // without it Run writes everything
	}
	return o
}

// Send encodes m and queues it for Run; it never waits for the peer. [ErrSlow] means that the bound is exceeded and [ErrClosed] that nothing
// more can be sent: the connection is of no more use. Another error says what is wrong with m, and harms nothing else.
func (o *Outbox) Send(m Message) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	err := o.queue(m)
	if err == nil {
		o.signal()
	}
	return err
}

// Queue is Send, but that m may stay where it is until Flush. So several messages share a write.
func (o *Outbox) Queue(m Message) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.queue(m)
}

// Flush writes what is queued, as far as the connection takes it at once, and leaves the rest to Run. That spares the peer the
// time until Run's goroutine is awake. It never waits.
func (o *Outbox) Flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queued) == 0 {
		return
	}
	if o.raw != nil && o.begun && o.writing == 0 && !o.closed {
		n := writeNow(o.raw, o.queued)
		o.queued = o.queued[:copy(o.queued, o.queued[n:])]
	}
	if len(o.queued) > 0 {
		o.signal()
	} else if cap(o.queued) > o.limit {
		o.queued = nil // as in take
	}
}

// queue encodes m. The caller holds mu.
func (o *Outbox) queue(m Message) error {
	if o.closed {
		return ErrClosed
	}
	before := len(o.queued)
	queued, err := Append(o.queued, m)
	if err != nil {
		return err
	}
	if before+o.writing > 0 && len(queued)+o.writing > o.limit {
		return fmt.Errorf("send %s: %w: %d bytes are queued", m.Op(), ErrSlow, before+o.writing)
	}
	o.queued = queued
	return nil
}

// Run writes what is sent until ctx ends, the connection fails, or Close has been called and all is written, which gives nil.
func (o *Outbox) Run(ctx context.Context) error {
	if !o.begin() {
		<-o.done // Close came first and writes the rest; whoever waits for Run may close conn after
		return nil
	}
	return o.flush(ctx)
}

// Close makes later Sends fail and returns when what is queued is written, or cannot be: a matter of [WriteTimeout] at most. Run
// writes it, or Close itself if Run has not begun.
func (o *Outbox) Close() {
	o.mu.Lock()
	o.closed = true
	o.signal()
	o.mu.Unlock()
	if !o.begin() {
		<-o.done
		return
	}
	_ = o.flush(context.Background()) // the peer is left in any case
}

// begin reports whether the caller is the one who writes.
func (o *Outbox) begin() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	first := !o.begun
	o.begun = true
	return first
}

// flush writes until there is no more to come.
func (o *Outbox) flush(ctx context.Context) error {
	defer close(o.done)
	defer o.shut()
	stop := context.AfterFunc(ctx, func() { _ = o.conn.SetWriteDeadline(time.Unix(1, 0)) }) // a write in flight ends too
	defer stop()

	var spare []byte
	for {
		batch, closed := o.take(spare)
		spare = batch[:0] // from the next take on, when its write is over
		if len(batch) == 0 && closed {
			return nil
		}
		if len(batch) > 0 {
			if err := o.write(ctx, batch); err != nil {
				return err
			}
			continue
		}
		select {
		case <-o.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// shut lets later Sends fail.
func (o *Outbox) shut() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed, o.queued = true, nil
}

// take returns what is queued and queues on in spare, whose write is over.
func (o *Outbox) take(spare []byte) (batch []byte, closed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	batch = o.queued
	if cap(spare) > o.limit {
		spare = nil // one large message must not hold its memory for good
	}
	o.queued, o.writing = spare, len(batch)
	return batch, o.closed
}

func (o *Outbox) write(ctx context.Context, batch []byte) error {
	if err := o.conn.SetWriteDeadline(time.Now().Add(WriteTimeout)); err != nil {
		return fmt.Errorf("set write deadline: %w", err)
	}
	if ctx.Err() != nil { // it ended before the deadline was set, and its own deadline is overwritten now
		return ctx.Err()
	}
	_, err := o.conn.Write(batch)
	switch {
	case err == nil:
		_ = o.conn.SetWriteDeadline(time.Time{}) // once it had passed Flush could not write; a lost connection is the next write's to tell
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("write %d bytes: %w", len(batch), ErrSlow)
	}
	return fmt.Errorf("write %d bytes: %w", len(batch), err)
}

// signal wakes Run. The caller holds mu.
func (o *Outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}
