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
	Former    *Former   // the broker to go on as; nil = a new one

	// Stranger is called by the loop, each time that a worker says hello which has no spawn key, before it is answered. nil =
	// nobody wants to know.
	Stranger func()

	// Admits says whether processes of another user than ours and root may connect, such as [Socket.Admits]. nil = none may.
	Admits func(uid int) bool

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

	Idle func() // called by the loop when all workers have been idle for a second, once until one was not; must not block; nil = nobody

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
	if c.Idle == nil {
		c.Idle = func() {}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

func (c Config) limits() limits {
	return limits{
		partition: c.Partition, lease: c.Lease, heartbeat: c.Heartbeat, dead: c.Dead, scanEvery: c.ScanEvery, grace: c.Grace,
		maxHold: c.MaxHold, maxBytes: c.MaxBytes, maxBatch: c.MaxBatch, mostTaken: mostTaken, maxFrame: c.MaxFrame,
	}
}

// Broker hands the strands of one or several Stores to workers that connect to a socket. All decisions are the schedule's,
// which the goroutine of Run owns; what happens outside reaches it as events.
type Broker struct {
	cfg   Config
	id    ID
	procs Processes // nil = every worker is external
	log   *slog.Logger

	databases []*link           // in the order of the schedule's
	schedule  *schedule         // Run's goroutine only
	tallies   map[string]*tally // of our processes, by spawn key; Run's goroutine only
	events    chan event        // of sessions: not taken while the broker pauses
	answers   chan event        // of everybody else
	rested    chan struct{}     // holds one when a pause has come to its rest
	queries   chan func(*schedule)
	over      chan struct{} // closed when Run takes no more events
	door      door
}

// Database is one of the databases of a broker that serves several.
type Database struct {
	Name  string // for logs and listings; "" = they need none
	Store Store
}

// link is what the loop has to do with a database.
type link struct {
	Database
	no       int
	log      *slog.Logger
	relisten chan struct{} // the channel shall connect anew

	// Of the goroutine of Run only.
	away   bool                 // the last statement failed
	faults map[string]time.Time // when the failure of a statement was logged, by its name
}

// New makes a Broker over a store. procs may be nil: then no worker is ours. Nothing runs before [Broker.Run].
func New(store Store, procs Processes, cfg Config) (*Broker, error) {
	return NewSeveral([]Database{{Store: store}}, procs, cfg)
}

// NewSeveral makes a Broker over several databases, such as one for each group of tenants. Its workers run the strands of all,
// and databases take turns where there are more strands than free slots. One that is away, or slow, does not hold up the
// others. In each the broker has a partition of its own.
//
// A strand is in one of them for ever, and so are its children and what its results insert. What a worker inserts outside of
// a run goes where [DatabaseOf] says, by the tenant that its options name; all inserts of one call have to go to one database.
// The order of databases has to be the same in all brokers, as long as workers insert so. The client package inserts wherever
// its connection leads.
func NewSeveral(databases []Database, procs Processes, cfg Config) (*Broker, error) {
	if len(databases) == 0 {
		return nil, errors.New("a broker needs a database")
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("broker configuration: %w", err)
	}
	var seed [32]byte
	var id ID
	rand.Read(seed[:]) // never fails: see its documentation
	rand.Read(id[:])
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	limits := cfg.limits()
	limits.databases = len(databases)
	if cfg.Former != nil {
		id = cfg.Former.Broker
	}
	b := &Broker{
		cfg:      cfg,
		id:       id,
		procs:    procs,
		log:      cfg.Logger,
		schedule: newSchedule(id, seed, limits),
		events:   make(chan event, waitingEvents),
		answers:  make(chan event, waitingEvents),
		rested:   make(chan struct{}, 1),
		queries:  make(chan func(*schedule)),
		over:     make(chan struct{}),
		tallies:  map[string]*tally{},
		door:     door{sessions: map[sessionID]*session{}, most: cfg.MaxSessions, outbox: cfg.MaxBytes + 3*cfg.MaxFrame},
	}
	if cfg.Former != nil {
		b.schedule.succeed(cfg.Former)
	}
	for no, d := range databases {
		l := &link{Database: d, no: no, log: b.log, relisten: make(chan struct{}, 1), faults: map[string]time.Time{}}
		if len(databases) > 1 {
			l.log = b.log.With("database", d.Name)
		}
		b.databases = append(b.databases, l)
	}
	return b, nil
}

// ID is this broker's id, drawn at New unless it goes on as a former one.
func (b *Broker) ID() ID { return b.id }

// Hint passes on a notification of the first database. It never blocks for long.
func (b *Broker) Hint(h Hint) { b.post(hinted{h}) }

// Exited passes on the death of a worker process.
func (b *Broker) Exited(e WorkerExit) { b.post(exited{e}) }

// post hands an event to the loop, unless the loop is over.
func (b *Broker) post(ev event) { b.hand(b.answers, ev) }

// postHeard hands the loop what a session brings. In a pause that waits.
func (b *Broker) postHeard(ev event) { b.hand(b.events, ev) }

func (b *Broker) hand(to chan event, ev event) {
	select {
	case to <- ev:
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

// leave withdraws the announcements, so that nobody waits for us.
func (b *Broker) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	errs := make([]error, len(b.databases))
	var wg sync.WaitGroup
	for i, l := range b.databases {
		wg.Go(func() {
			if err := l.Store.Leave(ctx, b.id); err != nil {
				errs[i] = fmt.Errorf("withdraw the announcement of broker %s: %w", b.id, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// loop is the one goroutine that owns the schedule: events in, effects out.
func (b *Broker) loop(ctx, calls context.Context, wg *sync.WaitGroup) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	stop := ctx.Done()
	batch := make([]event, 0, mostEvents)
	var rest rest
	wanted := protocol.BootNS() // to be called again, at the latest
	for {
		heard := b.events
		if b.schedule.deaf() {
			heard = nil
		}
		select {
		case ev := <-heard:
			batch = b.gather(append(batch, ev), heard)
		case ev := <-b.answers:
			batch = b.gather(append(batch, ev), heard)
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
		if fx.rested {
			signal(b.rested)
		}
		if rest.step(now, b.schedule.busy()) {
			b.cfg.Idle()
		}
		wanted = max(b.schedule.nextTick(), now)
		timer.Reset(time.Duration(wanted - now))
	}
}

// lateness is how much later than it wants the loop may be called before it takes itself for stopped.
const lateness = 2 * time.Second

// waitingEvents is how many events of either kind may wait for the loop. Each may hold a frame; whoever brings more waits.
const waitingEvents = 64

// mostEvents bounds how many events one step takes in.
const mostEvents = 256

// gather adds what else has come, so that one step decides about all of it.
func (b *Broker) gather(batch []event, heard chan event) []event {
	for len(batch) < mostEvents {
		select {
		case ev := <-heard:
			batch = append(batch, ev)
		case ev := <-b.answers:
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
	for _, l := range b.databases {
		b.request(ctx, wg, l, fx.to(l.no))
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
	for _, key := range fx.handed {
		b.handed(key)
	}
	for _, key := range fx.served {
		b.served(key)
	}
	for _, e := range fx.end {
		b.log.Warn("worker is ended", "worker", e.name, "why", e.why)
		b.procs.End(e.key, e.within, e.why)
	}
}

// request starts the statements that are asked of one database.
func (b *Broker) request(ctx context.Context, wg *sync.WaitGroup, l *link, req *requests) {
	post := func(ev event) { b.post(from{l.no, ev}) }
	if scan := req.scan; scan != nil {
		wg.Go(func() {
			res, err := l.Store.Scan(ctx, *scan)
			post(scanned{res, err})
		})
	}
	if take := req.take; take != nil {
		wg.Go(func() {
			strands, err := l.Store.Take(ctx, take.scan, take.tokens, b.cfg.Lease)
			post(took{strands, err})
		})
	}
	if lost := req.held; lost != nil {
		wg.Go(func() {
			held, err := l.Store.Held(ctx, lost.scan, lost.tokens, time.Duration(lost.ago))
			post(recovered{held, err})
		})
	}
	if marks := req.left; marks != nil {
		wg.Go(func() {
			pairs, err := l.Store.Left(ctx, marks, b.cfg.Lease)
			post(foundLeft{pairs, err})
		})
	}
	if pairs := req.lease; pairs != nil {
		wg.Go(func() {
			granted, err := l.Store.Lease(ctx, pairs, b.cfg.Lease)
			post(leased{granted, err})
		})
	}
	if reports := req.commit; reports != nil {
		wg.Go(func() {
			verdicts, err := l.Store.Commit(ctx, reports)
			post(committed{verdicts, err})
		})
	}
	if pairs := req.renew; pairs != nil {
		wg.Go(func() {
			kept, err := l.Store.Renew(ctx, pairs, b.cfg.Lease)
			post(renewed{kept, err})
		})
	}
	b.performPlace(ctx, wg, l, req)
	if a := req.announce; a != nil {
		a.Host, a.PID, a.Build = b.cfg.Host, os.Getpid(), b.cfg.Build
		wg.Go(func() { post(announced{l.Store.Announce(ctx, *a, announceTTL)}) })
	}
	switch call := req.call; {
	case call == nil:
	case call.signals != nil:
		wg.Go(func() {
			found, err := l.Store.Signal(ctx, call.signals)
			post(signalled{found, err})
		})
	default:
		wg.Go(func() {
			ids, err := l.Store.Insert(ctx, call.inserts)
			post(inserted{ids, err})
		})
	}
}

// note logs what an operator would tell a colleague.
func (b *Broker) note(ev event) {
	switch ev := ev.(type) {
	case from:
		b.noteAnswer(b.databases[ev.database], ev.what)
	case greeted:
		if ev.key == "" && b.cfg.Stranger != nil {
			b.cfg.Stranger()
		}
		b.log.Info("worker connected", "session", ev.session, "worker", ev.name, "kinds", len(ev.kinds), "held", len(ev.hold))
	case parted:
		if w := b.schedule.workers[b.schedule.sessions[ev.session]]; w != nil {
			b.log.Info("worker disconnected", "session", ev.session, "worker", w.name, "held", w.held)
		}
	case exited:
		b.log.Info("worker exited", "pid", ev.PID, "how", ev.How, "asked", ev.Asked)
		delete(b.tallies, ev.Key)
	case overslept:
		b.log.Warn("this process was stopped, or the host asleep", "for", time.Duration(ev.by).Round(time.Millisecond))
	case pausing:
		b.log.Info("pausing")
	case draining:
		b.log.Info("draining", "timeout", b.cfg.DrainTimeout)
	default:
		b.noteAnswer(b.databases[0], ev)
	}
}

// noteAnswer logs what is worth it about the answer of a database, or a hint from there.
func (b *Broker) noteAnswer(l *link, ev event) {
	switch ev := ev.(type) {
	case scanned:
		l.noteStatement("scan", ev.err)
	case took:
		l.noteStatement("take", ev.err)
	case foundLeft:
		l.noteStatement("left", ev.err)
		if ev.err == nil {
			l.log.Info("leases of former brokers looked for", "found", len(ev.pairs))
		}
	case recovered:
		l.noteStatement("held", ev.err)
	case leased:
		l.noteStatement("lease", ev.err)
	case committed:
		l.noteStatement("commit", ev.err)
	case renewed:
		l.noteStatement("renew", ev.err)
	case joined:
		l.noteStatement("join", ev.err)
		if ev.err == nil && ev.Number == 0 {
			l.noteFault("join", fmt.Errorf("each partition number up to %d is held by a live broker: nothing is scanned until one is free; raise the highest number, or stop a broker", b.cfg.Partition.Most))
		}
	case announced:
		l.noteStatement("announce", ev.err)
	case told:
		l.noteStatement("tell", ev.err)
	case hinted:
		b.noteBad(l, ev.Hint)
	case inserted:
		var bad *InsertError
		if !errors.As(ev.err, &bad) {
			l.noteStatement("insert", ev.err)
		}
	case signalled:
		var bad *SignalError
		if !errors.As(ev.err, &bad) {
			l.noteStatement("signal", ev.err)
		}
	}
}

// noteStatement logs that the database is away, and is back. Another error is a fault of ours, or the schema's.
func (l *link) noteStatement(what string, err error) {
	switch {
	case err == nil && l.away:
		l.away = false
		l.log.Info("database is back")
	case err != nil && !errors.Is(err, ErrAway):
		l.noteFault(what, err)
	case err != nil && !l.away:
		l.away = true
		l.log.Warn("database is away; results are kept", "statement", what, "error", err)
	}
}

// faultEvery is how often a statement that fails again and again is logged.
const faultEvery = 10 * time.Second

func (l *link) noteFault(what string, err error) {
	if now := time.Now(); now.Sub(l.faults[what]) >= faultEvery {
		l.faults[what] = now
		l.log.Error("statement failed", "statement", what, "error", err)
	}
}
