package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// monotonic is the clock that systemd compares with.
func monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic("bug: there is always a monotonic clock: " + err.Error())
	}
	return time.Duration(ts.Nano())
}
