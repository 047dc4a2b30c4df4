package protocol

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSocketPathIsTheAbsoluteOneWhereItFits(t *testing.T) {
	t.Chdir("/")
	for path, want := range map[string]string{
		DefaultSocket:                    "/" + DefaultSocket,
		"/run/r.sock":                    "/run/r.sock",
		"/" + strings.Repeat("x", 102):   "/" + strings.Repeat("x", 102),
		"/run/../var/./run/other/r.sock": "/var/run/other/r.sock",
	} {
		if got, err := SocketPath(path); got != want || err != nil {
			t.Errorf("SocketPath(%q) = %q, %v; want %q", path, got, err, want)
		}
	}
}

func TestSocketPathThatIsTooLongIsHashedIntoTheTemporaryFolder(t *testing.T) {
	long := "/" + strings.Repeat("x", 103)
	short, err := SocketPath(long)
	if err != nil {
		t.Fatal(err)
	}
	if len(short) > 103 || !strings.HasPrefix(short, os.TempDir()) {
		t.Errorf("got %q, want a short path below %s", short, os.TempDir())
	}
	t.Chdir("/")
	again, _ := SocketPath(filepath.Base(long))
	other, _ := SocketPath(long + "2")
	if again != short || other == short {
		t.Errorf("%q: the same as a relative path %q, another %q; want the same and another", short, again, other)
	}
}

func TestSocketPathSaysWhatToDoWhereNothingIsShortEnough(t *testing.T) {
	t.Setenv("TMPDIR", "/"+strings.Repeat("t", 90))
	_, err := SocketPath("/" + strings.Repeat("x", 103))
	if err == nil || !strings.Contains(err.Error(), "has 104 bytes, 103 are possible") || !strings.Contains(err.Error(), "choose a shorter one") {
		t.Errorf("got %v, want the lengths and what to do", err)
	}
}
