package protocol

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// countingConn counts the writes that reach the peer.
type countingConn struct {
	net.Conn
	mu     sync.Mutex // guards writes
	writes int
}

func (c *countingConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	c.writes++
	c.mu.Unlock()
	return c.Conn.Write(b)
}

// runOutbox starts an outbox over a pipe and returns it, the peer's end and Run's result.
func runOutbox(ctx context.Context, limit int) (*Outbox, *countingConn, net.Conn, <-chan error) {
	near, far := net.Pipe()
	conn := &countingConn{Conn: near}
	o := NewOutbox(conn, limit, nil)
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx); near.Close() }()
	return o, conn, far, ended
}

func TestOutboxSendsInOrderAndCoalescesWhatIsQueuedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, conn, far, ended := runOutbox(t.Context(), DefaultOutbox)
		if err := o.Send(&Ping{N: 0}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // Run is in its first write, which nobody reads yet
		for n := range uint64(99) {
			if err := o.Send(&Ping{N: n + 1}); err != nil {
				t.Fatal(err)
			}
		}
		r := NewReader(far, HandshakeMaxFrame)
		for n := range uint64(100) {
			body, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			if m, err := DecodeToWorker(body); err != nil || m.(*Ping).N != n {
				t.Fatalf("frame %d is %+v, %v", n, m, err)
			}
		}
		o.Close()
		if err := <-ended; err != nil {
			t.Errorf("Run ended with %v, want nil", err)
		}
		if conn.writes != 2 {
			t.Errorf("%d writes, want 2: the first message, and all that came while it was written", conn.writes)
		}
	})
}

func TestWhatIsSentDuringAWriteDoesNotTouchWhatIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, _, far, ended := runOutbox(t.Context(), DefaultOutbox)
		r := NewReader(far, HandshakeMaxFrame)
		n := uint64(0)
		for round := range uint64(5) { // every round starts with an idle outbox
			for range round + 1 {
				if err := o.Send(&Ping{N: n}); err != nil {
					t.Fatal(err)
				}
				n++
				synctest.Wait() // the first is in its write, the others are queued behind it
			}
			for want := n - round - 1; want < n; want++ {
				body, err := r.Next()
				if err != nil {
					t.Fatal(err)
				}
				if m, err := DecodeToWorker(body); err != nil || m.(*Ping).N != want {
					t.Fatalf("got %+v, %v; want ping %d", m, err, want)
				}
			}
			synctest.Wait()
		}
		o.Close()
		<-ended
	})
}

func TestOutboxIsSlowWhenItsBoundIsExceeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		o, _, far, ended := runOutbox(ctx, 1000)
		defer far.Close()
		message := &Bye{Why: strings.Repeat("a", 400)}
		var err error
		sent := 0
		for ; err == nil; sent++ {
			err = o.Send(message)
			synctest.Wait() // what is being written counts too
		}
		if !errors.Is(err, ErrSlow) || sent != 3 {
			t.Errorf("send %d: %v, want ErrSlow at the third of 400 bytes with a bound of 1000", sent, err)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v", err)
		}
	})
}

func TestOutboxTakesOneMessageBeyondItsBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, _, far, ended := runOutbox(t.Context(), 100)
		if err := o.Send(&Bye{Why: strings.Repeat("a", 4000)}); err != nil {
			t.Fatal(err)
		}
		if _, err := NewReader(far, HandshakeMaxFrame).Next(); err != nil {
			t.Fatal(err)
		}
		o.Close()
		<-ended
	})
}

func TestOutboxGivesAPeerThatDoesNotReadFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, _, far, ended := runOutbox(t.Context(), DefaultOutbox)
		defer far.Close()
		start := time.Now()
		if err := o.Send(&Ping{N: 1}); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, ErrSlow) || time.Since(start) != WriteTimeout {
			t.Errorf("after %v: %v, want ErrSlow after %v", time.Since(start), err, WriteTimeout)
		}
		if err := o.Send(&Ping{N: 2}); !errors.Is(err, ErrClosed) {
			t.Errorf("send after that: %v, want ErrClosed", err)
		}
		o.Close() // returns though nothing can be flushed
	})
}

