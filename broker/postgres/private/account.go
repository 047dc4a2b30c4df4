package private

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// account is whom the server runs as. PostgreSQL refuses to run as root, so root hands its servers to somebody else.
type account struct {
	name       string
	uid        int
	credential *syscall.Credential // nil = as ourselves
}

// serverAccount is ourselves or, for root, the user `postgres`, else `nobody`. It has to be a user with a name: initdb
// fails for a bare number.
func serverAccount() (account, error) {
	if os.Geteuid() != 0 {
		return account{name: "uid " + strconv.Itoa(os.Geteuid()), uid: os.Geteuid()}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			return accountOf(u)
		}
	}
	return account{}, errors.New("PostgreSQL refuses to run as root, and there is neither a user postgres nor a user nobody to run it as: start this as another user")
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
	return account{name: u.Username, uid: int(uid), credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

// command runs a program as the account, in dir, with an environment of its own: the caller's may hold PGDATA, a locale
// that the server does not know, or secrets. It gets a process group, so that Ctrl-C is for the caller alone.
func (a account) command(ctx context.Context, dir, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "HOME=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: a.credential, Setpgid: true}
	return cmd
}

// run runs a short command as the account, to its end. The last of its output is in the error.
func (a account) run(ctx context.Context, name string, args ...string) error {
	out, err := a.command(ctx, "/", name, args...).CombinedOutput()
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", filepath.Base(name), context.Cause(ctx))
	}
	if err != nil {
		return fmt.Errorf("%s as %s: %w, saying: %s", name, a.name, err, lastLines(string(out)))
	}
	return nil
}

// own hands a path to the account.
func (a account) own(path string) error {
	if a.credential == nil {
		return nil
	}
	if err := os.Chown(path, a.uid, int(a.credential.Gid)); err != nil {
		return fmt.Errorf("hand it to %s: %w", a.name, err)
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

// reaches tells whether the account may work in a folder. Root's own folders are mostly closed to others, and the
// answer hangs on each folder above, so the account is asked.
func (a account) reaches(dir string) bool {
	return a.command(context.Background(), "/", "test", "-w", dir, "-a", "-x", dir).Run() == nil
}

// lastLines is the end of a program's output, on one line.
func lastLines(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], " / ")
}
