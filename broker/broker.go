package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/respirated/respirated/protocol"
)

// Config sets up a Broker. The zero value of each field is its default.
type Config struct {
	Host  string // stable name of this host; default: os.Hostname
	Build string // version of the daemon, for listings

	Partition Partition // the part of the ids to scan for; default: all

	Lease        time.Duration // how long a lease lasts; default 120 s, renewed after a third of it
	Heartbeat    time.Duration // default 5 s
	Dead         time.Duration // silence after which a worker is given up; default 15 s
	ScanEvery    time.Duration // longest time between two scans; default 5 s
	Grace        time.Duration // from asking a handler to stop to draining its worker, and again to ending it; default 10 s
	DrainTimeout time.Duration // how long Run waits for workers once it is told to stop; default 30 s

	MaxSessions int // connections at once; default 4096
	MaxHold     int // strands that one worker may hold; default and most protocol.DefaultMaxN
	MaxBytes    int // payload held by one worker after which it gets no more; default 16 MiB
	MaxBatch    int // rows in one statement; default 1000
	MaxFrame    int // bytes; default 4 MiB, most protocol.HardMaxFrame

	Logger *slog.Logger // default: slog.Default
}

func (c Config) withDefaults() (Config, error) {
	if c.Host == "" {
		host, err := os.Hostname()
		if err != nil {
			return c, fmt.Errorf("find this host's name (set Host): %w", err)
		}
		c.Host = host
	}
	for _, d := range []struct {
		name  string
		value *time.Duration
		or    time.Duration
	}{
		{"Lease", &c.Lease, 120 * time.Second},
		{"Heartbeat", &c.Heartbeat, 5 * time.Second},
		{"Dead", &c.Dead, 15 * time.Second},
		{"ScanEvery", &c.ScanEvery, 5 * time.Second},
		{"Grace", &c.Grace, 10 * time.Second},
		{"DrainTimeout", &c.DrainTimeout, 30 * time.Second},
	} {
		if *d.value == 0 {
			*d.value = d.or
		}
		if *d.value < 0 {
			return c, fmt.Errorf("%s is %v; it must be above 0", d.name, *d.value)
		}
	}
	for _, n := range []struct {
		name     string
		value    *int
		or, most int
	}{
		{"MaxSessions", &c.MaxSessions, 4096, 1 << 20},
		{"MaxHold", &c.MaxHold, protocol.DefaultMaxN, protocol.DefaultMaxN},
		{"MaxBytes", &c.MaxBytes, 16 << 20, 1 << 40},
		{"MaxBatch", &c.MaxBatch, 1000, 10_000},
		{"MaxFrame", &c.MaxFrame, 4 << 20, protocol.HardMaxFrame},
	} {
		if *n.value == 0 {
			*n.value = n.or
		}
		if *n.value < 1 || *n.value > n.most {
			return c, fmt.Errorf("%s is %d; it must be 1 to %d", n.name, *n.value, n.most)
		}
	}
	var err error
	if c.Partition, err = c.Partition.withDefaults(); err != nil {
		return c, err
	}
	if c.Dead < 2*c.Heartbeat {
		return c, fmt.Errorf("the time to give a worker up (Dead) is %v; it must be at least twice the Heartbeat of %v", c.Dead, c.Heartbeat)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

func (c Config) limits() limits {
	return limits{
		partition: c.Partition, lease: c.Lease, heartbeat: c.Heartbeat, dead: c.Dead, scanEvery: c.ScanEvery, grace: c.Grace,
		maxHold: c.MaxHold, maxBytes: c.MaxBytes, maxBatch: c.MaxBatch, maxFrame: c.MaxFrame,
	}
}

// Broker hands the strands of a Store to workers that connect to a socket. All decisions are the schedule's, which
// the goroutine of Run owns; what happens outside reaches it as events.
type Broker struct {
	cfg   Config
	id    ID
	store Store
	procs Processes // nil = every worker is external
	log   *slog.Logger

	schedule *schedule // Run's goroutine only
	events   chan event
	relisten chan struct{} // the channel shall connect anew
	queries  chan func(*schedule)
	over     chan struct{} // closed when Run takes no more events
	door     door
	away     bool                 // Run's goroutine only: the last statement failed
	faults   map[string]time.Time // Run's goroutine only: when the failure of a statement was logged, by its name
}

// New makes a Broker over a store. procs may be nil: then no worker is ours. Nothing runs before [Broker.Run].
func New(store Store, procs Processes, cfg Config) (*Broker, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("broker configuration: %w", err)
	}
	var seed [32]byte
	var id ID
	rand.Read(seed[:]) // never fails: see its documentation
	rand.Read(id[:])
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return &Broker{
		cfg:      cfg,
		id:       id,
		store:    store,
		procs:    procs,
		log:      cfg.Logger,
		schedule: newSchedule(id, seed, cfg.limits()),
		events:   make(chan event, waitingEvents),
		relisten: make(chan struct{}, 1),
		queries:  make(chan func(*schedule)),
		over:     make(chan struct{}),
		faults:   map[string]time.Time{},
		door:     door{sessions: map[sessionID]*session{}, most: cfg.MaxSessions, outbox: cfg.MaxBytes + 3*cfg.MaxFrame},
	}, nil
}

// ID is this broker's id, drawn at New.
func (b *Broker) ID() ID { return b.id }

// Hint passes on a notification. It never blocks for long.
func (b *Broker) Hint(h Hint) { b.post(hinted{h}) }

// Exited passes on the death of a worker process.
func (b *Broker) Exited(e WorkerExit) { b.post(exited{e}) }

// post hands an event to the loop, unless the loop is over.
func (b *Broker) post(ev event) {
	select {
	case b.events <- ev:
	case <-b.over:
	}
}

// Run serves workers that connect to l, until ctx ends. Then it takes no more work, lets workers finish what they
// hold for up to DrainTimeout, settles every result that it has, and returns. It closes l, and is called once. A listener
// that is no Unix socket admits whoever reaches it: the kernel does not say who that is.
func (b *Broker) Run(ctx context.Context, l net.Listener) error {
	calls, cancelCalls := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelCalls()
	var wg sync.WaitGroup
	wg.Go(func() { b.accept(l) })
	b.loop(ctx, calls, &wg)
	close(b.over)
	l.Close()
	b.door.close()
	cancelCalls()
	wg.Wait()
	return b.leave(ctx)
}

// leave withdraws the announcement, so that nobody waits for us.
func (b *Broker) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := b.store.Leave(ctx, b.id); err != nil {
		return fmt.Errorf("withdraw the announcement of broker %s: %w", b.id, err)
	}
	return nil
}

