package supervisor

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/respirated/respirated/broker"
)

func TestPoolIsFilledAndEachWorkerHasItsOwnKeySessionAndGroup(t *testing.T) {
	h := newHost(t, "", poolAs("a", 3, "steady")).run()
	keys := make(map[string]bool)
	for range 3 {
		g := h.hello()
		keys[g.Key] = true
		if g.Group != g.PID || g.SID != g.PID || len(g.Key) != keyLen {
			t.Errorf("got pid %d, group %d, session %d, key %q", g.PID, g.Group, g.SID, g.Key)
		}
	}
	if len(keys) != 3 {
		t.Errorf("got %d different keys, want 3", len(keys))
	}
	infos := h.until("connected", all("connected"))
	if infos[2].Index != 2 || infos[2].Pool != "a" || infos[2].Restarts != 0 || infos[2].PID == 0 {
		t.Errorf("got %+v for the third seat", infos[2])
	}
}

func TestWorkerSeesOnlyTheAllowedEnvironmentAndNoDescriptorOfOurs(t *testing.T) {
	t.Setenv("DATABASE_URL", "postgres://secret")
	t.Setenv("APP_ENV", "test")
	t.Setenv("RESPIRATE_SOCKET", "/somewhere/else")
	p := poolAs("a", 1, "steady")
	p.Env, p.Slots = []string{"APP_ENV", "NOT_SET", "APP_LEVEL=a=b", "RESPIRATE_SOCKET", "RESPIRATE_SLOTS=1"}, 7
	h := newHost(t, "", p).run()
	g := h.hello()
	for _, v := range g.Env {
		name, _, _ := strings.Cut(v, "=")
		if !slices.Contains(append([]string{"APP_ENV", "APP_LEVEL", "RESPIRATE_SOCKET", "RESPIRATE_WORKER_KEY", "RESPIRATE_SLOTS"}, commonEnv...), name) {
			t.Errorf("worker sees %s", v)
		}
	}
	want := map[string]string{"APP_ENV": "test", "APP_LEVEL": "a=b", "RESPIRATE_SLOTS": "7", "RESPIRATE_SOCKET": h.cfg.Socket}
	for name, value := range want {
		if got := valueOf(g.Env, name); got != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
	allowed := []string{"/dev/null", filepath.Join(h.cfg.LogDir, "a-0.out"), filepath.Join(h.cfg.LogDir, "a-0.err")}
	for _, file := range g.Files {
		own := strings.HasPrefix(file, "/proc/") || strings.HasPrefix(file, "/sys/fs/cgroup/") // of the Go runtime
		if strings.HasPrefix(file, "/") && !own && !slices.Contains(allowed, file) {
			t.Errorf("worker has %s open", file)
		}
	}
}

func TestStopAsksAllAndReturnsAfterTheirDeaths(t *testing.T) {
	h := newHost(t, "", poolAs("a", 3, "polite")).run()
	h.until("connected", all("connected"))
	h.end()
	for range 3 {
		if e := h.exit(); e.How != "exit status 0" || !e.Asked {
			t.Errorf("got %+v, want exit status 0, asked", e)
		}
	}
	h.noExit()
	if records, _, err := h.sup.state.load(); err != nil || len(records) != 0 {
		t.Errorf("workers.json has %v (%v), want nobody", records, err)
	}
}

func TestDeathIsToldWithSignalAndLastWordsAndTheWorkerReplaced(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "dying", "farewell \xff!", "15")).run()
	first := h.hello()
	h.hangUp(first)
	e := h.exit()
	want := broker.WorkerExit{Key: first.Key, PID: first.PID, How: "signal: terminated", Stderr: "first words\nlast words: farewell \uFFFD!\n"}
	e.MaxRSS, e.CPU = 0, 0 // tested elsewhere
	if e != want {
		t.Errorf("got %+v\nwant %+v", e, want)
	}
	second := h.hello()
	if second.Key == first.Key || second.PID == first.PID {
		t.Errorf("got the same worker again: %+v", second)
	}
	h.until("connected, with the signal on record", func(infos []Info) bool {
		return infos[0].State == "connected" && infos[0].Restarts == 1 && infos[0].LastExit == "signal: terminated"
	})
}

