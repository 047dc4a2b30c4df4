//go:build unix

package protocol

import "syscall"

// writeNow writes as much as a connection takes without waiting, and says how much that was. Of an error the next write
// that waits will tell.
func writeNow(raw syscall.RawConn, b []byte) (n int) {
	_ = raw.Write(func(fd uintptr) bool { // as above
		n, _ = syscall.Write(int(fd), b)
		return true
	})
	return max(n, 0)
}
