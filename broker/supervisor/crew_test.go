package supervisor

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/respirated/respirated/broker"
)

// script is a pool of a shell script that becomes the test binary in one of its roles.
func (h *host) script(name string, procs int, lines string, role ...string) Pool {
	h.t.Helper()
	path := filepath.Join(h.dir, name+".sh")
	h.install(path, lines, role...)
	return Pool{Name: name, Binary: path, Procs: procs}
}

// install puts a script at its path as deployments do: whole, by rename.
func (h *host) install(path, lines string, role ...string) {
	h.t.Helper()
	text := fmt.Sprintf("#!/bin/sh\n%s\nexec %s as %s\n", lines, os.Args[0], strings.Join(role, " "))
	if err := os.WriteFile(path+".new", []byte(text), 0o700); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		h.t.Fatal(err)
	}
}

// pool waits until the supervisor says of a pool what ok likes.
func (h *host) pool(what, name string, ok func(PoolInfo) bool) PoolInfo {
	h.t.Helper()
	var found PoolInfo
	h.until(what, func([]Info) bool {
		for _, p := range h.sup.Pools() {
			if p.Name == name && ok(p) {
				found = p
				return true
			}
		}
		return false
	})
	return found
}

func (h *host) hellosOf(version string, n int) (greeted []greeting) {
	h.t.Helper()
	for range n {
		g := h.hello()
		if got := valueOf(g.Env, "VERSION"); got != version {
			h.t.Errorf("got a hello of version %q, want %q", got, version)
		}
		greeted = append(greeted, g)
	}
	return greeted
}

func isIn(state string) func(PoolInfo) bool { return func(p PoolInfo) bool { return p.State == state } }

func TestRecycledWorkerEndsAfterItsSuccessorIsConnected(t *testing.T) {
	h := newHost(t, "", poolAs("a", 2, "polite")).run()
	first := []greeting{h.hello(), h.hello()}
	h.until("connected", all("connected"))
	if err := h.sup.Recycle("a", -1, "test"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		next := h.hello() // while all of the first ones that are left are connected
		e := h.exit()
		if !e.Asked || !slices.ContainsFunc(first, func(g greeting) bool { return g.Key == e.Key }) || e.Key == next.Key {
			t.Errorf("got %+v, want an asked exit of one of the first", e)
		}
	}
	infos := h.until("two again", func(infos []Info) bool {
		return len(infos) == 2 && all("connected")(infos) && infos[0].Restarts == 1 && infos[1].Restarts == 1
	})
	if infos[0].Index != 0 || infos[1].Index != 1 || infos[0].Due != "" {
		t.Errorf("got %+v", infos)
	}
}

func TestWorkerWhoseSuccessorDiesStays(t *testing.T) {
	h := newHost(t, "")
	flag := filepath.Join(h.dir, "flag")
	h.cfg.Pools = []Pool{h.script("a", 1, "test ! -e "+flag+" || exit 3", "polite")}
	h.run()
	old := h.hello()
	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h.sup.letterRecycle(old.Key, "test")
	for range 2 {
		if e := h.exit(); e.Asked || e.Key == old.Key {
			t.Errorf("got %+v, want the death of a successor", e)
		}
	}
	if err := os.Remove(flag); err != nil {
		t.Fatal(err)
	}
	for e := h.exit(); e.Key != old.Key; e = h.exit() { // now and then one more was under way
	}
	h.until("alone", func(infos []Info) bool { return len(infos) == 1 && all("connected")(infos) && infos[0].Key != old.Key })
}

// letterRecycle replaces a process, however young it is.
func (s *Supervisor) letterRecycle(key, why string) {
	s.order(func(l *loop) {
		if s := l.byKey[key]; s != nil {
			l.replace(s, why)
		}
	})
}

