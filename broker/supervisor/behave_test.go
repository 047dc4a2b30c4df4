package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain lets the test binary stand in for workers and for a daemon: `test-binary as ROLE ...`.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "as" {
		time.AfterFunc(2*time.Minute, func() { os.Exit(99) }) // no orphan outlives a failed test for long
		roles[os.Args[2]](os.Args[3:])
		syscall.Exit(0) // not os.Exit: a program that looks for races would wait for a second before
	}
	goleak.VerifyTestMain(m)
}

// roles are what the re-executed test binary can be.
var roles map[string]func(args []string)

func init() {
	roles = map[string]func(args []string){
		"steady":  steady,
		"polite":  polite,
		"deaf":    deaf,
		"noting":  noting,
		"mute":    mute,
		"exit":    func(args []string) { os.Exit(number(args[0])) },
		"dying":   dying,
		"parent":  parent,
		"child":   func([]string) { select {} },
		"caring":  caring,
		"brief":   func([]string) { _, _ = os.Stdin.Read(make([]byte, 1)) },
		"picky":   picky,
		"daemon":  daemon,
		"raising": raising,
		"saying":  saying,
		"flood":   flood,
		"full":    full,
		"telling": telling,
		"busy":    busy,
		"forking": forking,
	}
}

// greeting is what a worker tells the test about itself: the tests' hello.
type greeting struct {
	Key   string
	PID   int
	Group int
	SID   int
	Child int
	Env   []string
	Files []string          // what its descriptors name
	Proc  map[string]string // of /proc/self: what the tests of limits look at
}

func (g greeting) sendOver(conn net.Conn) error { return json.NewEncoder(conn).Encode(g) }

func myself() greeting {
	sid, _, _ := syscall.Syscall(syscall.SYS_GETSID, 0, 0, 0)
	return greeting{
		Key: os.Getenv("RESPIRATE_WORKER_KEY"), PID: os.Getpid(), Group: syscall.Getpgrp(), SID: int(sid),
		Env: os.Environ(), Files: openFiles(),
	}
}

func openFiles() []string {
	var files []string
	links, _ := filepath.Glob("/proc/self/fd/*")
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil {
			files = append(files, target)
		}
	}
	return files
}

// greet connects to the broker of the environment, as often as it takes.
func greet(g greeting) net.Conn {
	for {
		conn, err := net.Dial("unix", os.Getenv("RESPIRATE_SOCKET"))
		if err == nil && g.sendOver(conn) == nil {
			return conn
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// untilClosed returns when the other side has gone.
func untilClosed(conn net.Conn) { _, _ = conn.Read(make([]byte, 1)) }

// steady says hello, and again whenever the broker has gone.
func steady([]string) { steadyAs(myself()) }

func steadyAs(g greeting) {
	for {
		untilClosed(greet(g))
	}
}

// polite is steady, and ends with status 0 when asked.
func polite([]string) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	go steady(nil)
	<-asked
}

// deaf is steady, and does not care to be asked.
func deaf([]string) {
	signal.Ignore(syscall.SIGTERM)
	steady(nil)
}

// noting is deaf, but writes down that it was asked.
func noting([]string) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	go steady(nil)
	for range asked {
		fmt.Fprintln(os.Stderr, "asked")
	}
}

// mute says hello once, and never again.
func mute([]string) {
	greet(myself())
	select {}
}

// dying writes its last words and dies of a signal once the broker hangs up.
func dying(args []string) {
	conn := greet(myself())
	fmt.Fprint(os.Stdout, "to stdout\n")
	fmt.Fprint(os.Stderr, "first words\nlast words: "+args[0]+"\n")
	untilClosed(conn)
	_ = syscall.Kill(os.Getpid(), syscall.Signal(number(args[1])))
	select {}
}

// parent has a child in its group, which holds its log files.
func parent([]string) {
	child := exec.Command(os.Args[0], "as", "child")
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	if err := child.Start(); err != nil {
		panic(err)
	}
	g := myself()
	g.Child = child.Process.Pid
	untilClosed(greet(g))
}

// caring has a child in its group that ends when it is told to. Asked to end, it lets the child finish first, and says
// by its exit status whether the child could.
func caring([]string) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	child := exec.Command(os.Args[0], "as", "brief")
	work, err := child.StdinPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		panic(err)
	}
	go steady(nil)
	<-asked
	work.Close()
	if child.Wait() != nil {
		os.Exit(7)
	}
}

