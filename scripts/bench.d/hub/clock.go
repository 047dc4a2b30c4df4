package hub

import (
	"time"

	"golang.org/x/sys/unix"
)

// Instant is a reading of the clock that all processes of a host share and nobody sets: CLOCK_MONOTONIC, in nanoseconds. It
// is Node's process.hrtime, too. The time of day is not good enough: Node tells it either in milliseconds, or as it was
// at the process's start and the time since.
type Instant int64

// Now reads the clock.
func Now() Instant {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic("bug: read the clock: " + err.Error())
	}
	return Instant(t.Nano())
}

// Since is how long ago an earlier instant was.
func (i Instant) Since(earlier Instant) time.Duration { return time.Duration(i - earlier) }