func TestClosedOutboxFlushesFirstAndTakesNothingMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, _, far, ended := runOutbox(t.Context(), DefaultOutbox)
		for range 3 {
			if err := o.Send(&Ping{N: 1}); err != nil {
				t.Fatal(err)
			}
		}
		closed := make(chan struct{})
		go func() { o.Close(); close(closed) }()
		synctest.Wait()
		if err := o.Send(&Ping{N: 2}); !errors.Is(err, ErrClosed) {
			t.Errorf("send after close: %v, want ErrClosed", err)
		}
		got, err := io.ReadAll(far)
		if want := bytes.Repeat(mustAppend(t, &Ping{N: 1}), 3); err != nil || !bytes.Equal(got, want) {
			t.Errorf("peer got %x, %v; want %x", got, err, want)
		}
		<-closed
		if err := <-ended; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	})
}

func TestCloseOfAnOutboxWhosePeerDoesNotReadIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, _, far, ended := runOutbox(t.Context(), DefaultOutbox)
		defer far.Close()
		if err := o.Send(&Ping{N: 1}); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		o.Close()
		if d := time.Since(start); d != WriteTimeout {
			t.Errorf("close took %v, want %v", d, WriteTimeout)
		}
		<-ended
	})
}

func TestCancelledOutboxStopsAtOnceEvenWithinAWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		o, _, far, ended := runOutbox(ctx, DefaultOutbox)
		defer far.Close()
		if err := o.Send(&Ping{N: 1}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		start := time.Now()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) || time.Since(start) != 0 {
			t.Errorf("after %v: %v, want context.Canceled at once", time.Since(start), err)
		}
	})
}

func TestOutboxOfABrokenConnectionSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, _, far, ended := runOutbox(t.Context(), DefaultOutbox)
		far.Close()
		if err := o.Send(&Ping{N: 1}); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("Run ended with %v, want io.ErrClosedPipe", err)
		}
	})
}

func TestBadMessageHarmsNothingElseInTheOutbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, _, far, ended := runOutbox(t.Context(), DefaultOutbox)
		if err := o.Send(&Bye{Why: "\xff"}); err == nil || errors.Is(err, ErrSlow) || errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want an error about the message", err)
		}
		if err := o.Send(&Ping{N: 1}); err != nil {
			t.Fatal(err)
		}
		if body, err := NewReader(far, HandshakeMaxFrame).Next(); err != nil || !bytes.Equal(body, mustAppend(t, &Ping{N: 1})[header:]) {
			t.Errorf("peer got %x, %v", body, err)
		}
		o.Close()
		<-ended
	})
}

func TestOutboxClosedBeforeItRanFlushesToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		o := NewOutbox(near, DefaultOutbox, nil)
		if err := o.Send(&Ping{N: 1}); err != nil {
			t.Fatal(err)
		}
		go func() { o.Close(); near.Close() }()
		got, err := io.ReadAll(far)
		if want := mustAppend(t, &Ping{N: 1}); err != nil || !bytes.Equal(got, want) {
			t.Errorf("peer got %x, %v; want %x", got, err, want)
		}
		if err := o.Run(t.Context()); err != nil {
			t.Errorf("Run after Close: %v, want nil", err)
		}
	})
}

// A broker has a thousand of them, most of which have nothing to send at a time.
func TestOutboxesThatHaveNothingToSendHoldNoMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := new(Buffers)
		const n = 20
		var all []*Outbox
		var readers []*Reader
		for range n {
			near, far := net.Pipe()
			o := NewOutbox(near, DefaultOutbox, shared)
			go func() { _ = o.Run(t.Context()); near.Close() }() // nil once it is closed
			all, readers = append(all, o), append(readers, NewReader(far, HardMaxFrame))
		}
		why := strings.Repeat("w", 4000)
		for round := range uint64(3) {
			for i, o := range all { // all at once: each has its own until it is written
				if err := o.Send(&Bye{Why: fmt.Sprint(why, i, round)}); err != nil {
					t.Fatal(err)
				}
			}
			for i, r := range readers {
				body, err := r.Next()
				if err != nil {
					t.Fatal(err)
				}
				if m, err := DecodeToWorker(body); err != nil || m.(*Bye).Why != fmt.Sprint(why, i, round) {
					t.Fatalf("outbox %d sent %.20v, %v", i, m, err)
				}
			}
			synctest.Wait()
			for i, o := range all {
				if o.queued != nil || o.writing != 0 {
					t.Errorf("outbox %d holds %v while it has nothing to send", i, o.queued)
				}
			}
		}
		for _, o := range all {
			o.Close()
		}
	})
}
