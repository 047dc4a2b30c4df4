package worker

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/respirated/respirated/protocol"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "-as-worker=") {
		beWorker(strings.TrimPrefix(os.Args[1], "-as-worker="))
	}
	goleak.VerifyTestMain(m)
}

// bench is a worker on a workbench: it runs in a synctest bubble, and the test plays its broker.
type bench struct {
	t      *testing.T
	mux    *Mux
	cfg    Config
	dialed chan net.Conn // the broker's ends
	away   atomic.Bool   // there is no broker
	exited chan int      // statuses that the process wanted to end with

	stop    context.CancelFunc
	outcome chan error // of live
}

func newBench(t *testing.T) *bench {
	return &bench{
		t:      t,
		mux:    NewMux(),
		cfg:    Config{Slots: 2, Logger: slog.New(slog.DiscardHandler)},
		dialed: make(chan net.Conn, 1),
		exited: make(chan int, 1),
	}
}

// start brings the worker to life.
func (b *bench) start() {
	cfg, err := b.cfg.withDefaults(func(string) string { return "" })
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	b.stop, b.outcome = cancel, make(chan error, 1)
	go func() {
		b.outcome <- live(ctx, b.mux, cfg, world{
			boot: bubbleClock,
			rand: func() float64 { return 1 },
			exit: func(code int) { b.exited <- code },
			dial: b.dial,
		})
	}()
}

// bubbleClock makes a boot clock of the time in a synctest bubble.
func bubbleClock() int64 { return time.Now().UnixNano() }

