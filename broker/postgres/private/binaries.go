package private

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// binaries are the two programs of one PostgreSQL installation that a server takes.
type binaries struct {
	initdb, postgres string
	version          string // as `postgres --version` says it
}

// findBinaries takes the first installation that the account can run.
func findBinaries(_ context.Context, a account, _ *slog.Logger) (binaries, error) {
	for _, folder := range binaryFolders() {
		bin, err := binariesIn(folder, a)
		if err == nil {
			return bin, nil
		}
	}
	return binaries{}, errors.New("no PostgreSQL found: install it (Debian: apt-get install postgresql)")
}

// binariesIn checks one folder. Debian puts only clients into PATH, and somebody may have linked one program alone, so
// both have to be there; and they have to run as the account, who may not be let into, say, /root.
func binariesIn(folder string, a account) (binaries, error) {
	bin := binaries{initdb: filepath.Join(folder, "initdb"), postgres: filepath.Join(folder, "postgres")}
	for _, path := range []string{bin.initdb, bin.postgres} {
		if _, err := os.Stat(path); err != nil {
			return binaries{}, err
		}
	}
	out, err := a.command("/", bin.postgres, "--version").Output()
	bin.version = strings.TrimSpace(string(out))
	return bin, err
}

// binaryFolders lists where an installation may be, the most explicit choice first.
func binaryFolders() []string {
	folders := filepath.SplitList(os.Getenv("PATH"))
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		folders = append(folders, strings.TrimSpace(string(out)))
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",                               // Debian, Ubuntu
		"/usr/pgsql-*/bin",                                        // the PostgreSQL project's RPMs
		"/opt/homebrew/opt/postgresql*/bin",                       // Homebrew on Apple silicon
		"/usr/local/opt/postgresql*/bin",                          // Homebrew on Intel
		"/Applications/Postgres.app/Contents/Versions/latest/bin", // Postgres.app
	} {
		found, _ := filepath.Glob(pattern) // the patterns are well-formed
		slices.SortFunc(found, func(a, b string) int { return versionIn(b) - versionIn(a) })
		folders = append(folders, found...)
	}
	return folders
}

// versionIn is the first number in a path, 0 where there is none.
func versionIn(path string) int {
	digits := strings.TrimLeftFunc(path, func(r rune) bool { return r < '0' || r > '9' })
	if end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		digits = digits[:end]
	}
	n, _ := strconv.Atoi(digits) // no digits: 0
	return n
}
