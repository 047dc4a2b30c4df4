package hub

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Args are the args of every job, for whichever system.
type Args struct {
	N     int    `json:"n"`
	Trace bool   `json:"trace"` // tell when the handler begins
	Pad   string `json:"pad"`
}

// Kind is the name of the jobs.
func (Args) Kind() string { return "noop" }

// argsFrame is what args weigh as JSON without their pad and number.
const argsFrame = len(`{"n":,"trace":false,"pad":""}`)

// NewArgs makes args that are about size bytes long as JSON.
func NewArgs(n, size int, trace bool) Args {
	return Args{N: n, Trace: trace, Pad: strings.Repeat("x", max(0, size-argsFrame-len(fmt.Sprint(n))))}
}

// Line is a process's side.
type Line struct {
	conn   net.Conn
	lines  *bufio.Scanner
	hungUp func() // called when the harness has closed the connection of a started worker

	handled atomic.Int64
	began   atomic.Bool // the first handler

	mu      sync.Mutex // guards pending
	pending []byte     // lines that are not sent yet
}

// Dial says hello as a worker or as an inserter.
func Dial(path, role string) (*Line, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, fmt.Errorf("reach the harness: %w", err)
	}
	l := &Line{conn: conn, lines: bufio.NewScanner(conn), hungUp: func() { os.Exit(0) }}
	if _, err := fmt.Fprintln(conn, "hello", role, os.Getpid()); err != nil {
		return nil, fmt.Errorf("say hello to the harness: %w", err)
	}
	return l, nil
}

// Await waits for the start, and then reports until the harness hangs up, which ends the process.
func (l *Line) Await() error {
	if !l.lines.Scan() {
		return errors.New("the harness hung up before the start")
	}
	var every int
	if _, err := fmt.Sscanf(l.lines.Text(), "go %d", &every); err != nil || every <= 0 {
		return fmt.Errorf("the harness says %q, want go and how often to report", l.lines.Text())
	}
	go l.report(time.Duration(every) * time.Millisecond)
	go func() {
		l.lines.Scan()
		l.hungUp()
	}()
	return nil
}

// Handle is the handler of every job: it does nothing, and takes notes.
func (l *Line) Handle(args Args) {
	if args.Trace || !l.began.Load() {
		l.note(args, Now())
	}
	l.handled.Add(1)
}

// Tell tells the harness a value; of several of one name the last counts.
func (l *Line) Tell(name string, value int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending = fmt.Appendf(l.pending, "v %s %d\n", name, value)
}

func (l *Line) note(args Args, now Instant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.began.CompareAndSwap(false, true) {
		l.pending = fmt.Appendf(l.pending, "first %d\n", now)
	}
	if args.Trace {
		l.pending = fmt.Appendf(l.pending, "s %d %d\n", args.N, now)
	}
}

func (l *Line) report(every time.Duration) {
	told := int64(0)
	for range time.Tick(every) {
		n := l.handled.Load()
		l.mu.Lock()
		if n != told {
			l.pending = fmt.Appendf(l.pending, "n %d\n", n)
			told = n
		}
		if len(l.pending) > 0 {
			_, _ = l.conn.Write(l.pending) // of a harness that is gone we learn by reading
		}
		l.pending = l.pending[:0]
		l.mu.Unlock()
	}
}
