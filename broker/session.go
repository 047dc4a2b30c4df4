package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/respirated/respirated/protocol"
)

// door keeps the open sessions, so that the loop can reach them by number.
type door struct {
	most   int // sessions
	outbox int // bytes that may wait for a worker that does not read

	buffers protocol.Buffers // of all sessions

	mu       sync.Mutex // guards what follows
	sessions map[sessionID]*session
	closed   bool
}

// session is one connection of a worker. Its reader turns frames into events; its outbox writes.
type session struct {
	id   sessionID
	conn net.Conn
	out  *protocol.Outbox
	peer peer

	queued bool // frames wait in out to be flushed; loop only
}

// enter admits a connection, or says why not.
func (d *door) enter(id sessionID, conn net.Conn, p peer) (*session, *protocol.Err) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed:
		return nil, &protocol.Err{Code: protocol.CodeFull, Message: "the broker stops", Fatal: true, RetryMS: 1000}
	case len(d.sessions) >= d.most:
		return nil, &protocol.Err{Code: protocol.CodeFull, Message: fmt.Sprintf("%d connections are open; that is the most", d.most), Fatal: true, RetryMS: 1000}
	}
	s := &session{id: id, conn: conn, peer: p, out: protocol.NewOutbox(conn, d.outbox, &d.buffers)}
	d.sessions[s.id] = s
	return s, nil
}

func (d *door) leave(id sessionID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.sessions, id)
}

func (d *door) get(id sessionID) *session {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sessions[id]
}

// queue queues a frame, which flush sends. After an error the connection is closed; what its worker holds is settled when that
// is noticed. It returns nil for a session that has just left.
func (d *door) queue(id sessionID, m protocol.ToWorker) (*session, error) {
	s := d.get(id)
	if s == nil {
		return nil, nil
	}
	err := s.out.Queue(m)
	if errors.Is(err, protocol.ErrClosed) {
		err = nil // it is leaving
	} else if err != nil {
		s.conn.Close()
	}
	return s, err
}

// readOut ends a session once everything is read that its process, which has ended, has sent.
func (d *door) readOut(id sessionID) {
	if s := d.get(id); s != nil {
		endReading(s.conn)
	}
}

// hangUp ends a session after a last word. Closing waits for the writer, so it does not happen on the caller's time.
func (d *door) hangUp(id sessionID, last *protocol.Err) {
	if s := d.get(id); s != nil {
		go s.end(last)
	}
}

// end sends a last word and closes.
func (s *session) end(last protocol.ToWorker) {
	if last != nil {
		_ = s.out.Send(last) // a worker that does not read does not get it
	}
	s.out.Close()
	s.conn.Close()
}

// dismiss says bye to everybody who is there.
func (d *door) dismiss() {
	d.mu.Lock()
	sessions := slices.Collect(maps.Values(d.sessions))
	d.mu.Unlock()
	var wg sync.WaitGroup
	for _, s := range sessions {
		wg.Go(func() { s.end(&protocol.Bye{Why: "the broker is about to be another build"}) })
	}
	wg.Wait()
}

// close says bye to everybody.
func (d *door) close() {
	d.mu.Lock()
	d.closed = true
	sessions := d.sessions
	d.sessions = map[sessionID]*session{}
	d.mu.Unlock()
	var wg sync.WaitGroup
	for _, s := range sessions {
		wg.Go(func() { s.end(&protocol.Bye{Why: "the broker stops"}) })
	}
	wg.Wait()
}

// accept takes connections until the listener is closed, and waits for their sessions to end. It numbers them in the
// order in which they were made: many may have waited, of which a worker has given up all but the last.
func (b *Broker) accept(l net.Listener) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for id := sessionID(1); ; id++ {
		conn, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			b.log.Error("accept failed", "error", err)
			time.Sleep(100 * time.Millisecond) // out of descriptors: some will be free
			continue
		}
		wg.Go(func() { b.serve(id, conn) })
	}
}

// serve is the life of one connection.
func (b *Broker) serve(id sessionID, conn net.Conn) {
	defer conn.Close()
	p, err := peerOf(conn)
	if err != nil || !p.mayConnect(b.cfg.Admits) {
		b.log.Warn("connection refused", "peer", p, "error", err)
		refuse(conn, denied())
		return
	}
	s, full := b.door.enter(id, conn, p)
	if full != nil {
		refuse(conn, full)
		return
	}
	defer b.door.leave(s.id)
	var wg sync.WaitGroup
	wg.Go(func() { b.write(s) })
	defer wg.Wait()
	process := watchProcess(p)
	defer process.close()
	last := b.converse(s)
	b.postHeard(parted{s.id})
	b.sayLast(s, last)
	if process.ended(awaitProcess) {
		b.postHeard(vanished{s.id})
	}
}