// loop is the one goroutine that owns the schedule: events in, effects out.
func (b *Broker) loop(ctx, calls context.Context, wg *sync.WaitGroup) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	stop := ctx.Done()
	batch := make([]event, 0, mostEvents)
	wanted := protocol.BootNS() // to be called again, at the latest
	for {
		select {
		case ev := <-b.events:
			batch = b.gather(append(batch, ev))
		case query := <-b.queries:
			query(b.schedule)
		case <-timer.C:
		case <-stop:
			stop = nil
			batch = append(batch, draining{by: protocol.BootNS() + int64(b.cfg.DrainTimeout)})
		}
		now := protocol.BootNS()
		if late := now - wanted; late > int64(lateness) {
			batch = slices.Insert(batch, 0, event(overslept{late}))
		}
		for _, ev := range batch {
			b.note(ev)
		}
		fx := b.schedule.step(now, batch...)
		clear(batch)
		batch = batch[:0]
		b.perform(calls, wg, fx)
		if fx.finished {
			return
		}
		wanted = max(b.schedule.nextTick(), now)
		timer.Reset(time.Duration(wanted - now))
	}
}

// lateness is how much later than it wants the loop may be called before it takes itself for stopped.
const lateness = 2 * time.Second

// waitingEvents is how many events may wait for the loop. Each may hold a frame; whoever brings more waits.
const waitingEvents = 64

// mostEvents bounds how many events one step takes in.
const mostEvents = 256

// gather adds what else has come, so that one step decides about all of it.
func (b *Broker) gather(batch []event) []event {
	for len(batch) < mostEvents {
		select {
		case ev := <-b.events:
			batch = append(batch, ev)
		default:
			return batch
		}
	}
	return batch
}