func (b *bench) dial(ctx context.Context) (net.Conn, error) {
	if b.away.Load() {
		return nil, syscall.ECONNREFUSED
	}
	near, far := net.Pipe()
	select {
	case b.dialed <- far:
		return near, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// end asks the worker to stop and returns what Run did. It must not hold anything.
func (b *bench) end() error {
	b.stop()
	return b.ended()
}

func (b *bench) ended() error {
	b.t.Helper()
	select {
	case err := <-b.outcome:
		return err
	case <-time.After(time.Hour):
		b.t.Fatal("the worker lives on")
		return nil
	}
}

// peer is the broker's end of one connection.
type peer struct {
	t    *testing.T
	conn net.Conn
	in   chan protocol.ToBroker // closed at the end of the stream
	err  error                  // why it ended
	over chan struct{}          // closed by cut
	boot func() int64           // the broker's clock

	wants []uint64 // those passed over by next
}

func newPeer(t *testing.T, conn net.Conn, boot func() int64) *peer {
	p := &peer{t: t, conn: conn, boot: boot, in: make(chan protocol.ToBroker, 10_000), over: make(chan struct{})}
	go p.read()
	return p
}

func (p *peer) read() {
	defer close(p.in)
	frames := protocol.NewReader(p.conn, protocol.HardMaxFrame)
	for {
		body, err := frames.Next()
		if err != nil {
			p.err = err
			return
		}
		m, err := protocol.DecodeToBroker(body)
		if err != nil {
			p.err = err
			return
		}
		p.in <- m
	}
}

// accept waits for the worker's connection.
func (b *bench) accept() *peer {
	b.t.Helper()
	select {
	case conn := <-b.dialed:
		return newPeer(b.t, conn, bubbleClock)
	case <-time.After(time.Hour):
		b.t.Fatal("the worker does not connect")
		return nil
	}
}

// greet accepts a connection, welcomes the worker and takes its first want.
func (b *bench) greet() (*peer, *protocol.Hello) {
	b.t.Helper()
	p := b.accept()
	hello := next[*protocol.Hello](p)
	p.welcome(hello)
	return p, hello
}

func (p *peer) welcome(hello *protocol.Hello, change ...func(*protocol.Welcome)) {
	p.t.Helper()
	w := &protocol.Welcome{Re: hello.ID, Version: 1, Broker: protocol.NewID(), Session: "s", MaxFrame: protocol.DefaultMaxFrame,
		MaxN: protocol.DefaultMaxN, MaxBatch: protocol.DefaultMaxBatch, HeartMS: 5000, DeadMS: 15000, LeaseMS: 120_000,
		BootNS: p.boot()}
	for _, f := range change {
		f(w)
	}
	p.send(w)
}

// next is the worker's next message, which has to be an M. Signs of life and wants are passed over, unless M is one.
func next[M protocol.ToBroker](p *peer) M {
	p.t.Helper()
	for {
		var m protocol.ToBroker
		select {
		case m = <-p.in:
		case <-time.After(time.Hour):
		}
		switch m := m.(type) {
		case M:
			return m
		case *protocol.Ping:
			p.send(&protocol.Pong{N: m.N})
			continue
		case *protocol.Want:
			p.wants = append(p.wants, m.N)
			continue
		case *protocol.Pong:
			continue
		}
		var want M
		p.t.Fatalf("got %T %+v, want %T (stream: %v)", m, m, want, p.err)
	}
}

func (p *peer) send(m protocol.Message) {
	p.t.Helper()
	frame, err := protocol.Append(nil, m)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.conn.Write(frame); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		p.t.Fatal(err)
	}
}

// give hands out a strand with a fresh id and token, and a lease of two minutes.
func (p *peer) give(kind string, change ...func(*protocol.Strand)) protocol.Strand {
	p.t.Helper()
	strand := protocol.Strand{
		ID: protocol.NewID(), Token: protocol.NewID(), Kind: kind, Label: StartLabel, Args: []byte(`{}`), Queue: "default", Priority: 5,
		Try: 1, MaxTries: 25, CreatedMS: 1, DeadlineNS: p.boot() + int64(2*time.Minute), TTLMS: 120_000,
	}
	for _, f := range change {
		f(&strand)
	}
	p.send(&protocol.Strands{Strands: []protocol.Strand{strand}})
	return strand
}

// ack answers every result of a frame.
func (p *peer) ack(m *protocol.Results, state string) {
	p.t.Helper()
	ack := &protocol.Ack{Re: m.ID}
	for _, r := range m.Results {
		ack.Entries = append(ack.Entries, protocol.AckEntry{Strand: r.Strand, Token: r.Token, Seq: r.Seq, State: state})
	}
	p.send(ack)
}

// result is the next result frame, which has to hold one result; it is acked as applied.
func (p *peer) result() protocol.Result {
	p.t.Helper()
	m := next[*protocol.Results](p)
	if len(m.Results) != 1 {
		p.t.Fatalf("got %d results in one frame, want 1", len(m.Results))
	}
	p.ack(m, protocol.AckApplied)
	return m.Results[0]
}

// cut ends the connection.
func (p *peer) cut() {
	close(p.over)
	_ = p.conn.Close()
}

// keepAlive lets the worker hear from its broker until the connection is cut.
func (p *peer) keepAlive() {
	for {
		select {
		case <-time.After(5 * time.Second):
			p.send(&protocol.Ping{N: 1})
		case <-p.over:
			return
		}
	}
}

// inBubble runs a test in virtual time.
func inBubble(t *testing.T, f func(t *testing.T, b *bench)) {
	synctest.Test(t, func(t *testing.T) { f(t, newBench(t)) })
}

// runOne runs one strand through a worker with the given mux, and returns its result.
func runOne(t *testing.T, mux *Mux, kind string, change ...func(*protocol.Strand)) (result protocol.Result) {
	t.Helper()
	inBubble(t, func(t *testing.T, b *bench) {
		b.mux = mux
		b.start()
		p, _ := b.greet()
		next[*protocol.Want](p)
		p.give(kind, change...)
		result = p.result()
		b.stop()
		if err := b.ended(); err != nil {
			t.Errorf("Run: %v", err)
		}
		p.cut()
	})
	return result
}

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
