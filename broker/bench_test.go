package broker

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/respirated/respirated/protocol"
)

// What the broker itself costs for each strand: its decisions (step), its memory of what it has seen (scanner), and its
// conversation with a worker (session). The database's part is in broker/postgres, the codec's in protocol.

// busyWant is what a worker of 10 slots asks for while its runs are short.
const busyWant = 640

// BenchmarkStep takes strands all their way through the schedule: scanned, leased, handed out, reported, committed and
// acked, with an outside that answers everything at once. What that allocates counts, as it does in a broker.
func BenchmarkStep(b *testing.B) {
	for _, workers := range []int{4, 256} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			w := newOutside(workers)
			b.ReportAllocs()
			for b.Loop() {
				for end := w.ended + benchStrands; w.ended < end; {
					w.turn()
				}
			}
			reportPerStrand(b, benchStrands)
		})
	}
}

// benchStrands is how many strands go through one iteration, at least.
const benchStrands = 1000

func reportPerStrand(b *testing.B, each int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*each), "ns/strand")
}

// outside is the world around a schedule: a database with a backlog that has no end, and workers that do nothing.
type outside struct {
	*schedule
	now    int64
	fx     effects
	events []event
	made   uint64     // strands
	held   [][]Report // by session, of runs that were handed out
	ended  int
}

func newOutside(workers int) *outside {
	l, err := Config{Host: "h"}.withDefaults()
	if err != nil {
		panic("bug: the defaults are refused: " + err.Error())
	}
	o := &outside{schedule: newSchedule(ID{1}, [32]byte{1}, l.limits()), now: t0, held: make([][]Report, workers+1)}
	for i := 1; i <= workers; i++ {
		session := sessionID(i)
		o.events = append(o.events,
			greeted{session: session, worker: fmt.Sprint(i), kinds: []protocol.Kind{{Name: "k"}}}, wanted{session, busyWant, 1 << 20})
	}
	o.fx = o.step(o.now, o.events...)
	return o
}

// turn answers the effects of the last step and takes the next one.
func (o *outside) turn() {
	o.now += int64(time.Millisecond)
	o.events = o.events[:0]
	if o.fx.scan != nil {
		o.events = append(o.events, scanned{ScanResult: o.found(o.fx.scan.Limit)})
	}
	if o.fx.announce != nil {
		o.events = append(o.events, announced{})
	}
	for session, reports := range o.held {
		if len(reports) > 0 {
			o.events = append(o.events, reported{session: sessionID(session), re: 1, reports: reports})
			o.held[session] = nil
		}
	}
	if o.fx.lease != nil {
		o.events = append(o.events, leased{granted: strandsOf(o.fx.lease)})
		for _, p := range o.fx.lease {
			session := o.workers[o.runs[p.ID].worker].session
			o.held[session] = append(o.held[session], exitOf(p))
		}
	}
	if o.fx.commit != nil {
		o.ended += len(o.fx.commit)
		verdicts := make([]Verdict, len(o.fx.commit))
		for i := range verdicts {
			verdicts[i].State = Applied
		}
		o.events = append(o.events, committed{verdicts: verdicts})
	}
	o.fx = o.step(o.now, o.events...)
}

func (o *outside) found(limit int) ScanResult {
	candidates := make([]Candidate, limit)
	for i := range candidates {
		o.made++
		candidates[i] = Candidate{Kind: "k", Priority: 5}
		binary.BigEndian.PutUint64(candidates[i].ID[:], o.made)
	}
	return ScanResult{Candidates: candidates, More: true}
}

// BenchmarkScanner has a scan from the bottom find again what is at hand already, as it does every few seconds.
func BenchmarkScanner(b *testing.B) {
	o := newOutside(4)
	again := scanned{ScanResult: o.found(mostAhead)}
	d := o.schedule.databases[0]
	d.scanner.found(d, o.now, again)
	b.ReportAllocs()
	for b.Loop() {
		d.scanner.found(d, o.now, again)
	}
	if got := d.buffer.len(); got != mostAhead {
		b.Fatalf("%d candidates are at hand, want the %d that were found first", got, mostAhead)
	}
	reportPerStrand(b, mostAhead)
}

