package supervisor

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

var setFrom = Pool{Name: "a", Binary: "/bin/true", Procs: 1}

func TestPoolIsAsItWasSetUnlessItIsConfiguredInAnotherWayNow(t *testing.T) {
	set := setFrom
	set.Procs = 3
	p := past{Name: "a", Set: &set, Configured: setFrom.sum()}
	if got, ok := p.pool(setFrom); !ok || !reflect.DeepEqual(got, set) {
		t.Errorf("got %+v, want it as it was set", got)
	}
	anew := setFrom
	anew.Recycle.Strands = 7
	if got, ok := p.pool(anew); ok || !reflect.DeepEqual(got, anew) {
		t.Errorf("got %+v, want it as it is configured now", got)
	}
	if got, ok := (past{}).pool(setFrom); ok || !reflect.DeepEqual(got, setFrom) {
		t.Errorf("got %+v, want it as it is configured", got)
	}
}

func TestFailuresCountForTheirVersionAndConfigurationAlone(t *testing.T) {
	f := failures{Image: "i", RunsAs: "r", Halted: true, Held: true, Since: t0, TryAt: t0, Seats: []pastSeat{{1, 2, t0}}, Note: "n"}
	if got := f.of("i", "r", t0); !reflect.DeepEqual(got, f) {
		t.Errorf("got %+v, want %+v", got, f)
	}
	if got := f.of("j", "r", t0); !reflect.DeepEqual(got, failures{}) {
		t.Errorf("got %+v for another version, want nothing", got)
	}
	if got := f.of("i", "s", t0); !reflect.DeepEqual(got, failures{}) {
		t.Errorf("got %+v for another configuration, want nothing", got)
	}
}

func TestNobodyWaitsForLongerThanUsualWhateverIsWrittenDown(t *testing.T) {
	far := t0.Add(time.Hour)
	f := failures{Since: far, TryAt: far, Deaths: []time.Time{far, {}, t0}, Seats: []pastSeat{{0, -1, far}}}
	want := failures{Since: t0, TryAt: t0.Add(tryEvery), Deaths: []time.Time{t0}, Seats: []pastSeat{{0, 0, t0.Add(backoffCap)}}}
	if got := f.of("", "", t0); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := (failures{TryAt: far}).of("", "", t0); got.Since != t0 || got.TryAt != t0 {
		t.Errorf("got %+v, want a try at once", got)
	}
}

func TestDeathsThatAreTooOldForASpateAreForgotten(t *testing.T) {
	if got := lateDeaths([]time.Time{t0, t0.Add(1)}, t0.Add(within+1)); len(got) != 1 || got[0] != t0.Add(1) {
		t.Errorf("got %v, want the second alone", got)
	}
	if got := lateDeaths(make([]time.Time, 2*enough), time.Time{}); len(got) != enough {
		t.Errorf("got %d, want %d at most", len(got), enough)
	}
}

// loopAfter is a loop that has not run yet, after a daemon that has left this of pool a. What is left of Image and RunsAs is as now.
func loopAfter(t *testing.T, procs int, f failures) *loop {
	t.Helper()
	p, err := poolAs("a", procs, "polite").check(time.Second)
	if err != nil {
		t.Fatal(err)
	}
	im, err := imageOf(p.Binary)
	if err != nil {
		t.Fatal(err)
	}
	f.Image, f.RunsAs = im.String(), p.runsAs()
	file := stateFile{path: filepath.Join(t.TempDir(), "workers.json"), boot: "b"}
	if err := file.save(nil, []past{{Name: "a", failures: f}}); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Pools: []Pool{p}, Log: slog.New(slog.DiscardHandler)}
	return newLoop(&Supervisor{cfg: cfg, state: file, mail: newMailbox[letter](), news: newMailbox[Event]()})
}

