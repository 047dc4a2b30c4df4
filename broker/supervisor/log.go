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

// Workers write to files, so that they depend on no daemon: one that is killed breaks no pipe, and one that hangs stops
// nobody. A file is only ever appended to, and never cut: what a worker writes between a copy and a cut would be lost.
//
//   - When a process starts and the file is larger than LogKeep, it is set aside as NAME.1, and the one before goes. Not so for
//     a canary: if it fails, the process beside it goes on, which writes there.
//   - While a process goes on writing, what is older than the last LogKeep bytes gives its disk blocks back: a hole is
//     punched at the beginning. Sizes and offsets stay what they are, so nobody who reads along loses the place.
//
// So each of the two files of a seat takes at most twice LogKeep, and a little more. Where the file system cannot punch
// holes, as the log says then, only the first of these holds, for canaries, too.
const (
	maxEvidence    = 8 << 10  // bytes of stderr told with a death
	defaultLogKeep = 64 << 20 // bytes
	leastLogKeep   = 64 << 10
)

// logs are the two files that a process writes to.
type logs struct {
	out, err string
	keep     int64 // bytes above which the next process gets a fresh one
}

func (c Config) logsOf(pool string, index int) logs {
	out, err := LogFiles(c.LogDir, pool, index)
	return logs{out: out, err: err, keep: c.LogKeep}
}

// LogFiles are the files in a log folder that the processes on a seat write their standard output and error to.
func LogFiles(dir, pool string, index int) (stdout, stderr string) {
	base := filepath.Join(dir, fmt.Sprintf("%s-%d", pool, index))
	return base + ".out", base + ".err"
}

// setAside is where a log goes that has grown too large.
func setAside(path string) string { return path + ".1" }

// open opens a log for a new process.
func (l logs) open(path string) (*os.File, error) {
	if info, err := os.Lstat(path); err == nil && info.Size() > l.keep {
		if err := os.Rename(path, setAside(path)); err != nil {
			return nil, fmt.Errorf("set log aside: %w", err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil { // somebody may have removed it
		return nil, err
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
}

// shorten gives back the disk blocks of all but the last keep bytes of a log, once it takes a quarter more than that.
func shorten(path string, keep int64) error {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || diskUsage(info) <= keep+keep/4 {
		return nil // there is none, or no need
	}
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return punch(f, info.Size()-keep)
}

// lastWords returns the end of what a process has written to its log of errors, which a process that has come to the same
// seat since may have set aside.
func lastWords(path string, rec record) string {
	if rec.ErrFile != 0 {
		for _, one := range []string{path, setAside(path)} {
			if info, err := os.Lstat(one); err == nil && inodeOf(info) == rec.ErrFile {
				return lastLines(one, rec.ErrFrom)
			}
		}
		return "" // it is gone
	}
	return lastLines(path, rec.ErrFrom)
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
