package worker

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/respirated/respirated/protocol"
)

// BenchmarkWorker measures what a strand costs between the socket and a handler that does nothing, and back, with a
// broker that acks at once and keeps the worker's want filled. It counts the broker's half of the work, too.
func BenchmarkWorker(b *testing.B) {
	socket := filepath.Join(b.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	mux := NewMux()
	AddFunc(mux, func(context.Context, *Strand[plain]) error { return nil })
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, mux, Config{Socket: socket, Logger: slog.New(slog.DiscardHandler)}) }()
	conn, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()

	broker := &quickBroker{b: b, conn: conn, frames: protocol.NewReader(conn, protocol.DefaultMaxFrame), ids: make([]string, 2048)}
	for i := range broker.ids {
		broker.ids[i] = protocol.NewID()
	}
	b.ReportAllocs()
	b.ResetTimer()
	broker.serve(b.N)
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "strands/s")
	b.ReportMetric(float64(b.N)/float64(broker.results), "results/frame")
	stop()
	broker.serve(0)
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

// quickBroker hands out strands as fast as they come back.
type quickBroker struct {
	b       *testing.B
	conn    net.Conn
	frames  *protocol.Reader
	ids     []string // for strands and tokens, in turn
	given   int
	results int // frames
	want    int
	held    int
}

// serve hands out n strands and returns when all are acked; of none, when the worker says bye.
func (q *quickBroker) serve(n int) {
	for left, todo := n, n; n == 0 || left > 0; {
		switch m := q.next().(type) {
		case *protocol.Hello:
			now := protocol.BootNS()
			q.send(&protocol.Welcome{Re: m.ID, Version: 1, Broker: q.ids[0], Session: "1", MaxFrame: protocol.DefaultMaxFrame,
				MaxN: protocol.DefaultMaxN, MaxBatch: protocol.DefaultMaxBatch, HeartMS: 5000, DeadMS: 15000, LeaseMS: 120_000, BootNS: now})
		case *protocol.Want:
			q.want = int(m.N)
		case *protocol.Results:
			left -= len(m.Results)
			q.ack(m)
		case *protocol.Bye:
			return
		}
		todo -= q.give(min(todo, q.want-q.held))
	}
}

func (q *quickBroker) next() protocol.ToBroker {
	body, err := q.frames.Next()
	if err != nil {
		q.b.Fatal(err)
	}
	m, err := protocol.DecodeToBroker(body)
	if err != nil {
		q.b.Fatal(err)
	}
	return m
}

func (q *quickBroker) send(m protocol.Message) {
	frame, err := protocol.Append(nil, m)
	if err != nil {
		q.b.Fatal(err)
	}
	if _, err := q.conn.Write(frame); err != nil {
		q.b.Fatal(err)
	}
}

func (q *quickBroker) ack(m *protocol.Results) {
	q.results++
	q.held -= len(m.Results)
	ack := &protocol.Ack{Re: m.ID}
	for _, r := range m.Results {
		ack.Entries = append(ack.Entries, protocol.AckEntry{Strand: r.Strand, Token: r.Token, Seq: r.Seq, State: protocol.AckApplied})
	}
	q.send(ack)
}

func (q *quickBroker) give(n int) int {
	if n <= 0 {
		return 0
	}
	m := &protocol.Strands{}
	deadline := protocol.BootNS() + int64(2*time.Minute)
	for range n {
		id := q.ids[q.given%len(q.ids)]
		q.given++
		m.Strands = append(m.Strands, protocol.Strand{ID: id, Token: id, Kind: "plain", Label: StartLabel, Args: []byte("{}"),
			Queue: "default", Priority: 5, Try: 1, MaxTries: 25, DeadlineNS: deadline, TTLMS: 120_000})
	}
	q.held += n
	q.send(m)
	return n
}