// perform does what the schedule has decided. Each statement runs on a goroutine of its own and comes back as an
// event; frames go to outboxes that never block.
func (b *Broker) perform(ctx context.Context, wg *sync.WaitGroup, fx effects) {
	if req := fx.scan; req != nil {
		wg.Go(func() {
			res, err := b.store.Scan(ctx, *req)
			b.post(scanned{res, err})
		})
	}
	if pairs := fx.lease; pairs != nil {
		wg.Go(func() {
			granted, err := b.store.Lease(ctx, pairs, b.cfg.Lease)
			b.post(leased{granted, err})
		})
	}
	if reports := fx.commit; reports != nil {
		wg.Go(func() {
			verdicts, err := b.store.Commit(ctx, reports)
			b.post(committed{verdicts, err})
		})
	}
	if pairs := fx.renew; pairs != nil {
		wg.Go(func() {
			kept, err := b.store.Renew(ctx, pairs, b.cfg.Lease)
			b.post(renewed{kept, err})
		})
	}
	b.performPlace(ctx, wg, fx)
	if a := fx.announce; a != nil {
		a.Host, a.PID, a.Build = b.cfg.Host, os.Getpid(), b.cfg.Build
		wg.Go(func() { b.post(announced{b.store.Announce(ctx, *a, announceTTL)}) })
	}
	if call := fx.insert; call != nil {
		wg.Go(func() {
			ids, err := b.store.Insert(ctx, call.inserts)
			b.post(inserted{call.session, call.id, ids, err})
		})
	}
	for _, m := range fx.send {
		if err := b.door.send(m.session, m.message); err != nil {
			b.log.Warn("session cut off", "session", m.session, "error", err)
		}
	}
	for _, h := range fx.hangUp {
		b.door.hangUp(h.session, h.last)
	}
	for _, key := range fx.connected {
		b.procs.Connected(key)
	}
	for _, e := range fx.end {
		b.log.Warn("worker is ended", "worker", e.name, "why", e.why)
		b.procs.End(e.key, e.why)
	}
}

// note logs what an operator would tell a colleague.
func (b *Broker) note(ev event) {
	switch ev := ev.(type) {
	case greeted:
		b.log.Info("worker connected", "session", ev.session, "worker", ev.name, "kinds", len(ev.kinds), "held", len(ev.hold))
	case parted:
		if w := b.schedule.workers[b.schedule.sessions[ev.session]]; w != nil {
			b.log.Info("worker disconnected", "session", ev.session, "worker", w.name, "held", w.held)
		}
	case exited:
		b.log.Info("worker exited", "pid", ev.PID, "how", ev.How, "asked", ev.Asked)
	case overslept:
		b.log.Warn("this process was stopped, or the host asleep", "for", time.Duration(ev.by).Round(time.Millisecond))
	case draining:
		b.log.Info("draining", "timeout", b.cfg.DrainTimeout)
	case scanned:
		b.noteStatement("scan", ev.err)
	case leased:
		b.noteStatement("lease", ev.err)
	case committed:
		b.noteStatement("commit", ev.err)
	case renewed:
		b.noteStatement("renew", ev.err)
	case joined:
		b.noteStatement("join", ev.err)
		if ev.err == nil && ev.Number == 0 {
			b.noteFault("join", fmt.Errorf("each partition number up to %d is held by a live broker", b.cfg.Partition.Most))
		}
	case announced:
		b.noteStatement("announce", ev.err)
	case told:
		b.noteStatement("tell", ev.err)
	case hinted:
		b.noteBad(ev.Hint)
	case inserted:
		var bad *InsertError
		if !errors.As(ev.err, &bad) {
			b.noteStatement("insert", ev.err)
		}
	}
}

// noteStatement logs that the database is away, and is back. Another error is a fault of ours, or the schema's.
func (b *Broker) noteStatement(what string, err error) {
	switch {
	case err == nil && b.away:
		b.away = false
		b.log.Info("database is back")
	case err != nil && !errors.Is(err, ErrAway):
		b.noteFault(what, err)
	case err != nil && !b.away:
		b.away = true
		b.log.Warn("database is away; results are kept", "statement", what, "error", err)
	}
}

// faultEvery is how often a statement that fails again and again is logged.
const faultEvery = 10 * time.Second

func (b *Broker) noteFault(what string, err error) {
	if now := time.Now(); now.Sub(b.faults[what]) >= faultEvery {
		b.faults[what] = now
		b.log.Error("statement failed", "statement", what, "error", err)
	}
}
