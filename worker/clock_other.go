//go:build !linux

package worker

import "time"

// bootClock counts nanoseconds from now on. That is not the broker's clock, which a session notices and goes by
// remaining times instead.
func bootClock() func() int64 {
	start := time.Now()
	return func() int64 { return int64(time.Since(start)) }
}