func TestWorkersAreRecycledByStrandsAndByAge(t *testing.T) {
	p, q := poolAs("a", 1, "polite"), poolAs("b", 1, "polite")
	p.Recycle.Strands = 5
	q.Recycle.Age = 300 * time.Millisecond
	h := newHost(t, "", p).run()
	g := h.hello()
	h.sup.Served(g.Key, 4)
	h.sup.Served(g.Key, 5)
	h.hello()
	if e := h.exit(); e.Key != g.Key || !e.Asked {
		t.Errorf("got %+v, want the asked end of %s", e, g.Key)
	}
	if err := h.sup.Apply([]Pool{q}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if e := h.exit(); !e.Asked { // the one of pool a, and two of pool b
			t.Errorf("got %+v, want an asked end", e)
		}
	}
}

func TestAppliedPoolsComeGoAndChangeTheirSize(t *testing.T) {
	a, b := poolAs("a", 3, "polite"), poolAs("b", 1, "polite")
	h := newHost(t, "", a).run()
	h.until("connected", func(infos []Info) bool { return len(infos) == 3 && all("connected")(infos) })
	a.Procs = 1
	apply(t, h, a, b)
	infos := h.until("one of each", func(infos []Info) bool { return len(infos) == 2 && all("connected")(infos) })
	if infos[0].Pool != "a" || infos[0].Index != 0 || infos[1].Pool != "b" {
		t.Errorf("got %+v, want seat 0 of a, and b", infos)
	}
	for range 2 {
		if e := h.exit(); !e.Asked {
			t.Errorf("got %+v, want an asked end", e)
		}
	}
	b.Procs = 2
	apply(t, h, b)
	h.until("two of b", func(infos []Info) bool { return len(infos) == 2 && infos[0].Pool == "b" && all("connected")(infos) })
	bad := b
	bad.Binary = "/none"
	if err := h.sup.Apply([]Pool{bad}); err == nil {
		t.Error("a pool without a binary is applied")
	}
	if err := h.resize("b", 1); err != nil {
		t.Fatal(err)
	}
	h.until("one of b", func(infos []Info) bool { return len(infos) == 1 && infos[0].Pool == "b" })
	if err := h.resize("a", 1); err == nil {
		t.Error("a pool that is gone is resized")
	}
}

func (h *host) resize(pool string, procs int) error {
	return h.sup.Change(pool, func(p *Pool) { p.Procs = procs })
}

func apply(t *testing.T, h *host, pools ...Pool) {
	t.Helper()
	if err := h.sup.Apply(pools); err != nil {
		t.Fatal(err)
	}
}

func TestChangedPoolIsRolledWithACanary(t *testing.T) {
	h := newHost(t, "")
	p := h.script("a", 2, "export VERSION=1", "polite")
	h.cfg.Pools = []Pool{p}
	h.run()
	h.hellosOf("1", 2)
	h.install(p.Binary, "export VERSION=2", "polite")
	canary := h.hellosOf("2", 1)[0]
	h.pool("rolling", "a", isIn("rolling"))
	select {
	case e := <-h.exits:
		t.Errorf("got %+v before the canary was proven", e)
	default:
	}
	h.sup.Served(canary.Key, 0)
	h.sup.Served(canary.Key, 1)
	h.exit()
	h.hellosOf("2", 1)
	h.exit()
	h.pool("rolled", "a", isIn("running"))
	h.until("two", func(infos []Info) bool {
		return len(infos) == 2 && all("connected")(infos) && infos[0].Build == infos[1].Build
	})

	p.Slots = 7 // another configuration is another build, too
	apply(t, h, p)
	h.sup.Served(h.hello().Key, 1)
	h.exit()
	if g := h.hello(); valueOf(g.Env, "RESPIRATE_SLOTS") != "7" {
		t.Errorf("got %s slots, want 7", valueOf(g.Env, "RESPIRATE_SLOTS"))
	}
	h.exit()
}

