package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/respirated/respirated/protocol"
)

// Socket is a daemon's listening socket together with its folder, and the lock on that.
type Socket struct {
	net.Listener
	Path string // as protocol.SocketPath gave it
	Dir  string // its folder, 0700, which holds lock, state and logs as well

	mu       sync.Mutex // guards what follows
	lock     *os.File
	lasting  []*lasting // what listens in the folder: the Listener first
	owners   []owner    // other users whose workers may connect
	heirloom *Heirloom  // of the program that this process was before; nil = it was none
}

// ListenSocket makes the folder (0700), locks it against a second daemon, takes over a socket that a dead daemon left
// behind, and listens (0600).
func ListenSocket(path string) (*Socket, error) { return listenSocket(path, nil, nil) }

// ListenOn is ListenSocket with what this process has kept from the program that it was before, if that is not nil.
func ListenOn(path string, heirloom *Heirloom) (*Socket, error) {
	return listenSocket(path, heirloom, nil)
}

// ListenGiven is ListenSocket with a socket that somebody else, such as systemd, has made at its path and listens at
// while no daemon runs. It is not removed in the end.
func ListenGiven(given *net.UnixListener) (*Socket, error) {
	return listenSocket(given.Addr().String(), nil, given)
}

func listenSocket(path string, heirloom *Heirloom, given *net.UnixListener) (*Socket, error) {
	path, err := protocol.SocketPath(path)
	if err != nil {
		return nil, err
	}
	s := &Socket{Path: path, Dir: filepath.Dir(path), heirloom: heirloom}
	if err := privateDir(s.Dir); err != nil {
		return nil, err
	}
	if s.lock, err = s.takeLock(); err != nil {
		return nil, err
	}
	if given != nil {
		s.Listener = s.adopt(given)
	} else {
		s.Listener, err = s.Beside(filepath.Base(path))
	}
	if err != nil {
		s.lock.Close()
		return nil, err
	}
	return s, nil
}

// Beside listens at another socket (0600) in the same folder. [Socket.Guard] looks after it, too.
func (s *Socket) Beside(name string) (net.Listener, error) {
	l, err := s.listen(name)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lasting = append(s.lasting, l)
	return l, nil
}

// adopt listens at a given socket, as long as its file is there.
func (s *Socket) adopt(given *net.UnixListener) net.Listener {
	l := keepLasting(s.Path, given)
	l.given = true
	s.lasting = append(s.lasting, l)
	return l
}

// Close stops listening, removes the sockets that are still ours, and unlocks the folder.
func (s *Socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unlink()
	var errs []error
	for _, l := range s.lasting {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) { // who served it may have closed it
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, s.lock.Close())...)
}

// guardEvery is how often Guard looks.
const guardEvery = 5 * time.Second

// Guard looks after the folder until ctx ends. Somebody may remove it, or files in it, as cleaners of temporary folders
// do: then workers that are connected go on, but no other one could come, and a second daemon could start. What is
// missing is made anew, which the log tells, and restored is called, which may do the same for other files. Guard
// returns an error if another daemon has been quicker to take the folder: this one should end then.
func (s *Socket) Guard(ctx context.Context, log *slog.Logger, restored func()) error {
	ticker := time.NewTicker(guardEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		anew, err := s.restore()
		if len(anew) > 0 {
			log.Warn("somebody has removed files of ours, they are made anew", "files", anew)
			restored()
		}
		if errors.Is(err, errServed) {
			return fmt.Errorf("our folder was removed and is another daemon's now: %w", err)
		}
		if err != nil {
			log.Error("files that somebody has removed cannot be made anew: no worker can connect", "error", err)
		}
	}
}

// restore makes anew the folder, its lock and the sockets in it, where they are not ours any more. It says which it made.
func (s *Socket) restore() (anew []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	locked, err := s.relock()
	if locked {
		anew = append(anew, lockName)
	}
	if err != nil {
		return anew, err
	}
	for _, l := range s.lasting {
		restored, err := l.restore()
		if restored {
			anew = append(anew, filepath.Base(l.path))
		}
		if err != nil {
			return anew, err
		}
	}
	for _, o := range s.owners {
		if _, err := s.linkFor(o); err != nil {
			return anew, err
		}
	}
	return anew, nil
}

// relock locks the folder anew if the file that we hold locked is not the one that others would lock.
func (s *Socket) relock() (locked bool, err error) {
	if ours, err := isAt(s.lock, filepath.Join(s.Dir, lockName)); ours || err != nil {
		return false, err
	}
	if err := privateDir(s.Dir); err != nil {
		return false, err
	}
	lock, err := lockDir(s.Dir)
	if err != nil {
		return false, err
	}
	s.lock.Close()
	s.lock = lock
	return true, nil
}

// Owned says whether the folder is still this daemon's, so that it may write there.
func (s *Socket) Owned() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	ours, err := isAt(s.lock, filepath.Join(s.Dir, lockName))
	return ours && err == nil
}

// privateDir makes sure that dir is a folder of ours that nobody else can enter.
func privateDir(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("make the folder of %s: %w", dir, err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make the socket's folder: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("look at the socket's folder: %w", err)
	}
	stat, _ := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return fmt.Errorf("%s is no folder (%s): choose another --socket", dir, info.Mode().Type())
	case stat != nil && int(stat.Uid) != os.Getuid():
		return fmt.Errorf("the socket's folder %s belongs to user %d, not to us (%d): choose another --socket", dir, stat.Uid, os.Getuid())
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("the socket's folder %s can be entered by others (mode %04o): chmod 700 %s, or choose another --socket", dir, info.Mode().Perm(), dir)
	}
	return nil
}

const lockName = "respirate.lock"

// errServed is that another daemon has the folder.
var errServed = errors.New("stop it, or choose another --socket")

// IsServed tells whether [ListenSocket] failed because another daemon has the folder.
func IsServed(err error) bool { return errors.Is(err, errServed) }

// lockDir takes the folder's lock, which the kernel gives up when this process ends, however it ends.
func lockDir(dir string) (*os.File, error) {
	name := filepath.Join(dir, lockName)
	for {
		f, err := lockFile(name)
		if errors.Is(err, errServed) {
			return nil, err
		}
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		ours, err := isAt(f, name)
		if ours {
			return f, nil
		}
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		// It was removed between open and lock: others would lock another file.
	}
}

// lockFile opens and locks a file, and writes our pid into it, for people.
func lockFile(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		owner, _ := io.ReadAll(io.LimitReader(f, 32))
		err = fmt.Errorf("another respirated (pid %s) serves %s: %w", strings.TrimSpace(string(owner)), filepath.Dir(name), errServed)
	}
	if err == nil {
		err = writePID(f)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// SocketOwner is the pid of the live process that says it serves the folder of a socket; 0 = there is none.
func SocketOwner(dir string) int {
	text, err := os.ReadFile(filepath.Join(dir, lockName))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 0 || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return 0
	}
	return pid
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// isAt says whether an open file is the one that has this name.
func isAt(f *os.File, name string) (bool, error) {
	open, err := f.Stat()
	if err != nil {
		return false, err
	}
	named, err := os.Lstat(name)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(open, named), err
}
