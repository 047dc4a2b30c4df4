package broker

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// TestSocketThatSomebodyRemovesIsMadeAnew: connections that are open go on, and new ones find the new socket.
func TestSocketThatSomebodyRemovesIsMadeAnew(t *testing.T) {
	dir, err := os.MkdirTemp("", "respirate-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	s, err := ListenSocket(filepath.Join(dir, "d", "s.sock"))
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := s.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			serving.Go(func() { echo(conn) })
		}
	})
	before := dialEcho(t, s.Path)
	if restored, err := s.lasting.restore(); restored || err != nil {
		t.Errorf("restored %v, error %v; want nothing done while all is well", restored, err)
	}
	if err := os.Remove(s.Path); err != nil {
		t.Fatal(err)
	}
	if restored, err := s.lasting.restore(); !restored || err != nil {
		t.Fatalf("restored %v, error %v; want the socket made anew", restored, err)
	}
	after := dialEcho(t, s.Path)
	for _, conn := range []net.Conn{before, after} {
		roundTrip(t, conn)
		conn.Close()
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	serving.Wait()
	if _, err := os.Lstat(s.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there after Close (%v)", err)
	}
}

// dialEcho connects, and waits until it is accepted.
func dialEcho(t *testing.T, path string) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
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

// echo sends back what it gets.
func echo(conn net.Conn) {
	defer conn.Close()
	_, _ = io.Copy(conn, conn)
}
