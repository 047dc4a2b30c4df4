package private

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// folderPrefix begins the name of every server's folder, by which a later start finds what was left behind.
const folderPrefix = "respirate-pg-"

// folder is where one server lives: see the package comment.
type folder struct {
	path string
	lock *os.File // flocked
}

// newFolder makes a folder for the account. The lock file is empty until it is locked, which tells sweep not to take a
// folder that is just being made.
func newFolder(a account) (*folder, error) {
	path, err := os.MkdirTemp("", folderPrefix)
	if err != nil {
		return nil, fmt.Errorf("make the server's folder: %w", err)
	}
	f := &folder{path: path}
	if err := f.claim(a); err != nil {
		_ = f.remove()
		return nil, err
	}
	return f, nil
}

func (f *folder) claim(a account) (err error) {
	f.lock, err = os.OpenFile(filepath.Join(f.path, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock the server's folder: %w", err)
	}
	if err := syscall.Flock(int(f.lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", f.lock.Name(), err)
	}
	if _, err := fmt.Fprintln(f.lock, os.Getpid()); err != nil {
		return fmt.Errorf("lock %s: %w", f.lock.Name(), err)
	}
	return a.own(f.path)
}

func (f *folder) logFile() string { return filepath.Join(f.path, "postgres.log") }
func (f *folder) hbaFile() string { return filepath.Join(f.path, "pg_hba.conf") }

// writeHBA says who may connect: over the socket whoever can reach it, over TCP who knows the password.
func (f *folder) writeHBA() error {
	const rules = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\nlocal replication all trust\n"
	if err := os.WriteFile(f.hbaFile(), []byte(rules), 0o644); err != nil {
		return fmt.Errorf("write the server's access rules: %w", err)
	}
	return nil
}

// logTail is the end of what the server said.
func (f *folder) logTail() string {
	text, err := os.ReadFile(f.logFile())
	if err != nil {
		return err.Error()
	}
	return lastLines(string(text), 5)
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// remove takes the folder away. A nil folder is away already.
func (f *folder) remove() error {
	if f == nil {
		return nil
	}
	if f.lock != nil {
		_ = f.lock.Close()
	}
	return os.RemoveAll(f.path)
}

// sweep ends the servers and removes the folders of processes that are gone. It looks only at what is the account's own.
func sweep(a account, log *slog.Logger) {
	paths, _ := filepath.Glob(filepath.Join(os.TempDir(), folderPrefix+"*")) // the pattern is well-formed
	for _, path := range paths {
		if !a.owns(path) || !abandoned(path) {
			continue
		}
		endAbandoned(a, path)
		err := os.RemoveAll(path)
		log.Info("swept a private postgres whose process is gone", "folder", path, "err", err)
	}
}

// abandoned tells whether nobody holds the folder's lock any more.
func abandoned(path string) bool {
	lock, err := os.Open(filepath.Join(path, "lock"))
	if err != nil {
		return false
	}
	defer lock.Close()
	if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return false
	}
	info, err := lock.Stat()
	return err == nil && info.Size() > 0
}

// endAbandoned stops the server that still listens in an abandoned folder, if one does. That it listens proves that
// the process id in the socket's lock file is not a stranger's; as root, the account's rights are used all the same.
func endAbandoned(a account, path string) {
	sockets, _ := filepath.Glob(filepath.Join(path, ".s.PGSQL.*.lock")) // the pattern is well-formed
	for _, lock := range sockets {
		socket := strings.TrimSuffix(lock, ".lock")
		for _, signal := range []string{"INT", "QUIT", "KILL"} {
			if !listens(socket) {
				break
			}
			text, err := os.ReadFile(lock)
			if err != nil {
				break
			}
			pid, _, _ := strings.Cut(string(text), "\n")
			if _, err := strconv.Atoi(pid); err != nil {
				break
			}
			_ = a.command("/", "kill", "-s", signal, pid).Run() // it may have ended by itself
			for deadline := time.Now().Add(10 * time.Second); listens(socket) && time.Now().Before(deadline); {
				time.Sleep(pollEvery)
			}
		}
	}
}

func listens(socket string) bool {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}
