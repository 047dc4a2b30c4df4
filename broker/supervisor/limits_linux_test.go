package supervisor

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// logged has a host's log kept as well as shown. The text may be read once the host has ended.
func (h *host) logged() *bytes.Buffer {
	var text bytes.Buffer
	h.cfg.Log = slog.New(slog.NewTextHandler(io.MultiWriter(h.t.Output(), &text), nil))
	return &text
}

// fieldOf returns a line of a text of /proc, from behind its name, with single spaces.
func fieldOf(t *testing.T, text, name string) string {
	t.Helper()
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.Join(strings.Fields(rest), " ")
		}
	}
	t.Fatalf("no %q in %s", name, text)
	return ""
}

func TestAWorkerBeginsUnderTheLimitsOfItsPool(t *testing.T) {
	core, umask := int64(0), 0o027
	p := poolAs("a", 1, "telling")
	p.Limits = Limits{Files: 123, Core: &core, AddressSpace: 64 << 30, Procs: 5000, Nice: 3, Umask: &umask, NoNewPrivs: true}
	h := newHost(t, "", p).run()
	g := h.hello()
	limits, status := g.Proc["limits"], g.Proc["status"]
	for _, c := range []struct{ what, got, want string }{
		{"nofile", fieldOf(t, limits, "Max open files"), "123 123 files"},
		{"core", fieldOf(t, limits, "Max core file size"), "0 0 bytes"},
		{"address space", fieldOf(t, limits, "Max address space"), "68719476736 68719476736 bytes"},
		{"nproc", fieldOf(t, limits, "Max processes"), "5000 5000 processes"},
		{"no_new_privs", fieldOf(t, status, "NoNewPrivs:"), "1"},
		{"umask", fieldOf(t, status, "Umask:"), "0027"},
		{"nice", statField(t, g.Proc["stat"], 19), "3"},
		{"oom_score_adj", oomScoreOf(t, g.PID), "200"},
		{"arguments", g.Proc["cmdline"], strings.Join([]string{os.Args[0], "as", "telling", ""}, "\x00")},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %q, want %q", c.what, c.got, c.want)
		}
	}
	info := h.until("connected", all("connected"))[0]
	if g.PID != info.PID || g.Group != g.PID || g.SID != g.PID {
		t.Errorf("worker has pid %d, group %d, session %d; want all to be %d, which was started", g.PID, g.Group, g.SID, info.PID)
	}
	for _, file := range g.Files {
		if strings.HasPrefix(file, "pipe:") {
			t.Errorf("the worker still has the shim's pipe: %q", g.Files)
		}
	}
	for _, v := range g.Env {
		if name, _, _ := strings.Cut(v, "="); !slices.Contains(commonEnv, name) && !strings.HasPrefix(name, "RESPIRATE_") {
			t.Errorf("the worker sees the variable %s", name)
		}
	}
}

// statField is a field of /proc/PID/stat, by its number.
func statField(t *testing.T, stat string, n int) string {
	t.Helper()
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	return fields[n-3]
}

func TestWorkersGoBeforeTheDaemonWhenMemoryIsShort(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "telling")).run()
	if got := oomScoreOf(t, h.hello().PID); got != "200" {
		t.Errorf("got oom_score_adj %s, want 200", got)
	}
}

// oomScoreOf is what a process has as soon as that is no longer what all have: the daemon writes it once the process is there, which
// may be after its hello.
func oomScoreOf(t *testing.T, pid int) string {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
		if err != nil {
			t.Fatal(err)
		}
		if score := strings.TrimSpace(string(text)); score != "0" || time.Now().After(deadline) {
			return score
		}
	}
}

func TestTheStepThatKeptAWorkerFromStartingIsTold(t *testing.T) {
	noProgram := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(noProgram, []byte("no program\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		pool Pool
		want string
	}{
		{"limit", Pool{Binary: os.Args[0], Limits: Limits{Files: 1 << 40}}, "set nofile to 1099511627776: operation not permitted"},
		{"execute", Pool{Binary: noProgram, Limits: Limits{NoNewPrivs: true}}, "execute " + noProgram + ": exec format error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.pool.Name, c.pool.Procs = "a", 1
			h := newHost(t, "", c.pool)
			text := h.logged()
			h.run()
			if got, want := h.exit().How, "not started: "+c.want; got != want {
				t.Errorf("told %q, want %q", got, want)
			}
			info := h.until("backing off", all("backing-off"))[0]
			if want := "not started: " + c.want; info.LastExit != want {
				t.Errorf("shown %q, want %q", info.LastExit, want)
			}
			h.end()
			if want := `msg="worker cannot be started"`; !strings.Contains(text.String(), want) || !strings.Contains(text.String(), c.want) {
				t.Errorf("log says\n%s\nwant %s with %q", text, want, c.want)
			}
		})
	}
}