func TestBuildWhoseCanariesDieIsHeldBackAndTheOldOneGoesOn(t *testing.T) {
	h := newHost(t, "")
	p := h.script("a", 2, "export VERSION=1", "raising", "0")
	h.cfg.Pools = []Pool{p}
	h.run()
	old := h.hellosOf("1", 2)
	h.install(p.Binary, "exit 3", "polite")
	for range 2 {
		if e := h.exit(); e.How != "exit status 3" {
			t.Errorf("got %+v, want a canary's death", e)
		}
	}
	if info := h.pool("held back", "a", isIn("old build")); !strings.Contains(info.Note, "exit status 3") {
		t.Errorf("got %+v, want the canary's end in the note", info)
	}
	h.hangUp(old[0])
	h.hellosOf("1", 1) // though its path has another file
	h.exit()
	h.install(p.Binary, "export VERSION=3", "raising", "0")
	h.hellosOf("3", 1)
}

func TestANewFileThatCannotBeStartedIsToldAndTakenOnceItCan(t *testing.T) {
	h := newHost(t, "")
	p := h.script("a", 1, "export VERSION=1", "polite")
	h.cfg.Pools = []Pool{p}
	h.run()
	h.hellosOf("1", 1)
	h.install(p.Binary+".next", "export VERSION=2", "polite")
	if err := errors.Join(os.Chmod(p.Binary+".next", 0o600), os.Rename(p.Binary+".next", p.Binary)); err != nil {
		t.Fatal(err)
	}
	if info := h.pool("told", "a", func(p PoolInfo) bool { return p.Note != "" }); info.State != "running" || !strings.Contains(info.Note, "chmod +x") {
		t.Errorf("shown %+v, want it to run and the note to say what to do", info)
	}
	if err := os.Chmod(p.Binary, 0o700); err != nil {
		t.Fatal(err)
	}
	h.hellosOf("2", 1)
	if info := h.pool("goes over", "a", isIn("rolling")); !strings.Contains(info.Note, "goes over to build") {
		t.Errorf("the note is %q", info.Note)
	}
}

