package broker

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// Heirloom is the descriptors that a daemon keeps over exec, so that the folder stays locked and nobody who connects meanwhile
// is refused. It is part of what one build of the daemon tells the next one.
type Heirloom struct {
	Lock    int            `json:"lock"`
	Sockets map[string]int `json:"sockets"`         // by the names of their files
	Given   []string       `json:"given,omitempty"` // those of them that somebody else goes on listening at
}

// firstKept is the lowest number of a descriptor that is kept: low ones may be taken by the next program's runtime.
const firstKept = 100

// Keep prepares for exec: nobody is let in any more, and copies of the descriptors stay open over it. Where exec fails, undo
// has the socket go on. No process may be started in between: it would have the copies, too.
func (s *Socket) Keep() (_ *Heirloom, undo func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := &Heirloom{Lock: -1, Sockets: map[string]int{}}
	undo = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		kept.close()
		for _, l := range s.lasting {
			l.release()
		}
	}
	defer func() {
		if err != nil {
			kept.close()
		}
	}()
	if kept.Lock, err = KeepOpen(s.lock); err != nil {
		return nil, nil, err
	}
	for _, l := range s.lasting {
		current, _, _ := l.now()
		if kept.Sockets[filepath.Base(l.path)], err = KeepOpen(current); err != nil {
			return nil, nil, err
		}
		if l.given {
			kept.Given = append(kept.Given, filepath.Base(l.path))
		}
	}
	for _, l := range s.lasting {
		l.hold()
	}
	return kept, undo, nil
}

// KeepOpen copies a descriptor to one that stays open over exec, and returns its number.
func KeepOpen(of syscall.Conn) (fd int, err error) {
	raw, err := of.SyscallConn()
	if err != nil {
		return -1, err
	}
	cerr := raw.Control(func(from uintptr) { fd, err = unix.FcntlInt(from, unix.F_DUPFD, firstKept) })
	if err = firstError(cerr, err); err != nil {
		return -1, fmt.Errorf("keep a descriptor: %w", err)
	}
	return fd, nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (k *Heirloom) close() {
	for _, fd := range k.Sockets {
		_ = unix.Close(fd) // ours
	}
	if k.Lock >= 0 {
		_ = unix.Close(k.Lock)
	}
}

// takeLock takes the folder's lock, unless this process has it already.
func (s *Socket) takeLock() (*os.File, error) {
	if s.heirloom == nil {
		return lockDir(s.Dir)
	}
	unix.CloseOnExec(s.heirloom.Lock)
	lock := os.NewFile(uintptr(s.heirloom.Lock), filepath.Join(s.Dir, lockName))
	if err := syscall.Flock(s.heirloom.Lock, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("keep the lock of %s: %w", s.Dir, err)
	}
	return lock, nil
}

// listen makes a socket in the folder, or goes on with the one that this process has.
func (s *Socket) listen(name string) (*lasting, error) {
	path := filepath.Join(s.Dir, name)
	fd, have := 0, false
	if s.heirloom != nil {
		fd, have = s.heirloom.Sockets[name]
	}
	if !have {
		return newLasting(path)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("keep listening at %s: %w", path, err)
	}
	current, ok := l.(*net.UnixListener)
	if !ok {
		l.Close()
		return nil, fmt.Errorf("keep listening at %s: it is %T", path, l)
	}
	kept := keepLasting(path, current)
	kept.given = slices.Contains(s.heirloom.Given, name)
	return kept, nil
}
