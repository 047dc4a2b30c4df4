package private

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// account is whom the server runs as. PostgreSQL refuses to run as root, so root hands its servers to somebody else.
type account struct {
	uid        int
	credential *syscall.Credential // nil = as ourselves
}

// serverAccount is ourselves or, for root, the user `postgres`, else `nobody`. It has to be a user with a name: initdb
// fails for a bare number.
func serverAccount() (account, error) {
	if os.Geteuid() != 0 {
		return account{uid: os.Geteuid()}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			return accountOf(u)
		}
	}
	return account{}, fmt.Errorf("run PostgreSQL as root: it refuses that, and there is neither a user postgres nor a user nobody to run it as; run as another user")
}

func accountOf(u *user.User) (account, error) {
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return account{}, fmt.Errorf("read the uid of %s: %w", u.Username, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return account{}, fmt.Errorf("read the gid of %s: %w", u.Username, err)
	}
	return account{uid: int(uid), credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

// command runs a program as the account, in dir, with an environment of its own: the caller's may hold PGDATA, a locale
// that the server does not know, or secrets. It gets a process group, so that Ctrl-C is for the caller alone.
func (a account) command(dir, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "HOME=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: a.credential, Setpgid: true}
	return cmd
}

// own hands a path to the account.
func (a account) own(path string) error {
	if a.credential == nil {
		return nil
	}
	if err := os.Chown(path, int(a.credential.Uid), int(a.credential.Gid)); err != nil {
		return fmt.Errorf("hand a file to the server's user: %w", err)
	}
	return nil
}

// owns tells whether a path is the account's own, and not one that somebody else prepared for us.
func (a account) owns(path string) bool {
	info, err := os.Lstat(path)
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == a.uid
}
