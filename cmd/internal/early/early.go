// Package early takes in the signals of a daemon from the first moment on, where this process has become another build of
// it. A signal that comes before has the kernel's default: it ends the process, and leaves its workers to the next daemon.
// That time cannot be nothing, as Go's runtime takes what is pending before it can hand it on; but it can be short. The
// package needs little and is named so that the runtime initialises it among the first, long before the program's main.
package early

import (
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
)

// HandoverVar names the variable of a process that has become another build: "PID:FD".
const HandoverVar = "RESPIRATE_HANDOVER"

// Signals are where those of a daemon go.
type Signals struct {
	End     chan os.Signal // TERM, INT
	Upgrade chan os.Signal // USR2
	Hangup  chan os.Signal // HUP
}

// signals are those of this process. There is one set of signals for a process, and they are needed before main.
var signals = Signals{End: make(chan os.Signal, 2), Upgrade: make(chan os.Signal, 1), Hangup: make(chan os.Signal, 1)}

func init() {
	if pid, _, _ := strings.Cut(os.Getenv(HandoverVar), ":"); pid == strconv.Itoa(os.Getpid()) {
		signals.Catch(false)
	}
}

// Caught is where the signals of this process go, of which some may have come already.
func Caught() Signals { return signals }

// Catch has them go there from now on. HUP stays ignored where whoever has started us wants it so, unless it has to be caught.
func (s Signals) Catch(hangup bool) {
	signal.Notify(s.End, syscall.SIGTERM, syscall.SIGINT)
	signal.Notify(s.Upgrade, syscall.SIGUSR2)
	if hangup || !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(s.Hangup, syscall.SIGHUP)
	}
}
