//go:build !linux

package protocol

import "time"

var started = time.Now()

// BootNS stands in for CLOCK_BOOTTIME: monotonic nanoseconds since this process began. Other processes read another
// value, which a session notices and goes by remaining times (ttl_ms) instead.
func BootNS() int64 { return int64(time.Since(started)) }
