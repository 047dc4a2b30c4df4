package supervisor

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// record1 is one record of a log.
type record1 map[string]any

// keptLog is a log that a test reads.
type keptLog struct {
	mu      sync.Mutex // guards what follows
	records []record1
	news    chan struct{}
}

// Write takes one record, as slog writes them.
func (k *keptLog) Write(p []byte) (int, error) {
	var r record1
	if err := json.Unmarshal(p, &r); err != nil {
		return 0, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.records = append(k.records, r)
	select {
	case k.news <- struct{}{}:
	default:
	}
	return len(p), nil
}

// keepLog has the host's log kept.
func (h *host) keepLog() *keptLog {
	k := &keptLog{news: make(chan struct{}, 1)}
	h.cfg.Log = slog.New(slog.NewJSONHandler(k, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return k
}

func (k *keptLog) all() []record1 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.records)
}

func (k *keptLog) await(t *testing.T, what string, ok func(record1) bool) record1 {
	t.Helper()
	deadline := time.After(patience)
	for seen := 0; ; {
		records := k.all()
		for _, r := range records[seen:] {
			if ok(r) {
				return r
			}
		}
		seen = len(records)
		select {
		case <-k.news:
		case <-deadline:
			t.Fatalf("not in the log: %s", what)
		}
	}
}

// said are the lines of workers in the log.
func (k *keptLog) said() (lines []string) {
	for _, r := range k.all() {
		if r["msg"] == "worker says" {
			lines = append(lines, fmt.Sprintf("%v %v: %v", r["worker"], r["stream"], r["line"]))
		}
	}
	return lines
}

func TestLinesOfWorkersAreLoggedWithProcessStrandAndLabel(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "saying",
		"plain", `level=DEBUG msg=x strand=s-1 label=start`, `{"level":"WARN","msg":"y","strand":"s-2","label":"end"}`))
	lines := h.keepLog()
	h.run()
	first := h.hello()
	h.hangUp(first)
	h.exit()
	second := h.hello()
	lines.await(t, "the last word of the second", func(r record1) bool {
		return r["worker"] == float64(second.PID) && r["line"] == `{"level":"WARN","msg":"y","strand":"s-2","label":"end"}`
	})
	h.end()
	var got []string
	for _, r := range lines.all() {
		if r["msg"] == "worker says" {
			got = append(got, fmt.Sprint(r["level"], " ", r["pool"], "/", r["index"], " ", r["worker"], " ", r["stream"], " ", r["strand"], " ", r["label"]))
		}
	}
	var want []string
	for _, pid := range []int{first.PID, second.PID} {
		want = append(want, fmt.Sprintf("INFO a/0 %d err <nil> <nil>", pid), fmt.Sprintf("DEBUG a/0 %d err s-1 start", pid),
			fmt.Sprintf("INFO a/0 %d err s-2 end", pid))
	}
	slices.Sort(want[3:]) // and those after it may not be here yet
	if len(got) < len(want) || !slices.Equal(got[:3], want[:3]) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestLinesAreLoggedOnceAcrossDaemonsAlsoThoseThatNoDaemonSaw(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "saying", "from here on"))
	lines := h.keepLog()
	h.run()
	h.hello()
	lines.await(t, "the first line", func(r record1) bool { return r["line"] == "from here on" })
	h.end()
	f, err := os.OpenFile(h.cfg.logsOf("a", 0).err, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("while nobody looked\n"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	next := newHost(t, h.dir, poolAs("a", 1, "steady"))
	nextLines := next.keepLog()
	next.run()
	nextLines.await(t, "what was written meanwhile", func(r record1) bool { return r["line"] == "while nobody looked" })
	next.end()
	if got := nextLines.said(); len(got) != 1 {
		t.Errorf("got %q, want one line", got)
	}
}

func TestLinesOfWorkersStayOutOfTheLogWhereTheyAreNotWanted(t *testing.T) {
	for mode, want := range map[string]string{LogLinesDebug: "DEBUG", LogLinesOff: ""} {
		h := newHost(t, "", poolAs("a", 1, "saying", "hear me"))
		lines := h.keepLog()
		h.cfg.LogLines = mode
		h.run()
		h.hello()
		h.end()
		var got string
		for _, r := range lines.all() {
			if r["line"] == "hear me" {
				got = fmt.Sprint(r["level"])
			}
		}
		if got != want {
			t.Errorf("%s: the line is logged as %q, want %q", mode, got, want)
		}
		if n := len(h.sup.tails.ends); n != 0 {
			t.Errorf("%s: %d ends are kept that nobody takes in", mode, n)
		}
	}
	h := newHost(t, "")
	h.cfg.LogLines = "loud"
	if _, err := New(h.cfg); err == nil {
		t.Error("loud is taken")
	}
}

// A host may have hundreds of logs, and one goroutine that reads them.
func TestLogsOfAHostAreReadWithOneBuffer(t *testing.T) {
	kept := &keptLog{news: make(chan struct{}, 1)}
	cfg := Config{Log: slog.New(slog.NewJSONHandler(kept, nil)), LogDir: t.TempDir(), LogLines: LogLinesInfo}
	seats := make([]Info, 50)
	for i := range seats {
		seats[i] = Info{Pool: "p", Index: i, PID: i + 1}
	}
	tails := newTails(cfg, func() []Info { return seats })
	for i := range seats {
		l := cfg.logsOf("p", i)
		if err := os.WriteFile(l.out, fmt.Appendf(nil, "out %d\n", i), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(l.err, fmt.Appendf(nil, "err %d\n", i), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tails.turn(time.Now())
	said := map[string]int{}
	for _, r := range kept.all() {
		said[fmt.Sprint(r["line"], " of ", r["index"])]++
	}
	for i := range seats {
		for _, stream := range []string{"out", "err"} {
			if line := fmt.Sprintf("%s %d of %d", stream, i, i); said[line] != 1 {
				t.Errorf("%q was told %d times", line, said[line])
			}
		}
	}
	var first *byte
	for _, one := range tails.all {
		if first == nil {
			first = &one.buf[0]
		}
		if &one.buf[0] != first {
			t.Fatal("a log has a buffer of its own")
		}
	}
}
