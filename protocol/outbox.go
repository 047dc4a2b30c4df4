package protocol

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
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
// One goroutine calls Run, once; any may call Send and Close.
type Outbox struct {
	conn    net.Conn
	limit   int
	buffers *Buffers
	wake    chan struct{} // has one element while Run may have something to do
	done    chan struct{} // closed when nothing will be written any more

	mu      sync.Mutex // guards what follows
	queued  *buffer    // encoded, not yet handed to conn; nil = nothing
	writing int        // bytes that conn is writing now
	begun   bool       // Run or Close writes
	closed  bool       // Send takes nothing more
}

// Buffers are what Outboxes share that encode and write now: those that have nothing to send hold no memory. The zero value is
// ready, and several goroutines may use it.
type Buffers struct{ free sync.Pool }

type buffer struct{ b []byte }

func (p *Buffers) get() *buffer {
	if b, ok := p.free.Get().(*buffer); ok {
		return b
	}
	return new(buffer)
}

// put takes back a buffer, unless one large message has made it larger than most.
func (p *Buffers) put(b *buffer, most int) {
	if cap(b.b) <= most {
		b.b = b.b[:0]
		p.free.Put(b)
	}
}

// NewOutbox returns an Outbox for conn that holds at most limit bytes, or one message if that is larger. nil buffers are its own.
func NewOutbox(conn net.Conn, limit int, buffers *Buffers) *Outbox {
	if buffers == nil {
		buffers = new(Buffers)
	}
	return &Outbox{conn: conn, limit: limit, buffers: buffers, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// Send encodes m and queues it; it never waits for the peer. [ErrSlow] means that the bound is exceeded and [ErrClosed] that nothing
// more can be sent: the connection is of no more use. Another error says what is wrong with m, and harms nothing else.
func (o *Outbox) Send(m Message) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return ErrClosed
	}
	queue := o.queued
	if queue == nil {
		queue = o.buffers.get()
	}
	before := len(queue.b)
	queued, err := Append(queue.b, m)
	if err == nil && before+o.writing > 0 && len(queued)+o.writing > o.limit {
		err = fmt.Errorf("send %s: %w: %d bytes are queued", m.Op(), ErrSlow, before+o.writing)
	}
	if err != nil {
		if o.queued == nil {
			o.buffers.put(queue, o.limit)
		}
		return err
	}
	queue.b, o.queued = queued, queue
	o.signal()
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

	for {
		batch, closed := o.take()
		if batch == nil && closed {
			return nil
		}
		if batch != nil {
			err := o.write(ctx, batch.b)
			o.buffers.put(batch, o.limit)
			if err != nil {
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

// take returns what is queued, now that the write before is over; nil = nothing.
func (o *Outbox) take() (batch *buffer, closed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	batch, o.queued, o.writing = o.queued, nil, 0
	if batch != nil {
		o.writing = len(batch.b)
	}
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
