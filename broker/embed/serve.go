package embed

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/postgres"
)

// serve is the broker's process. It returns the exit code.
func serve(in io.Reader, out, stderr io.Writer) (code int) {
	log := slog.New(slog.NewTextHandler(stderr, nil))
	stdin := bufio.NewReader(in)
	say := func(w word) { _ = json.NewEncoder(out).Encode(w) } // if nobody listens, stdin ends
	line, err := stdin.ReadBytes('\n')
	var o order
	if err = errors.Join(err, json.Unmarshal(line, &o)); err != nil {
		log.Error("embedded broker failed", "error", err)
		say(word{Error: fmt.Sprintf("this is for package embed, and not to be started by hand: %v", err)})
		return 1
	}
	signal.Ignore(syscall.SIGPIPE) // who reads our log may die with the application: we still have to drain
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	alone := make(chan struct{})
	go func() { awaitEnd(stdin); close(alone) }()
	if err := run(ctx, o, alone, log, func() { say(word{Ready: true}) }); err != nil {
		say(word{Error: err.Error(), Served: broker.IsServed(err)})
		return 1
	}
	return 0
}

// run is a broker without workers of its own. It ends when ctx does, or when the application has ended, which alone tells.
func run(ctx context.Context, o order, alone <-chan struct{}, log *slog.Logger, ready func()) (err error) {
	socket, err := broker.ListenSocket(o.Socket)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := socket.Close(); !errors.Is(cerr, os.ErrClosed) { // handed over already
			err = errors.Join(err, cerr)
		}
	}()
	// A database may have us wait for long, and nobody needs what an application that has ended was about to start.
	opening, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-alone:
			cancel()
		case <-opening.Done():
		}
	}()
	database := postgres.Config{URL: o.DatabaseURL, Schema: o.Schema, Logger: log}
	if o.Migrate {
		if err := migrate(opening, database); err != nil {
			return err
		}
	}
	store, err := postgres.Open(opening, database)
	if err != nil {
		return err
	}
	defer store.Close()
	channel, err := postgres.NewChannel(database)
	if err != nil {
		return err
	}
	b, err := broker.New(store, nil, broker.Config{
		Build: build(), Partition: broker.Partition{Number: broker.Auto}, Lease: o.Lease, DrainTimeout: o.DrainTimeout, Logger: log,
	})
	if err != nil {
		return err
	}
	if err := succeed(opening, socket, store, b.ID()); err != nil {
		log.Warn("the former broker of this host is not withdrawn: the others will miss it", "error", err)
	}
	ready()
	log.Info("embedded broker runs", "socket", socket.Path, "broker", b.ID())
	// Those who serve it stop after it.
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	var others sync.WaitGroup
	defer others.Wait()
	defer stopServing()
	brokering, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	others.Go(func() { _ = b.Listen(serving, channel) }) // without it, it looks for what is due
	others.Go(func() { _ = store.RunMaintenance(serving) })
	others.Go(func() {
		if err := socket.Guard(serving, log, func() {}); err != nil {
			giveUp(err)
		}
	})
	ended := make(chan error, 1)
	go func() { ended <- b.Run(brokering, socket.Listener) }()
	select {
	case err = <-ended:
	case <-alone:
		if handOver(b, store, socket, o.PID, log) {
			return nil
		}
		giveUp(nil)
		err = <-ended
	}
	if cause := context.Cause(brokering); cause != nil && !errors.Is(cause, context.Canceled) {
		err = errors.Join(err, cause)
	}
	log.Info("embedded broker has stopped")
	return err
}

// succeed withdraws the broker that was here before, which is dead, since the folder is ours, and writes down who is here
// now: in the file in which `respirated` does.
func succeed(ctx context.Context, socket *broker.Socket, store *postgres.Store, id broker.ID) error {
	file := filepath.Join(socket.Dir, "broker")
	text, err := os.ReadFile(file)
	if err == nil {
		var former broker.ID
		if former, err = broker.ParseID(string(bytes.TrimSpace(text[:min(len(text), 64)]))); err == nil {
			err = store.Leave(ctx, former)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, os.WriteFile(file, []byte(id.String()+"\n"), 0o600))
}

// settleTime is for what the application's own worker held, and for what others have reported.
const settleTime = 5 * time.Second

// handOver ends the broker of an application that has ended without a drain, if other processes of it work on: their
// workers keep what they hold, and one of them starts the next broker. It tells whether there are any.
func handOver(b *broker.Broker, store *postgres.Store, socket *broker.Socket, pid int, log *slog.Logger) bool {
	ctx, cancel := context.WithTimeout(context.Background(), settleTime)
	defer cancel()
	own, others := fmt.Sprintf("pid %d", pid), false
	for settled := false; !settled; {
		snap, err := b.Snapshot(ctx)
		if err != nil {
			return false
		}
		settled, others = snap.Unsettled == 0, false
		for _, w := range snap.Workers {
			switch {
			case w.Name != own:
				others = others || w.Connected
			case w.Connected || w.Held > 0:
				settled = false // its death is about to be seen
			}
		}
		if !settled {
			pause(ctx, 20*time.Millisecond)
		}
	}
	if !others || b.Pause(ctx) != nil {
		return false
	}
	err := store.Leave(ctx, b.ID())
	err = errors.Join(err, socket.Close()) // whoever comes waits for the next broker
	b.Dismiss(ctx)
	log.Info("embedded broker has made room for the next one", "error", err)
	return true
}

func migrate(ctx context.Context, database postgres.Config) error {
	m, err := postgres.NewMigrator(ctx, database)
	if err != nil {
		return err
	}
	_, err = m.Up(ctx)
	return errors.Join(err, m.Close())
}

// build is the version of the application.
func build() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return ""
}
