package embed

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/postgres/private/privatetest"
	"github.com/respirated/respirated/worker"
)

// TestMain lets the test binary be an application, and by that a broker.
func TestMain(m *testing.M) {
	// Programs that look for races wait for a second before they exit, which these tests would see often.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		panic(err)
	}
	Main()
	if len(os.Args) == 4 && os.Args[1] == "app" {
		time.AfterFunc(3*time.Minute, func() { os.Exit(99) }) // no orphan outlives a failed test for long
		os.Exit(app(os.Args[2], os.Args[3]))
	}
	os.Exit(m.Run())
}

// Quick does nothing.
type Quick struct{}

func (Quick) Kind() string { return "quick" }

// Hold is held until its process ends.
type Hold struct{}

func (Hold) Kind() string { return "hold" }

// app is an application with a broker of its own. It prints a line when that serves, and for each strand.
func app(url, socket string) int {
	ctx := context.Background()
	b, err := Start(ctx, Config{DatabaseURL: url, Socket: socket, Migrate: true, DrainTimeout: 10 * time.Second})
	if err != nil {
		fmt.Println("failed:", err)
		return 1
	}
	defer b.Stop()
	fmt.Println("started")
	mux := worker.NewMux()
	worker.AddFunc(mux, func(context.Context, *worker.Strand[Quick]) error { fmt.Println("quick"); return nil })
	worker.AddFunc(mux, func(context.Context, *worker.Strand[Hold]) error { fmt.Println("hold"); select {} })
	ctx, cancel := context.WithCancel(ctx)
	go func() { // its test says that it may end
		_, _ = os.Stdin.Read(make([]byte, 1))
		cancel()
	}()
	if err := worker.Run(ctx, mux, worker.Config{Socket: b.Socket(), Logger: slog.New(slog.DiscardHandler)}); err != nil {
		fmt.Println("failed:", err)
		return 1
	}
	return 0
}

const patience = 60 * time.Second

// process is an application as a process.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string
	end   func()
}

func startApp(t *testing.T, url, socket string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(os.Args[0], "app", url, socket), lines: make(chan string, 100)}
	p.cmd.Stderr = t.Output()
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.end = func() { in.Close() }
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
		close(p.lines)
	}()
	t.Cleanup(p.kill)
	return p
}

func (p *process) expect(want string) {
	p.t.Helper()
	select {
	case got := <-p.lines:
		if got != want {
			p.t.Fatalf("the application says %q, want %q", got, want)
		}
	case <-time.After(patience):
		p.t.Fatalf("the application never says %q", want)
	}
}

func (p *process) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: ", what)
		}
	}
}

// brokerOf is the pid of the broker that has the folder of a socket; 0 = nobody has written it down.
func brokerOf(socket string) int {
	text, _ := os.ReadFile(filepath.Join(filepath.Dir(socket), "respirate.lock"))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return pid
}

func newSocket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "embed")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "run", "r.sock")
}

func exec1(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func TestApplicationIsItsOwnBrokerWhichDrainsAndEndsWhenTheApplicationDies(t *testing.T) {
	url, socket := privatetest.URL(t), newSocket(t)
	first := startApp(t, url, socket)
	first.expect("started")
	exec1(t, url, "select respirate.insert('quick', '{}')")
	first.expect("quick")
	if pid := brokerOf(socket); pid == 0 || pid == first.cmd.Process.Pid {
		t.Fatalf("the broker is process %d, the application %d", pid, first.cmd.Process.Pid)
	}

	// The broker is killed: another one takes its place, and the application goes on.
	old := brokerOf(socket)
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	exec1(t, url, "select respirate.insert('quick', '{}')")
	first.expect("quick")
	if pid := brokerOf(socket); pid == old {
		t.Errorf("the broker is still process %d, which was killed", pid)
	}

	// A second process shares that broker, and takes over from the first when that is killed, with what it held.
	exec1(t, url, "select respirate.insert('hold', '{}')")
	first.expect("hold")
	second := startApp(t, url, socket)
	second.expect("started")
	old = brokerOf(socket)
	first.kill()
	second.expect("hold")
	eventually(t, "the broker of the second serves", func() bool { pid := brokerOf(socket); return pid != 0 && pid != old })
	eventually(t, "the broker of the first is gone", func() bool { return errors.Is(syscall.Kill(old, 0), syscall.ESRCH) })

	// Nobody is left: the broker ends by itself.
	second.kill()
	eventually(t, "the folder is free", func() bool {
		s, err := broker.ListenSocket(socket)
		if err != nil {
			return false
		}
		s.Close()
		return true
	})
}

func TestApplicationThatEndsInPeaceWaitsForItsBroker(t *testing.T) {
	url, socket := privatetest.URL(t), newSocket(t)
	p := startApp(t, url, socket)
	p.expect("started")
	p.end()
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("the application ended with %v", err)
	}
	s, err := broker.ListenSocket(socket)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

func TestStartTellsWhyThereIsNoBroker(t *testing.T) {
	cfg := Config{DatabaseURL: "postgres://nobody@127.0.0.1:1/none", Socket: newSocket(t), Log: slog.New(slog.DiscardHandler)}
	if b, err := Start(t.Context(), cfg); err == nil {
		b.Stop()
		t.Error("a broker without a database starts")
	} else if !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("got %v", err)
	}
	cfg.Lease = -1
	if _, err := Start(t.Context(), cfg); err == nil {
		t.Error("a negative lease is taken")
	}
}

func TestStartGivesUpOnABrokerThatWaitsForItsDatabase(t *testing.T) {
	url := privatetest.URL(t)
	other, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close(context.Background()) })
	id := fnv.New64a()
	id.Write([]byte("respirated migrate respirate")) // the lock of migrations
	if _, err := other.Exec(t.Context(), "select pg_advisory_lock($1)", int64(id.Sum64())); err != nil {
		t.Fatal(err)
	}
	cfg := Config{DatabaseURL: url, Socket: newSocket(t), Migrate: true, StartTimeout: time.Second}
	came := make(chan error, 1)
	go func() {
		_, err := Start(t.Context(), cfg)
		came <- err
	}()
	select {
	case err := <-came:
		if err == nil || !strings.Contains(err.Error(), "no broker serves") {
			t.Errorf("got %v, want that no broker serves", err)
		}
	case <-time.After(patience):
		t.Error("Start does not return")
	}
}
