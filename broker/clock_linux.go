package broker

import "golang.org/x/sys/unix"

// bootNS is CLOCK_BOOTTIME: it goes on while the host sleeps, and every process of the host reads the same.
func bootNS() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("bug: CLOCK_BOOTTIME cannot be read: " + err.Error())
	}
	return ts.Nano()
}
