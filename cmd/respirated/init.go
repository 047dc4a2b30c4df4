package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"
)

// forwarded are the signals that somebody may send to a container. What else comes is the kernel's or the runtime's.
var forwarded = []os.Signal{
	syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGCONT,
}

// initProcess is what process 1 of a container has to be: it runs this program again as its child, hands on signals, reaps
// what others have left to it, and ends as its child does. The daemon must not be process 1 itself: it waits for its own
// children only, and the kernel keeps from process 1 every signal that it does not handle.
func initProcess(args []string, stderr io.Writer) (code int) {
	signals := make(chan os.Signal, 100)
	signal.Notify(signals, append([]os.Signal{syscall.SIGCHLD}, forwarded...)...)
	child, err := startChild(args)
	if err != nil {
		fmt.Fprintf(stderr, "respirated: cannot run itself as the child of process 1: %v\n", err)
		return exitFailed
	}
	for sig := range signals {
		if sig != syscall.SIGCHLD {
			_ = syscall.Kill(child, sig.(syscall.Signal)) // if it has ended, we are about to hear of it
			continue
		}
		if status, ended := reap(child); ended {
			return status
		}
	}
	panic("bug: the channel of signals was closed")
}

// startChild runs this program once more. On a terminal it becomes the foreground: Ctrl-C is for it alone, or it would come twice.
func startChild(args []string) (pid int, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	sys := &syscall.SysProcAttr{}
	if term.IsTerminal(0) {
		sys.Foreground, sys.Ctty = true, 0
	}
	return syscall.ForkExec(self, append([]string{os.Args[0]}, args...), &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: sys})
}

// reap takes in all that have ended. If the child is among them it returns its exit code, in a shell's way.
func reap(child int) (code int, ended bool) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil || pid == 0:
			return code, ended
		case pid == child && status.Signaled():
			code, ended = 128+int(status.Signal()), true
		case pid == child && status.Exited():
			code, ended = status.ExitStatus(), true
		}
	}
}
