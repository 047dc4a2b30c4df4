package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/respirated/respirated/cmd/internal/early"
)

// oneSignal is how long after the first signal another one counts as the same: programs such as timeout(1) send it to a process,
// and then to the group that this is in.
const oneSignal = 500 * time.Millisecond

// untilSignal is a context that ends with the first SIGTERM or SIGINT. From then on we do not catch them, so that the second
// ends the process at once.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, func() { time.AfterFunc(oneSignal, stop) })
	return ctx, stop
}

// outliveLog has this process go on when nobody reads its log any more, such as a logger in a pipe. The signal is caught, as one
// that were ignored would be so for workers, too.
func outliveLog() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }

// signals are what a daemon is told by kill(1): TERM and INT to end, USR2 to become another build, HUP to read its
// configuration again, or without one to end.
type signals struct {
	early.Signals
	reloads bool
	orderly atomic.Bool // the first that says so begins the end; until then, and at the second, the process ends as if it did not catch them
	looks   chan chan bool
	ended   context.Context // the end has begun
	end     context.CancelFunc
	first   time.Time // when it did; run only
}

// catchSignals takes in signals from now on, for the life of the process. A daemon that has workers from the build before
// has to end in an orderly way however early it is told to.
func catchSignals(reloads, orderly bool) *signals {
	s := &signals{Signals: early.Caught(), reloads: reloads, looks: make(chan chan bool)}
	s.orderly.Store(orderly)
	s.ended, s.end = context.WithCancel(context.Background())
	s.Catch(reloads)
	go s.run()
	return s
}

func (s *signals) run() {
	hangup := s.Hangup
	if s.reloads {
		hangup = nil // somebody else's
	}
	for {
		select {
		case sig := <-s.End:
			s.take(sig)
		case sig := <-hangup:
			s.take(sig)
		case answer := <-s.looks:
			select {
			case sig := <-s.End:
				s.take(sig)
			case sig := <-hangup:
				s.take(sig)
			default:
			}
			answer <- s.ended.Err() != nil
		}
	}
}

func (s *signals) take(sig os.Signal) {
	switch {
	case s.ended.Err() != nil && time.Since(s.first) < oneSignal:
		return
	case s.ended.Err() != nil || !s.orderly.Load():
		dieOf(sig.(syscall.Signal))
	}
	s.first = time.Now()
	s.end()
}

// backTime is how long a daemon that is to end waits for the workers of the build before: who is not back cannot bring its
// results.
const backTime = 5 * time.Second

// context is one that ends with the first signal that says so. The daemon runs from now on. One that has been another build
// waits with its end until its workers are back.
func (s *signals) context(ctx context.Context, returned <-chan struct{}) (_ context.Context, stop func()) {
	if s == nil {
		ctx, cancel := context.WithCancel(ctx)
		ctx, _ = untilSignal(ctx)
		return ctx, cancel
	}
	another := s.orderly.Swap(true)
	ctx, cancel := context.WithCancel(ctx)
	unlink := context.AfterFunc(s.ended, func() {
		if another {
			select {
			case <-returned:
			case <-time.After(backTime):
			}
		}
		cancel()
	})
	return ctx, func() { unlink(); cancel() }
}

// leave is for a process that is about to become another build. It says whether the end has begun. What comes later and
// asks for the end, but before that build takes it in, ends the process at once: that is better than to be lost. What else
// comes is ignored: that build does the same anyway. If it does not come to it, Catch undoes that.
func (s *signals) leave() (ending bool) {
	signal.Ignore(syscall.SIGUSR2)
	if s.reloads {
		signal.Ignore(syscall.SIGHUP)
	} else {
		signal.Stop(s.Hangup)
	}
	signal.Stop(s.End) // waits for those that are on their way
	answer := make(chan bool)
	s.looks <- answer
	return <-answer
}

// dieOf ends this process as a signal does that nobody catches.
func dieOf(sig syscall.Signal) {
	signal.Reset(sig)
	_ = syscall.Kill(os.Getpid(), sig)
	time.Sleep(time.Second) // whoever has started us may have it ignored
	os.Exit(128 + int(sig))
}

// refuseUpgrades has SIGUSR2 end nobody who cannot become another build.
func refuseUpgrades(log *slog.Logger) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR2)
	go func() {
		for range asked {
			log.Error("SIGUSR2 is ignored: only the daemon of respirated run can become another build")
		}
	}()
}
