package broker

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/respirated/respirated/protocol"
)

// Socket is a daemon's listening socket together with the lock on its folder.
type Socket struct {
	net.Listener
	Path string // as protocol.SocketPath gave it
	Dir  string // its folder, 0700, which holds lock, state and logs as well
	lock *os.File

	lasting *lasting // the Listener
}

// ListenSocket makes the folder (0700), locks it against a second daemon, takes over a socket that a dead daemon left
// behind, and listens (0600).
func ListenSocket(path string) (*Socket, error) {
	path, err := protocol.SocketPath(path)
	if err != nil {
		return nil, err
	}
	s := &Socket{Path: path, Dir: filepath.Dir(path)}
	if err := privateDir(s.Dir); err != nil {
		return nil, err
	}
	if s.lock, err = lockDir(s.Dir); err != nil {
		return nil, err
	}
	if s.lasting, err = newLasting(path); err != nil {
		s.lock.Close()
		return nil, err
	}
	s.Listener = s.lasting
	return s, nil
}

// Close stops listening, removes the socket and unlocks its folder.
func (s *Socket) Close() error {
	err := s.Listener.Close()
	return errors.Join(err, s.lock.Close())
}

// privateDir makes sure that dir is a folder of ours that nobody else can enter.
func privateDir(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("make the folder of %s: %w", dir, err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make the socket's folder: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("look at the socket's folder: %w", err)
	}
	stat, _ := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return fmt.Errorf("%s is no folder (%s): choose another --socket", dir, info.Mode().Type())
	case stat != nil && int(stat.Uid) != os.Getuid():
		return fmt.Errorf("the socket's folder %s belongs to user %d, not to us (%d): choose another --socket", dir, stat.Uid, os.Getuid())
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("the socket's folder %s can be entered by others (mode %04o): chmod 700 %s, or choose another --socket", dir, info.Mode().Perm(), dir)
	}
	return nil
}

// lockDir takes the folder's lock, which the kernel gives up when this process ends, however it ends.
func lockDir(dir string) (*os.File, error) {
	name := filepath.Join(dir, "respirate.lock")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		owner, _ := io.ReadAll(io.LimitReader(f, 32))
		f.Close()
		return nil, fmt.Errorf("another respirated (pid %s) serves %s: stop it, or choose another --socket", strings.TrimSpace(string(owner)), dir)
	}
	if err == nil {
		err = writePID(f)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return f, nil
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// listen binds path. We hold the folder's lock, so a socket that is there and does not answer is a dead daemon's.
func listen(path string) (*net.UnixListener, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("look at the socket: %w", err)
	case info.Mode().Type() != os.ModeSocket:
		return nil, fmt.Errorf("%s is no socket and is left alone: choose another --socket", path)
	default:
		if conn, err := net.Dial("unix", path); err == nil {
			conn.Close()
			return nil, fmt.Errorf("somebody else answers at %s: stop it, or choose another --socket", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove the socket of a daemon that is gone: %w", err)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("close the socket to others: %w", err)
	}
	return l, nil
}
