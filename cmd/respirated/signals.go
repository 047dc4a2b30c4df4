package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
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
