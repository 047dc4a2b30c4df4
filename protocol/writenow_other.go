//go:build !unix || aix

package protocol

import "syscall"

// writeNow writes nothing: Run does.
func writeNow(syscall.RawConn, []byte) int { return 0 }
