package supervisor

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// grouped is a pool whose workers have cgroups, but no limits that they could reach. The test is skipped where there are none.
func grouped(t *testing.T, role ...string) Pool {
	t.Helper()
	home := findGroupHome([]string{"memory", "pids", "cpu"}, nobody)
	if home.base == "" {
		t.Skip("no cgroups of version 2: " + home.why)
	}
	p := poolAs("a", 1, role...)
	p.Limits = Limits{Memory: 1 << 40, PIDs: 100_000, CPU: 1000}
	return p
}

func nobody(int) bool { return false }

// A controller can be had only while no process is in the cgroup above: workers without limits must not keep it from others.
func TestOurCgroupIsLeftByUsAndOurWorkersUnlessOthersAreInIt(t *testing.T) {
	home := findGroupHome(nil, nobody)
	if home.base == "" {
		t.Skip("no cgroups of version 2: " + home.why)
	}
	base := filepath.Join(home.base, "respirate-test-"+newKey())
	leaf := filepath.Join(base, daemonGroup)
	if err := os.Mkdir(base, 0o755); err != nil {
		t.Fatal(err)
	}
	h := newHost(t, "", poolAs("a", 1, "parent")).run()
	g := h.hello()
	defer func() { // they are in it
		h.end()
		for _, dir := range []string{leaf, base} {
			(&group{path: dir}).remove()
		}
	}()
	for _, pid := range []int{g.PID, g.Child} {
		if err := writeWord(filepath.Join(base, "cgroup.procs"), strconv.Itoa(pid)); err != nil {
			t.Fatal(err)
		}
	}
	if err := stepAside(base, nobody); err == nil || len(wordsOf(filepath.Join(base, "cgroup.procs"))) != 2 {
		t.Errorf("got %v, want it to be said that others are there, and them to stay", err)
	}
	answer := make(chan error, 1)
	h.sup.order(func(l *loop) { answer <- stepAside(base, l.isOurs) })
	if err := receive(t, "answer", answer); err != nil {
		t.Error(err)
	}
	if got := wordsOf(filepath.Join(leaf, "cgroup.procs")); len(got) != 2 {
		t.Errorf("%v have gone to the cgroup beneath, want the worker and its child", got)
	}
}

func TestAWorkerIsBornInACgroupThatGoesWithIt(t *testing.T) {
	h := newHost(t, "", grouped(t, "telling")).run()
	g := h.hello()
	own := fieldOf(t, g.Proc["cgroup"], "0::")
	if !strings.HasPrefix(filepath.Base(own), "respirate-a-") {
		t.Fatalf("the worker began in the cgroup %s, want one of its own", own)
	}
	h.until("connected, and so written down", all("connected"))
	path := written(t, h.cfg)[0].Cgroup
	if !strings.HasSuffix(path, own) {
		t.Errorf("workers.json has the cgroup %s, want %s", path, own)
	}
	h.end()
	awaitNoFolder(t, path)
}

// awaitNoFolder returns at once: a supervisor that has ended has removed the cgroups of its workers.
func awaitNoFolder(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there (%v)", path, err)
	}
}

func TestChildrenInSessionsOfTheirOwnDieWithAWorkerInACgroup(t *testing.T) {
	h := newHost(t, "", grouped(t, "forking", "3", "setsid")).run()
	g := h.hello()
	child := watchOf(g.Child)
	if group, _ := syscall.Getpgid(g.Child); group != g.Child {
		t.Fatalf("the child %d is in the group %d, want one of its own", g.Child, group)
	}
	_ = syscall.Kill(g.PID, syscall.SIGKILL)
	if got := h.exit(); got.PID != g.PID {
		t.Fatalf("died: %+v, want %d", got, g.PID)
	}
	awaitGone(t, g.Child, child)
}

func TestTheCgroupOfAnAdoptedWorkerGoesWithItToo(t *testing.T) {
	h := newHost(t, "", grouped(t, "steady"))
	daemon := h.formerDaemon()[0].PID
	path := written(t, h.cfg)[0].Cgroup
	if path == "" {
		t.Fatal("workers.json has no cgroup")
	}
	h.run()
	if got := h.hello(); got.PID != daemon {
		t.Fatalf("got a hello of %d, want the adopted %d", got.PID, daemon)
	}
	_ = syscall.Kill(daemon, syscall.SIGKILL)
	h.exit()
	h.end()
	awaitNoFolder(t, path)
}

// fakeHome is a folder that looks like a cgroup, for what this host's kernel may not have.
func fakeHome(t *testing.T, available string) string {
	t.Helper()
	dir := t.TempDir()
	putFile(t, filepath.Join(dir, "cgroup.controllers"), available)
	putFile(t, filepath.Join(dir, "cgroup.subtree_control"), "")
	return dir
}

func TestControllersThatAreNotThereAreNamed(t *testing.T) {
	home := enableIn(fakeHome(t, "cpu io pids"), []string{"memory", "pids"}, nobody)
	if got, want := home.lacks("memory"), "no cgroup v2 memory controller"; got != want {
		t.Errorf("memory: got %q, want %q", got, want)
	}
	if got := home.lacks("pids"); got != "" {
		t.Errorf("pids: got %q, want it to work", got)
	}
	if got := wordsOf(filepath.Join(home.base, "cgroup.subtree_control")); len(got) != 1 || got[0] != "+pids" {
		t.Errorf("switched on %q, want pids alone", got)
	}
}

func TestOnlyWhatACgroupCanEnforceIsWrittenToIt(t *testing.T) {
	l := Limits{Memory: 1 << 30, MemorySoft: 1 << 29, CPU: 1.5, PIDs: 64}
	all := groupHome{controllers: []string{"memory", "pids", "cpu"}}.settings(l)
	want := []groupSetting{
		{"memory.high", "536870912"}, {"memory.max", "1073741824"}, {"memory.oom.group", "1"}, {"pids.max", "64"}, {"cpu.max", "150000 100000"},
	}
	if len(all) != len(want) {
		t.Fatalf("got %v, want %v", all, want)
	}
	for i := range want {
		if all[i] != want[i] {
			t.Errorf("got %v, want %v", all[i], want[i])
		}
	}
	if some := (groupHome{controllers: []string{"pids"}}).settings(l); len(some) != 1 || some[0] != want[3] {
		t.Errorf("with pids alone: got %v, want %v", some, want[3:4])
	}
}

func TestADeathByTheKernelsMemoryLimitIsLabelled(t *testing.T) {
	dir := t.TempDir()
	putFile(t, filepath.Join(dir, "memory.events"), "low 0\nhigh 12\nmax 3\noom 1\noom_kill 1\noom_group_kill 1\n")
	putFile(t, filepath.Join(dir, "memory.peak"), "1048576000\n")
	putFile(t, filepath.Join(dir, "cpu.stat"), "usage_usec 9000000\nuser_usec 1\n")
	cmd := exec.Command(os.Args[0], "as", "child")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	p := &process{pid: pid, watch: watchOf(pid), child: cmd.Process, group: &group{path: dir}}
	_ = unix.Kill(pid, unix.SIGKILL)
	got := p.wait(func() {})
	if want := "signal: killed (oom)"; got.how != want {
		t.Errorf("told %q, want %q", got.how, want)
	}
	if want := (usage{peak: 1048576000, cpu: 9e9}); got.used.peak != want.peak || got.used.cpu != want.cpu {
		t.Errorf("used %+v, want %+v", got.used, want)
	}
}

func putFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
