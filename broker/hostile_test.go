package broker_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/brokertest"
	"github.com/respirated/respirated/protocol"
	"github.com/respirated/respirated/worker"
)

// talker is a peer that says what it likes.
type talker struct {
	t    *testing.T
	conn net.Conn
	in   *protocol.Reader

	waiting []protocol.ToWorker // heard, and not yet asked for by await
}

func (h *host) talk() *talker {
	h.t.Helper()
	conn, err := net.Dial("unix", h.socket)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	return &talker{t: h.t, conn: conn, in: protocol.NewReader(conn, protocol.HardMaxFrame)}
}

func (k *talker) say(messages ...protocol.Message) *talker {
	k.t.Helper()
	for _, m := range messages {
		frame, err := protocol.Append(nil, m)
		if err != nil {
			k.t.Fatal(err)
		}
		k.write(frame)
	}
	return k
}

// write sends raw bytes. The broker may hang up in the middle of them.
func (k *talker) write(raw []byte) *talker {
	_, _ = k.conn.Write(raw)
	return k
}

// hear returns the next message.
func (k *talker) hear() (protocol.ToWorker, error) {
	frame, err := k.in.Next()
	if err != nil {
		return nil, err
	}
	return protocol.DecodeToWorker(frame)
}

// fault waits for an error message of the broker.
func (k *talker) fault() *protocol.Err {
	k.t.Helper()
	for {
		m, err := k.hear()
		if err != nil {
			k.t.Fatalf("the broker said nothing before it hung up: %v", err)
		}
		if fault, ok := m.(*protocol.Err); ok {
			return fault
		}
	}
}

// closed waits until the broker has hung up.
func (k *talker) closed() bool {
	for {
		if _, err := k.in.Next(); err != nil {
			return !os.IsTimeout(err)
		}
	}
}

func frameOf(body ...byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

func hello() *protocol.Hello {
	return &protocol.Hello{
		ID: 1, Versions: []uint64{1, 1}, Lib: "test/1", Worker: "6ba7b810-9dad-41d1-80b4-00c04fd430c8", PID: 1,
		Kinds: []protocol.Kind{{Name: "echo"}},
	}
}

// TestHostilePeersGetTheRightCodeAndHarmNobody goes through everything a broken or hostile peer may send, while a
// worker beside it does its work.
func TestHostilePeersGetTheRightCodeAndHarmNobody(t *testing.T) {
	store := brokertest.NewStore(time.Now)
	h := serve(t, store, filepath.Join(socketDir(t), "d", "s.sock"), broker.Config{})
	mux := worker.NewMux()
	worker.AddFunc(mux, func(context.Context, *worker.Strand[echoArgs]) error { return nil })
	h.work(mux, 4)
	ids := insert(t, store, "echo", 200)

	nested := append([]byte{0x81, 0xa1, 'x'}, []byte(strings.Repeat("\x91", 3000))...)
	ping, err := protocol.Append(nil, &protocol.Ping{N: 1})
	if err != nil {
		t.Fatal(err)
	}
	flood := func(k *talker) { k.say(hello()).write(bytes.Repeat(ping, 3000)) }
	tooOld := hello()
	tooOld.Versions = []uint64{7, 9}
	for _, c := range []struct {
		name string
		do   func(*talker)
		want protocol.Code
	}{
		{"empty frame", func(k *talker) { k.write(frameOf()) }, protocol.CodeBadFrame},
		{"http", func(k *talker) { k.write([]byte("GET / HTTP/1.1\r\n\r\n")) }, protocol.CodeTooLarge},
		{"huge frame announced", func(k *talker) { k.write([]byte{0xff, 0xff, 0xff, 0xff}) }, protocol.CodeTooLarge},
		{"not a map", func(k *talker) { k.write(frameOf(0x93, 1, 2, 3)) }, protocol.CodeBadFrame},
		{"array of 4 G elements", func(k *talker) { k.write(frameOf(0x81, 0xa2, 'o', 'p', 0xdd, 0xff, 0xff, 0xff, 0xff)) }, protocol.CodeBadFrame},
		{"bin of 2 GB", func(k *talker) { k.write(frameOf(0x81, 0xa2, 'o', 'p', 0xc6, 0x7f, 0xff, 0xff, 0xff)) }, protocol.CodeBadFrame},
		{"deep nesting", func(k *talker) { k.write(frameOf(nested...)) }, protocol.CodeBadFrame},
		{"trailing bytes", func(k *talker) { k.write(frameOf(0x80, 0xc0)) }, protocol.CodeBadFrame},
		{"other version", func(k *talker) { k.say(tooOld) }, protocol.CodeVersion},
		{"want before hello", func(k *talker) { k.say(&protocol.Want{N: 1}) }, protocol.CodeState},
		{"hello twice", func(k *talker) { k.say(hello(), hello()) }, protocol.CodeState},
		{"want above the most", func(k *talker) { k.say(hello(), &protocol.Want{N: protocol.DefaultMaxN + 1}) }, protocol.CodeRange},
		{"ping flood", flood, protocol.CodeRate},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			k := (&host{t: t, socket: h.socket}).talk()
			go c.do(k) // it may block: a broker that has hung up does not read
			if fault := k.fault(); fault.Code != c.want || !fault.Fatal {
				t.Errorf("got %v (fatal: %v), want a fatal %s", fault, fault.Fatal, c.want)
			}
			if !k.closed() {
				t.Error("the connection is still open")
			}
		})
	}
	brokertest.Eventually(t, "the worker beside them has done its work", allFinished(store, ids, brokertest.Done))
}

