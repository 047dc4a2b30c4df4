package worker

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/respirated/respirated/protocol"
)

// walk drives a session with random events, and plays both the handlers and a broker whose memory is perfect.
type walk struct {
	s     *session
	rand  *rand.Rand
	now   int64
	story []string
	fault string

	names    int
	running  map[string]bool   // handlers, by token
	finished map[string]bool   // handlers that have returned, by token
	sent     map[string]bool   // results on the wire in this session, by token
	asks     map[string]bool   // whether the result of that token asks to go on
	own      map[string]bool   // tokens whose handler has committed its step itself: nothing else may be reported of them
	seq      map[string]uint64 // of that result, the current or the next, by token
	leased   map[string]string // strand by token: what the broker thinks the worker holds
	order    []string          // tokens in order, for reproducible choices
}

func newWalk(seed uint64) *walk {
	w := &walk{
		rand: rand.New(rand.NewPCG(seed, 1)), now: t0, s: newTestSession(3),
		running: map[string]bool{}, finished: map[string]bool{}, sent: map[string]bool{}, leased: map[string]string{},
		asks: map[string]bool{}, own: map[string]bool{}, seq: map[string]uint64{},
	}
	w.s.rand = w.rand.Float64
	w.step(tick{})
	return w
}

func (w *walk) bad(format string, args ...any) { w.fault = fmt.Sprintf(format, args...) }

// move makes one random thing happen that can happen now.
func (w *walk) move() {
	switch w.rand.IntN(10) {
	case 0:
		w.now += w.rand.Int64N(int64(3 * time.Second))
		w.step(tick{})
	case 1:
		w.connect()
	case 2, 3:
		w.lease()
	case 4, 5, 6:
		w.endHandler()
	case 7, 8:
		w.ack()
	case 9:
		w.disturb()
	}
}

func (w *walk) step(ev event) {
	w.story = append(w.story, fmt.Sprintf("%v %T%+v", time.Duration(w.now-t0), ev, ev))
	fx := w.s.step(w.now, ev)
	w.story = append(w.story, "    "+show(fx))
	for _, strand := range fx.start {
		if w.running[strand.Token] || w.finished[strand.Token] {
			w.bad("%s started twice", strand.Token)
		}
		w.running[strand.Token] = true
	}
	for _, m := range fx.send {
		w.see(m)
	}
	if fx.hangUp {
		clear(w.sent)
	}
	w.check()
}

// see takes what the worker sends.
func (w *walk) see(m protocol.ToBroker) {
	switch m := m.(type) {
	case *protocol.Hello:
		w.seeHello(m)
	case *protocol.Results:
		for _, r := range m.Results {
			if w.sent[r.Token] {
				w.bad("%s sent twice in one session", r.Token)
			}
			if r.Act != protocol.ActRelease && !w.finished[r.Token] {
				w.bad("%s has a result but has not run", r.Token)
			}
			if r.Seq != w.seq[r.Token] {
				w.bad("%s has sent number %d, want %d", r.Token, r.Seq, w.seq[r.Token])
			}
			if r.Chain != (r.Act == protocol.ActHop) {
				w.bad("%s=%s asks to go on: %v", r.Token, r.Act, r.Chain)
			}
			if (r.Act == protocol.ActOwn) != w.own[r.Token] {
				w.bad("%s=%s is sent, and its handler has committed the step itself: %v", r.Token, r.Act, w.own[r.Token])
			}
			w.sent[r.Token], w.asks[r.Token] = true, r.Chain
		}
	}
}

// seeHello holds the list against what we know: the worker must name all that it got and that is not over.
func (w *walk) seeHello(m *protocol.Hello) {
	held := map[string]bool{}
	for _, h := range m.Hold {
		held[h.Token] = true
	}
	for token := range w.leased {
		if !held[token] {
			w.bad("hello does not list %s", token)
		}
	}
}

func (w *walk) check() {
	if len(w.running) > w.s.slots {
		w.bad("%d handlers run in %d slots", len(w.running), w.s.slots)
	}
	for token := range w.leased {
		if w.s.held[token] == nil {
			w.bad("%s was lost", token)
		}
	}
	if size := w.flying(); size != w.s.flying {
		w.bad("%d bytes on their way, counted as %d", size, w.s.flying)
	}
}

func (w *walk) flying() (size int) {
	for _, r := range w.s.held {
		size += r.size
	}
	return size
}

func (w *walk) connect() {
	if w.s.link == linkDown {
		w.now = max(w.now, w.s.dialAt)
		w.step(tick{})
	}
	if w.s.link != linkDialing {
		return
	}
	w.step(connected{})
	welcome := testWelcome()
	welcome.BootNS = w.now
	w.step(received{welcome})
}

func (w *walk) lease() {
	if w.s.link != linkOpen || len(w.leased) > 20 {
		return
	}
	w.names++
	strand := testStrand(fmt.Sprint("s", w.names))
	strand.DeadlineNS = w.now + int64(2*time.Hour)
	w.leased[strand.Token], w.seq[strand.Token] = strand.ID, 1
	w.order = append(w.order, strand.Token)
	w.step(received{&protocol.Strands{Strands: []protocol.Strand{strand}}})
}

// pick chooses a token for which ok holds; "" = none.
func (w *walk) pick(ok func(token string) bool) string {
	start := w.rand.IntN(len(w.order) + 1)
	for i := range w.order {
		token := w.order[(start+i)%len(w.order)]
		if ok(token) {
			return token
		}
	}
	return ""
}

func (w *walk) endHandler() {
	token := w.pick(func(t string) bool { return w.running[t] })
	if token == "" {
		return
	}
	delete(w.running, token)
	w.finished[token] = true
	w.now += w.rand.Int64N(int64(50 * time.Millisecond))
	result := protocol.Result{Act: protocol.ActExit}
	switch w.rand.IntN(3) {
	case 0:
		result = protocol.Result{Act: protocol.ActHop, Label: "next"}
	case 1:
		result = protocol.Result{Act: protocol.ActOwn}
		w.own[token] = true
	}
	w.step(returned{token, &result})
}

func (w *walk) ack() {
	token := w.pick(func(t string) bool { return w.sent[t] && w.leased[t] != "" })
	if token == "" {
		return
	}
	entry := protocol.AckEntry{Strand: w.leased[token], Token: token, Seq: w.seq[token], State: protocol.AckApplied}
	delete(w.sent, token)
	switch n := w.rand.IntN(4); {
	case n == 0:
		entry.State, entry.RetryMS = protocol.AckLater, 100
	case n < 3 && w.asks[token]:
		entry.Next = protocol.NextGo
		delete(w.finished, token)
		w.seq[token]++
	default:
		delete(w.leased, token)
	}
	w.step(received{&protocol.Ack{Re: 1, Entries: []protocol.AckEntry{entry}}})
}

// disturb cuts the connection or takes a strand away.
func (w *walk) disturb() {
	if w.s.link != linkOpen {
		return
	}
	if w.rand.IntN(2) == 0 {
		clear(w.sent)
		w.step(disconnected{errors.New("cut")})
		return
	}
	token := w.pick(func(t string) bool { return w.leased[t] != "" })
	if token == "" {
		return
	}
	strand := w.leased[token]
	delete(w.leased, token)
	delete(w.sent, token)
	w.step(received{&protocol.Cancel{Cancels: []protocol.Stop{{Strand: strand, Token: token, Why: protocol.StopLost}}}})
}
