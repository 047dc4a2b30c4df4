package private

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
)

// cluster returns the data folder, initialised.
func (s *Server) cluster(ctx context.Context) (string, error) {
	data := filepath.Join(s.folder.path, "data")
	switch {
	case s.cfg.Dir != "":
		return keptCluster(ctx, s.account, s.bin, s.cfg.Dir)
	case s.cfg.Template:
		return data, copyTemplate(ctx, s.account, s.bin, data)
	default:
		return data, initdb(ctx, s.account, s.bin, data, "--no-sync") // it does not outlive a crash of the machine anyway
	}
}

// keptCluster initialises dir unless an earlier start did.
func keptCluster(ctx context.Context, a account, bin binaries, dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find the cluster's folder: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "PG_VERSION")); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the cluster's folder: %w", err)
	}
	if err := a.own(dir); err != nil {
		return "", fmt.Errorf("make the cluster's folder: %w", err)
	}
	if !a.reaches(dir) {
		return "", fmt.Errorf("the cluster's folder %s lies below one that %s, who the server runs as, may not enter: choose another place", dir, a.name)
	}
	return dir, initdb(ctx, a, bin, dir)
}

func initdb(ctx context.Context, a account, bin binaries, data string, more ...string) error {
	args := []string{"-D", data, "-U", superuser, "-A", "trust", "-E", "UTF8", "--locale=C"}
	return a.run(ctx, bin.initdb, append(args, more...)...)
}

// copyTemplate makes a cluster by copying one that an earlier start made with the same binaries for the same account.
func copyTemplate(ctx context.Context, a account, bin binaries, data string) error {
	cache, err := cacheDir()
	if err != nil { // somebody without a home: slower, and no reason to fail
		return initdb(ctx, a, bin, data, "--no-sync")
	}
	sum := sha256.Sum256([]byte(bin.version + bin.initdb + a.name))
	template := filepath.Join(cache, "template-"+hex.EncodeToString(sum[:8]))
	if err := ensureTemplate(ctx, a, bin, template); err != nil {
		return fmt.Errorf("make the template cluster: %w", err)
	}
	return a.run(ctx, "cp", "-Rp", template, data)
}

// ensureTemplate makes the template unless it is there. Test binaries of many packages come at once: the first makes
// it, the others wait for the lock.
func ensureTemplate(ctx context.Context, a account, bin binaries, template string) error {
	lock, err := lockFile(template + ".lock")
	if err != nil {
		return err
	}
	defer lock.Close()
	if a.owns(template) {
		return nil
	}
	workshop, err := os.MkdirTemp(filepath.Dir(template), "template-new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(workshop)
	if err := a.own(workshop); err != nil {
		return err
	}
	fresh := filepath.Join(workshop, "data")
	if err := initdb(ctx, a, bin, fresh); err != nil {
		return err
	}
	return os.Rename(fresh, template) // only now, flushed and whole, is it there
}
