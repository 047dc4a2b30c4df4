package supervisor

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

const (
	maxEvidence = 8 << 10  // bytes of stderr told with a death
	rotateAbove = 64 << 20 // bytes of a log above which the next process gets a fresh one
)

// logs are the two files that a process writes to.
type logs struct{ out, err string }

func logsOf(dir, pool string, index int) logs {
	base := filepath.Join(dir, fmt.Sprintf("%s-%d", pool, index))
	return logs{out: base + ".out", err: base + ".err"}
}

// openLog opens a log for a new process. The file is never truncated, as somebody may be reading along; one that has
// grown too large is set aside, and the one set aside before goes.
func openLog(path string) (*os.File, error) {
	if info, err := os.Lstat(path); err == nil && info.Size() > rotateAbove {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, fmt.Errorf("rotate log: %w", err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil { // somebody may have removed it
		return nil, err
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
}

// lastLines returns the end of what was written to a log since it had the size from. It is evidence, not more: a log
// that cannot be read gives nothing.
func lastLines(path string, from int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return ""
	}
	if from > size { // somebody has cut it
		from = 0
	}
	begin := max(from, size-maxEvidence)
	text := make([]byte, size-begin)
	n, _ := f.ReadAt(text, begin)
	return evidence(text[:n], begin > from)
}

// evidence makes the end of a log fit for a text column: valid UTF-8 without NUL, and whole lines where it was cut.
func evidence(text []byte, cut bool) string {
	s := strings.ToValidUTF8(string(text), "\uFFFD")
	s = strings.ReplaceAll(s, "\x00", "\uFFFD")
	if len(s) > maxEvidence { // replacements are longer than what they replace
		s, cut = s[len(s)-maxEvidence:], true
		for len(s) > 0 && !utf8.RuneStart(s[0]) {
			s = s[1:]
		}
	}
	if _, whole, ok := strings.Cut(s, "\n"); cut && ok && whole != "" {
		return whole
	}
	return s
}