// A canary that cannot be started the second time is taken out while others wait for their start behind it.
func TestACanaryThatCannotBeStartedHoldsUpNoOtherStart(t *testing.T) {
	h := newHost(t, "", poolAs("a", 2, "steady"), poolAs("b", 1, "steady"))
	var err error
	if h.sup, err = New(h.cfg); err != nil {
		t.Fatal(err)
	}
	bad := h.sup.cfg.Pools[0]
	bad.Binary = filepath.Join(h.dir, "text")
	if err := os.WriteFile(bad.Binary, []byte("no program\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	l := newLoop(h.sup)
	c := l.crews[0]
	c.next, c.roll = newBuild(bad), roll{phase: trying, failed: mostTrials - 1}
	l.sendFor(l.seats[0])
	l.fill()
	l.startPending()
	defer l.watchers.Wait()
	started := 0
	for _, s := range l.seats {
		if s.proc != nil {
			started++
			_ = s.proc.signal(syscall.SIGKILL)
		}
	}
	if started != 3 || c.state() != "old build" {
		t.Errorf("%d processes were started, and the pool is %q; want all 3, and the new build held back", started, c.state())
	}
}

// Whose place the canary has may write for long: in a file that is read, and does not grow for ever.
func TestACanarySetsNoLogAside(t *testing.T) {
	h := newHost(t, "")
	p := h.script("a", 1, "export VERSION=1", "raising", "0")
	h.cfg.Pools, h.cfg.LogKeep = []Pool{p}, leastLogKeep
	lines := h.keepLog()
	h.run()
	old := h.hello()
	log := h.cfg.logsOf("a", 0).err
	write := func(f *os.File, text string) {
		t.Helper()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_APPEND, 0) // as the worker has it
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	write(f, strings.Repeat(strings.Repeat("x", 1023)+"\n", leastLogKeep>>10+1))
	h.install(p.Binary, "exit 3", "polite")
	h.exit()
	h.exit()
	h.pool("held back", "a", isIn("old build"))
	write(f, "the old one goes on\n")
	lines.await(t, "what the old one says", func(r record1) bool { return r["line"] == "the old one goes on" })
	if _, err := os.Stat(setAside(log)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the log was set aside, while process %d writes to it (%v)", old.PID, err)
	}
}

func TestWorkerIsStartedAlsoWhenItsBinaryHasGone(t *testing.T) {
	for _, limits := range []Limits{{}, {Nice: 1}} { // without and with the shim
		h := newHost(t, "")
		script := h.script("a", 1, "", "raising", "1")
		script.Limits = limits
		program := filepath.Join(h.dir, "worker")
		copyFile(t, os.Args[0], program)
		h.cfg.Pools = []Pool{script, {Name: "b", Binary: program, Args: []string{"as", "raising", "1"}, Procs: 1, Limits: limits}}
		h.run()
		first := []greeting{h.hello(), h.hello()}
		if err := errors.Join(os.Remove(program), os.Remove(script.Binary)); err != nil {
			t.Fatal(err)
		}
		for _, g := range first {
			h.hangUp(g)
			h.exit()
			h.hello()
		}
		h.end()
	}
}

func TestPoolThatCrashLoopsIsTriedNowAndThenAndHoldsUpNobody(t *testing.T) {
	h := newHost(t, "", poolAs("a", 3, "exit", "3"), poolAs("b", 1, "polite")).run()
	g := h.hello()
	for range enough {
		h.exit()
	}
	h.pool("crash-looping", "a", isIn("crash-looping"))
	h.until("parked", func(infos []Info) bool { return all("crash-looping")(infos[:3]) && infos[3].State == "connected" })
	if infos := h.sup.Workers(); infos[3].Key != g.Key || infos[3].Restarts != 0 {
		t.Errorf("got %+v for the other pool", infos[3])
	}
}

func TestWorkerThatNeverSaysHelloIsEnded(t *testing.T) {
	p := poolAs("a", 1, "child")
	p.BootTimeout = 100 * time.Millisecond
	h := newHost(t, "", p).run()
	for range 2 {
		if e := h.exit(); !e.Asked || e.How != "signal: terminated" {
			t.Errorf("got %+v, want an asked end", e)
		}
	}
}

func TestWorkerThatIsStoppedBeforeItsHelloIsNotBlamedForThat(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "child"))
	lines := h.keepLog()
	h.run()
	info := h.until("started", func(infos []Info) bool { return infos[0].State == "starting" && infos[0].PID != 0 })[0]
	h.sup.End(info.Key, 0, "test")
	h.exit()
	h.end()
	late := func(r record1) bool { return strings.Contains(fmt.Sprint(r["msg"]), "never said hello") }
	if slices.ContainsFunc(lines.all(), late) || strings.Contains(h.sup.Pools()[0].Note, "did not say hello") {
		t.Errorf("pool %+v, log\n%v", h.sup.Pools()[0], lines.all())
	}
}

func TestRollAfterARestartOfTheDaemon(t *testing.T) {
	h := newHost(t, "")
	p := h.script("a", 1, "export VERSION=1", "polite")
	h.cfg.Pools = []Pool{p}
	c, err := h.cfg.check(strict)
	if err != nil {
		t.Fatal(err)
	}
	order := launch{pool: c.Pools[0], socket: c.Socket, key: newKey(), logs: c.logsOf("a", 0)}
	former, _, err := order.run()
	if err != nil {
		t.Fatal(err)
	}
	go former.wait(func() {})
	boot, _ := bootID()
	was := image{inode: 1}
	rec := record{Pool: "a", Key: order.key, PID: former.pid, Start: former.start, Binary: p.Binary, Image: was.String(), Started: time.Now()}
	if err := (stateFile{path: c.StateFile, boot: boot}).save([]record{rec}, nil); err != nil {
		t.Fatal(err)
	}
	h.run()
	for proven := false; !proven; {
		if g := h.hello(); g.Key != order.key {
			h.sup.Served(g.Key, 1)
			proven = true
		}
	}
	if e := h.exit(); e.Key != order.key {
		t.Errorf("got %+v, want the end of the former daemon's worker", e)
	}
}

