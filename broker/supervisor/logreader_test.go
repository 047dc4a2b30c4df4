package supervisor

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// page is a log that a test writes and reads.
type page struct {
	t *testing.T
	*LogReader
}

func newPage(t *testing.T) *page {
	return &page{t: t, LogReader: NewLogReader(filepath.Join(t.TempDir(), "log"), "err")}
}

func (p *page) write(text string) {
	p.t.Helper()
	f, err := os.OpenFile(p.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		p.t.Fatal(err)
	}
}

func (p *page) expect(end bool, want ...string) {
	p.t.Helper()
	var got []string
	for more := true; more; {
		var err error
		more, err = p.read(1, end, func(l LogLine, pid int) {
			text := l.Text
			if l.Cut {
				text = fmt.Sprintf("%.10s... %d", text, len(text))
			}
			if pid != 0 {
				text += fmt.Sprint(" of ", pid)
			}
			got = append(got, text)
		})
		if err != nil {
			p.t.Fatal(err)
		}
	}
	if !slices.Equal(got, want) {
		p.t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestReaderReadsEachWholeLineOnce(t *testing.T) {
	p := newPage(t)
	p.expect(true)
	p.write("one\ntw")
	p.expect(false, "one")
	p.expect(false)
	p.write("o\n\nthree\n")
	p.expect(false, "two", "", "three")
	p.write("and the rest")
	p.expect(true, "and the rest")
	p.write("\n")
	p.expect(true, "")
}

func TestReaderCutsLinesThatAreTooLong(t *testing.T) {
	p := newPage(t)
	long := strings.Repeat("x", 3*readChunk/2)
	p.write("a\n" + long)
	p.expect(false, "a", "xxxxxxxxxx... 65536")
	p.write(long + "\nb\n" + long[:maxLine+1] + "\nc\n" + long[:maxLine] + "\nd\n")
	p.expect(false, "b", "xxxxxxxxxx... 65536", "c", long[:maxLine], "d")
}

func TestReaderFinishesAFileThatWasSetAside(t *testing.T) {
	p := newPage(t)
	p.write("one\ntwo\n")
	p.expect(false, "one", "two")
	p.write("three\nfour, torn")
	if err := os.Rename(p.path, setAside(p.path)); err != nil {
		t.Fatal(err)
	}
	p.expect(false, "three", "four, torn")
	p.write("five\n")
	p.expect(false, "five")
	if err := os.Rename(p.path, setAside(p.path)); err != nil {
		t.Fatal(err)
	}
	p.write("six\n")
	p.expect(false, "six")
}

func TestReaderBeginsAnewWhereItsFileIsGoneOrWasCut(t *testing.T) {
	p := newPage(t)
	p.write("one\ntwo\n")
	p.expect(false, "one", "two")
	if err := os.Truncate(p.path, 0); err != nil {
		t.Fatal(err)
	}
	p.write("a\n")
	p.expect(false, "a")
	other := p.path + ".other"
	if err := os.WriteFile(other, []byte("b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, p.path); err != nil {
		t.Fatal(err)
	}
	p.expect(false, "b")
}

func TestReaderTellsWhoseLineItIs(t *testing.T) {
	p := newPage(t)
	end := func(pid int) {
		info, err := os.Stat(p.path)
		if err != nil {
			t.Fatal(err)
		}
		p.ends = append(p.ends, logEnd{p.path, inodeOf(info), info.Size(), pid})
	}
	p.write("one\ntorn by dea")
	end(7)
	p.write("two\n")
	end(8)
	end(9) // it has written nothing
	p.write("three\n")
	p.expect(false, "one of 7", "torn by dea of 7", "two of 8", "three")
}

func TestReaderFindsTheLastLines(t *testing.T) {
	p := newPage(t)
	if err := p.ToLast(3); err != nil {
		t.Fatal(err)
	}
	p.expect(true)
	long := strings.Repeat("y", readChunk)
	for _, c := range []struct {
		text string
		n    int
		want []string
	}{
		{"1\n2\n3\n4\n", 2, []string{"3", "4"}},
		{"1\n2\n3\n4", 2, []string{"3", "4"}},
		{"1\n2\n", 9, []string{"1", "2"}},
		{"1\n2\n", 0, nil},
		{"\n\n\n", 2, []string{"", ""}},
		{"1\n" + long + "\n2\n", 2, []string{"yyyyyyyyyy... 65536", "2"}},
		{"1\n" + long + "\n2\n", 3, []string{"1", "yyyyyyyyyy... 65536", "2"}},
	} {
		p := newPage(t)
		p.write(c.text)
		if err := p.ToLast(c.n); err != nil {
			t.Fatal(err)
		}
		p.expect(true, c.want...)
	}
}

func TestReaderRefusesWhatIsNoFile(t *testing.T) {
	p := newPage(t)
	if err := os.Symlink("/etc/passwd", p.path); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Read(1, false, func(LogLine) {}); err == nil {
		t.Error("a link is followed")
	}
	if err := p.ToLast(1); err == nil {
		t.Error("a link is followed to its end")
	}
}