// picky is steady if the file next to its binary exists, else it calls its configuration wrong.
func picky(args []string) {
	if _, err := os.Stat(args[0]); err != nil {
		os.Exit(exitConfig)
	}
	steady(nil)
}

// telling is steady, and tells what it runs under.
func telling([]string) {
	g := myself()
	g.Proc = make(map[string]string)
	for _, name := range []string{"status", "limits", "cmdline", "stat", "cgroup"} {
		text, err := os.ReadFile("/proc/self/" + name)
		if err != nil {
			panic(err)
		}
		g.Proc[name] = string(text)
	}
	untilClosed(greet(g))
}

// busy uses CPU for some time, and ends when it is hung up on.
func busy([]string) {
	var used syscall.Rusage
	for used.Utime.Nano()+used.Stime.Nano() < int64(200*time.Millisecond) {
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &used)
	}
	untilClosed(greet(myself()))
}

// forking has so many children, each of which makes a session of its own where told so.
func forking(args []string) {
	g := myself()
	for range number(args[0]) {
		child := exec.Command(os.Args[0], "as", "child")
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: len(args) > 1}
		if err := child.Start(); err != nil {
			panic(err)
		}
		g.Child = child.Process.Pid
	}
	steadyAs(g)
}

// raising exits with a status after it has said hello and was hung up on.
func raising(args []string) {
	untilClosed(greet(myself()))
	os.Exit(number(args[0]))
}

// saying writes lines to stderr, and ends once it is hung up on.
func saying(lines []string) {
	for _, line := range lines {
		fmt.Fprintln(os.Stderr, line)
	}
	untilClosed(greet(myself()))
}

// flood is steady, and writes without end.
func flood([]string) {
	go steady(nil)
	lines := []byte(strings.Repeat(strings.Repeat("x", 1000)+"\n", 16))
	for {
		if _, err := os.Stdout.Write(lines); err != nil {
			panic(err)
		}
		time.Sleep(10 * time.Microsecond) // the disk is not what is tested
	}
}

// full writes until the disk takes no more, and says hello then.
func full([]string) {
	for line := []byte(strings.Repeat("x", 1000) + "\n"); ; {
		if _, err := os.Stdout.Write(line); errors.Is(err, syscall.ENOSPC) {
			break
		}
	}
	untilClosed(greet(myself()))
	os.Exit(5)
}

// daemon is a supervisor with a broker's socket, until it is killed. It prints each snapshot of its workers as a line.
func daemon(args []string) {
	var pools []Pool
	if err := json.Unmarshal([]byte(args[1]), &pools); err != nil {
		panic(err)
	}
	cfg := configIn(args[0], pools...)
	s, err := New(cfg)
	if err != nil {
		panic(err)
	}
	out := json.NewEncoder(os.Stdout)
	s.settled = func(infos []Info) { _ = out.Encode(infos) }
	listener, err := net.Listen("unix", cfg.Socket)
	if err != nil {
		panic(err)
	}
	go serve(listener, func(g greeting, _ net.Conn) { s.Connected(g.Key) })
	panic(s.Run(context.Background()))
}

// serve hands on each greeting with its connection, until the listener is closed.
func serve(listener net.Listener, got func(greeting, net.Conn)) {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		var g greeting
		if err == nil && json.NewDecoder(conn).Decode(&g) == nil {
			got(g, conn)
		}
	}
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

// valueOf returns the value of a variable in an environment.
func valueOf(env []string, name string) string {
	for _, v := range env {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}
