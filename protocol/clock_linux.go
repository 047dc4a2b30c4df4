package protocol

import "golang.org/x/sys/unix"

// BootNS is the clock that leases are measured by: CLOCK_BOOTTIME, nanoseconds since boot, suspension included. Every
// process of the host reads the same one, so that neither a stopped process nor a slow socket can stretch a lease.
func BootNS() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("bug: CLOCK_BOOTTIME cannot be read: " + err.Error()) // every Linux that Go runs on has it
	}
	return ts.Nano()
}