func TestLastWordsAreThoseOfThisProcessOnly(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "dying", "x", "9")).run()
	for range 3 {
		h.hangUp(h.hello())
		if e := h.exit(); e.Stderr != "first words\nlast words: x\n" || e.How != "signal: killed" {
			t.Errorf("got %+v", e)
		}
	}
}

func TestLogsAreAppendedToAndPrivate(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "dying", "x", "9")).run()
	for range 2 {
		h.hangUp(h.hello())
		h.exit()
	}
	h.end()
	text, err := os.ReadFile(filepath.Join(h.cfg.LogDir, "a-0.out"))
	if !strings.HasPrefix(string(text), "to stdout\nto stdout\n") {
		t.Errorf("stdout log is %q (%v), want two lines at least", text, err)
	}
	for name, mode := range map[string]os.FileMode{"log": 0o700, "log/a-0.out": 0o600, "log/a-0.err": 0o600, "workers.json": 0o600} {
		if info, err := os.Stat(filepath.Join(h.dir, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: mode %v (%v), want %v", name, info.Mode(), err, mode)
		}
	}
}

func TestEndOfAWorkerThatListensIsAskedAndReplaced(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "polite")).run()
	first := h.hello()
	h.sup.End(first.Key, 0, "test")
	h.sup.End(first.Key, 0, "test again")
	if e := h.exit(); e.How != "exit status 0" || !e.Asked || e.Key != first.Key {
		t.Errorf("got %+v, want exit status 0, asked", e)
	}
	if second := h.hello(); second.PID == first.PID {
		t.Error("got the same worker again")
	}
}

func TestEndOfADeafWorkerEscalatesToKill(t *testing.T) {
	p := poolAs("a", 1, "deaf")
	p.StopTimeout = 300 * time.Millisecond
	h := newHost(t, "", p).run()
	first := h.hello()
	began := time.Now()
	h.sup.End(first.Key, 0, "test")
	e := h.exit()
	if took := time.Since(began); e.How != "signal: killed" || !e.Asked || took < p.StopTimeout {
		t.Errorf("got %+v after %v, want killed, asked, not before %v", e, took, p.StopTimeout)
	}
}

func TestStopOfADeafWorkerEscalatesToKill(t *testing.T) {
	p := poolAs("a", 2, "deaf")
	p.StopTimeout = 100 * time.Millisecond
	h := newHost(t, "", p).run()
	h.until("connected", all("connected"))
	h.end()
	for range 2 {
		if e := h.exit(); e.How != "signal: killed" || !e.Asked {
			t.Errorf("got %+v, want killed, asked", e)
		}
	}
}

func TestUnknownKeysAreIgnored(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "steady")).run()
	h.sup.Connected("nobody")
	h.sup.End("nobody", 0, "test")
	h.hello()
	h.end()
	h.sup.End("nobody", 0, "after the end")
	h.exit()
	h.noExit()
}

func TestGroupOfADeadWorkerIsKilled(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "parent")).run()
	g := h.hello()
	child := watchOf(g.Child)
	h.hangUp(g) // the parent exits by itself; its child would run on
	h.exit()
	awaitGone(t, g.Child, child)
}

func TestTermReachesTheWorkerAloneSoThatItsChildrenCanFinish(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "caring")).run()
	g := h.hello()
	h.sup.End(g.Key, 0, "test")
	if e := h.exit(); e.How != "exit status 0" {
		t.Errorf("the worker ended with %+v, want exit status 0: its child was ended under its hands", e)
	}
}

func TestWorkerThatExitsAtOnceIsTriedAgainAndAgain(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "exit", "3")).run()
	for range 4 {
		if e := h.exit(); e.How != "exit status 3" || e.Asked {
			t.Errorf("got %+v, want exit status 3, not asked", e)
		}
	}
	h.until("backing off", all("backing-off"))
}

func TestTempFailIsToldAndBackedOff(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "exit", "75")).run()
	if e := h.exit(); e.How != "exit status 75" {
		t.Errorf("got %+v, want exit status 75", e)
	}
	h.until("backing off", all("backing-off"))
}