func TestFileBeingWrittenIsSeen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	if !beingWritten(path) {
		t.Error("a file that is open for writing is taken for whole")
	}
	f.Close()
	if beingWritten(path) {
		t.Error("a file that nobody writes to is taken for half")
	}
}

func TestOldBuildIsFoundAgainByAnotherDaemon(t *testing.T) {
	h := newHost(t, "")
	program := filepath.Join(h.dir, "worker")
	copyFile(t, os.Args[0], program)
	p := Pool{Name: "a", Binary: program, Args: []string{"as", "raising", "0"}, Procs: 1}
	h.cfg.Pools = []Pool{p}
	c, err := h.cfg.check(strict)
	if err != nil {
		t.Fatal(err)
	}
	was, err := imageOf(program)
	if err != nil {
		t.Fatal(err)
	}
	order := launch{pool: c.Pools[0], socket: c.Socket, key: newKey(), logs: c.logsOf("a", 0)}
	former, _, err := order.run()
	if err != nil {
		t.Fatal(err)
	}
	go former.wait(func() {})
	boot, _ := bootID()
	rec := record{Pool: "a", Key: order.key, PID: former.pid, Start: former.start, Binary: program, Image: was.String(), Started: time.Now()}
	if err := (stateFile{path: c.StateFile, boot: boot}).save([]record{rec}, nil); err != nil {
		t.Fatal(err)
	}
	h.install(program, "exit 3", "polite") // while no daemon runs
	h.run()
	old := h.hello()
	h.pool("held back", "a", isIn("old build"))
	h.hangUp(old)
	h.hello() // it is started from the file that only its process had
}

func TestWorkerThatIsDueAndDoesNotEndKeepsNobodyBusy(t *testing.T) {
	p := poolAs("a", 1, "deaf")
	p.StopTimeout, p.Recycle.Age = time.Second, 10*time.Millisecond
	h := newHost(t, "", p).run()
	turns := 0
	for h.hello(); len(h.exits) == 0; { // one that is too old is asked to end, and then killed
		<-h.shown.wake
		turns += len(h.shown.take())
	}
	if most := 500; turns > most {
		t.Errorf("the loop has turned %d times, want %d at most", turns, most)
	}
}

func TestWorkerThatDiesBesideAnUnprovenCanaryIsReplacedByItsOwnBuild(t *testing.T) {
	h := newHost(t, "")
	p := h.script("a", 1, "export VERSION=1", "raising", "0")
	h.cfg.Pools = []Pool{p}
	h.run()
	old := h.hellosOf("1", 1)[0]
	h.install(p.Binary, "export VERSION=2", "raising", "0")
	canary := h.hellosOf("2", 1)[0]
	h.sup.Served(canary.Key, 0) // it holds a strand, so that time alone does not prove it
	h.hangUp(old)
	h.exit()
	h.hellosOf("1", 1)
	h.sup.Served(canary.Key, 1)
	if e := h.exit(); !e.Asked || e.Key == canary.Key {
		t.Errorf("got %+v, want the asked end of the old build", e)
	}
	h.pool("rolled", "a", isIn("running"))
}

func TestNoMoreThanOneProcessIsAddedForAReplacement(t *testing.T) {
	p := poolAs("a", 3, "deaf")
	p.StopTimeout = 100 * time.Millisecond
	h := newHost(t, "", p).run()
	h.until("connected", func(infos []Info) bool { return len(infos) == 3 && all("connected")(infos) })
	if err := h.sup.Recycle("a", -1, "test"); err != nil {
		t.Fatal(err)
	}
	h.until("all are replaced", func(infos []Info) bool {
		if len(infos) > 4 {
			t.Errorf("got %d processes, want 4 at most: %+v", len(infos), infos)
		}
		fresh := 0
		for _, i := range infos {
			fresh += i.Restarts
		}
		return len(infos) == 3 && fresh == 3
	})
}