func TestSeatsBackOffForAsLongAsAFormerDaemonWouldHaveHadThem(t *testing.T) {
	until := time.Now().Add(20 * time.Second).Round(0)
	l := loopAfter(t, 3, failures{Seats: []pastSeat{{1, 9, until}, {2, 4, time.Time{}}}})
	l.fill()
	if s := l.seats[0].life; s.phase != starting || s.k != 0 {
		t.Errorf("a seat that nothing is known of is %s after %d deaths", s.phase, s.k)
	}
	if s := l.seats[1].life; s.phase != waiting || !s.until.Equal(until) || s.k != 9 {
		t.Errorf("a seat that backs off is %s until %v after %d deaths, want it to do so until %v", s.phase, s.until, s.k, until)
	}
	if s := l.seats[2].life; s.phase != starting || s.k != 4 {
		t.Errorf("a seat whose process was to start is %s after %d deaths, want 4", s.phase, s.k)
	}
}

func TestHaltedPoolThatCrashLoopedTriesNothing(t *testing.T) {
	l := loopAfter(t, 2, failures{Halted: true, Since: time.Now(), TryAt: time.Now()})
	l.fill()
	l.tickCrew(time.Now(), l.crews[0])
	if len(l.pending) != 0 || l.crews[0].state() != "halted" {
		t.Errorf("%d processes are started in state %s", len(l.pending), l.crews[0].state())
	}
}

func TestDeathsBeforeAnotherDaemonBelongToASpate(t *testing.T) {
	now := time.Now()
	l := loopAfter(t, 1, failures{Deaths: []time.Time{now, now, now, now}})
	l.mourn(l.crews[0], 0)
	if !l.crews[0].spate.on() {
		t.Errorf("the pool does not crash-loop with the fifth death")
	}
}

func TestProcessFromBeforeASpateEndsItOnlyIfAllLive(t *testing.T) {
	now := time.Now()
	l := loopAfter(t, 2, failures{Since: now.Add(-time.Minute), TryAt: now})
	c, first, second := l.crews[0], l.seats[0], l.seats[1]
	first.life.phase, first.life.greet = connected, now.Add(-tooEarly) // to this daemon
	first.rec.Started = now.Add(-time.Hour)
	if l.hasRecovered(c, now) {
		t.Error("the pool has recovered by a process that lived all the time")
	}
	if first.rec.Started = now.Add(-30 * time.Second); !l.hasRecovered(c, now) {
		t.Error("the pool has not recovered by a process that came in the spate")
	}
	first.rec.Started = now.Add(-time.Hour)
	second.life, second.rec = first.life, first.rec
	if !l.hasRecovered(c, now) {
		t.Error("the pool has not recovered, though all live")
	}
}

func TestDamagedPastSpoilsNeitherWorkersNorOtherPools(t *testing.T) {
	file := stateFile{path: filepath.Join(t.TempDir(), "workers.json"), boot: "b"}
	for pools, want := range map[string]map[string]past{
		``:              {},
		`, "pools": 7`:  {},
		`, "pools": []`: {},
		`, "pools": [{"name": 7}, {"name": "b", "halted": "no"}, {"name": "c", "halted": true, "of a newer daemon": {}}]`: {"c": {Name: "c", failures: failures{Halted: true}}},
	} {
		text := `{"version": 1, "boot": "b", "workers": [{"pool": "a", "key": "` + newKey() + `"}]` + pools + `}`
		writeAs(t, file.path, text, 0o600)
		records, got, err := file.load()
		if err != nil || len(records) != 1 || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %d workers and %+v (%v), want one and %+v", pools, len(records), got, err, want)
		}
		_ = os.Remove(file.path)
	}
}

// formerDaemonUntil runs this host's pools in a process of its own until workers.json says so of the first one, and kills it with -9.
// then is called once all workers are connected; nil = that is not waited for.
func (h *host) formerDaemonUntil(then func(), ok func(past) bool) {
	h.t.Helper()
	cmd := h.daemonCommand()
	cmd.Stderr = h.t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	var infos []Info
	dec := json.NewDecoder(out)
	for then != nil && !all("connected")(infos) {
		if err := dec.Decode(&infos); err != nil {
			h.t.Fatal("the former daemon ended: ", err)
		}
	}
	if then != nil {
		then()
	}
	boot, err := bootID()
	if err != nil {
		h.t.Fatal(err)
	}
	// It tells of each turn, after which the file is as it says.
	for deadline := time.Now().Add(patience); ; {
		if _, pasts, err := (stateFile{path: h.cfg.StateFile, boot: boot}).load(); err == nil && ok(pasts[h.cfg.Pools[0].Name]) {
			return
		}
		if err := dec.Decode(&infos); err != nil || time.Now().After(deadline) {
			h.t.Fatalf("never so; last: %+v (%v)", infos, err)
		}
	}
}

