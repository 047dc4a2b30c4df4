package broker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// owner is a user beside ours whose workers may connect.
type owner struct{ uid, gid int }

// For has workers of another user connect, and returns the path for them: the socket once more, as a link in a folder that is
// that user's alone, beside ours. Its own mode says nothing then; each of its folders admits one user. Only root can do it.
// [Socket.Guard] looks after it, too.
func (s *Socket) For(uid, gid int) (path string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := owner{uid, gid}
	if path, err = s.linkFor(o); err != nil {
		return "", fmt.Errorf("make a socket for user %d: %w", uid, err)
	}
	if !slices.Contains(s.owners, o) {
		s.owners = append(s.owners, o)
	}
	return path, nil
}

// Admits says whether workers of a user may connect by [Socket.For].
func (s *Socket) Admits(uid int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.owners, func(o owner) bool { return o.uid == uid })
}

func (s *Socket) linkFor(o owner) (string, error) {
	dir := s.Dir + "-" + strconv.Itoa(o.uid)
	if err := folderOf(dir, o); err != nil {
		return "", err
	}
	path := filepath.Join(dir, filepath.Base(s.Path))
	if same(path, s.Path) {
		return path, nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	if err := os.Link(s.Path, path); err != nil {
		return "", err
	}
	return path, os.Chmod(s.Path, 0o666)
}

// unlink removes the links, and folders that are empty then. What is left there is of no use to anybody, and no harm.
func (s *Socket) unlink() {
	_, err := os.Lstat(s.Path)
	gone := errors.Is(err, os.ErrNotExist) // the Listener has been closed
	for _, o := range s.owners {
		dir := s.Dir + "-" + strconv.Itoa(o.uid)
		if path := filepath.Join(dir, filepath.Base(s.Path)); gone || same(path, s.Path) {
			_ = os.Remove(path)
			_ = os.Remove(dir)
		}
	}
}

// folderOf makes sure that dir is a folder of that user which nobody else can enter.
func folderOf(dir string, o owner) error {
	if err := os.Mkdir(dir, 0o700); err == nil {
		if err := os.Chown(dir, o.uid, o.gid); err != nil {
			return err
		}
	} else if !errors.Is(err, os.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if stat, _ := info.Sys().(*syscall.Stat_t); !info.IsDir() || info.Mode().Perm() != 0o700 || stat == nil || int(stat.Uid) != o.uid {
		return fmt.Errorf("%s has to be a folder (0700) of user %d: remove it", dir, o.uid)
	}
	return nil
}

// same says whether two names are of one file.
func same(a, b string) bool {
	one, err := os.Lstat(a)
	if err != nil {
		return false
	}
	other, err := os.Lstat(b)
	return err == nil && os.SameFile(one, other)
}