func TestConfigExitStopsThePoolUntilItsBinaryChanges(t *testing.T) {
	dir := shortDir(t)
	sign, binary := filepath.Join(dir, "sign"), filepath.Join(dir, "worker")
	copyFile(t, os.Args[0], binary)
	bad := Pool{Name: "bad", Binary: binary, Args: []string{"as", "picky", sign}, Procs: 2}
	h := newHost(t, dir, bad, poolAs("good", 1, "steady")).run()
	h.until("stopped, and the other pool well", func(infos []Info) bool {
		return infos[0].State == "stopped" && infos[1].State == "stopped" && infos[2].State == "connected"
	})
	if err := os.WriteFile(sign, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(binary, time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	h.until("connected", all("connected"))
}

func TestConfigExitOfOneLeavesItsSiblingsRunning(t *testing.T) {
	h := newHost(t, "", poolAs("a", 2, "raising", "78")).run()
	first, second := h.hello(), h.hello()
	h.hangUp(first)
	if e := h.exit(); e.Key != first.Key {
		t.Errorf("got the death of %s, want %s", e.Key, first.Key)
	}
	infos := h.until("stopped", func(infos []Info) bool { return infos[0].State == "stopped" || infos[1].State == "stopped" })
	if !slices.ContainsFunc(infos, func(i Info) bool { return i.Key == second.Key && i.State == "connected" }) {
		t.Errorf("got %+v, want %s connected", infos, second.Key)
	}
}

func TestWorkerThatCannotBeStartedIsTriedAgain(t *testing.T) {
	dir := shortDir(t)
	work := filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o700); err != nil {
		t.Fatal(err)
	}
	p := poolAs("a", 1, "raising", "1")
	p.Dir = work
	h := newHost(t, dir, p).run()
	g := h.hello()
	if err := os.Remove(work); err != nil {
		t.Fatal(err)
	}
	h.hangUp(g)
	h.exit()
	for range 2 { // once after the death, once after a failed start
		h.until("backing off", all("backing-off"))
	}
	if err := os.Mkdir(work, 0o700); err != nil {
		t.Fatal(err)
	}
	h.hello()
	h.end()
	h.exit()
	h.noExit() // a process that was never started does not die
}

func TestSlowExitedHoldsUpNothing(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "raising", "1"))
	release := make(chan struct{})
	h.cfg.Exited = func(e broker.WorkerExit) { <-release; h.exits <- e }
	h.run()
	for range 3 { // three lives while nobody listens to the first death
		h.hangUp(h.hello())
	}
	close(release)
	for range 3 {
		h.exit()
	}
}

