//go:build !linux

package broker

import "time"

var started = time.Now()

// bootNS stands in for CLOCK_BOOTTIME: monotonic, but other processes read another value. Workers on such hosts go by
// ttl_ms instead.
func bootNS() int64 { return int64(time.Since(started)) }
