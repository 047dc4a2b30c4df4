package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/oklog/run"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/postgres"
	"github.com/respirated/respirated/broker/supervisor"
)

// daemon is the parts of a host's daemon, wired to each other.
type daemon struct {
	log        *slog.Logger
	flush      func() // has all that was logged be written; nil if it cannot be upgraded
	pools      int
	stores     []*postgres.Store // of each database
	socket     *broker.Socket
	control    net.Listener
	web        *web         // nil = there is no dashboard
	databases  []fileConfig // the settings of each database
	supervisor *supervisor.Supervisor
	broker     *broker.Broker
	channels   []broker.Channel
	pages      []*pageSender // of each database, if pages are sent on
	hooks      *hooks        // nil = none are configured
	reload     *reloader     // nil = there is no configuration file
	upgrader   *upgrader     // nil = it cannot be upgraded
	signals    *signals      // nil = TERM and INT are caught while it runs
	returned   chan struct{} // closed when all workers of the build before are back
	marks      *marks        // of this broker, and of those that were here before
	notify     notifier
}

// newDaemon makes the parts. Nothing runs yet, but the socket is taken, so that nobody else serves it. If this process was
// the daemon already, as another build, it goes on as that; former is nil otherwise.
func newDaemon(ctx context.Context, cfg fileConfig, partition broker.Partition, former *handover, log *slog.Logger) (_ *daemon, err error) {
	d := &daemon{log: log, pools: len(cfg.Pools), notify: newNotifier(log), returned: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	open := d.open
	var heirloom *broker.Heirloom
	if former != nil {
		heirloom, open = former.Socket, d.openAgain
	}
	if d.socket, err = listenSocket(cfg.Socket, heirloom); err != nil {
		return nil, err
	}
	if d.control, err = listenControl(d.socket); err != nil {
		return nil, err
	}
	if d.web, err = newWeb(cfg.HTTP, former, log); err != nil {
		return nil, err
	}
	d.databases = cfg.each()
	databases, err := open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	supervision := cfg.supervisor(d.socket.Path, log)
	if len(cfg.Hooks) > 0 {
		if d.hooks, err = newHooks(cfg.Hooks, log); err != nil {
			return nil, err
		}
		supervision.Hook = d.hooks
	}
	supervision.Owned, supervision.SocketFor = d.socket.Owned, d.socket.For
	supervision.Exited = func(e broker.WorkerExit) { d.broker.Exited(e) } // supervisor and broker know each other
	supervision.TermsChanged = func(key string) { d.broker.TermsChanged(key) }
	d.marks = formerMarks(d.socket, log)
	supervision.Stranger = d.marks.strangers
	supervision.Returned = func() {
		close(d.returned)
		if marks := d.marks.former(); len(marks) > 0 {
			d.broker.Reclaim(marks)
		}
	}
	var self *broker.Former
	if former == nil {
		d.withdrawFormer(ctx)
	} else {
		supervision.Former, self = former.Workers, former.Broker
	}
	if d.supervisor, err = supervisor.New(supervision); err != nil {
		return nil, err
	}
	d.broker, err = broker.NewSeveral(databases, d.supervisor, broker.Config{
		Former:       self,
		Stranger:     d.marks.strangers,
		Admits:       d.socket.Admits,
		Build:        version(),
		Partition:    partition,
		Lease:        time.Duration(cfg.Lease),
		DrainTimeout: time.Duration(cfg.DrainTimeout),
		Idle:         d.supervisor.Idle,
		Logger:       log,
	})
	if err != nil {
		return nil, err
	}
	d.marks.own(d.broker.Mark())
	d.writeDown()
	return d, nil
}

// listenSocket takes the socket that this process had as another build, or that the service manager has given us, or makes one.
func listenSocket(path string, heirloom *broker.Heirloom) (*broker.Socket, error) {
	if heirloom != nil {
		return broker.ListenOn(path, heirloom)
	}
	given, err := givenSocket()
	if err != nil {
		return nil, err
	}
	if given == nil {
		return broker.ListenSocket(path)
	}
	if err := checkGiven(given, path); err != nil {
		given.Close()
		return nil, err
	}
	return broker.ListenGiven(given)
}

// supervisor is how the workers of a daemon with this socket are supervised, as far as the settings tell.
func (cfg fileConfig) supervisor(socket string, log *slog.Logger) supervisor.Config {
	dir := filepath.Dir(socket)
	return supervisor.Config{
		Pools:         cfg.pools(),
		WorkersDir:    cfg.WorkersDir,
		Socket:        socket,
		StateFile:     filepath.Join(dir, "workers.json"),
		LogDir:        filepath.Join(dir, "log"),
		LogLines:      string(cfg.WorkerLogs),
		LogKeep:       int64(cfg.WorkerLogKeep),
		StopTimeout:   cfg.stopTimeout(),
		ReturnTimeout: time.Duration(cfg.Lease),
		Log:           log,
	}
}

// open connects to each database. All have to be there when a daemon starts: one that cannot be reached may be a slip.
func (d *daemon) open(ctx context.Context, cfg fileConfig) (databases []broker.Database, err error) {
	for _, one := range cfg.each() {
		database := postgres.Config{URL: one.DatabaseURLs.one(), Schema: one.Schema, Logger: d.log}
		name := databaseName(database.URL)
		if len(cfg.DatabaseURLs) > 1 {
			database.Logger = d.log.With("database", name)
		}
		store, err := postgres.Open(ctx, database)
		if err != nil {
			return nil, one.among(cfg, err)
		}
		d.stores = append(d.stores, store)
		if cfg.PageCommand != "" {
			d.pages = append(d.pages, newPageSender(cfg.PageCommand, store, name, database.Logger))
		}
		channel, err := postgres.NewChannel(database)
		if err != nil {
			return nil, one.among(cfg, err)
		}
		d.channels = append(d.channels, channel)
		databases = append(databases, broker.Database{Name: name, Store: store})
	}
	return databases, nil
}

// close gives back what newDaemon took.
func (d *daemon) close() error {
	var errs []error
	if d.socket != nil {
		errs = append(errs, d.socket.Close()) // and the control socket with it
	}
	d.web.close()
	for _, store := range d.stores {
		store.Close()
	}
	return errors.Join(errs...)
}

// gcPercent lets the heap grow further than Go does between two collections. What a broker holds is small, and most of
// what it makes is garbage at once: by default it would collect several times a second.
const gcPercent = 200

// run runs the parts until a signal comes, ctx ends, or one of them fails. They stop in the order in which they are
// added here: each is interrupted in turn, and some interrupts wait. demo, which may be nil, is the part that only
// `respirated dev` has.
func (d *daemon) run(ctx context.Context, demo func(context.Context) error) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	var g parts

	// Signals: the first begins the end, the second ends the process at once.
	{
		ctx, stop := d.signals.context(ctx, d.returned)
		g.add("signals", func() error { <-ctx.Done(); return nil }, func() { d.notify.stopping(); stop() })
	}

	// An upgrade that is under way comes to its end first: what follows must not stop beneath it.
	if d.upgrader != nil {
		ctx, cancel := context.WithCancel(ctx)
		over := make(chan struct{})
		g.add("upgrades", func() error { defer close(over); return d.upgrader.run(ctx) }, func() { cancel(); <-over })
	}

	// The demo inserts strands. It ends while all the others still work, so that it can tell what became of them.
	if demo != nil {
		ctx, cancel := context.WithCancel(ctx)
		over := make(chan struct{})
		g.add("demo", func() error { defer close(over); return demo(ctx) }, func() { cancel(); <-over })
	}

	// The supervisor sends TERM to the workers. It is not waited for here, since the broker has to take their results
	// meanwhile.
	workersOver := make(chan struct{})
	{
		ctx, cancel := context.WithCancel(ctx)
		g.add("supervisor", func() error { defer close(workersOver); return d.supervisor.Run(ctx) }, cancel)
	}

	// The broker takes no more work, and ends when the workers' last results are in the database. Those who serve it
	// stop after it: its interrupt waits. It gets the listener alone, since the lock on the folder is the supervisor's
	// guard, too.
	{
		ctx, cancel := context.WithCancel(ctx)
		over := make(chan struct{})
		g.add("broker", func() error { defer close(over); return d.broker.Run(ctx, d.socket.Listener) }, func() { cancel(); <-over })
	}

	// The channels bring cancels to a broker that drains, too.
	{
		ctx, cancel := context.WithCancel(ctx)
		g.add("channels", func() error { return d.broker.Listen(ctx, d.channels...) }, cancel)
	}

	// The control socket tells how the drain goes, and so does the dashboard.
	tells := control{started: time.Now(), broker: d.broker, supervisor: d.supervisor, stores: d.stores, upgrader: d.upgrader}
	{
		server := controlServer(tells)
		g.add("control socket", func() error { return server.Serve(d.control) }, func() { server.Close() })
	}
	if d.web != nil {
		handler, err := d.web.handler(d, tells)
		if err != nil {
			return errors.Join(err, d.close())
		}
		server := d.web.server(handler)
		g.add("dashboard", func() error { return server.Serve(d.web.listener) }, func() { server.Close() })
		d.log.Info("dashboard listens", "address", d.web.raw.Addr())
	}

	// The folder of the sockets is looked after for as long as anybody may connect; nothing waits for that. Where another
	// daemon has got it, this is the part that ends the others.
	{
		ctx, cancel := context.WithCancel(ctx)
		g.add("guard of the folder", func() error { return d.socket.Guard(ctx, d.log, func() { d.supervisor.WriteDown(); d.writeDown() }) }, cancel)
	}

	// Maintenance can stop at any time; it is last because nothing waits for it.
	for _, store := range d.stores {
		ctx, cancel := context.WithCancel(ctx)
		g.add("maintenance", func() error { return store.RunMaintenance(ctx) }, cancel)
	}

	// So can the sending of pages: what is cut off is sent again.
	for _, pages := range d.pages {
		ctx, cancel := context.WithCancel(ctx)
		g.add("pages", func() error { return pages.Run(ctx) }, cancel)
	}

	// The configuration is read again for as long as there is somebody to apply it to; what is left of it is nothing.
	if d.reload != nil {
		ctx, cancel := context.WithCancel(ctx)
		g.add("configuration", func() error { return d.reload.Run(ctx) }, cancel)
	}

	// The service manager is told that we live until nobody has to any more.
	{
		ctx, cancel := context.WithCancel(ctx)
		alive := func(ctx context.Context) error { return d.alive(ctx, workersOver) }
		g.add("service manager", func() error { d.notify.run(ctx, alive); <-ctx.Done(); return nil }, func() { <-workersOver; cancel() })
	}

	// Hooks are told of the end of the last worker, too, so they are last.
	if d.hooks != nil {
		ctx, cancel := context.WithCancel(ctx)
		g.add("hooks", func() error { return d.hooks.Run(ctx) }, func() { <-workersOver; cancel() })
	}

	d.log.Info("respirated runs", "version", version(), "socket", d.socket.Path, "broker", d.broker.ID(), "pools", d.pools)
	err := g.run()

	// The stores and the lock on the socket's folder go when nobody is left who needs them.
	err = errors.Join(err, d.close())
	d.log.Info("respirated has stopped")
	return err
}

