//go:build unix && !aix

package protocol

import "syscall"

// writeNow writes as much as a socket takes without waiting, whatever mode it is in, and says how much that was. Of an error
// the next write that waits will tell.
func writeNow(raw syscall.RawConn, b []byte) (n int) {
	_ = raw.Write(func(fd uintptr) bool { // as above
		n, _ = syscall.SendmsgN(int(fd), b, nil, nil, syscall.MSG_DONTWAIT)
		return true
	})
	return max(n, 0)
}