func TestSilentConnectionIsClosedAfterTheHandshakeTime(t *testing.T) {
	h := serve(t, brokertest.NewStore(time.Now), filepath.Join(socketDir(t), "d", "s.sock"), broker.Config{})
	start := time.Now()
	if k := h.talk(); !k.closed() {
		t.Fatal("the connection is still open")
	}
	if took := time.Since(start); took < protocol.HandshakeTimeout || took > 3*protocol.HandshakeTimeout {
		t.Errorf("closed after %v, want about %v", took, protocol.HandshakeTimeout)
	}
}

func TestUnknownMethodAndFieldFaultsDoNotEndTheSession(t *testing.T) {
	h := serve(t, brokertest.NewStore(time.Now), filepath.Join(socketDir(t), "d", "s.sock"), broker.Config{})
	k := h.talk().say(hello(), &protocol.Call{ID: 5, Method: "no-such"}, &protocol.Ping{N: 77})
	var reply *protocol.Reply
	for {
		m, err := k.hear()
		if err != nil {
			t.Fatalf("the session ended: %v", err)
		}
		if r, ok := m.(*protocol.Reply); ok {
			reply = r
		}
		if pong, ok := m.(*protocol.Pong); ok && pong.N == 77 {
			break
		}
	}
	if reply == nil || reply.Err == nil || reply.Err.Code != protocol.CodeUnknownOp {
		t.Errorf("reply %+v, want %s", reply, protocol.CodeUnknownOp)
	}
}

func TestInsertByCallIsDoneOnceHoweverOftenItIsSent(t *testing.T) {
	store := brokertest.NewStore(time.Now)
	h := serve(t, store, filepath.Join(socketDir(t), "d", "s.sock"), broker.Config{})
	call := &protocol.Call{ID: 5, Method: protocol.MethodInsert, Inserts: []protocol.Insert{
		{Key: "0d9d1f7e-5a3c-4a6e-9d55-1f1c3b0a7e11", Kind: "later", Args: []byte("{}")},
	}}
	k := h.talk().say(hello(), call, call)
	for replies := 0; replies < 2; {
		m, err := k.hear()
		if err != nil {
			t.Fatal(err)
		}
		if r, ok := m.(*protocol.Reply); ok {
			replies++
			if r.Err != nil || len(r.IDs) != 1 || r.IDs[0] != call.Inserts[0].Key {
				t.Errorf("reply %+v (%v), want the id that was asked for", r, r.Err)
			}
		}
	}
	id, err := broker.ParseID(call.Inserts[0].Key)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := store.Row(id); !ok {
		t.Error("the strand is not there")
	}
}

func TestWorkerWithAKeyOfAnotherBrokerIsServedAsNobodys(t *testing.T) {
	h := serve(t, brokertest.NewStore(time.Now), filepath.Join(socketDir(t), "d", "s.sock"), broker.Config{})
	inherited := hello()
	inherited.Key = "key of another broker"
	if m, err := h.talk().say(inherited).hear(); err != nil || m.Op() != "welcome" {
		t.Fatalf("got %v, %v; want welcome", m, err)
	}
	snap, err := h.broker.Snapshot(t.Context())
	if err != nil || len(snap.Workers) != 1 || snap.Workers[0].Key != "" {
		t.Errorf("got %+v, %v; want one worker without a key", snap, err)
	}
}