// sayLast tells the peer why its session ends, if it has broken a rule, and closes.
func (b *Broker) sayLast(s *session, why error) {
	var cause *protocol.Err
	if !errors.As(why, &cause) {
		s.end(nil)
		return
	}
	b.log.Warn("session ended", "session", s.id, "peer", s.peer, "error", cause)
	s.end(cause)
}

// write sends what is queued, until the session's end closes the outbox. Where the peer does not read, that is the end.
func (b *Broker) write(s *session) {
	err := s.out.Run(context.Background())
	if errors.Is(err, protocol.ErrSlow) {
		b.log.Warn("session cut off", "session", s.id, "peer", s.peer, "error", err)
	}
	if err != nil {
		s.conn.Close() // the reader learns it
	}
}

// awaitProcess is how long after the end of a connection its process may take to end, for us to notice: the kernel
// closes the sockets of a dying process before it is dead.
const awaitProcess = 100 * time.Millisecond

// refuse says why, to a peer that has no session.
func refuse(conn net.Conn, why *protocol.Err) {
	frame, err := protocol.Append(nil, why)
	if err != nil {
		panic("bug: an error that cannot be encoded: " + err.Error())
	}
	_ = conn.SetWriteDeadline(time.Now().Add(protocol.WriteTimeout))
	_, _ = conn.Write(frame) // its loss is the peer's
}

// converse reads frames and turns them into events, until the connection ends or breaks a rule.
func (b *Broker) converse(s *session) error {
	reader := protocol.NewReader(s.conn, protocol.HandshakeMaxFrame)
	_ = s.conn.SetReadDeadline(time.Now().Add(protocol.HandshakeTimeout))
	hello, err := readHello(reader)
	if err != nil {
		return err
	}
	_ = s.conn.SetReadDeadline(time.Time{})
	reader.SetMax(b.cfg.MaxFrame)
	reader.SetTimeouts(s.conn, 0, b.cfg.Dead)
	if b.procs == nil {
		hello.Key = "" // another broker's, inherited
	} else if err := b.admit(hello, s.peer); err != nil {
		return err
	}
	ev, err := s.greeted(hello)
	if err != nil {
		return err
	}
	b.postHeard(ev)
	rate := bucket{left: controlBurst, at: time.Now()}
	for {
		frame, err := reader.Next()
		if err != nil {
			return err
		}
		message, err := protocol.DecodeToBroker(frame)
		if err := b.handle(s, message, err, &rate); err != nil {
			return err
		}
	}
}

// admit leaves of a hello the kinds that its worker may serve. A process of another user has to be a worker that we have
// started: what its pool may not take, a process that such a worker has started must not get either.
func (b *Broker) admit(hello *protocol.Hello, p peer) error {
	names := make([]string, len(hello.Kinds))
	for i, k := range hello.Kinds {
		names[i] = k.Name
	}
	admitted, known := b.procs.Admit(hello.Key, p.pid, names)
	if !known && !p.isOurs() {
		return denied()
	}
	hello.Kinds = slices.DeleteFunc(hello.Kinds, func(k protocol.Kind) bool { return !slices.Contains(admitted, k.Name) })
	return nil
}

// handle passes one message on. It returns the error that ends the session, if any.
func (b *Broker) handle(s *session, message protocol.ToBroker, err error, rate *bucket) error {
	var fault *protocol.Err
	if errors.As(err, &fault) && !fault.Fatal {
		if !rate.take() {
			return tooOften()
		}
		b.postHeard(heard{s.id})
		return s.out.Send(fault)
	}
	if err != nil {
		return err
	}
	if _, results := message.(*protocol.Results); !results && !rate.take() {
		return tooOften()
	}
	switch m := message.(type) {
	case *protocol.Results:
		if n := len(m.Results) + len(m.Invalid); n > finalResults {
			return outOfRange("the number of results", n, finalResults)
		}
		b.postHeard(s.reported(m))
	case *protocol.Save:
		b.postHeard(s.saved(m))
	case *protocol.Want:
		b.postHeard(wanted{s.id, int(m.N), int(m.Bytes)})
	case *protocol.Call:
		return b.called(s, m)
	case *protocol.Ping:
		b.postHeard(heard{s.id})
		return s.out.Send(&protocol.Pong{N: m.N})
	case *protocol.Hello:
		return protocol.Errorf(protocol.CodeState, "hello a second time")
	case *protocol.Bye:
		return io.EOF
	case *protocol.Touch:
		return b.touched(s, m)
	default: // Pong, Err: signs of life
		b.postHeard(heard{s.id})
	}
	return nil
}

