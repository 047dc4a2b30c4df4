package supervisor

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// numbered are lines of 1 KiB that can be told from each other.
func numbered(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		line := strings.Repeat(string(rune('a'+i%26)), 1023)
		b.WriteString(line + "\n")
	}
	return b.String()
}

func TestLogThatGrowsGivesItsBeginningBackWhileItsWriterGoesOn(t *testing.T) {
	const keep = 256 << 10
	p := newPage(t)
	f, err := logs{keep: keep}.open(p.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p.write(numbered(0, 1))
	p.expect(false, numbered(0, 1)[:1023])
	for i := 1; i < 3000; i += 100 { // 3 MiB in all
		if _, err := f.WriteString(numbered(i, i+100)); err != nil {
			t.Fatal(err)
		}
		if err := shorten(p.path, keep); errors.Is(err, syscall.EOPNOTSUPP) {
			t.Skip("the file system of ", p.path, " punches no holes")
		} else if err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err != nil || info.Size() != int64(i+100)*1024 {
			t.Fatalf("size is %d (%v), want %d: what was written stays where it is", info.Size(), err, (i+100)*1024)
		}
		if used := diskUsage(info); used > keep+keep/4+2*blockSize {
			t.Fatalf("%d bytes are on disk, %d are to be kept", used, keep)
		}
	}
	var got strings.Builder
	first := true
	for more := true; more; {
		more, err = p.Read(1<<20, false, func(l LogLine) {
			if first = false; len(l.Text) != 1023 {
				t.Fatalf("got a torn line of %d bytes", len(l.Text))
			}
			got.WriteString(l.Text + "\n")
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if all := numbered(1, 3001); first || !strings.HasSuffix(all, got.String()) || got.Len() < keep-2048 {
		t.Errorf("got %d bytes, want the last %d", got.Len(), keep)
	}
	if lost := p.Lost(); lost+int64(got.Len()) < 2999<<10 || lost+int64(got.Len()) > 3000<<10 {
		t.Errorf("%d bytes are told as lost, and %d read, of %d", lost, got.Len(), 3000<<10)
	}
}

func TestChattyWorkerFillsNoDiskAndItsFloodIsCountedNotTold(t *testing.T) {
	const keep = leastLogKeep
	h := newHost(t, "", poolAs("a", 1, "flood"))
	lines := h.keepLog()
	h.cfg.LogKeep = keep
	h.run()
	h.hello()
	path := h.cfg.logsOf("a", 0).out
	lines.await(t, "some of the flood is dropped", func(r record1) bool { return r["dropped"] != nil && r["pool"] == "a" })
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > 100*keep && diskUsage(info) < info.Size()/4 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("of %d bytes %d are on disk", info.Size(), diskUsage(info))
		}
	}
}

// A disk that is full stops neither the worker, nor its supervision.
func TestDiskThatIsFullStopsNobody(t *testing.T) {
	dir := filepath.Join(shortDir(t), "full")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skip("cannot mount a small disk: ", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	h := newHost(t, "", poolAs("a", 1, "full"))
	lines := h.keepLog()
	h.cfg.LogDir = filepath.Join(dir, "log")
	h.run()
	first := h.hello() // it has met the end of the disk
	lines.await(t, "a line that was written is told", func(r record1) bool { return r["line"] != nil })
	h.hangUp(first)
	if e := h.exit(); e.How != "exit status 5" {
		t.Errorf("the worker ended with %s", e.How)
	}
	h.hello() // its successor
	if err := os.Remove(h.cfg.logsOf("a", 0).out); err != nil {
		t.Fatal(err)
	}
}