// TestPeerThatAnnouncesMuchAndSendsNothingCostsLittle opens many connections that each announce a frame of the largest
// size and then stall.
func TestPeerThatAnnouncesMuchAndSendsNothingCostsLittle(t *testing.T) {
	h := serve(t, brokertest.NewStore(time.Now), filepath.Join(socketDir(t), "d", "s.sock"), broker.Config{})
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	before := heap()
	const peers = 200
	for range peers {
		k := h.talk().say(hello())
		if _, err := k.hear(); err != nil { // welcome
			t.Fatal(err)
		}
		k.write([]byte{0, 0x3f, 0xff, 0xff, 0x81}) // 4 MiB, of which one byte comes
	}
	if each := (int64(heap()) - int64(before)) / peers; each > 64<<10 {
		t.Errorf("each stalled peer costs %d bytes, both ends counted, want at most 64 KiB", each)
	}
}

func TestWorkerThatDoesNotReadIsCutOffAndOthersAreServed(t *testing.T) {
	store := brokertest.NewStore(time.Now)
	h := serve(t, store, filepath.Join(socketDir(t), "d", "s.sock"), broker.Config{MaxFrame: 64 << 10, DrainTimeout: 100 * time.Millisecond})
	for range 100 {
		if _, err := store.Insert(t.Context(), []broker.Insert{{Kind: "big", Args: []byte(`{"x":"` + strings.Repeat("x", 20<<10) + `"}`)}}); err != nil {
			t.Fatal(err)
		}
	}
	greeting := hello()
	greeting.Kinds = []protocol.Kind{{Name: "big"}}
	deaf := h.talk().say(greeting, &protocol.Want{N: 100})
	if m, err := deaf.hear(); err != nil || m.Op() != "welcome" {
		t.Fatalf("got %v, %v; want welcome", m, err)
	}
	brokertest.Eventually(t, "it is cut off", func() bool {
		snap, err := h.broker.Snapshot(t.Context())
		return err == nil && len(snap.Workers) == 1 && !snap.Workers[0].Connected
	})
	mux := worker.NewMux()
	worker.AddFunc(mux, func(context.Context, *worker.Strand[echoArgs]) error { return nil })
	h.work(mux, 2)
	ids := insert(t, store, "echo", 100)
	brokertest.Eventually(t, "the others are served", allFinished(store, ids, brokertest.Done))
}

func TestHelloMayBeLongerThanLaterFrames(t *testing.T) {
	h := serve(t, brokertest.NewStore(time.Now), filepath.Join(socketDir(t), "d", "s.sock"), broker.Config{MaxFrame: 64 << 10})
	greeting := hello()
	for range protocol.DefaultMaxN {
		held := protocol.Hold{Kind: "echo", State: protocol.HoldDone, Strand: greeting.Worker, Token: greeting.Worker}
		greeting.Hold = append(greeting.Hold, held)
	}
	if m, err := h.talk().say(greeting).hear(); err != nil || m.Op() != "welcome" {
		t.Fatalf("got %v, %v; want welcome for all that a worker can hold", m, err)
	}
}

func TestMoreConnectionsThanAllowedAreToldSo(t *testing.T) {
	h := serve(t, brokertest.NewStore(time.Now), filepath.Join(socketDir(t), "d", "s.sock"), broker.Config{MaxSessions: 1})
	first := h.talk().say(hello())
	if _, err := first.hear(); err != nil {
		t.Fatal(err)
	}
	if fault := h.talk().fault(); fault.Code != protocol.CodeFull || fault.RetryMS == 0 {
		t.Errorf("got %v, want %s with a time to retry", fault, protocol.CodeFull)
	}
}

// TestOfAllConnectionsThatWaitedForAStoppedBrokerTheLastOneCounts: a worker that nobody answers tries again and again,
// and the broker finds all its attempts at once.
func TestOfAllConnectionsThatWaitedForAStoppedBrokerTheLastOneCounts(t *testing.T) {
	l, err := broker.ListenSocket(filepath.Join(socketDir(t), "d", "s.sock"))
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, socket: l.Path}
	for range 50 {
		h.talk().say(hello()).conn.Close()
	}
	last := h.talk().say(hello())
	b, err := broker.New(brokertest.NewStore(time.Now), nil, broker.Config{Logger: quietLog()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx, l) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	if m, err := last.hear(); err != nil || m.Op() != "welcome" {
		t.Fatalf("got %v and error %v, want a welcome", m, err)
	}
	for n := range uint64(20) { // while the others are read
		if m, err := last.say(&protocol.Ping{N: n}).hear(); err != nil || m.Op() != "pong" {
			t.Fatalf("got %v and error %v, want a pong", m, err)
		}
	}
}
