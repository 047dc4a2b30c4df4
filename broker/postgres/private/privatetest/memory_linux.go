package privatetest

import "syscall"

const (
	tmpfs  = 0x01021994 // what its files say where they lie
	enough = 4 << 30    // in bytes: packages are tested side by side, each with a server or two
)

// memory is a folder that lies in memory and has enough room, if there is one. On a disk, the files of each new database
// take most of the time that a test takes.
func memory() string {
	const folder = "/dev/shm"
	var fs syscall.Statfs_t
	if err := syscall.Statfs(folder, &fs); err != nil || fs.Type != tmpfs || fs.Bavail*uint64(fs.Bsize) < enough {
		return ""
	}
	return folder
}
