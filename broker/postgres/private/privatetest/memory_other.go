//go:build !linux

package privatetest

// memory is a folder that lies in memory, if there is one.
func memory() string { return "" }
