//go:build !linux

package main

import "syscall"

// becomeProgram returns only if it could not be.
func becomeProgram(path string, args, env []string) error {
	var raised syscall.Rlimit // by the runtime, and Exec takes that back
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &raised) == nil {
		defer func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) }()
	}
	return syscall.Exec(path, args, env)
}
