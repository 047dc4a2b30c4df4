package main

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// becomeProgram returns only if it could not be.
func becomeProgram(path string, args, env []string) error {
	// The runtime has raised this limit. Exec takes that back, and stays with it if it fails. Package syscall, if asked to
	// raise it again, would forget what the limit was, and all our children would begin with the raised one.
	var raised unix.Rlimit
	known := unix.Getrlimit(unix.RLIMIT_NOFILE, &raised) == nil
	err := syscall.Exec(path, args, env)
	if known {
		_, _, _ = unix.RawSyscall6(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, uintptr(unsafe.Pointer(&raised)), 0, 0, 0)
	}
	return err
}
