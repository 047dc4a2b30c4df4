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
	unsent    []*session        // those with frames to flush; Run's goroutine only
	exits     Exits             // Run's goroutine only
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
	away   bool      // the last statement failed
	since  time.Time // that it is away
	counts counts
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
		l := &link{Database: d, no: no, log: b.log, relisten: make(chan struct{}, 1), faults: map[string]time.Time{}, counts: newCounts()}
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
		for i, ev := range batch {
			b.note(ev)
			b.count(now, ev)
			b.heed(ev)
			batch[i] = b.terms(ev)
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

// heed does about an event what is not the schedule's to decide.
func (b *Broker) heed(ev event) {
	switch ev := ev.(type) {
	case greeted:
		if ev.key == "" {
			b.cfg.Stranger()
		}
	case exited:
		delete(b.tallies, ev.Key)
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
// event; frames go to outboxes that never block, and go first: a statement that follows a start would get in its way.
func (b *Broker) perform(ctx context.Context, wg *sync.WaitGroup, fx effects) {
	b.send(fx.send)
	for _, l := range b.databases {
		b.request(ctx, wg, l, fx.to(l.no))
	}
	for _, id := range fx.ended {
		b.door.readOut(id)
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

// send sends frames, those for one worker together.
func (b *Broker) send(frames []sending) {
	for _, m := range frames {
		s, err := b.door.queue(m.session, m.message)
		if err != nil {
			b.log.Warn("session cut off", "session", m.session, "error", err)
		}
		if s != nil && !s.queued {
			s.queued = true
			b.unsent = append(b.unsent, s)
		}
	}
	for _, s := range b.unsent {
		s.queued = false
		s.out.Flush()
	}
	clear(b.unsent)
	b.unsent = b.unsent[:0]
}

// request starts the statements that are asked of one database.
func (b *Broker) request(ctx context.Context, wg *sync.WaitGroup, l *link, req *requests) {
	post := func(ev event) { b.post(from{l.no, ev}) }
	for _, at := range req.nobodys {
		l.log.Warn("strands wait, no worker here has their label", "kind", at.kind, "label", at.label)
	}
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
