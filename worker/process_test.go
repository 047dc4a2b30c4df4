package worker

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/respirated/respirated/protocol"
)

// beWorker is what this test binary does when it is started as a worker process.
func beWorker(mode string) {
	mux := NewMux()
	switch mode {
	case "stubborn": // ignores its context
		AddFunc(mux, func(context.Context, *Strand[gate]) error {
			os.Stdout.WriteString("started\n")
			time.Sleep(time.Hour)
			return nil
		})
	case "brief":
		AddFunc(mux, func(context.Context, *Strand[gate]) error {
			os.Stdout.WriteString("started\n")
			time.Sleep(200 * time.Millisecond)
			return nil
		})
	case "bank":
		beBank(mux)
	case "hopper":
		AddProg(mux, Prog[gate]{Labels: map[string]Label[gate]{
			"start": func(context.Context, *Strand[gate]) (Outcome, error) {
				os.Stdout.WriteString("started\n")
				return Hop("again"), nil
			},
			"again": func(context.Context, *Strand[gate]) (Outcome, error) { return Hop("again"), nil },
		}})
	}
	Main(mux)
}

// proc is a worker process whose broker is the test.
type proc struct {
	t      *testing.T
	cmd    *exec.Cmd
	socket string
	out    *bufio.Reader
}

// startProc starts this test binary as a worker. Nobody listens on its socket yet.
func startProc(t *testing.T, mode string, env ...string) *proc {
	t.Helper()
	dir, err := os.MkdirTemp("", "w")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &proc{t: t, socket: filepath.Join(dir, "s"), cmd: exec.Command(os.Args[0], "-as-worker="+mode)}
	p.cmd.Env = append(append(os.Environ(), "RESPIRATE_SOCKET="+p.socket), env...)
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(stdout)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	return p
}

// accept lets one connection in, and nobody after it.
func (p *proc) accept(change ...func(*protocol.Welcome)) *peer {
	p.t.Helper()
	l, err := net.Listen("unix", p.socket)
	if err != nil {
		p.t.Fatal(err)
	}
	defer l.Close()
	conn, err := l.Accept()
	if err != nil {
		p.t.Fatal(err)
	}
	peer := newPeer(p.t, conn, protocol.BootNS)
	peer.welcome(next[*protocol.Hello](peer), change...)
	next[*protocol.Want](peer)
	return peer
}

// started waits until the handler runs.
func (p *proc) started() {
	p.t.Helper()
	if line, err := p.out.ReadString('\n'); err != nil || line != "started\n" {
		p.t.Fatalf("the worker says %q, %v", line, err)
	}
}

func (p *proc) signal() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
}

// status waits for the end of the process.
func (p *proc) status() int {
	p.t.Helper()
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// signalTwice sends two signals that the process gets at one time, as timeout(1) does, however long this one is held up between them.
func (p *proc) signalTwice() {
	p.t.Helper()
	var stopped syscall.WaitStatus
	pid := p.cmd.Process.Pid
	err := syscall.Kill(pid, syscall.SIGSTOP)
	if err == nil {
		_, err = syscall.Wait4(pid, &stopped, syscall.WUNTRACED, nil)
	}
	if err != nil || !stopped.Stopped() {
		p.t.Fatalf("stop the worker: %v, status %#x", err, stopped)
	}
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGCONT} {
		if err := syscall.Kill(pid, sig); err != nil {
			p.t.Fatal(err)
		}
	}
}

func TestProcessConnectsDrainsOnASignalAndExitsWithZero(t *testing.T) {
	t.Parallel()
	p := startProc(t, "brief")
	peer := p.accept()
	peer.give("gate")
	p.started()
	p.signalTwice()
	if r := peer.result(); r.Act != protocol.ActExit {
		t.Errorf("result %+v, want exit", r)
	}
	next[*protocol.Bye](peer)
	if got := p.status(); got != ExitDone {
		t.Errorf("status %d, want 0", got)
	}
	peer.cut()
}

// Whatever goes on when the signal comes is given back, and its process ends well.
func TestProcessThatHopsEndlesslyDrainsOnASignal(t *testing.T) {
	t.Parallel()
	p := startProc(t, "hopper")
	peer := p.accept()
	peer.give("gate")
	for hops := 1; ; hops++ {
		m := next[*protocol.Results](peer)
		r := m.Results[0]
		if r.Seq != uint64(hops) {
			t.Fatalf("result %+v, want number %d", r, hops)
		}
		if !r.Chain {
			peer.ack(m, protocol.AckApplied)
			break
		}
		if hops == 5 {
			p.signal()
		}
		peer.send(&protocol.Ack{Re: m.ID, Entries: []protocol.AckEntry{{Strand: r.Strand, Token: r.Token, Seq: r.Seq,
			State: protocol.AckApplied, Next: protocol.NextGo}}})
	}
	next[*protocol.Bye](peer)
	if got := p.status(); got != ExitDone {
		t.Errorf("status %d, want 0", got)
	}
	peer.cut()
}

func TestProcessEndsAtOnceOnASecondSignal(t *testing.T) {
	t.Parallel()
	p := startProc(t, "stubborn")
	peer := p.accept()
	peer.give("gate")
	p.started()
	p.signal()
	if n := next[*protocol.Want](peer).N; n != 0 {
		t.Errorf("want %d, want 0", n)
	}
	time.Sleep(2 * oneSignal) // one that comes with the first counts as the same
	p.signal()
	if got := p.status(); got != ExitTemporary {
		t.Errorf("status %d, want %d", got, ExitTemporary)
	}
	peer.cut()
}

func TestProcessEndsItselfBeforeTheLeaseOfAStubbornHandler(t *testing.T) {
	t.Parallel()
	p := startProc(t, "stubborn")
	peer := p.accept(func(w *protocol.Welcome) { w.LeaseMS = 240_000 }) // so the end comes 2 s before the lease's
	strand := peer.give("gate")
	p.started()
	strand.DeadlineNS = peer.boot() + int64(12*time.Second)
	peer.send(&protocol.Lease{Leases: []protocol.Deadline{{Strand: strand.ID, Token: strand.Token, DeadlineNS: strand.DeadlineNS, TTLMS: 12_000}}})
	peer.cut()
	status := p.status()
	if left := time.Duration(strand.DeadlineNS - peer.boot()); status != ExitTemporary || left < 0 {
		t.Errorf("status %d, %v before the lease ended; want %d before it", status, left, ExitTemporary)
	}
}

func TestProcessThatIsMisconfiguredSaysSoWithItsStatus(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]*proc{
		"no kinds":  startProc(t, "empty"),
		"bad slots": startProc(t, "brief", "RESPIRATE_SLOTS=many"),
		"bad path":  startProc(t, "brief", "RESPIRATE_SOCKET="+strings.Repeat("s", 200), "TMPDIR=/"+strings.Repeat("t", 90)),
	} {
		if got := p.status(); got != ExitConfig {
			t.Errorf("%s: status %d, want %d", name, got, ExitConfig)
		}
	}
}
