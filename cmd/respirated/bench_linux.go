package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is what a process has used, by its own clock; nil = there is none.
func cpuTime(pid int) *time.Duration {
	const processClock = 2 // as clock_getcpuclockid makes the number of the clock
	var used unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|processClock), &used); err != nil {
		return nil
	}
	d := time.Duration(used.Nano())
	return &d
}