// tried counts the starts of what triedBy has made.
func (h *host) tried() int {
	text, _ := os.ReadFile(filepath.Join(h.dir, "tried"))
	return strings.Count(string(text), "\n")
}

// trying are lines of a script that counts its starts and exits.
func (h *host) trying(exit string) string {
	return "echo >> " + filepath.Join(h.dir, "tried") + "; exit " + exit
}

func TestHaltedPoolStaysSoAfterItsDaemonWasKilledUntilSomethingChanges(t *testing.T) {
	changes := map[string]func(*host){
		"its binary": func(h *host) { h.install(h.cfg.Pools[0].Binary, "", "polite") },
		"its configuration": func(h *host) {
			p := h.cfg.Pools[0]
			h.install(p.Binary+"2", "", "polite")
			p.Binary += "2"
			apply(h.t, h, p)
		},
	}
	for what, change := range changes {
		t.Run(what, func(t *testing.T) {
			h := newHost(t, "")
			h.cfg.Pools = []Pool{h.script("a", 1, h.trying("78"), "")}
			h.formerDaemonUntil(nil, func(p past) bool { return p.Halted })
			h.run()
			if info := h.pool("shown", "a", func(PoolInfo) bool { return true }); info.State != "halted" || !strings.Contains(info.Note, "78") {
				t.Errorf("got %+v, want it halted as before", info)
			}
			if n := h.tried(); n != 1 {
				t.Errorf("it was started %d times, want once", n)
			}
			change(h)
			h.hello()
			h.pool("running", "a", isIn("running"))
		})
	}
}

func TestOrderlyEndForgetsWhatWasLearnt(t *testing.T) {
	h := newHost(t, "")
	h.cfg.Pools = []Pool{h.script("a", 1, h.trying("78"), "")}
	h.run()
	h.pool("halted", "a", isIn("halted"))
	if err := h.sup.PausePool("a"); err != nil {
		t.Fatal(err)
	}
	h.pool("paused", "a", func(p PoolInfo) bool { return p.Paused })
	h.end()
	if _, got, err := h.sup.state.load(); err != nil || !reflect.DeepEqual(got, map[string]past{"a": {Name: "a", Paused: true}}) {
		t.Errorf("got %+v (%v), want that it is paused and nothing else", got, err)
	}
}

func TestCrashLoopingPoolIsNotStartedAnewAfterItsDaemonWasKilled(t *testing.T) {
	h := newHost(t, "")
	h.cfg.Pools = []Pool{h.script("a", 3, h.trying("3"), "")}
	h.formerDaemonUntil(nil, func(p past) bool { return !p.Since.IsZero() })
	h.cfg.Pools = append(h.cfg.Pools, poolAs("b", 1, "polite"))
	events := make(hookTo, 1000)
	h.cfg.Hook = events
	h.run()
	for ev := (Event{}); ev.Kind != EventSpawn; { // of b, whose process is started after those of a, if they are
		if ev = receive(t, "event", events); ev.Kind == EventSpawn && ev.Pool != "b" {
			t.Errorf("got %q, want nobody of a started", short(ev))
		}
	}
	h.hello()
	h.pool("crash-looping", "a", isIn("crash-looping"))
	h.install(h.cfg.Pools[0].Binary, "", "polite") // and no longer so
	h.sup.Served(h.hello().Key, 1)
	h.pool("recovered", "a", func(p PoolInfo) bool { return p.State == "running" && p.Connected == 3 })
}

func TestPoolThatWasSetIsSoAfterItsDaemonWasKilled(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "steady")).run()
	if err := h.resize("a", 2); err != nil {
		t.Fatal(err)
	}
	h.until("two", func(infos []Info) bool { return len(infos) == 2 && all("connected")(infos) })
	text, err := os.ReadFile(h.cfg.StateFile)
	if err != nil {
		t.Fatal(err)
	}
	h.end() // its workers with it, which are found dead

	for procs, want := range map[int]int{1: 2, 3: 3} { // as before, and configured in another way
		next := newHost(t, h.dir, poolAs("a", procs, "steady"))
		writeAs(t, h.cfg.StateFile, string(text), 0o600)
		next.run()
		next.until("as many", func(infos []Info) bool { return len(infos) == want && all("connected")(infos) })
		next.end()
	}
}

