package worker

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Exit statuses of a worker process. They are those of sysexits.h, which supervisors know.
const (
	ExitDone      = 0  // drained: on a signal, or because the broker asked
	ExitTemporary = 75 // something is amiss that may be over soon; start it again
	ExitConfig    = 78 // starting it again will not help
)

// oneSignal is how long after the first signal another one counts as the same: programs such as timeout(1) send it to a process,
// and then to the group that this is in.
const oneSignal = 500 * time.Millisecond

// Main is the main function of a worker process: it calls [Run], logs to stderr, and ends the process with a status that
// [ExitCode] tells. On SIGTERM or SIGINT it drains, on a second one it ends at once. It does not return.
func Main(mux *Mux) {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		sig := <-signals
		same := time.Now().Add(oneSignal)
		log.Info("stopping; a second signal ends the process at once", "signal", sig)
		cancel()
		for {
			if sig := <-signals; time.Now().After(same) {
				log.Warn("ending at once", "signal", sig)
				os.Exit(ExitTemporary)
			}
		}
	}()
	err := Run(ctx, mux, Config{Logger: log})
	if err != nil {
		log.Error("worker ended", "error", err)
	}
	os.Exit(ExitCode(err))
}

// ExitCode is the exit status that tells a supervisor what an error of [Run] means for the next start.
func ExitCode(err error) int {
	switch {
	case err == nil:
		return ExitDone
	case errors.Is(err, ErrConfig):
		return ExitConfig
	}
	return ExitTemporary
}
