package supervisor

import (
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const mib = 1 << 20

func init() {
	roles["eating"] = eating
	roles["leaking"] = leaking
}

// leaking opens so many files and forgets them.
func leaking(args []string) {
	for range number(args[0]) {
		if _, err := unix.Open("/dev/null", unix.O_RDONLY, 0); err != nil {
			panic(err)
		}
	}
	steady(nil)
}

// eating uses so many MiB of memory once it has said hello.
func eating(args []string) {
	conn := greet(myself())
	const kind = unix.MAP_ANON | unix.MAP_PRIVATE | unix.MAP_POPULATE
	if _, err := unix.Mmap(-1, 0, number(args[0])<<20, unix.PROT_READ|unix.PROT_WRITE, kind); err != nil {
		panic(err)
	}
	untilClosed(conn)
}

// often has the sampler look at once, instead of every few seconds.
var often = sampling{every: 20 * time.Millisecond, soft: 100 * time.Millisecond}

func TestADeathTellsWhatTheProcessHasUsed(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "busy")).run()
	h.hangUp(h.hello())
	if got := h.exit(); got.CPU < 200*time.Millisecond {
		t.Errorf("got %v of CPU, want at least 200 ms", got.CPU)
	}
}

func TestADeathTellsOfThePeakOfMemory(t *testing.T) {
	for _, c := range []struct {
		name     string
		sampling sampling // or only the account at the end
	}{{"by the account", sampling{every: time.Hour}}, {"by looking", often}} {
		t.Run(c.name, func(t *testing.T) {
			eats := ownPeak()/mib + 100 // the account tells nothing below our own peak
			h := newHost(t, "", poolAs("a", 1, "eating", strconv.FormatInt(eats, 10)))
			h.sampling = c.sampling
			h.run()
			g := h.hello()
			awaitUse(t, g.PID, eats*mib)
			h.hangUp(g)
			if got := h.exit(); got.MaxRSS < eats*mib || got.MaxRSS > (eats+450)*mib {
				t.Errorf("got a peak of %s, want %d MiB and what a Go program needs besides", inMiB(got.MaxRSS), eats)
			}
		})
	}
}

func awaitUse(t *testing.T, pid int, bytes int64) {
	t.Helper()
	start, _ := look(pid)
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if u, _ := sampleOf(pid, start); u.rss >= bytes {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d never used %s", pid, inMiB(bytes))
		}
	}
}

// A process inherits the peak of who forked it, and must not be blamed for it.
func TestWhatADaemonHasUsedIsNotItsWorkers(t *testing.T) {
	memory := make([]byte, 150*mib)
	for i := 0; i < len(memory); i += 4 << 10 {
		memory[i] = 1
	}
	h := newHost(t, "", poolAs("a", 1, "raising", "3")).run()
	h.hangUp(h.hello())
	if got := h.exit(); got.MaxRSS > 100*mib {
		t.Errorf("got a peak of %s for a worker that uses next to nothing", inMiB(got.MaxRSS))
	}
	_ = memory[len(memory)-1]
}

func TestAWorkerAboveItsMemoryIsKilledAndNobodyElse(t *testing.T) {
	eater, other := poolAs("eater", 1, "eating", "150"), poolAs("other", 1, "steady")
	eater.Limits.Memory = 100 * mib
	h := newHost(t, "", eater, other)
	h.sampling = often
	text := h.logged()
	h.run()
	got := h.exit()
	if want := "oom"; !strings.Contains(got.How, want) || got.Asked {
		t.Errorf("told %q, asked %v; want it to be labelled %s, and nobody to have asked", got.How, got.Asked, want)
	}
	info := h.until("other is connected", func(infos []Info) bool { return infos[1].State == "connected" && infos[0].LastExit != "" })
	if info[1].Restarts != 0 || !strings.Contains(info[0].LastExit, "oom") {
		t.Errorf("shown %+v; want the eater's last exit to be labelled oom, and the other one untouched", info)
	}
	h.end()
	for _, want := range []string{`msg="worker is killed: it is above its limit" pool=eater`, "its limit is 100.0 MiB"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("log says\n%s\nwant %s", text, want)
		}
	}
}

// A lower limit is rolled out like all else that a process is started with: who is above it finishes its work.
func TestALowerLimitKillsNobodyWhoWasStartedWithoutIt(t *testing.T) {
	h := newHost(t, "", poolAs("a", 2, "eating", "150"))
	h.sampling = often
	h.run()
	first := []greeting{h.hello(), h.hello()}
	for _, g := range first {
		awaitUse(t, g.PID, 150*mib)
	}
	if err := h.sup.Change("a", func(p *Pool) { p.Limits.Memory = 100 * mib }); err != nil {
		t.Fatal(err)
	}
	for range mostTrials { // each canary is above it
		if got := h.exit(); !strings.Contains(got.How, "oom") || slices.ContainsFunc(first, func(g greeting) bool { return g.Key == got.Key }) {
			t.Errorf("ended: %+v; want a canary, by its limit", got)
		}
	}
	h.pool("held back", "a", isIn("old build"))
	if infos := h.sup.Workers(); len(infos) < 2 || infos[0].Key != first[0].Key && infos[0].Key != first[1].Key || infos[1].State != "connected" {
		t.Errorf("shown %+v; want those without the limit untouched", infos)
	}
}

