package private

import (
	"archive/zip"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

func TestAnInstallationNeedsBothPrograms(t *testing.T) {
	half := openDir(t)
	real := foundBinaries(t)
	if err := os.Symlink(real.postgres, filepath.Join(half, "postgres")); err != nil {
		t.Fatal(err)
	}
	folders := []string{half, filepath.Dir(real.initdb)}
	got, err := findBinaries(t.Context(), testAccount(t), sources{folders: folders}, quiet)
	if err != nil || got != real {
		t.Errorf("got %+v, %v; want %+v", got, err, real)
	}
}

func TestPATHComesBeforeTheUsualPlaces(t *testing.T) {
	t.Setenv("PATH", "/chosen/on/purpose")
	if got := binaryFolders()[0]; got != "/chosen/on/purpose" {
		t.Errorf("got %s first", got)
	}
}

func TestTheHighestVersionComesFirst(t *testing.T) {
	got := []string{"/usr/lib/postgresql/9.6/bin", "/usr/lib/postgresql/15/bin", "/opt/homebrew/opt/postgresql/bin", "/usr/lib/postgresql/18/bin"}
	want := []string{got[3], got[1], got[0], got[2]}
	slices.SortStableFunc(got, newerFirst)
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAMachineWithoutPostgresThatCannotFetchItSaysSoInOneLine(t *testing.T) {
	away := httptest.NewServer(http.NotFoundHandler())
	defer away.Close()
	_, err := findBinaries(t.Context(), testAccount(t), onlyFetch(t, away.URL), quiet)
	if err == nil || !strings.Contains(err.Error(), "apt-get install postgresql") {
		t.Errorf("got %v, want how to install PostgreSQL", err)
	}
	wantOneLine(t, err)
}

func TestBinariesAreFetchedOnceAndRunAServer(t *testing.T) {
	maven, asked := imitateMaven(t)
	from := onlyFetch(t, maven)
	for range 2 {
		bin, err := findBinaries(t.Context(), testAccount(t), from, quiet)
		if err != nil {
			t.Fatal(err)
		}
		s := start(t, Config{Bin: filepath.Dir(bin.postgres)})
		if got := query(t, s.URL(), "select 'fetched'"); got != "fetched" {
			t.Errorf("got %q", got)
		}
	}
	if got := asked.Load(); got != 1 {
		t.Errorf("fetched %d times, want once", got)
	}
}

func TestAFetchThatIsCalledOffEndsAtOnce(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		cancel()
		<-release
	}))
	defer hanging.Close()
	defer close(release)
	if _, err := findBinaries(ctx, testAccount(t), onlyFetch(t, hanging.URL), quiet); err == nil || ctx.Err() == nil {
		t.Errorf("got %v, want that it was called off", err)
	}
}

// onlyFetch is a machine without PostgreSQL and with an empty cache.
func onlyFetch(t *testing.T, repository string) sources {
	t.Helper()
	t.Setenv("TMPDIR", openDir(t)) // the library that fetches leaves a log there
	cache := openDir(t)
	return sources{cache: func() (string, error) { return cache, nil }, repository: repository}
}

// imitateMaven serves a jar as Maven Central does: a zip of a .txz with bin/, whose programs here hand over to the
// real ones. It counts how often the jar is asked for.
func imitateMaven(t *testing.T) (url string, asked *atomic.Int64) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	real := foundBinaries(t)
	for name, path := range map[string]string{"initdb": real.initdb, "postgres": real.postgres, "pg_ctl": "/bin/false"} {
		script := "#!/bin/sh\nexec " + path + ` "$@"` + "\n"
		if err := os.WriteFile(filepath.Join(dir, "bin", name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	archive := filepath.Join(dir, "postgres.txz")
	if out, err := exec.Command("tar", "-cJf", archive, "-C", dir, "bin").CombinedOutput(); err != nil {
		t.Fatalf("tar (needs xz-utils): %v: %s", err, out)
	}
	asked = new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, ".jar") || !strings.Contains(r.URL.Path, runtime.GOOS) {
			http.NotFound(w, r)
			return
		}
		asked.Add(1)
		if err := writeJar(w, archive); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL, asked
}

func writeJar(w http.ResponseWriter, archive string) error {
	text, err := os.ReadFile(archive)
	if err != nil {
		return err
	}
	jar := zip.NewWriter(w)
	entry, err := jar.Create(filepath.Base(archive))
	if err != nil {
		return err
	}
	if _, err := entry.Write(text); err != nil {
		return err
	}
	return jar.Close()
}

var quiet = slog.New(slog.DiscardHandler)

func testAccount(t *testing.T) account {
	t.Helper()
	a, err := serverAccount()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func foundBinaries(t *testing.T) binaries {
	t.Helper()
	bin, err := findBinaries(t.Context(), testAccount(t), sources{folders: binaryFolders()}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return bin
}
