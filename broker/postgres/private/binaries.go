package private

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// binaries are the programs of one PostgreSQL installation that a server takes.
type binaries struct {
	initdb, postgres string
	version          string // as `postgres --version` says it
}

// sources are where an installation is taken from.
type sources struct {
	folders    []string               // of the machine, the most deliberate choice first
	cache      func() (string, error) // the folder that keeps what was fetched
	repository string                 // as Config.Repository
}

// findBinaries takes the first of the folders that holds an installation which the account can run, or fetches one.
func findBinaries(ctx context.Context, a account, from sources, log *slog.Logger) (binaries, error) {
	for _, folder := range from.folders {
		if bin, err := binariesIn(folder, a); err == nil {
			return bin, nil
		}
	}
	bin, err := fetchBinaries(ctx, a, from, log)
	if err != nil {
		return binaries{}, fmt.Errorf("found no initdb and postgres in PATH, by pg_config or in the usual places, and could not fetch them: %w; install PostgreSQL (Debian: apt-get install postgresql; macOS: brew install postgresql)", err)
	}
	return bin, nil
}

// binariesIn checks one folder. Debian puts only clients into PATH, and somebody may have linked one program alone, so
// both have to be there; and they have to run as the account, who may not be let into, say, /root.
func binariesIn(folder string, a account) (binaries, error) {
	bin := binaries{initdb: filepath.Join(folder, "initdb"), postgres: filepath.Join(folder, "postgres")}
	for _, path := range []string{bin.initdb, bin.postgres} {
		if _, err := os.Stat(path); err != nil {
			return binaries{}, fmt.Errorf("look for PostgreSQL: %w", err)
		}
	}
	out, err := a.command(context.Background(), "/", bin.postgres, "--version").Output()
	if err != nil {
		return binaries{}, fmt.Errorf("run %s as %s: %w", bin.postgres, a.name, err)
	}
	bin.version = strings.TrimSpace(string(out))
	return bin, nil
}

// binaryFolders lists where an installation may be, the most deliberate choice first.
func binaryFolders() []string {
	folders := filepath.SplitList(os.Getenv("PATH"))
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		folders = append(folders, strings.TrimSpace(string(out)))
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",                               // Debian, Ubuntu
		"/usr/pgsql-*/bin",                                        // the PostgreSQL project's own RPMs
		"/opt/homebrew/opt/postgresql*/bin",                       // Homebrew on Apple silicon
		"/usr/local/opt/postgresql*/bin",                          // Homebrew on Intel
		"/Applications/Postgres.app/Contents/Versions/latest/bin", // Postgres.app
	} {
		found, _ := filepath.Glob(pattern) // the patterns are well-formed
		slices.SortStableFunc(found, newerFirst)
		folders = append(folders, found...)
	}
	return folders
}

// newerFirst orders installations of one kind by the version in their paths.
func newerFirst(a, b string) int { return versionIn(b) - versionIn(a) }

// versionIn is the first number in a path, 0 where there is none.
func versionIn(path string) int {
	notDigit := func(r rune) bool { return r < '0' || r > '9' }
	digits := strings.FieldsFunc(path, notDigit)
	if len(digits) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(digits[0]) // a number that does not fit is no version: 0
	return n
}
