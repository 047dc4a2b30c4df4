package supervisor

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// blockSize is one that file systems can punch.
const blockSize = 4096

// punch gives back the blocks of the first n bytes of a file, whose size stays.
func punch(f *os.File, n int64) error {
	n -= n % blockSize
	if n <= 0 {
		return nil
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var punched error
	err = conn.Control(func(fd uintptr) {
		punched = unix.Fallocate(int(fd), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, n)
	})
	return errors.Join(err, punched)
}

// afterHole is where the next byte is that was written and not given back: offset itself, but in a hole.
func afterHole(f *os.File, offset int64) int64 {
	if data, err := f.Seek(offset, unix.SEEK_DATA); err == nil {
		return data
	}
	return offset
}

func diskUsage(info fs.FileInfo) int64 { return info.Sys().(*syscall.Stat_t).Blocks * 512 }