func TestSupervisionGoesOnWhereNothingCanBeWrittenDown(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "raising", "1"))
	h.cfg.StateFile = filepath.Join(h.dir, "no", "such", "folder", "workers.json")
	h.run()
	for range 2 {
		h.hangUp(h.hello())
		h.exit()
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	dir := shortDir(t)
	notExecutable := filepath.Join(dir, "plain")
	if err := os.WriteFile(notExecutable, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	good := poolAs("a", 1, "steady")
	with := func(change func(*Pool)) []Pool { p := good; change(&p); return []Pool{p} }
	cases := map[string]struct {
		pools []Pool
		want  string
	}{
		"missing binary":    {with(func(p *Pool) { p.Binary = dir + "/none" }), "worker binary " + dir + "/none does not exist: build it or correct the path"},
		"folder as binary":  {with(func(p *Pool) { p.Binary = dir }), "is a folder: name the program in it"},
		"not executable":    {with(func(p *Pool) { p.Binary = notExecutable }), "is not executable: chmod +x " + notExecutable},
		"device as binary":  {with(func(p *Pool) { p.Binary = "/dev/null" }), "is not a regular file"},
		"not in PATH":       {with(func(p *Pool) { p.Binary = "no-such-worker" }), `worker binary "no-such-worker" is not in PATH: give its path`},
		"no binary":         {with(func(p *Pool) { p.Binary = "" }), "no worker binary given"},
		"name with slash":   {with(func(p *Pool) { p.Name = "../a" }), `pool "../a": name must be`},
		"negative procs":    {with(func(p *Pool) { p.Procs = -1 }), "procs is -1"},
		"too many procs":    {with(func(p *Pool) { p.Procs = 10_001 }), "procs is 10001"},
		"negative slots":    {with(func(p *Pool) { p.Slots = -1 }), "slots is -1"},
		"too many slots":    {with(func(p *Pool) { p.Slots = 1025 }), "slots is 1025, must be 1 to 1024"},
		"negative timeout":  {with(func(p *Pool) { p.StopTimeout = -1 }), "stop timeout is -1ns"},
		"value in env":      {with(func(p *Pool) { p.Env = []string{"A=1", "=1"} }), `env lists "=1"`},
		"NUL in args":       {with(func(p *Pool) { p.Args = []string{"a\x00b"} }), `args lists "a\x00b"`},
		"kind without name": {with(func(p *Pool) { p.Kinds = []string{"a", ""} }), "kinds lists one without a name"},
		"missing folder":    {with(func(p *Pool) { p.Dir = dir + "/none" }), "no such file or directory"},
		"file as folder":    {with(func(p *Pool) { p.Dir = notExecutable }), "is not a folder"},
		"same name twice":   {[]Pool{good, good}, `two pools are named "a"`},
	}
	for name, c := range cases {
		_, err := New(configIn(dir, c.pools...))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestAPoolWithoutABinaryWaitsForOneAndHoldsUpNobody(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "steady"))
	missing := Pool{Name: "b", Binary: filepath.Join(h.dir, "b.sh"), Procs: 1}
	h.cfg.Pools = append(h.cfg.Pools, missing)
	if err := h.cfg.Check(); err == nil || !strings.Contains(err.Error(), "b.sh does not exist") {
		t.Errorf("checked: %v, want the missing binary named", err)
	}
	lines := h.keepLog()
	h.run()
	a := h.hello()
	lines.await(t, "which pool has to wait", func(r record1) bool {
		return strings.Contains(fmt.Sprint(r["error"]), `pool "b": worker binary `+missing.Binary+" does not exist")
	})
	h.until("shown with the reason", func(infos []Info) bool { return strings.Contains(infos[1].LastExit, "b.sh does not exist") })
	if err := h.sup.Apply(h.cfg.Pools); err == nil {
		t.Error("a configuration without that binary is taken by a daemon that runs")
	}
	h.install(missing.Binary, "", "steady")
	h.hello()
	infos := h.until("both", func(infos []Info) bool { return len(infos) == 2 && all("connected")(infos) })
	if infos[0].Key != a.Key || infos[1].Pool != "b" {
		t.Errorf("shown %+v, want %s still there, and pool b", infos, a.Key)
	}
}

func TestNewRefusesMissingPaths(t *testing.T) {
	if _, err := New(Config{}); err == nil || !strings.Contains(err.Error(), "must be given") {
		t.Errorf("got %v, want a word about paths", err)
	}
}

func TestZeroPoolHasTheDefaults(t *testing.T) {
	p, err := Pool{Name: "a", Binary: os.Args[0]}.check(time.Minute)
	if err != nil || p.Procs != 4 || p.Slots != 10 || p.StopTimeout != time.Minute {
		t.Errorf("got %+v (%v)", p, err)
	}
}

func TestBinaryIsFoundInPath(t *testing.T) {
	path, err := findBinary("sh")
	if err != nil || !filepath.IsAbs(path) {
		t.Errorf("got %q (%v), want an absolute path", path, err)
	}
}

func TestRelativeBinaryIsNotLookedForInTheWorkingDirectoryOfWorkers(t *testing.T) {
	dir := shortDir(t)
	copyFile(t, os.Args[0], filepath.Join(dir, "worker"))
	t.Chdir(dir)
	h := newHost(t, dir, Pool{Name: "a", Binary: "./worker", Args: []string{"as", "steady"}, Procs: 1, Dir: "/"}).run()
	h.hello()
}

func TestSignalToEverybodyIsABug(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("got a signal to pid 1's group, want a panic")
		}
	}()
	p := &process{pid: 1, watch: watchOf(os.Getpid())}
	defer p.watch.close()
	_ = p.send(syscall.Signal(0), true)
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	src, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(dst, src); err != nil {
		t.Fatal(err)
	}
	if err := dst.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestEvidenceIsWholeLinesOfValidText(t *testing.T) {
	long := strings.Repeat("x", 5000) + "\n"
	cases := []struct {
		text string
		cut  bool
		want string
	}{
		{"", false, ""},
		{"a\nb\n", false, "a\nb\n"},
		{"rest\nb\n", true, "b\n"},
		{"one long line", true, "one long line"},
		{"one long line\n", true, "one long line\n"},
		{"a\x00\xffb", false, "a\uFFFD\uFFFDb"},
		{long + strings.Repeat("\xff\n", 2000), false, strings.Repeat("\uFFFD\n", 2000)},
	}
	for _, c := range cases {
		if got := evidence([]byte(c.text), c.cut); got != c.want {
			t.Errorf("evidence(%.20q..., %v) is %.40q... (%d bytes), want %.40q... (%d bytes)", c.text, c.cut, got, len(got), c.want, len(c.want))
		}
	}
}