func TestAWorkerLongAboveItsSoftMemoryIsReplaced(t *testing.T) {
	p := poolAs("a", 1, "eating", "150")
	p.Limits.MemorySoft = 100 * mib
	h := newHost(t, "", p)
	h.sampling = often
	h.run()
	first := h.hello()
	if second := h.hello(); second.PID == first.PID {
		t.Error("got the same process again, want another one")
	}
	if got := h.exit(); got.PID != first.PID || !got.Asked {
		t.Errorf("ended: %+v; want the first process, %d, asked to", got, first.PID)
	}
}

func TestAWorkerThatLeaksIsReplaced(t *testing.T) {
	for _, c := range []struct {
		name    string
		role    []string
		recycle Recycle
		why     string
	}{
		{"memory", []string{"eating", "150"}, Recycle{RSS: 100 * mib}, "memory: it uses"},
		{"files", []string{"leaking", "100"}, Recycle{Files: 90}, "files: it has"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := poolAs("a", 1, c.role...)
			p.Recycle = c.recycle
			h := newHost(t, "", p)
			h.sampling = often
			text := h.logged()
			h.run()
			first := h.hello()
			h.hello() // before the first one ends
			if got := h.exit(); got.PID != first.PID || !got.Asked {
				t.Errorf("ended: %+v; want the first process, %d, asked to", got, first.PID)
			}
			h.end()
			if !strings.Contains(text.String(), c.why) {
				t.Errorf("log says\n%s\nwant %q", text, c.why)
			}
		})
	}
}

func TestTooManyProcessesEndTheirWorkerAlone(t *testing.T) {
	bomb, other := poolAs("bomb", 1, "forking", "40"), poolAs("other", 1, "steady")
	bomb.Limits.PIDs = 30
	h := newHost(t, "", bomb, other)
	h.sampling = often
	h.run()
	if got := h.exit(); !strings.Contains(got.How, "pids") || got.Asked {
		t.Errorf("told %q, asked %v; want pids to be the reason, and nobody to have asked", got.How, got.Asked)
	}
	if infos := h.sup.Workers(); infos[1].Restarts != 0 {
		t.Errorf("the other worker has ended, too: %+v", infos[1])
	}
}

func TestWhatTheKernelDoesNotEnforceIsToldOnceForEachPool(t *testing.T) {
	limits := Limits{Memory: 1 << 40, PIDs: 1 << 20}
	home := findGroupHome([]string{"memory", "pids"}, nobody)
	if home.lacks("memory") == "" || home.lacks("pids") == "" {
		t.Skip("this host has all controllers")
	}
	a, b := poolAs("a", 2, "steady"), poolAs("b", 1, "steady")
	a.Limits, b.Limits = limits, limits
	h := newHost(t, "", a, b)
	text := h.logged()
	h.run()
	h.until("connected", all("connected"))
	h.end()
	for _, pool := range []string{"a", "b"} {
		for _, limit := range []string{"memory", "pids"} {
			want := `msg="limits: ` + limit + ` is not enforced by the kernel" pool=` + pool + ` why="no cgroup v2`
			if n := strings.Count(text.String(), want); n != 1 {
				t.Errorf("log says %d times %s, want once:\n%s", n, want, text)
			}
		}
	}
}

// linesTo hands lines of a log to a test.
type linesTo chan string

func (l linesTo) Write(line []byte) (int, error) {
	select {
	case l <- string(line):
	default:
	}
	return len(line), nil
}

// await takes lines until one says so.
func (l linesTo) await(t *testing.T, text string) string {
	t.Helper()
	for {
		if line := receive(t, "line "+text, l); strings.Contains(line, text) {
			return line
		}
	}
}

func TestAWorkerThatUsesTooMuchFromItsStartIsNotReplacedInACircle(t *testing.T) {
	p := poolAs("a", 1, "eating", "150")
	p.Recycle.RSS = 100 * mib
	h := newHost(t, "", p)
	h.sampling = sampling{every: 20 * time.Millisecond, young: youngest}
	lines := make(linesTo, 10_000)
	h.cfg.Log = slog.New(slog.NewTextHandler(lines, nil))
	h.run()
	for _, least := range []time.Duration{youngest, 2 * youngest, 4 * youngest} {
		g := h.hello()
		if line := lines.await(t, "over a bound early in its life"); !strings.Contains(line, "least="+least.String()+"\n") {
			t.Errorf("got %s, want it spared for %s", line, least)
		}
		h.sup.order(func(l *loop) { l.byKey[g.Key].rec.Started = time.Now().Add(-least) }) // it has come to that age
		lines.await(t, "worker is replaced")
	}
}
