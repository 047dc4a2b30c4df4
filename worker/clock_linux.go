package worker

import "golang.org/x/sys/unix"

// bootClock is the clock that leases are measured by: nanoseconds since boot, suspension included. The broker of this
// host reads the same one, so that neither a stopped process nor a slow socket can stretch a lease.
func bootClock() func() int64 {
	return func() int64 {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
			panic("bug: CLOCK_BOOTTIME: " + err.Error()) // every Linux that Go runs on has it
		}
		return ts.Nano()
	}
}