// sessionBatch is how many strands travel in one frame of a busy worker.
const sessionBatch = 100

// BenchmarkSession takes a frame of results from a worker's socket to the loop, and frames of acks and new strands back.
// The worker's half only moves bytes.
func BenchmarkSession(b *testing.B) {
	s := newSocketBench(b)
	defer s.close()
	results, acks, strands := busyFrames()
	frame := s.encode(results)
	b.ReportAllocs()
	b.SetBytes(int64(len(frame) + len(s.encode(acks)) + len(s.encode(strands))))
	for b.Loop() {
		s.say(frame)
		got := (<-s.broker.events).(reported)
		if len(got.reports) != sessionBatch {
			b.Fatalf("%d reports reached the loop, want %d", len(got.reports), sessionBatch)
		}
		s.answer(got.session, acks, strands)
	}
	reportPerStrand(b, sessionBatch)
}

// busyFrames are what a busy worker says, and is told.
func busyFrames() (*protocol.Results, *protocol.Ack, *protocol.Strands) {
	results, acks, strands := &protocol.Results{ID: 1}, &protocol.Ack{Re: 1}, &protocol.Strands{}
	for range sessionBatch {
		var p Pair
		rand.Read(p.ID[:])
		rand.Read(p.Token[:])
		id, token := p.ID.String(), p.Token.String()
		results.Results = append(results.Results, protocol.Result{Strand: id, Token: token, Seq: 1, Act: protocol.ActExit})
		acks.Entries = append(acks.Entries, protocol.AckEntry{Strand: id, Token: token, Seq: 1, State: protocol.AckApplied})
		strands.Strands = append(strands.Strands, wireStrand(&Strand{
			ID: p.ID, Token: p.Token, Kind: "mail.send", Label: "start", Queue: "default", Priority: 5, MaxTries: 25,
			Args: []byte(`{"to":"bob@example.org","template":"welcome"}`),
		}, t0+120*second, t0, 0))
	}
	return results, acks, strands
}

// socketBench is one session over a real socket, whose worker and whose loop are the benchmark.
type socketBench struct {
	b      *testing.B
	broker *Broker
	conn   net.Conn // the worker's end
	frames *protocol.Reader
	served sync.WaitGroup
}

func newSocketBench(b *testing.B) *socketBench {
	broker, err := New(nil, nil, Config{Host: "h", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(b.TempDir(), "s"))
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	s := &socketBench{b: b, broker: broker}
	if s.conn, err = net.Dial("unix", l.Addr().String()); err != nil {
		b.Fatal(err)
	}
	ours, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	s.served.Go(func() { broker.serve(1, ours) })
	s.frames = protocol.NewReader(s.conn, protocol.DefaultMaxFrame)
	s.say(s.encode(&protocol.Hello{ID: 1, Versions: []uint64{1, 1}, Lib: "l/1", Worker: strandID(9).String(), Kinds: []protocol.Kind{{Name: "mail.send"}}}))
	if _, ok := (<-broker.events).(greeted); !ok {
		b.Fatal("the first event of a session is no greeting")
	}
	return s
}

func (s *socketBench) encode(m protocol.Message) []byte {
	frame, err := protocol.Append(nil, m)
	if err != nil {
		s.b.Fatal(err)
	}
	return frame
}

func (s *socketBench) say(frame []byte) {
	if _, err := s.conn.Write(frame); err != nil {
		s.b.Fatal(err)
	}
}

// answer sends as the loop does, and reads as the worker.
func (s *socketBench) answer(session sessionID, messages ...protocol.ToWorker) {
	frames := make([]sending, len(messages))
	for i, m := range messages {
		frames[i] = sending{session, m}
	}
	s.broker.send(frames)
	for range messages {
		if _, err := s.frames.Next(); err != nil {
			s.b.Fatal(err)
		}
	}
}

// close ends the session from the worker's side and takes the events that this makes.
func (s *socketBench) close() {
	close(s.broker.over)
	s.conn.Close()
	s.served.Wait()
}
