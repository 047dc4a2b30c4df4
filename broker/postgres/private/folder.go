package private

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// folderPrefix begins the name of every server's folder, by which a later start finds what was left behind.
const folderPrefix = "respirate-pg-"

// maxScratch is how long the scratch directory's path may be, in bytes, for a socket's path to fit: macOS allows 103.
const maxScratch = 103 - len("/"+folderPrefix+"4294967295/.s.PGSQL.65535")

// scratchDir is where servers' folders go: what is wished for, else the temporary directory, or the usual one where the
// account may not be let into those or their paths are too long for a socket.
func scratchDir(a account, wished string) (string, error) {
	dirs := []string{os.TempDir(), "/tmp"}
	if wished != "" {
		dirs = append([]string{wished}, dirs...)
	}
	for _, dir := range dirs {
		if len(dir) <= maxScratch && a.reaches(dir) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("the server needs a temporary folder with a path of at most %d bytes that %s can write to, and %v are not: set TMPDIR", maxScratch, a.name, dirs)
}

// cacheDir is where clusters to copy and fetched binaries are kept for good: root's in a place that the account is let
// into, other people's in their own.
func cacheDir() (string, error) {
	base := "/var/cache"
	if os.Geteuid() != 0 {
		var err error
		if base, err = os.UserCacheDir(); err != nil {
			return "", fmt.Errorf("find the cache folder: %w", err)
		}
	}
	dir := filepath.Join(base, "respirate")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the cache folder: %w", err)
	}
	return dir, nil
}

// folder is where one server lives: see the package comment.
type folder struct {
	path string
	lock *os.File // flocked
}

// newFolder makes a folder for the account. The lock file is empty until it is locked, which tells sweep to leave a
// folder that is just being made.
func newFolder(a account, scratch string) (*folder, error) {
	path, err := os.MkdirTemp(scratch, folderPrefix)
	if err != nil {
		return nil, fmt.Errorf("make the server's folder: %w", err)
	}
	f := &folder{path: path}
	if err := f.furnish(a); err != nil {
		_ = f.remove() // the first error says more
		return nil, fmt.Errorf("set up the server's folder %s: %w", path, err)
	}
	return f, nil
}

func (f *folder) furnish(a account) (err error) {
	if f.lock, err = lockFile(filepath.Join(f.path, "lock")); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(f.lock, os.Getpid()); err != nil {
		return err
	}
	// Over the socket comes in who can reach it, over TCP who knows the password.
	const rules = "local all all trust\nlocal replication all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
	if err := os.WriteFile(f.hbaFile(), []byte(rules), 0o644); err != nil {
		return err
	}
	return a.own(f.path)
}

// lockFile opens a file, made if missing, and waits until nobody else holds its lock. Closing it frees the lock.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

func (f *folder) logFile() string { return filepath.Join(f.path, "postgres.log") }
func (f *folder) hbaFile() string { return filepath.Join(f.path, "pg_hba.conf") }

// logTail is the end of what the server said.
func (f *folder) logTail() string {
	text, err := os.ReadFile(f.logFile())
	if err != nil {
		return err.Error()
	}
	return lastLines(string(text))
}

// remove takes the folder away. A nil folder was never made.
func (f *folder) remove() error {
	if f == nil {
		return nil
	}
	if f.lock != nil {
		_ = f.lock.Close()
	}
	return os.RemoveAll(f.path)
}
