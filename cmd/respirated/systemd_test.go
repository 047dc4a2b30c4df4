package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// manager stands in for systemd: it takes what is notified, all the time.
type manager struct {
	t    *testing.T
	said chan string
}

func newManager(t *testing.T, watchdog string) *manager {
	t.Helper()
	conn := listenAsManager(t, watchdog)
	const plenty = 10_000
	m := &manager{t, make(chan string, plenty)}
	over := make(chan struct{})
	go func() {
		defer close(over)
		buf := make([]byte, 1000)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			m.said <- string(buf[:n])
		}
	}()
	t.Cleanup(func() { conn.Close(); <-over })
	return m
}

// listenAsManager is the socket of a manager, of which nobody reads yet.
func listenAsManager(t *testing.T, watchdog string) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", watchdog)
	return conn
}

// next is the next message.
func (m *manager) next() string {
	m.t.Helper()
	select {
	case said := <-m.said:
		return said
	case <-time.After(patience):
		m.t.Fatal("the service manager is told nothing more")
		return ""
	}
}

func TestServiceManagerThatHangsHoldsUpNothing(t *testing.T) {
	conn := listenAsManager(t, "")
	full, err := net.DialUnix("unixgram", nil, conn.LocalAddr().(*net.UnixAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for err == nil { // until no more fits
		if err = full.SetWriteDeadline(time.Now().Add(10 * time.Millisecond)); err == nil {
			_, err = full.Write([]byte("WATCHDOG=1"))
		}
	}
	told := make(chan struct{})
	go func() { defer close(told); newNotifier(slog.New(slog.DiscardHandler)).stopping() }()
	select {
	case <-told:
	case <-time.After(patience):
		conn.Close() // so that it ends
		t.Fatal("the daemon waits for a service manager that does not listen")
	}
}

// until takes messages up to one that has this line.
func (m *manager) until(line string) {
	m.t.Helper()
	for !strings.HasPrefix(m.next(), line) {
	}
}

func TestServiceManagerIsToldOfStartLifeAndEnd(t *testing.T) {
	m := newManager(t, "200000")
	h := newHost(t, migrated(t), "--worker", filepath.Join(programs(t), "demo-worker"), "--procs", "1")
	h.start()
	if got := m.next(); !strings.HasPrefix(got, "READY=1\n") {
		t.Errorf("the first word is %q, want READY=1", got)
	}
	for range 3 {
		if got := m.next(); got != "WATCHDOG=1" {
			t.Errorf("got %q, want WATCHDOG=1", got)
		}
	}
	h.stop(h.daemon)
	m.until("STOPPING=1")
}

func TestServiceManagerIsNotToldThatADaemonLivesWhoseLoopsDoNot(t *testing.T) {
	m := newManager(t, "40000")
	n := newNotifier(slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	looks := 0
	over := make(chan struct{})
	go func() {
		defer close(over)
		n.run(ctx, func(context.Context) error {
			if looks++; looks == 1 || looks > 5 {
				return errors.New("no answer")
			}
			if looks == 20 {
				cancel()
			}
			return nil
		})
	}()
	m.until("READY=1") // at the second look
	for range 4 {
		if got := m.next(); got != "WATCHDOG=1" {
			t.Errorf("got %q", got)
		}
	}
	n.tell("END=1") // from the sixth on nothing was told
	if got := m.next(); got != "END=1" {
		t.Errorf("got %q, though no loop answers", got)
	}
	cancel()
	<-over
}

func TestReloadIsToldWithTheManagersClock(t *testing.T) {
	m := newManager(t, "")
	n := newNotifier(slog.New(slog.DiscardHandler))
	done := n.reloading()
	if got := m.next(); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") {
		t.Errorf("got %q", got)
	}
	done()
	if got := m.next(); got != "READY=1" {
		t.Errorf("got %q", got)
	}
}

// A socket that systemd holds is served, and outlives the daemon: who connects meanwhile waits.
func TestSocketOfTheServiceManagerIsServedAndLeftAlone(t *testing.T) {
	h := newHost(t, migrated(t), "--worker", filepath.Join(programs(t), "demo-worker"), "--procs", "1")
	if err := os.Mkdir(filepath.Dir(h.socket()), 0o700); err != nil {
		t.Fatal(err)
	}
	held, err := net.ListenUnix("unix", &net.UnixAddr{Name: h.socket(), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	file, err := held.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	h.under = []string{"sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"`, "sh"}
	h.files = []*os.File{file}
	for range 2 {
		early, err := net.Dial("unix", h.socket())
		if err != nil {
			t.Fatalf("whoever connects before the daemon runs is refused: %v", err)
		}
		early.Close()
		h.start()
		h.workers(1)
		h.stop(h.daemon)
	}
}

func TestSocketOfTheServiceManagerMustBeTheConfiguredOne(t *testing.T) {
	dir := t.TempDir()
	held, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "other"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := checkGiven(held, filepath.Join(dir, "other")); err != nil {
		t.Error(err)
	}
	if err := checkGiven(held, filepath.Join(dir, "mine")); err == nil || !strings.Contains(err.Error(), "ListenStream") {
		t.Errorf("got %v", err)
	}
}

func TestUnitFilesAreThoseThatSystemdTakes(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed: unit files are not verified")
	}
	dir := t.TempDir()
	binary := filepath.Join(programs(t), "respirated")
	for _, unit := range []struct{ profile, name string }{
		{"plain", "respirated.service"}, {"hardened", "respirated-hardened.service"}, {"socket", "respirated.socket"},
	} {
		out, err := exec.Command(binary, "systemd-unit", "--profile", unit.profile).Output()
		if err != nil {
			t.Fatal(err)
		}
		if (unit.profile == "hardened") != strings.Contains(string(out), "NoNewPrivileges=yes") {
			t.Errorf("%s: hardened or not:\n%s", unit.profile, out)
		}
		if err := os.WriteFile(filepath.Join(dir, unit.name), out, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"respirated.service", "respirated-hardened.service", "respirated.socket"} {
		cmd := exec.Command(analyze, "verify", "--man=no", filepath.Join(dir, name))
		cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		out, err := cmd.CombinedOutput()
		if err != nil || strings.Contains(string(out), name) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
