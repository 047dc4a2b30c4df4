package broker

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// watch is a hold on a process that shows when it has ended. Unlike a pid it never means another one.
type watch struct{ fd int }

// watchProcess takes hold of the peer's process; a kernel without pidfds, or a peer of another namespace, gives a watch
// that sees nothing.
func watchProcess(p peer) watch {
	if !p.known || p.pid <= 0 {
		return watch{-1}
	}
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		return watch{-1}
	}
	return watch{fd}
}

// ended waits up to d and says whether the process is known to have ended.
func (w watch) ended(d time.Duration) bool {
	if w.fd < 0 {
		return false
	}
	deadline := time.Now().Add(d)
	for {
		left := max(time.Until(deadline), 0)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}, int(left.Milliseconds()))
		if err == unix.EINTR && left > 0 {
			continue
		}
		return err == nil && n == 1
	}
}

func (w watch) close() {
	if w.fd >= 0 {
		unix.Close(w.fd)
	}
}

// endReading makes a connection end for its reader after what has been sent on it, though others may hold its other end
// open: here what has come can still be read after that.
func endReading(conn net.Conn) {
	if c, ok := conn.(interface{ CloseRead() error }); ok {
		_ = c.CloseRead() // it has ended already
	}
}
