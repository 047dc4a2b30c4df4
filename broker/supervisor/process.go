package supervisor

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a worker process, started here or adopted. It leads a session and a group of its own, so that its pid is
// also the name of its group.
type process struct {
	pid   int
	start string
	watch watch
	child *os.Process // nil: it is not our child, so that nobody can wait for it

	trouble *os.File // the shim tells here why it could not become the worker; nil = there is none

	ended *os.ProcessState // of a child that was waited for; nil = it was not, or could not be. Of the goroutine in wait
	group *group           // its cgroup; nil = none of its own
	floor int64            // peak memory that it may have inherited

	mu   sync.Mutex // guards what follows
	gone bool       // its pid may be somebody else's by now
	used usage      // as of the last look at it
}

// closing is how a process ended.
type closing struct {
	code    int    // exit status; -1 where there is none
	how     string // for people
	used    usage
	trouble string // why it never became a worker; "" = it did
}

// adoptedEnd is the end of a process that was not our child: the kernel tells its exit status to its parent only.
const adoptedEnd = "unknown (adopted)"

// launch is what a new process needs.
type launch struct {
	pool   Pool
	kept   *os.File // the version of the binary to start, where its path has another one; nil = what is at its path
	socket string
	key    string
	logs   logs
	group  *group // nil = ours

	socketFor func(uid, gid int) (string, error) // nil = other users have none
}

// socketAs is the socket for the pool's user.
func (l launch) socketAs() (string, error) {
	as, err := l.pool.identity()
	switch {
	case err != nil:
		return "", err
	case as == nil || as.UID == os.Geteuid():
		return l.socket, nil
	case l.socketFor == nil:
		return "", fmt.Errorf("workers of user %s cannot reach the broker: its socket is another user's alone", as.name)
	}
	return l.socketFor(as.UID, as.GID)
}

// run starts the process. It also returns what its stderr log was before it wrote anything.
func (l launch) run() (p *process, log os.FileInfo, err error) {
	if l.kept == nil {
		if err := checkBinary(l.pool.Binary); err != nil {
			return nil, nil, err
		}
	}
	stdout, err := l.logs.open(l.logs.out)
	if err != nil {
		return nil, nil, err
	}
	defer stdout.Close()
	stderr, err := l.logs.open(l.logs.err)
	if err != nil {
		return nil, nil, err
	}
	defer stderr.Close()
	info, err := stderr.Stat()
	if err != nil {
		return nil, nil, err
	}
	p, err = l.start(stdout, stderr)
	return p, info, err
}

// start runs the binary with /dev/null, stdout and stderr as its only descriptors: all others are close-on-exec. A kept
// version is one more, since the interpreter of a script has to read it after the exec.
func (l launch) start(stdout, stderr *os.File) (*process, error) {
	as, err := l.pool.identity()
	if err != nil {
		return nil, err
	}
	socket, err := l.socketAs()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(l.pool.Binary, l.pool.Args...)
	cmd.Dir = l.pool.Dir
	cmd.Env = l.pool.environment(socket, l.key, as)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if l.kept != nil {
		cmd.Path, cmd.ExtraFiles = pathOfExtra(0), []*os.File{l.kept}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	l.group.receive(cmd.SysProcAttr)
	var trouble *os.File
	if order := l.pool.Limits.before(as); order.needed() {
		var end *os.File
		if trouble, end, err = order.through(cmd); err != nil {
			return nil, fmt.Errorf("start worker: %w", err)
		}
		defer end.Close()
	}
	if err := cmd.Start(); err != nil {
		trouble.Close() // nil is fine
		return nil, fmt.Errorf("start worker: %w", err)
	}
	l.group.close()
	// Until it is reaped its pid is its own, so there is no hurry.
	pid := cmd.Process.Pid
	offerToOOM(pid)
	start, _ := look(pid)
	return &process{
		pid: pid, start: start, watch: openWatch(pid, start), child: cmd.Process, trouble: trouble, group: l.group, floor: ownPeak(),
	}, nil
}

// adoptProcess takes hold of a former daemon's process, or returns nil when it is no more. If this process was the former
// daemon, it is our child, and of use even if it has ended: we are told how.
func adoptProcess(r record) *process {
	if r.PID <= 1 {
		return nil
	}
	// The watch comes first: what it holds on to is the process that is looked at afterwards, or an older one.
	w := openWatch(r.PID, r.Start)
	start, alive := look(r.PID)
	ours := isChild(r.PID)
	if group, err := syscall.Getpgid(r.PID); !alive && !ours || start != r.Start || err != nil || group != r.PID {
		w.close()
		return nil
	}
	p := &process{pid: r.PID, start: r.Start, watch: w, group: adoptGroup(r.Cgroup), floor: math.MaxInt64}
	if ours {
		p.child, _ = os.FindProcess(r.PID) // it has this pid until we wait for it
	}
	return p
}

// signal sends KILL to the whole group, and to all in its cgroup, and any other signal to the worker alone: what its
// handlers started must live for them to finish. A process that has ended is left alone.
func (p *process) signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone || !p.holdsPID() {
		return nil
	}
	if sig == syscall.SIGKILL {
		p.group.kill()
	}
	return p.send(sig, sig == syscall.SIGKILL)
}

