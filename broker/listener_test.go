package broker

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// guarded is a socket, and one beside it, that both send back what they get.
func guarded(t *testing.T) (*Socket, net.Listener) {
	t.Helper()
	dir, err := os.MkdirTemp("", "respirate-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s, err := ListenSocket(filepath.Join(dir, "d", "s.sock"))
	if err != nil {
		t.Fatal(err)
	}
	beside, err := s.Beside("b.sock")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	for _, l := range []net.Listener{s, beside} {
		serving.Go(func() { serveEcho(l, &serving) })
	}
	t.Cleanup(serving.Wait)
	t.Cleanup(func() { s.Close() })
	return s, beside
}

func serveEcho(l net.Listener, serving *sync.WaitGroup) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		serving.Go(func() {
			defer conn.Close()
			_, _ = io.Copy(conn, conn)
		})
	}
}

// dialEcho connects, and waits until it is accepted.
func dialEcho(t *testing.T, path string) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	roundTrip(t, conn)
	return conn
}

func roundTrip(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := conn.Write([]byte{7}); err != nil {
		t.Error(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

func restored(t *testing.T, s *Socket, want ...string) {
	t.Helper()
	if anew, err := s.restore(); !slices.Equal(anew, want) || err != nil {
		t.Fatalf("made anew %v, error %v; want %v", anew, err, want)
	}
}

// TestWhatSomebodyRemovesIsMadeAnew: connections that are open go on, and new ones find the new sockets.
func TestWhatSomebodyRemovesIsMadeAnew(t *testing.T) {
	for _, test := range []struct {
		name   string
		remove func(s *Socket) error
		anew   []string
	}{
		{"Nothing", func(*Socket) error { return nil }, nil},
		{"Socket", func(s *Socket) error { return os.Remove(s.Path) }, []string{"s.sock"}},
		{"SocketBeside", func(s *Socket) error { return os.Remove(filepath.Join(s.Dir, "b.sock")) }, []string{"b.sock"}},
		{"Lock", func(s *Socket) error { return os.Remove(filepath.Join(s.Dir, lockName)) }, []string{lockName}},
		{"Folder", func(s *Socket) error { return os.RemoveAll(s.Dir) }, []string{lockName, "s.sock", "b.sock"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, beside := guarded(t)
			before := []net.Conn{dialEcho(t, s.Path), dialEcho(t, beside.Addr().String())}
			descriptors := countDescriptors(t)
			if err := test.remove(s); err != nil {
				t.Fatal(err)
			}
			restored(t, s, test.anew...)
			restored(t, s)
			if now := countDescriptors(t); now != descriptors {
				t.Errorf("%d descriptors are open, were %d", now, descriptors)
			}
			if info, err := os.Stat(s.Dir); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("the folder is %v, %v; want mode 0700", info, err)
			}
			if _, err := ListenSocket(s.Path); !errors.Is(err, errServed) {
				t.Errorf("a second daemon got error %v, want it refused", err)
			}
			for _, conn := range append(before, dialEcho(t, s.Path), dialEcho(t, beside.Addr().String())) {
				roundTrip(t, conn)
				conn.Close()
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if left, _ := filepath.Glob(filepath.Join(s.Dir, "*.sock")); left != nil {
				t.Errorf("after Close there still are %v", left)
			}
		})
	}
}

func countDescriptors(t *testing.T) int {
	t.Helper()
	open, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(open)
}

// TestFolderThatAnotherDaemonHasTakenIsLeftToIt: it was removed, and the other was quicker than the guard.
func TestFolderThatAnotherDaemonHasTakenIsLeftToIt(t *testing.T) {
	first, _ := guarded(t)
	if err := os.RemoveAll(first.Dir); err != nil {
		t.Fatal(err)
	}
	second, err := ListenSocket(first.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		err := first.Guard(t.Context(), slog.New(slog.DiscardHandler), func() { t.Error("something was restored") })
		if !errors.Is(err, errServed) || !strings.Contains(err.Error(), "another respirated (pid ") || time.Since(began) > guardEvery {
			t.Errorf("the guard ends with %v after %v, want it to name the other daemon at once", err, time.Since(began))
		}
	})
	if first.Owned() || !second.Owned() {
		t.Errorf("the first owns it: %v, the second: %v; want the second alone", first.Owned(), second.Owned())
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(second.Path); err != nil {
		t.Errorf("the first has removed the socket of the second: %v", err)
	}
}

func TestSocketOfSomebodyWhoIsTooBusyToAnswerIsLeftAlone(t *testing.T) {
	s, _ := guarded(t)
	path := filepath.Join(s.Dir, "busy.sock")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for range 3 { // as many as its queue holds, and more
		if conn, err := net.Dial("unix", path); err == nil {
			defer conn.Close()
		}
	}
	if _, err := s.Beside("busy.sock"); err == nil || !strings.Contains(err.Error(), "somebody else listens") {
		t.Errorf("got %v, want a refusal", err)
	}
}

// TestSocketMayBeRemovedRestoredDialedAndClosedAllAtOnce is for the race detector, and must come to its end.
func TestSocketMayBeRemovedRestoredDialedAndClosedAllAtOnce(t *testing.T) {
	s, beside := guarded(t)
	var busy sync.WaitGroup
	for range 2 {
		busy.Go(func() {
			for range 200 {
				_ = os.RemoveAll(s.Dir)
				_, _ = s.restore() // the other may have removed it again meanwhile
			}
		})
		busy.Go(func() {
			for range 400 {
				if conn, err := net.Dial("unix", beside.Addr().String()); err == nil {
					conn.Close()
				}
			}
		})
	}
	busy.Wait()
	restored, closed := make(chan struct{}), make(chan struct{})
	go func() { defer close(restored); _, _ = s.restore() }()
	go func() { defer close(closed); _ = s.Close() }()
	<-restored
	<-closed
	if conn, err := net.Dial("unix", s.Path); err == nil {
		conn.Close()
		t.Error("somebody still listens after Close")
	}
}