func readHello(reader *protocol.Reader) (*protocol.Hello, error) {
	frame, err := reader.Next()
	if err != nil {
		return nil, err
	}
	message, err := protocol.DecodeToBroker(frame)
	if err != nil {
		return nil, fatal(err)
	}
	hello, ok := message.(*protocol.Hello)
	if !ok {
		return nil, protocol.Errorf(protocol.CodeState, "%s before hello", message.Op())
	}
	if lowest, highest := hello.Versions[0], hello.Versions[1]; lowest > protocol.Version || highest < protocol.Version {
		return nil, protocol.Errorf(protocol.CodeVersion, "the worker speaks versions %d to %d, this broker %d", lowest, highest, protocol.Version)
	}
	return hello, nil
}

// fatal turns any fault of a hello into one that ends the connection.
func fatal(err error) error {
	var fault *protocol.Err
	if errors.As(err, &fault) {
		last := *fault
		last.Fatal = true
		return &last
	}
	return err
}

func (s *session) greeted(h *protocol.Hello) (greeted, error) {
	ev := greeted{
		session: s.id, re: h.ID, worker: h.Worker, key: h.Key, name: s.peer.name(h.PID), kinds: h.Kinds,
		sync: slices.Contains(h.Caps, protocol.CapSync), ackAll: slices.Contains(h.Caps, protocol.CapAckAll),
	}
	for _, held := range h.Hold {
		pair, err := parsePair(held.Strand, held.Token)
		if err != nil {
			return ev, protocol.Errorf(protocol.CodeBadFrame, "hello.hold: %v", err)
		}
		ev.hold = append(ev.hold, hold{pair, held.Kind, held.State == protocol.HoldDone})
	}
	return ev, nil
}

func (s *session) saved(m *protocol.Save) reported {
	return s.reported(&protocol.Results{ID: m.ID, Results: []protocol.Result{{
		Strand: m.Strand, Token: m.Token, Seq: m.Seq, Act: actSave, Stack: m.Stack,
	}}})
}

func (b *Broker) touched(s *session, m *protocol.Touch) error {
	ev := touched{session: s.id}
	for _, grip := range m.Grips {
		pair, err := parsePair(grip.Strand, grip.Token)
		if err != nil {
			return s.out.Send(&protocol.Err{Code: protocol.CodeBadField, Message: "touch.t: " + err.Error()})
		}
		ev.runs = append(ev.runs, pair)
	}
	b.postHeard(ev)
	return nil
}

func (b *Broker) called(s *session, m *protocol.Call) error {
	ev := called{session: s.id, id: m.ID}
	var err error
	switch m.Method {
	case protocol.MethodInsert:
		ev.inserts, ev.home, err = insertsOfCall(m, len(b.databases))
	case protocol.MethodSignal:
		ev.signals, err = signalsOfCall(m)
	default:
		return s.out.Send(&protocol.Reply{Re: m.ID, Err: protocol.Errorf(protocol.CodeUnknownOp, "there is no method %.40q", m.Method)})
	}
	if err != nil {
		return s.out.Send(&protocol.Reply{Re: m.ID, Err: &protocol.Err{Code: protocol.CodeBadField, Message: err.Error()}})
	}
	b.postHeard(ev)
	return nil
}

// insertsOfCall reads inserts, and which database they are for.
func insertsOfCall(m *protocol.Call, databases int) (inserts []Insert, home int, err error) {
	if inserts, err = insertsOf(m.Inserts); err != nil {
		return nil, 0, err
	}
	home, one := homeOf(inserts, databases)
	if !one {
		return nil, 0, errors.New("call.enq: their tenants are in several databases, and no transaction spans those")
	}
	return inserts, home, nil
}

// signalsOfCall reads signals. A call is told from one that inserts by having some.
func signalsOfCall(m *protocol.Call) ([]Signal, error) {
	if len(m.Signals) == 0 {
		return nil, errors.New("call.sig: there are none")
	}
	return signalsOf(m.Signals)
}

// bucket bounds the frames that carry no results: they cost their sender nothing.
type bucket struct {
	left float64
	at   time.Time
}

const (
	controlRate  = 200.0 // frames a second
	controlBurst = 1000.0
)

func (k *bucket) take() bool {
	now := time.Now()
	k.left = min(controlBurst, k.left+now.Sub(k.at).Seconds()*controlRate)
	k.at = now
	k.left--
	return k.left >= 0
}

func tooOften() error {
	return &protocol.Err{Code: protocol.CodeRate, Message: fmt.Sprintf("more than %d frames a second that carry no result", int(controlRate)), Fatal: true, RetryMS: 1000}
}
