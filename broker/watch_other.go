//go:build !linux

package broker

import (
	"net"
	"time"
)

// watch would show when a process has ended; here nothing does, and the leases of a worker that is not ours end by time.
type watch struct{}

func watchProcess(peer) watch { return watch{} }

func (watch) ended(time.Duration) bool { return false }

func (watch) close() {}

// endReading would end a connection for its reader after what has been sent on it; here that may be lost by it, so the
// schedule waits for the end a little.
func endReading(net.Conn) {}