func TestSuccessorTakesTheSeatOfAWorkerThatDiesFirst(t *testing.T) {
	h := newHost(t, "")
	flag := filepath.Join(h.dir, "flag")
	h.cfg.Pools = []Pool{h.script("a", 1, "while test -e "+flag+"; do sleep 0.02; done", "raising", "0")}
	h.run()
	old := h.hello()
	if err := os.WriteFile(flag, nil, 0o600); err != nil { // from now on they start slowly
		t.Fatal(err)
	}
	h.sup.letterRecycle(old.Key, "test")
	h.until("two", func(infos []Info) bool { return len(infos) == 2 && infos[1].PID != 0 })
	h.hangUp(old)
	h.exit()
	h.until("the successor alone", func(infos []Info) bool {
		return len(infos) == 1 && infos[0].PID != old.PID && infos[0].State == "starting"
	})
	if err := os.Remove(flag); err != nil {
		t.Fatal(err)
	}
	h.hello()
	h.end()
	h.exit()
	h.noExit()
}

func TestPoolThatShrinksAndGrowsHasNoMoreProcessesThanItMay(t *testing.T) {
	p := poolAs("a", 3, "deaf")
	p.StopTimeout = 300 * time.Millisecond
	h := newHost(t, "", p).run()
	h.until("connected", func(infos []Info) bool { return len(infos) == 3 && all("connected")(infos) })
	for range 5 {
		for _, n := range []int{1, 3} {
			if err := h.resize("a", n); err != nil {
				t.Fatal(err)
			}
		}
	}
	ended := 0
	h.until("three again", func(infos []Info) bool {
		running := 0
		for _, i := range infos {
			if i.PID != 0 {
				running++
			}
		}
		if running > 3 {
			t.Errorf("got %d processes, want 3 at most: %+v", running, infos)
		}
		ended += len(h.exits)
		return ended >= 2 && len(infos) == 3 && all("connected")(infos)
	})
}

func TestBuildsThatChangeDuringARollAddNoMoreThanOneProcess(t *testing.T) {
	h := newHost(t, "")
	p := h.script("a", 1, "export VERSION=1", "deaf")
	p.StopTimeout = 500 * time.Millisecond
	h.cfg.Pools = []Pool{p}
	h.run()
	h.hellosOf("1", 1)
	for _, version := range []string{"2", "3", "4"} {
		h.install(p.Binary, "export VERSION="+version, "deaf")
		h.hellosOf(version, 1)
	}
	most := 0
	for {
		all := h.shown.take()
		if len(all) == 0 {
			break
		}
		for _, infos := range all {
			running := 0
			for _, i := range infos {
				if i.PID != 0 {
					running++
				}
			}
			most = max(most, running)
		}
	}
	if most != 2 {
		t.Errorf("got %d processes at a time, want 2: the worker and one canary", most)
	}
}

func TestPoolThatHaltsBesideACanaryGoesOnOnceThatIsProven(t *testing.T) {
	h := newHost(t, "")
	flag := filepath.Join(h.dir, "flag")
	h.cfg.Pools = []Pool{h.script("a", 2, "export VERSION=1; test -e "+flag+" && exit 78", "raising", "0")}
	h.run()
	old := h.hellosOf("1", 2)
	h.install(h.cfg.Pools[0].Binary, "export VERSION=2", "raising", "0")
	canary := h.hellosOf("2", 1)[0]
	h.sup.Served(canary.Key, 0) // it holds a strand, so that time alone does not prove it
	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h.hangUp(old[0])
	h.pool("halted", "a", isIn("halted"))
	h.sup.Served(canary.Key, 1)
	h.hellosOf("2", 1)
	h.pool("rolled", "a", func(p PoolInfo) bool { return p.State == "running" && p.Connected == 2 })
}

