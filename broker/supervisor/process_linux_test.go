package supervisor

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestStatIsReadBehindAnyName(t *testing.T) {
	tail := strings.Repeat(" 0", 18) + " 4711 0 0"
	for _, c := range []struct {
		name, state string
		alive       bool
	}{{"sh", "S", true}, {"a) Z (b", "R", true}, {"gone", "Z", false}, {"gone", "X", false}} {
		start, alive := parseStat(fmt.Appendf(nil, "12 (%s) %s%s", c.name, c.state, tail))
		if start != "4711" || alive != c.alive {
			t.Errorf("%q in state %s: got start %q, alive %v", c.name, c.state, start, alive)
		}
	}
	if _, alive := parseStat([]byte("12 (x) S 1")); alive {
		t.Error("got life in a line that is cut off")
	}
}

// A daemon is killed at any moment, over and over, mostly while it starts its workers. Whatever moment it was, the
// next one knows all processes again: in the end each seat has exactly one.
func TestNoProcessIsLostOrDoubledWhereverTheDaemonIsKilled(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	h := newHost(t, "", poolAs("a", 4, "steady"))
	for range 15 {
		h.daemonKilledAfter(time.Duration(chance.Int64N(int64(40 * time.Millisecond))))
		if rec := written(t, h.cfg); len(rec) > 0 && rec[0].PID > 1 && chance.IntN(2) == 0 {
			_ = syscall.Kill(rec[0].PID, syscall.SIGKILL)
		}
	}
	h.run()
	after := h.until("connected", all("connected"))
	want := pidsOf(after)
	slices.Sort(want)
	if got := workersOn(t, h.cfg.Socket); !slices.Equal(got, want) {
		t.Errorf("processes %v run, want those on seats, %v", got, want)
	}
}

// daemonKilledAfter starts a daemon and kills it. The delay is the fault itself, not a wait for something.
func (h *host) daemonKilledAfter(delay time.Duration) {
	h.t.Helper()
	_ = os.Remove(h.cfg.Socket)
	cmd := h.daemonCommand()
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	time.Sleep(delay)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	h.awaitBirths()
}

// awaitBirths waits until what a daemon was about to start when it was killed is a worker, which it can be known by: between fork and
// exec it looks like the daemon.
func (h *host) awaitBirths() {
	h.t.Helper()
	daemon := "\x00as\x00daemon\x00" + h.dir + "\x00"
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		unborn := 0
		cmdlines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, path := range cmdlines {
			if text, _ := os.ReadFile(path); strings.Contains(string(text), daemon) {
				unborn++
			}
		}
		if unborn == 0 {
			return
		}
		if time.Now().After(end) {
			h.t.Fatalf("%d processes of the killed daemon are still about to begin", unborn)
		}
	}
}

// workersOn returns the pids of all processes that were told this socket, sorted.
func workersOn(t *testing.T, socket string) []int {
	t.Helper()
	var pids []int
	environs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range environs {
		environ, _ := os.ReadFile(path)
		if strings.Contains(string(environ), "\x00RESPIRATE_SOCKET="+socket+"\x00") {
			pids = append(pids, number(filepath.Base(filepath.Dir(path))))
		}
	}
	slices.Sort(pids)
	return pids
}
