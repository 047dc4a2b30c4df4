package supervisor

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The shim. Limits, a user and what else a process can only do to itself are set by the first image of a worker: this very
// program, started under a name of its own. It does what it is ordered, says over a pipe which step has failed, if one has,
// and becomes the worker: pid, session, environment and arguments are the worker's from the start.
//
// It costs a start of this program more (5 ms of the daemon's, measured), so pools that set nothing do without.

const (
	hasShim  = true
	shimName = "respirate-worker-shim" // argv[0] of the shim; then come its order, and the worker's argv
	shimExit = 127                     // its exit status then
)

// init runs before main of whatever program has this package: the daemon, a test, or an application with a broker.
func init() {
	if len(os.Args) < 3 || os.Args[0] != shimName {
		return
	}
	var o shimOrder
	if json.Unmarshal([]byte(os.Args[1]), &o) == nil {
		err := o.becomeWorker(os.Args[2:])
		// If nobody reads it, the exit status still says that something failed.
		_, _ = unix.Write(o.Pipe, []byte(err.Error()))
	}
	os.Exit(shimExit)
}

// becomeWorker returns only if a step failed.
func (o shimOrder) becomeWorker(argv []string) error {
	runtime.LockOSThread() // some of it is a thread's, and the thread that calls execve is the one that lives on
	for _, step := range o.steps() {
		if err := step.take(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return fmt.Errorf("execute %s: %w", argv[0], unix.Exec(o.Path, argv, os.Environ()))
}

type shimStep struct {
	what string
	take func() error
}

// steps are in an order that has each allowed: rights are given up last.
func (o shimOrder) steps() []shimStep {
	var steps []shimStep
	add := func(wanted bool, what string, take func() error) {
		if wanted {
			steps = append(steps, shimStep{what, take})
		}
	}
	rlimit := func(wanted bool, what string, resource int, value uint64) {
		add(wanted, fmt.Sprintf("set %s to %d", what, value), func() error { return setLimit(resource, value) })
	}
	rlimit(o.Files != 0, "nofile", unix.RLIMIT_NOFILE, uint64(o.Files))
	if o.Core != nil {
		rlimit(true, "core", unix.RLIMIT_CORE, uint64(*o.Core))
	}
	rlimit(o.Procs != 0, "nproc", unix.RLIMIT_NPROC, uint64(o.Procs))
	add(o.Nice != 0, fmt.Sprintf("set nice to %d", o.Nice), func() error { return unix.Setpriority(unix.PRIO_PROCESS, 0, o.Nice) })
	if id := o.As; id != nil {
		add(true, "set groups", func() error { return syscall.Setgroups(id.Groups) })
		add(true, fmt.Sprintf("become group %d", id.GID), func() error { return syscall.Setgid(id.GID) })
		add(true, fmt.Sprintf("become user %d", id.UID), func() error { return syscall.Setuid(id.UID) })
	}
	if o.Umask != nil {
		add(true, "set umask", func() error { unix.Umask(*o.Umask); return nil })
	}
	add(o.NoNewPrivs, "set no_new_privs", func() error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })
	add(true, "close descriptors", func() error { return markFrom(o.Pipe) })
	// Last, as this program is larger than many workers.
	rlimit(o.AddressSpace != 0, "address_space", unix.RLIMIT_AS, uint64(o.AddressSpace))
	return steps
}

// setLimit sets both limits of a resource.
func setLimit(resource int, value uint64) error {
	// By package syscall, whose Exec would otherwise bring back the limit of descriptors that this program began with.
	return syscall.Setrlimit(resource, &syscall.Rlimit{Cur: value, Max: value})
}

// through has cmd start by way of the shim, which tells its trouble to the file that is returned. Its other end is to be
// closed once cmd has started.
func (o shimOrder) through(cmd *exec.Cmd) (trouble, end *os.File, err error) {
	o.Path, o.Pipe = cmd.Path, firstBeyondStd+len(cmd.ExtraFiles)
	order, err := json.Marshal(o)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the order of the shim: %w", err)
	}
	if trouble, end, err = os.Pipe(); err != nil {
		return nil, nil, err
	}
	cmd.Path, cmd.Err = "/proc/self/exe", nil
	cmd.Args = append([]string{shimName, string(order)}, cmd.Args...)
	cmd.ExtraFiles = append(cmd.ExtraFiles, end)
	return trouble, end, nil
}

// needed says whether there is anything to do.
func (o shimOrder) needed() bool {
	order, _ := json.Marshal(o)
	return strings.TrimSpace(string(order)) != "{}"
}
