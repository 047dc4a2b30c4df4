package private

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

// initdb makes a cluster in data. It is not flushed to disk: a cluster that did not survive is made anew.
func initdb(ctx context.Context, a account, bin binaries, data string) error {
	return run(ctx, a.command(filepath.Dir(data), bin.initdb, "-D", data, "-U", superuser, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"))
}

// copyTemplate makes a cluster by copying one that was made earlier by the same account with the same binaries. The
// first who needs the template makes it; the rest wait on its lock.
func copyTemplate(ctx context.Context, a account, bin binaries, data string) error {
	sum := sha256.Sum256([]byte(bin.version + bin.initdb))
	name := "respirate-template-" + strconv.Itoa(a.uid) + "-" + hex.EncodeToString(sum[:4])
	template := filepath.Join(os.TempDir(), name)
	if err := ensureTemplate(ctx, a, bin, template); err != nil {
		return err
	}
	return run(ctx, a.command("/", "cp", "-Rp", template, data))
}

func ensureTemplate(ctx context.Context, a account, bin binaries, template string) error {
	lock, err := os.OpenFile(template+".lock", os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("lock the template cluster: %w", err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	if a.owns(template) {
		return nil
	}
	fresh, err := os.MkdirTemp(filepath.Dir(template), filepath.Base(template)+".new-")
	if err != nil {
		return fmt.Errorf("make the template cluster: %w", err)
	}
	defer os.RemoveAll(fresh)
	if err := a.own(fresh); err != nil {
		return err
	}
	if err := initdb(ctx, a, bin, filepath.Join(fresh, "data")); err != nil {
		return err
	}
	// Renamed into place only when complete, so that a template that is there is whole.
	return os.Rename(filepath.Join(fresh, "data"), template)
}

// run runs a short command to its end; its output is in the error. Where ctx ends first, the command is killed.
func run(ctx context.Context, cmd *exec.Cmd) error {
	stop := context.AfterFunc(ctx, func() {
		if cmd.Process != nil {
			_ = cmd.Process.Kill()
		}
	})
	defer stop()
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", cmd.Path, err, lastLines(string(out), 5))
	}
	return nil
}
