package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"
)

// lasting is a listener whose socket file can be made anew: somebody may clean up the folder that it is in.
type lasting struct {
	path string

	mu      sync.Mutex // guards what follows
	current *net.UnixListener
	file    os.FileInfo // of current
	closed  bool
}

func newLasting(path string) (*lasting, error) {
	l := &lasting{path: path}
	if err := l.bind(); err != nil {
		return nil, err
	}
	return l, nil
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
	l.current, l.file = next, file
	return nil
}

// restore makes the socket anew if its file is gone or is another one. It says whether it had to.
func (l *lasting) restore() (restored bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false, nil
	}
	if file, err := os.Lstat(l.path); err == nil && os.SameFile(file, l.file) {
		return false, nil
	}
	former := l.current
	if err := l.bind(); err != nil {
		return false, err
	}
	former.SetUnlinkOnClose(false) // the path is the new one's
	former.Close()
	return true, nil
}

func (l *lasting) now() (current *net.UnixListener, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current, l.closed
}

// Accept implements net.Listener, over all listeners that there are one after the other.
func (l *lasting) Accept() (net.Conn, error) {
	for {
		current, closed := l.now()
		conn, err := current.Accept()
		if errors.Is(err, net.ErrClosed) && !closed {
			if next, _ := l.now(); next != current {
				continue
			}
		}
		return conn, err
	}
}

// Close implements net.Listener.
func (l *lasting) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return l.current.Close()
}

// Addr implements net.Listener.
func (l *lasting) Addr() net.Addr {
	current, _ := l.now()
	return current.Addr()
}

// guardEvery is how often Guard looks.
const guardEvery = 5 * time.Second

// Guard looks after the socket's file until ctx ends: where somebody has removed it, workers that are connected go on,
// but no other could come. It is made anew, which the log tells.
func (s *Socket) Guard(ctx context.Context, log *slog.Logger) {
	ticker := time.NewTicker(guardEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		switch restored, err := s.lasting.restore(); {
		case err != nil:
			log.Error("the socket is gone and cannot be made anew: no worker can connect", "socket", s.Path, "error", err)
		case restored:
			log.Warn("the socket was removed, it is made anew", "socket", s.Path)
		}
	}
}
