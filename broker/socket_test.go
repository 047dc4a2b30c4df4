package broker_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/protocol"
)

func TestSocketIsPrivate(t *testing.T) {
	path := filepath.Join(socketDir(t), "d", "s.sock")
	s, err := broker.ListenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for name, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %04o, want %04o", name, got, want)
		}
	}
}

func TestSecondDaemonOnAFolderIsRefused(t *testing.T) {
	path := filepath.Join(socketDir(t), "d", "s.sock")
	s, err := broker.ListenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = broker.ListenSocket(path)
	if err == nil || !strings.Contains(err.Error(), "another respirated") {
		t.Errorf("got %v, want a refusal that names the other daemon", err)
	}
}

func TestSocketOfADeadDaemonIsTakenOver(t *testing.T) {
	path := filepath.Join(socketDir(t), "d", "s.sock")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false) // as a process that is killed leaves it
	l.Close()
	s, err := broker.ListenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

func TestSocketThatSomebodyElseAnswersIsLeftAlone(t *testing.T) {
	path := filepath.Join(socketDir(t), "d", "s.sock")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := broker.ListenSocket(path); err == nil || !strings.Contains(err.Error(), "somebody else listens") {
		t.Errorf("got %v, want a refusal", err)
	}
}

func TestFolderThatOthersCanEnterIsRefusedWithTheFix(t *testing.T) {
	dir := filepath.Join(socketDir(t), "d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := broker.ListenSocket(filepath.Join(dir, "s.sock")); err == nil || !strings.Contains(err.Error(), "chmod 700 "+dir) {
		t.Errorf("got %v, want the fix", err)
	}
}

func TestFileInTheSocketsPlaceIsLeftAlone(t *testing.T) {
	path := filepath.Join(socketDir(t), "d", "s.sock")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := broker.ListenSocket(path); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("got %v, want a refusal", err)
	}
	if content, err := os.ReadFile(path); err != nil || string(content) != "precious" {
		t.Errorf("the file is now %q (%v)", content, err)
	}
}

func TestBrokerListensAtAShortPathForOneThatIsTooLong(t *testing.T) {
	long := filepath.Join(socketDir(t), strings.Repeat("x", 120), "s.sock")
	short, err := protocol.SocketPath(long)
	if err != nil {
		t.Fatal(err)
	}
	s, err := broker.ListenSocket(long)
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(filepath.Dir(short))
	defer s.Close()
	if s.Path != short {
		t.Errorf("listens at %q, want %q", s.Path, short)
	}
}
