package broker

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// lasting is a listener whose socket file can be made anew: somebody may clean up the folder that it is in.
type lasting struct {
	path string

	mu      sync.Mutex // guards what follows
	current *net.UnixListener
	file    os.FileInfo // of current
	closed  bool
	given   bool          // somebody else goes on listening at current
	held    chan struct{} // nobody is let in until it is closed; nil = they are
}

func newLasting(path string) (*lasting, error) {
	l := &lasting{path: path}
	if err := l.bind(); err != nil {
		return nil, err
	}
	return l, nil
}

// keepLasting goes on with a listener that this process has.
func keepLasting(path string, current *net.UnixListener) *lasting {
	current.SetUnlinkOnClose(false)
	file, _ := os.Lstat(path) // where it is gone, or somebody else's, restore sees to that
	return &lasting{path: path, current: current, file: file}
}

// bind listens anew at the path.
func (l *lasting) bind() error {
	next, err := listen(l.path)
	if err != nil {
		return err
	}
	file, err := os.Lstat(l.path)
	if err != nil {
		next.Close()
		return fmt.Errorf("look at our socket: %w", err)
	}
	l.current, l.file, l.given = next, file, false
	return nil
}

// restore makes the socket anew if its file is gone or is another one. It says whether it had to.
func (l *lasting) restore() (restored bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.ours() {
		return false, nil
	}
	former := l.current
	if err := l.bind(); err != nil {
		return false, err
	}
	former.Close()
	return true, nil
}

// ours says whether the file at the path is still the one that we made.
func (l *lasting) ours() bool {
	file, err := os.Lstat(l.path)
	return err == nil && l.file != nil && os.SameFile(file, l.file)
}

// now is the listener of the moment. held is for Accept to wait for.
func (l *lasting) now() (current *net.UnixListener, closed bool, held chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current, l.closed, l.held
}

// Accept implements net.Listener, over all listeners that there are one after the other.
func (l *lasting) Accept() (net.Conn, error) {
	for {
		current, closed, held := l.now()
		if held != nil {
			<-held
			continue
		}
		conn, err := current.Accept()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue // hold
		}
		if errors.Is(err, net.ErrClosed) && !closed {
			if next, _, _ := l.now(); next != current {
				continue
			}
		}
		return conn, err
	}
}

// hold lets nobody in any more: who connects waits.
func (l *lasting) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil && !l.closed {
		l.held = make(chan struct{})
		_ = l.current.SetDeadline(time.Unix(1, 0)) // it can only be closed
	}
}

// release ends hold.
func (l *lasting) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held != nil {
		_ = l.current.SetDeadline(time.Time{}) // as above
		close(l.held)
		l.held = nil
	}
}

// Close implements net.Listener. It removes the socket, unless somebody else's is there by now.
func (l *lasting) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	if !l.closed && !l.given && l.ours() {
		err = os.Remove(l.path)
	}
	l.closed = true
	if l.held != nil {
		close(l.held)
		l.held = nil
	}
	return errors.Join(l.current.Close(), err)
}

// Addr implements net.Listener.
func (l *lasting) Addr() net.Addr {
	current, _, _ := l.now()
	return current.Addr()
}

// listen binds path. We hold the folder's lock, so a socket that nobody listens at is a dead daemon's. One that does not
// answer for another reason, such as a full queue, is somebody's who lives.
func listen(path string) (*net.UnixListener, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("look at the socket: %w", err)
	case info.Mode().Type() != os.ModeSocket:
		return nil, fmt.Errorf("%s is no socket and is left alone: choose another --socket", path)
	default:
		conn, err := net.Dial("unix", path)
		if err == nil {
			conn.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("somebody else listens at %s: stop it, or choose another --socket", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove the socket of a daemon that is gone: %w", err)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	l.SetUnlinkOnClose(false) // it would remove whatever has this path by then
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("close the socket to others: %w", err), l.Close())
	}
	return l, nil
}
