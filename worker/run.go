package worker

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/respirated/respirated/protocol"
)

// Run is a worker's life: it finds the broker, runs the strands that it is given with the programs of mux, and reports
// what became of them, over as many connections as it takes. It returns when ctx has ended or the broker has asked for
// it, and everything held is finished or given back: nil. Other ends are [ErrConfig], [ErrNoBroker] and
// [ErrUnfinished].
//
// The context of handlers has the values of ctx, but does not end with it: see [Config.DrainTimeout].
//
// There is one case in which Run ends the whole process, with status 75: a handler ignores its context beyond the end of
// its lease and no broker is there to stop it, so that the strand may start elsewhere while it still runs here.
func Run(ctx context.Context, mux *Mux, cfg Config) error {
	cfg, err := cfg.withDefaults(os.Getenv)
	if err != nil {
		return err
	}
	return live(ctx, mux, cfg, world{
		boot: protocol.BootNS,
		rand: rand.Float64,
		exit: os.Exit,
		dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", cfg.Socket)
		},
	})
}

// world is what a worker needs from outside and a test brings along.
type world struct {
	boot func() int64
	rand func() float64
	exit func(code int)
	dial func(ctx context.Context) (net.Conn, error)
}

// live is Run in a given world.
func live(ctx context.Context, mux *Mux, cfg Config, w world) error {
	if len(mux.programs) == 0 {
		return fmt.Errorf("%w: no kind is registered; call worker.Add before Run", ErrConfig)
	}
	if n := len(mux.programs); n > protocol.MaxItems {
		return fmt.Errorf("%w: %d kinds are registered, a broker takes %d at most; spread them over several programs", ErrConfig, n, protocol.MaxItems)
	}
	h := &handler{programs: mux.programs, timeout: cfg.Timeout, build: cfg.Build, schema: cfg.Schema, log: cfg.Logger}
	l := &loop{
		world:   w,
		cfg:     cfg,
		handler: h,
		base:    context.WithoutCancel(ctx),
		cancels: make(map[string]context.CancelCauseFunc),
		inbox:   make(chan incoming, maxBatch),
		done:    make(chan struct{}),
		crew:    newCrew(cfg.Slots),
		session: newSession(settings{
			hello:       cfg.hello(h.kinds(mux)),
			slots:       cfg.Slots,
			maxHold:     cfg.MaxHold,
			orphanAfter: cfg.OrphanAfter,
			drain:       cfg.DrainTimeout,
			rand:        w.rand,
		}, w.boot()),
	}
	return l.run(ctx)
}

// maxBatch is how many events make one step at most.
const maxBatch = 256

// loop owns the session: it turns the world into events, and effects into the world.
type loop struct {
	world
	cfg     Config
	handler *handler
	session *session
	base    context.Context // of handlers

	conn    *conn                              // the one that counts; nil = none
	cancels map[string]context.CancelCauseFunc // of running handlers, by token
	echo    []event                            // what performing the last effects has brought
	batch   []event                            // the memory of the last batch
	inbox   chan incoming
	done    chan struct{} // closed when nobody reads inbox any more

	talks sync.WaitGroup // goroutines that belong to connections
	crew  *crew
}

// incoming is an event on its way to the loop.
type incoming struct {
	conn *conn // it came from; nil = not from one
	event
}

func (l *loop) run(ctx context.Context) error {
	talkCtx, hangUpAll := context.WithCancel(l.base)
	defer l.talks.Wait()
	defer hangUpAll()
	defer close(l.done)

	timer := time.NewTimer(0)
	defer timer.Stop()
	stop := ctx.Done()
	for {
		events := l.echo
		l.echo = nil
		if len(events) == 0 {
			select {
			case in := <-l.inbox:
				events = l.gather(in)
			case <-timer.C:
				events = []event{tick{}}
			case <-stop:
				stop = nil
				events = []event{stopping{}}
			}
		}
		now := l.boot() // a system call, and steps may be many
		effects := l.session.step(now, events...)
		clear(events)
		if l.perform(talkCtx, effects); effects.over {
			return l.finish(effects.err)
		}
		timer.Reset(time.Duration(l.session.wake() - now))
	}
}