func TestCanaryOfAPoolThatCrashLoopsIsTriedAgain(t *testing.T) {
	l := newLoop(&Supervisor{cfg: Config{Log: slog.New(slog.DiscardHandler)}, mail: newMailbox[letter]()})
	c := l.addCrew(Pool{Name: "a", Binary: os.Args[0], Procs: 2})
	now := time.Now()
	c.spate.since, c.spate.tryAt = now, now
	l.each(c, park{})
	c.next, c.roll = newBuild(c.Pool), roll{phase: trying, failed: 1}
	c.heir = l.addSeat(c, 0)
	c.heir.old = l.seats[0]
	for _, s := range l.seats {
		s.life.enter(parked, time.Time{})
	}
	l.tickCrew(now, c)
	if len(l.pending) != 1 || l.pending[0] != c.heir {
		t.Errorf("%d processes are tried, want the canary alone", len(l.pending))
	}
}

func TestWorkersOfAFormerDaemonThatWereStartedOtherwiseAreRolled(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "steady"))
	before := h.formerDaemon()[0]
	h.cfg.Pools[0].Args = append(h.cfg.Pools[0].Args, "otherwise")
	h.run()
	for proven := false; !proven; {
		if g := h.hello(); g.Key != before.Key {
			h.sup.Served(g.Key, 1)
			proven = true
		}
	}
	if e := h.exit(); e.Key != before.Key || !e.Asked {
		t.Errorf("got %+v, want the end of the former daemon's worker", e)
	}
}

func TestHowAPoolIsStartedIsToldApart(t *testing.T) {
	none := int64(0)
	p := Pool{Name: "a", Binary: "/bin/true", Args: []string{"x"}, Procs: 3}
	same, args, core := p, p, p
	same.Procs, same.Recycle.Strands, same.Env, same.Queues = 4, 7, []string{}, []broker.Queue{{Name: "mail"}}
	args.Args = []string{"y"}
	core.Limits.Core = &none
	again := core
	again.Limits.Core = new(int64)
	if p.runsAs() != same.runsAs() || core.runsAs() != again.runsAs() {
		t.Error("pools that run alike are told apart")
	}
	if p.runsAs() == args.runsAs() || p.runsAs() == core.runsAs() {
		t.Error("pools that do not run alike are not told apart")
	}
}

func TestLastWordsOfAWorkerAreFoundInALogThatItsSuccessorHasSetAside(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "dying", "x", "9"))
	h.cfg.LogKeep, h.cfg.LogLines = leastLogKeep, LogLinesOff
	h.run()
	old := h.hello()
	h.until("connected", all("connected"))
	log := h.cfg.logsOf("a", 0).err
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(strings.Repeat("a long life\n", leastLogKeep/8) + "its very last words\n")
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	if err := h.sup.Recycle("a", 0, "test"); err != nil {
		t.Fatal(err)
	}
	h.hello()
	if e := h.exit(); e.Key != old.Key || !strings.Contains(e.Stderr, "\nits very last words\n") {
		t.Errorf("got %.300q of %s, want the last words of %s", e.Stderr, e.Key, old.Key)
	}
	if _, err := os.Stat(setAside(log)); err != nil {
		t.Errorf("the log was not set aside: %v", err)
	}
}

func TestWhatIsAskedForBeforeAnythingIsShownIsDone(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "steady"))
	var err error
	if h.sup, err = New(h.cfg); err != nil {
		t.Fatal(err)
	}
	paused, rolled := make(chan error, 1), make(chan error, 1)
	go func() { paused <- h.sup.PausePool("a") }()
	go func() { rolled <- h.sup.Roll("none") }()
	h.start()
	if err := receive(t, "answer", paused); err != nil {
		t.Error(err)
	}
	if err := receive(t, "answer", rolled); !errors.Is(err, ErrNoPool) {
		t.Errorf("got %v for a pool that is not there", err)
	}
	h.pool("paused", "a", func(p PoolInfo) bool { return p.Paused })
}
