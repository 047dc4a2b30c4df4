package broker

import (
	"fmt"
	"net"
	"os"
)

// peer is who stands at the other end of a socket, as the kernel says.
type peer struct {
	known bool // the kernel said it; a connection that is no Unix socket has no peer
	uid   int
	pid   int // a hint: sockets can be handed on
}

// mayConnect admits processes of the daemon's own user, root, and whom others are admitted by; nil = nobody.
func (p peer) mayConnect(others func(uid int) bool) bool {
	return p.isOurs() || others != nil && others(p.uid)
}

// isOurs says whether it is a process of the daemon's own user, or root, as far as the kernel says.
func (p peer) isOurs() bool { return !p.known || p.uid == os.Getuid() || p.uid == 0 }

// String is for logs and attempt records.
func (p peer) String() string {
	if !p.known {
		return "unknown"
	}
	return fmt.Sprintf("pid %d", p.pid)
}

// name is what to call a worker that says it has this pid.
func (p peer) name(said int64) string {
	if p.known && p.pid > 0 {
		return p.String()
	}
	return fmt.Sprintf("pid %d", said)
}

func peerOf(conn net.Conn) (peer, error) {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return peer{}, nil
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return peer{}, fmt.Errorf("read peer credentials: %w", err)
	}
	var p peer
	var failed error
	if err := raw.Control(func(fd uintptr) { p, failed = credentials(int(fd)) }); err != nil {
		return peer{}, fmt.Errorf("read peer credentials: %w", err)
	}
	if failed != nil {
		return peer{}, fmt.Errorf("read peer credentials: %w", failed)
	}
	return p, nil
}