// gather makes a batch of what has arrived. Handlers that are about to return get the chance to, so that their results
// share a frame: that is all the waiting there is.
func (l *loop) gather(in incoming) []event {
	events := l.admit(l.batch[:0], in)
	runtime.Gosched()
	for len(events) < maxBatch {
		select {
		case in := <-l.inbox:
			events = l.admit(events, in)
		default:
			return l.keep(events)
		}
	}
	return l.keep(events)
}

// keep has the memory of a batch used again for the next, which is made after this one's step.
func (l *loop) keep(events []event) []event {
	l.batch = events
	return events
}

// admit adds an event, unless it is from a connection that counts no more.
func (l *loop) admit(events []event, in incoming) []event {
	if in.conn != nil && in.conn != l.conn {
		return events
	}
	switch ev := in.event.(type) {
	case returned:
		delete(l.cancels, ev.token)
		l.crew.returned()
	case disconnected:
		l.conn = nil
	}
	return append(events, in.event)
}

// post hands an event to the loop, or drops it if the loop has ended. There is nearly always room, and to try that alone
// costs half of what it costs to wait for either.
func (l *loop) post(c *conn, ev event) {
	in := incoming{c, ev}
	select {
	case l.inbox <- in:
		return
	default:
	}
	select {
	case l.inbox <- in:
	case <-l.done:
	}
}

func (l *loop) perform(talkCtx context.Context, fx effects) {
	for _, n := range fx.notes {
		l.cfg.Logger.Log(l.base, n.level, n.text, n.attrs...)
	}
	if fx.kill {
		l.exit(ExitTemporary)
	}
	for _, s := range fx.stop {
		if cancel := l.cancels[s.token]; cancel != nil {
			cancel(s.cause)
		}
	}
	for _, run := range fx.start {
		l.start(run)
	}
	for _, m := range fx.send {
		l.queue(m)
	}
	if l.conn != nil && len(fx.send) > 0 {
		l.conn.out.Flush()
	}
	if c := l.conn; fx.hangUp && c != nil {
		l.conn = nil
		l.talks.Go(c.hangUp)
	}
	if fx.dial {
		c := newConn()
		l.conn = c
		l.talks.Go(func() { c.talk(talkCtx, l.dial, func(ev event) { l.post(c, ev) }) })
	}
}

// start runs a handler on a goroutine that runs nothing else meanwhile.
func (l *loop) start(run start) {
	ctx, cancel := context.WithCancelCause(l.base)
	l.cancels[run.Token] = cancel
	l.crew.start(func() {
		defer cancel(nil)
		l.handler.work(ctx, run, func(result *protocol.Result) { l.post(nil, returned{run.Token, result}) })
	})
}

// queue queues a message for the broker. One that cannot be encoded is reported back.
func (l *loop) queue(m protocol.ToBroker) {
	if l.conn == nil {
		return // it ended in this very batch
	}
	if err := l.conn.queue(m); err != nil {
		l.echo = append(l.echo, unsendable{idOf(m), err})
	}
	if results, ok := m.(*protocol.Results); ok {
		l.session.reuse(results) // it has been encoded
	}
}

// idOf is the id of a frame that carries results; 0 = none that matters.
func idOf(m protocol.ToBroker) uint64 {
	if results, ok := m.(*protocol.Results); ok {
		return results.ID
	}
	return 0
}

// finish ends what belongs to the loop. Handlers that still run are asked to stop and left behind; where there are none
// it waits for their goroutines.
func (l *loop) finish(err error) error {
	if l.conn != nil {
		l.conn.hangUp()
	}
	l.crew.dismiss(len(l.cancels) == 0)
	for _, cancel := range l.cancels {
		cancel(ErrStopping)
	}
	return err
}