// alive asks the loops whether they turn. One that is over has nothing left to do.
func (d *daemon) alive(ctx context.Context, workersOver <-chan struct{}) error {
	if _, err := d.broker.Snapshot(ctx); err != nil && !errors.Is(err, broker.ErrStopped) {
		return fmt.Errorf("ask the broker: %w", err)
	}
	select {
	case <-workersOver:
		return nil
	default:
		return d.supervisor.Alive(ctx)
	}
}

// parts is a run.Group that tells every error, and not only that of the first part to end.
type parts struct {
	group run.Group

	mu   sync.Mutex // guards errs
	errs []error
}

func (p *parts) add(name string, execute func() error, interrupt func()) {
	p.group.Add(func() error {
		err := execute()
		if err != nil && !toldToStop(err) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.errs = append(p.errs, fmt.Errorf("%s: %w", name, err))
		}
		return err
	}, func(error) { interrupt() })
}

func (p *parts) run() error {
	_ = p.group.Run() // it is among errs
	return errors.Join(p.errs...)
}

// toldToStop tells an interrupt from a failure.
func toldToStop(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, http.ErrServerClosed)
}

// migrateAll applies missing migrations to each database before a daemon starts.
func migrateAll(ctx context.Context, cfg fileConfig, log *slog.Logger) error {
	for _, one := range cfg.each() {
		if err := migrateUp(ctx, one, log); err != nil {
			return one.among(cfg, err)
		}
	}
	return nil
}

// migrateUp applies missing migrations to one database.
func migrateUp(ctx context.Context, cfg fileConfig, log *slog.Logger) error {
	m, err := postgres.NewMigrator(ctx, postgres.Config{URL: cfg.DatabaseURLs.one(), Schema: cfg.Schema, Logger: log})
	if err != nil {
		return err
	}
	steps, err := m.Up(ctx)
	for _, step := range steps {
		log.Info("migration applied", "version", step.Version, "name", step.Name)
	}
	return errors.Join(err, m.Close())
}
