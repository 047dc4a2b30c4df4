package protocol

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// stranger is a worker that shares no code with this package, and a broker's end to talk to it.
type stranger struct {
	t        *testing.T
	listener net.Listener
	cmd      *exec.Cmd
	conn     net.Conn
	frames   *Reader
}

func startStranger(t *testing.T) *stranger {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	path := filepath.Join(shortTempDir(t), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	cmd := exec.Command(python, "testdata/worker.py")
	cmd.Env = append(os.Environ(), "RESPIRATE_SOCKET="+path, "RESPIRATE_WORKER_KEY=sesame")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it has ended by then, if all went well
	return &stranger{t: t, listener: l, cmd: cmd}
}

// shortTempDir is a folder whose path leaves room for a socket's name.
func shortTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rwp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// greet takes its connection and returns what it says first.
func (s *stranger) greet() *Hello {
	s.t.Helper()
	conn, err := s.listener.Accept()
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	s.conn, s.frames = conn, NewReader(conn, HandshakeMaxFrame)
	s.frames.SetTimeouts(conn, 20*time.Second, 20*time.Second)
	hello, ok := s.next().(*Hello)
	if !ok {
		s.t.Fatalf("its first message is no hello")
	}
	s.say(&Welcome{Re: hello.ID, Version: 1, Broker: broker1, Session: "1", MaxFrame: DefaultMaxFrame, MaxN: 100, MaxBatch: DefaultMaxBatch, HeartMS: 200, DeadMS: 15000, LeaseMS: 120000})
	if want, ok := s.next().(*Want); !ok || want.N != 4 {
		s.t.Fatalf("it wants %+v, not 4 strands", want)
	}
	return hello
}

// next returns its next message, other than the pings of its heartbeat.
func (s *stranger) next() ToBroker {
	s.t.Helper()
	for {
		body, err := s.frames.Next()
		if err != nil {
			s.t.Fatal(err)
		}
		m, err := DecodeToBroker(body)
		if err != nil {
			s.t.Fatal(err)
		}
		if _, ping := m.(*Ping); !ping {
			return m
		}
	}
}

func (s *stranger) say(m ToWorker) {
	s.t.Helper()
	if _, err := s.conn.Write(mustAppend(s.t, m)); err != nil {
		s.t.Fatal(err)
	}
}

// hand gives it one strand.
func (s *stranger) hand(id, token, kind, args, stack string) {
	s.t.Helper()
	s.say(&Strands{Strands: []Strand{{
		ID: id, Token: token, Kind: kind, Label: "start", Args: []byte(args), Stack: []byte(stack), Queue: "default", Priority: 5, Try: 1, MaxTries: 25, TTLMS: 105000,
	}}})
}

// result returns the one result of its next message, and the id to answer it with.
func (s *stranger) result() (Result, uint64) {
	s.t.Helper()
	m, ok := s.next().(*Results)
	if !ok || len(m.Results) != 1 || len(m.Invalid) != 0 {
		s.t.Fatalf("it says %+v, not one result", m)
	}
	return m.Results[0], m.ID
}

func (s *stranger) ack(re uint64, r Result, state string) {
	s.t.Helper()
	s.say(&Ack{Re: re, Entries: []AckEntry{{Strand: r.Strand, Token: r.Token, Seq: r.Seq, State: state}}})
}

// The specification is good if a worker written from it, in another language and with its own msgpack, gets through a life with all
// its turns.
func TestWorkerInAnotherLanguageSpeaksTheProtocol(t *testing.T) {
	s := startStranger(t)
	hello := s.greet()
	if hello.Key != "sesame" || len(hello.Kinds) != 4 || len(hello.Hold) != 0 {
		t.Errorf("hello %+v, want the key, four kinds and no holds", hello)
	}
	if !slices.Equal(hello.Caps, []string{CapAckAll}) {
		t.Errorf("capabilities %v, want ack_all", hello.Caps)
	}

	s.hand(strandA, tokenA, "echo", `{"ü":[1,2.5,null]}`, "")
	r, id := s.result()
	if diff := cmp.Diff(Result{Strand: strandA, Token: tokenA, Seq: 1, Act: ActExit, Value: []byte(`{"\u00fc": [1, 2.5, null]}`)}, r); diff != "" {
		t.Errorf("echo (-want +got):\n%s", diff)
	}
	s.ack(id, r, AckApplied)

	s.hand(strandA, tokenB, "count", `null`, `[1]`)
	r, id = s.result()
	if diff := cmp.Diff(Result{Strand: strandA, Token: tokenB, Seq: 1, Act: ActNap, DelayMS: ms(10), Stack: []byte(`[2]`)}, r); diff != "" {
		t.Errorf("count (-want +got):\n%s", diff)
	}
	s.ack(id, r, AckLater) // it comes again
	if again, _ := s.result(); cmp.Diff(r, again) != "" {
		t.Errorf("sent later: %+v, want %+v", again, r)
	}
	s.say(&Ping{N: 7})
	if pong, ok := s.next().(*Pong); !ok || pong.N != 7 {
		t.Errorf("a ping is answered by %+v", pong)
	}

	s.conn.Close() // with the nap not acked
	hello = s.greet()
	if diff := cmp.Diff([]Hold{{Strand: strandA, Token: tokenB, Kind: "count", State: HoldDone}}, hello.Hold); diff != "" {
		t.Errorf("holds after a reconnect (-want +got):\n%s", diff)
	}
	again, id := s.result()
	if diff := cmp.Diff(r, again); diff != "" {
		t.Errorf("result after a reconnect (-first +again):\n%s", diff)
	}
	s.ack(id, again, AckDup)

	s.hand(strandB, tokenC, "boom", `null`, "")
	r, id = s.result()
	if diff := cmp.Diff(Result{Strand: strandB, Token: tokenC, Seq: 1, Act: ActFail, Failure: &Failure{Class: "ValueError", Message: "boom, as asked"}}, r); diff != "" {
		t.Errorf("boom (-want +got):\n%s", diff)
	}
	s.say(&Ack{Re: id, All: true, Entries: []AckEntry{}})

	s.hand(strandC, tokenA, "wait", `null`, "")
	s.say(&Cancel{Cancels: []Stop{{Strand: strandC, Token: tokenA, Why: StopTimeout, ByMS: 10000}}})
	r, id = s.result()
	s.ack(id, r, AckStale)

	s.hand(strandC, tokenB, "wait", `null`, "")
	s.say(&Drain{ByMS: 30000, Why: "stop"})
	if r, id = s.result(); r.Act != ActRelease || r.Token != tokenB {
		t.Errorf("a draining worker reports %+v, want a release", r)
	}
	s.say(&Ack{Re: id, All: true, Entries: []AckEntry{}})
	if bye, ok := s.next().(*Bye); !ok {
		t.Errorf("it ends with %+v, want bye", bye)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("the process: %v", err)
	}
}