// holdsPID is false when somebody else has, or may have, the pid by now. Our own child has it until we reap it.
func (p *process) holdsPID() bool {
	if p.child != nil {
		return true
	}
	start, alive := look(p.pid)
	return alive && start == p.start
}

// wait returns after the process has ended, nothing of its group is left, and it is reaped. Its cgroup is still to be removed.
// Between its end and the rest it calls ended, which may take its time.
func (p *process) wait(ended func()) closing {
	trouble := p.readTrouble()
	p.awaitEnd()
	ended()
	p.mu.Lock()
	defer p.mu.Unlock()
	// Where there are pidfds our child is not reaped yet: it still owns its pid, and with it the name of its group.
	_ = p.send(syscall.SIGKILL, true)
	p.group.kill()
	p.gone = true
	p.watch.close()
	end := closing{code: -1, how: adoptedEnd, used: p.used.and(p.group.usage())}
	if p.reap(); p.ended != nil {
		end.code, end.how = p.ended.ExitCode(), p.ended.String()
		if account, ok := p.ended.SysUsage().(*syscall.Rusage); ok {
			end.used = end.used.and(usageOf(account, p.floor))
		}
	}
	switch {
	case trouble != "":
		end = closing{code: -1, how: "not started: " + trouble, trouble: trouble}
	case p.group.oomKills() > 0 && end.code == -1:
		end.how += " (oom)"
	}
	return end
}

// reap waits for our child, once.
func (p *process) reap() {
	if p.child != nil && p.ended == nil {
		p.ended, _ = p.child.Wait() // somebody else may have reaped it
	}
}

// sample looks at what the process uses, while it lives.
func (p *process) sample() (u usage, alive bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return u, false
	}
	if u, alive = sampleOf(p.pid, p.start); alive {
		p.used = p.used.and(u)
	}
	return u, alive
}

// files is how many descriptors the process has open, while it lives.
func (p *process) files() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone || !p.holdsPID() {
		return 0
	}
	return filesOf(p.pid)
}

// readTrouble returns when the shim has become the worker, or has said why it could not.
func (p *process) readTrouble() string {
	if p.trouble == nil {
		return ""
	}
	defer p.trouble.Close()
	const most = 4 << 10
	text, _ := io.ReadAll(io.LimitReader(p.trouble, most)) // what cannot be read was not said
	return string(text)
}

// send signals the process, or all of its group.
func (p *process) send(sig syscall.Signal, all bool) error {
	if p.pid <= 1 {
		panic("bug: a signal to everybody")
	}
	err := p.watch.signal(sig, all)
	if errors.Is(err, errors.ErrUnsupported) {
		target := p.pid
		if all {
			target = -p.pid
		}
		err = syscall.Kill(target, sig)
	}
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

const (
	pollEvery = 50 * time.Millisecond // how often a process is polled where the kernel does not tell of its death
	lookEvery = 20                    // every so many polls it is looked at closely, which costs more
)

// pollUntilGone returns after the process with this pid and start time has ended.
func pollUntilGone(pid int, start string) {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for i := 0; syscall.Kill(pid, 0) != syscall.ESRCH; i++ {
		if i%lookEvery == 0 {
			if now, alive := look(pid); !alive || now != start {
				return
			}
		}
		<-ticker.C
	}
}

// errNoHandleSignal sends the caller to kill(2).
var errNoHandleSignal = fmt.Errorf("signal by handle: %w", errors.ErrUnsupported)

// hasKey reports whether an environment block holds the spawn key.
func hasKey(environ, key string) bool {
	return strings.Contains("\x00"+environ, "\x00RESPIRATE_WORKER_KEY="+key+"\x00")
}