func TestBuildThatWasHeldBackStaysSoAfterItsDaemonWasKilled(t *testing.T) {
	h := newHost(t, "")
	program := filepath.Join(h.dir, "worker")
	copyFile(t, os.Args[0], program)
	h.cfg.Pools = []Pool{{Name: "a", Binary: program, Args: []string{"as", "steady"}, Procs: 2}}
	h.formerDaemonUntil(func() { h.install(program, h.trying("3")) }, func(p past) bool { return p.Held })
	h.run()
	old := h.hello()
	h.hello()
	h.pool("held back", "a", func(p PoolInfo) bool {
		return p.State == "old build" && p.Connected == 2 && strings.Contains(p.Note, "held back")
	})
	if err := syscall.Kill(old.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	h.hello() // of the old build
	if n := h.tried(); n != mostTrials {
		t.Errorf("the bad build was started %d times, want %d as by the former daemon", n, mostTrials)
	}
	h.install(program, "", "steady")
	h.sup.Served(h.hello().Key, 1)
	h.pool("rolled", "a", isIn("running"))
}

func TestConfigurationThatWasHeldBackStaysSoAfterItsDaemonWasKilled(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "steady"))
	h.run()
	h.hello()
	if err := h.sup.Change("a", func(p *Pool) { p.Args = []string{"as", "exit", "3"} }); err != nil {
		t.Fatal(err)
	}
	h.pool("held back", "a", isIn("old build"))
	_, pasts, err := h.sup.state.load()
	if err != nil {
		t.Fatal(err)
	}
	h.end()

	next := newHost(t, h.dir, poolAs("a", 1, "steady"))
	if err := h.sup.state.save(nil, []past{pasts["a"]}); err != nil {
		t.Fatal(err)
	}
	next.run()
	next.hello() // though its worker is gone
	next.pool("held back", "a", isIn("old build"))
}

func TestBuildThatWasHeldBackIsTriedByOneProcessAtATimeWhereTheOldOneIsLost(t *testing.T) {
	h := newHost(t, "")
	h.cfg.Pools = []Pool{h.script("a", 3, "", "steady")}
	h.formerDaemonUntil(func() { h.install(h.cfg.Pools[0].Binary, h.trying("3")) }, func(p past) bool { return p.Held })
	for _, rec := range written(t, h.cfg) {
		if rec.PID <= 1 {
			t.Fatalf("a worker has pid %d", rec.PID)
		}
		if err := syscall.Kill(rec.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		awaitGone(t, rec.PID, watchOf(rec.PID))
	}
	h.run()
	h.until("tried once", func(infos []Info) bool {
		return all("crash-looping")(infos) && infos[0].Restarts+infos[1].Restarts+infos[2].Restarts == 1
	})
	if info := h.pool("crash-looping", "a", isIn("crash-looping")); !strings.Contains(info.Note, "the old one is lost") {
		t.Errorf("got %+v", info)
	}
	if n := h.tried(); n != mostTrials+1 {
		t.Errorf("the bad build was started %d times, want one more than %d", n, mostTrials)
	}
}

func TestFileThatIsKeptForTheNextProgramIsTakenOnce(t *testing.T) {
	if !canStartFrom {
		t.Skip("nothing is kept here")
	}
	path := filepath.Join(t.TempDir(), "worker")
	copyFile(t, "/bin/true", path)
	b := newBuild(Pool{Name: "a", Binary: path})
	defer b.close()
	f := &Former{Files: []FormerFile{{Pool: "a", Image: b.image.String(), from: b.file}, {Pool: "b", Image: "another", from: b.file}}}
	undo, err := f.Keep()
	if err != nil {
		t.Fatal(err)
	}
	defer undo()
	if file, im := f.file("b"); file != nil {
		t.Errorf("a file that is not what it shall be is taken for %v", im)
	}
	file, im := f.file("a")
	if file == nil || im != b.image {
		t.Fatalf("got %v, want %v", im, b.image)
	}
	defer file.Close()
	if again, _ := f.file("a"); again != nil {
		t.Error("it is taken twice")
	}
}