func TestEvidenceNeverExceedsItsBound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for _, fill := range []string{"\xffa", "a\n", "\u00e9\n", "\x00", "\u20ac"} {
		text := strings.Repeat(fill, 3*maxEvidence)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := lastLines(path, 5); len(got) > maxEvidence || len(got) < maxEvidence-8 || got != strings.ToValidUTF8(got, "") {
			t.Errorf("of %q: got %d bytes, want valid text of about %d", fill, len(got), maxEvidence)
		}
	}
}

func TestLastLinesOfALogThatWasCutAreAllItHas(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("new\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := lastLines(path, 1000); got != "new\n" {
		t.Errorf("got %q", got)
	}
	if got := lastLines(path+"none", 0); got != "" {
		t.Errorf("got %q of no file", got)
	}
}

func TestLargeLogIsSetAsideForTheNextProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, defaultLogKeep+1); err != nil {
		t.Fatal(err)
	}
	f, err := logs{keep: defaultLogKeep}.open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fresh, _ := f.Stat()
	old, err := os.Stat(path + ".1")
	if err != nil || old.Size() != defaultLogKeep+1 || fresh.Size() != 0 {
		t.Errorf("got %d bytes set aside and %d in the new log (%v)", old.Size(), fresh.Size(), err)
	}
}

func TestFilesThatSomebodyRemovesAreMadeAnew(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "dying", "x", "9")).run()
	first := h.hello()
	h.until("connected", all("connected"))
	gone := h.cfg.LogDir + ".gone" // renamed first: its places may just be written down
	if err := errors.Join(os.Remove(h.cfg.StateFile), os.Rename(h.cfg.LogDir, gone), os.RemoveAll(gone)); err != nil {
		t.Fatal(err)
	}
	h.sup.WriteDown()
	h.until("written down again", func([]Info) bool {
		records, _, err := h.sup.state.load()
		return err == nil && len(records) == 1 && records[0].Key == first.Key
	})
	h.hangUp(first)
	h.exit()
	h.hello() // the next one has logs again
	if _, err := os.Stat(filepath.Join(h.cfg.LogDir, "a-0.err")); err != nil {
		t.Error(err)
	}
}

func TestWhatCannotBeWrittenDownIsSaidOnceAndTriedOn(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "steady"))
	temp := h.cfg.StateFile + ".new"
	if err := os.MkdirAll(filepath.Join(temp, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	lines := h.keepLog()
	h.run()
	g := h.hello()
	h.until("connected", all("connected"))
	for range 50 {
		if err := h.sup.Alive(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(temp); err != nil {
		t.Fatal(err)
	}
	says := func(what string) func(record1) bool {
		return func(r record1) bool { return strings.HasPrefix(fmt.Sprint(r["msg"]), what) }
	}
	lines.await(t, "that it is well again", says("workers are written down again"))
	if records, _, err := h.sup.state.load(); err != nil || len(records) != 1 || records[0].Key != g.Key || records[0].PID != g.PID {
		t.Errorf("workers.json has %v (%v), want the worker", records, err)
	}
	complaints := slices.DeleteFunc(lines.all(), func(r record1) bool { return !says("workers cannot be written down")(r) })
	if len(complaints) != 1 {
		t.Errorf("it is said %d times that workers cannot be written down, want once", len(complaints))
	}
}

// TestFolderOfAnotherDaemonIsNotWrittenTo: its workers.json tells of its own workers.
func TestFolderOfAnotherDaemonIsNotWrittenTo(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "polite"))
	var taken atomic.Bool
	h.cfg.Owned = func() bool { return !taken.Load() }
	h.run()
	h.until("connected", all("connected"))
	taken.Store(true)
	if err := os.WriteFile(h.cfg.StateFile, []byte("the other's"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.end()
	if text, err := os.ReadFile(h.cfg.StateFile); err != nil || string(text) != "the other's" {
		t.Errorf("workers.json is now %q (%v)", text, err)
	}
}
