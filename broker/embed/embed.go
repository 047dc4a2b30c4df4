// Package embed lets an application be its own broker, for those who want no second program: the application's binary
// runs itself again, and that second process is the broker of the host.
//
//	func main() {
//		embed.Main() // in the second process this is the broker, and does not return
//		b, err := embed.Start(ctx, embed.Config{DatabaseURL: url})
//		...
//		defer b.Stop()
//		err = worker.Run(ctx, mux, worker.Config{Socket: b.Socket()})
//	}
//
// The broker has a process of its own so that what makes one worth having holds here, too: it sees the application die,
// and gives back at once what that held. It starts no workers: the application is one. Several processes of it on a host
// share the broker of whichever was first; when that ends, another one starts the next.
//
//   - The application ends, or is killed: the broker's standard input ends. It takes no more work, settles what it has, and
//     exits. Workers of other processes keep what they hold, and bring it to the next broker.
//   - The broker ends, or is killed: it is started again, later after each time that it did not live for a minute. The
//     worker waits for it, and goes on with what it holds.
//   - Configuration and database URL go through the pipe, not through arguments or the environment, which others see.
package embed

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/respirated/respirated/protocol"
)

// Config says which broker an application wants. The processes of one application on a host say the same.
type Config struct {
	DatabaseURL  string        // "" = what the PG* variables say
	Schema       string        // "" = respirate
	Socket       string        // "" = $RESPIRATE_SOCKET, else tmp/respirate/respirate.sock; its folder belongs to the broker
	Migrate      bool          // apply missing migrations first
	Lease        time.Duration // 0 = 2 min
	DrainTimeout time.Duration // how long the broker waits for workers once it is to end; 0 = 30 s
	StartTimeout time.Duration // how long Start waits for a broker; 0 = 1 min

	Log    *slog.Logger // of this process; nil = slog.Default
	Stderr *os.File     // where the broker's own log goes, as text of log/slog; nil = standard error
}

// verb is the argument by which a process knows that it is to be the broker.
const verb = "respirate-embedded-broker"

// Main is to be called first in main. In a process that [Start] has started it is the broker, and ends the process; in any
// other it does nothing.
func Main() {
	if len(os.Args) == 2 && os.Args[1] == verb {
		os.Exit(serve(os.Stdin, os.Stdout, os.Stderr))
	}
}

// Broker is the broker of an application, in a process of its own.
type Broker struct {
	cfg    Config
	socket string
	stop   context.CancelFunc
	over   sync.WaitGroup
}

// Start makes sure that a broker serves the socket, until [Broker.Stop] or the end of this process. It returns when one
// does, or with the reason for which none can.
func Start(ctx context.Context, cfg Config) (*Broker, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	keeping, stop := context.WithCancel(context.WithoutCancel(ctx))
	b := &Broker{cfg: cfg, socket: cfg.Socket, stop: stop}
	first := make(chan error, 1)
	b.over.Go(func() { b.keep(keeping, first) })
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.StartTimeout, fmt.Errorf("no broker serves %s after %v", cfg.Socket, cfg.StartTimeout))
	defer cancel()
	select {
	case err = <-first:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		b.Stop()
		return nil, fmt.Errorf("start the broker: %w", err)
	}
	return b, nil
}

func (c Config) withDefaults() (Config, error) {
	if c.Socket == "" {
		c.Socket = os.Getenv("RESPIRATE_SOCKET")
	}
	if c.Socket == "" {
		c.Socket = protocol.DefaultSocket
	}
	if c.StartTimeout == 0 {
		c.StartTimeout = time.Minute
	}
	if c.StartTimeout < 0 || c.DrainTimeout < 0 || c.Lease < 0 {
		return c, errors.New("a duration of the broker's configuration is negative")
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Stderr == nil {
		c.Stderr = os.Stderr
	}
	var err error
	c.Socket, err = protocol.SocketPath(c.Socket)
	return c, err
}

// Socket is where workers reach the broker.
func (b *Broker) Socket() string { return b.socket }

// Stop ends the broker, if it is this process's, once it has drained, and waits for that. Workers should have ended.
func (b *Broker) Stop() {
	b.stop()
	b.over.Wait()
}

const (
	lookEvery = time.Second // at the broker of another process of the application
	healthy   = time.Minute // a broker that has lived so long was well
	mostWait  = 30 * time.Second
)

// keep keeps a broker at the socket until ctx ends. It tells first what came of the first try.
func (b *Broker) keep(ctx context.Context, first chan<- error) {
	tell := func(err error) {
		select {
		case first <- err:
		default: // it was told already
		}
	}
	wait := 100 * time.Millisecond
	for ctx.Err() == nil {
		if b.served() {
			tell(nil)
			pause(ctx, lookEvery)
			continue
		}
		began := time.Now()
		err := b.run(ctx, func() { tell(nil) })
		if errors.Is(err, errServed) {
			continue // somebody was quicker
		}
		tell(err)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > healthy {
			wait = 100 * time.Millisecond
		}
		b.cfg.Log.Error("broker has ended and is started again", "error", err, "in", wait)
		pause(ctx, wait/2+rand.N(wait))
		wait = min(2*wait, mostWait)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// served tells whether somebody listens at the socket.
func (b *Broker) served() bool {
	conn, err := net.Dial("unix", b.socket)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// errServed is that another process of the application has the broker.
var errServed = errors.New("another broker serves the socket")

// word is what a broker says of itself on its standard output, once.
type word struct {
	Ready  bool   `json:"ready"`
	Served bool   `json:"served"` // by another one
	Error  string `json:"error"`
}

// order is what a broker is told on its standard input. The end of that is the end of the application.
type order struct {
	DatabaseURL  string        `json:"database_url"`
	Schema       string        `json:"schema"`
	Socket       string        `json:"socket"`
	PID          int           `json:"pid"` // of the application
	Migrate      bool          `json:"migrate"`
	Lease        time.Duration `json:"lease"`
	DrainTimeout time.Duration `json:"drain_timeout"`
}

// run runs one broker until it ends, or drains it when ctx does.
func (b *Broker) run(ctx context.Context, ready func()) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	cmd := exec.Command(self, verb)
	cmd.Stderr = b.cfg.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the application, which then ends the broker
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { stdin.Close() })()
	err = json.NewEncoder(stdin).Encode(order{b.cfg.DatabaseURL, b.cfg.Schema, b.cfg.Socket, os.Getpid(), b.cfg.Migrate, b.cfg.Lease, b.cfg.DrainTimeout})
	var said word
	if err == nil {
		err = json.NewDecoder(stdout).Decode(&said)
	}
	if said.Ready {
		ready()
	}
	_, _ = io.Copy(io.Discard, stdout) // to its end, which Wait must not forestall
	ended := cmd.Wait()
	stdin.Close()
	switch {
	case said.Served:
		return errServed
	case said.Error != "":
		return errors.New(said.Error)
	case said.Ready:
		return ended
	}
	return errors.Join(err, ended)
}

// awaitEnd returns when the application has ended, or has closed the pipe.
func awaitEnd(stdin *bufio.Reader) { _, _ = io.Copy(io.Discard, stdin) }
