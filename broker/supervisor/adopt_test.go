package supervisor

import (
	"encoding/json"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/respirated/respirated/broker"
)

// formerDaemon runs this host's pools in a process of its own until all workers are connected, and kills it with -9.
// It returns its last view of them.
func (h *host) formerDaemon() []Info {
	t := h.t
	t.Helper()
	cmd := h.daemonCommand()
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	infos := untilConnected(t, out)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	return withKeys(t, h.cfg, infos)
}

func (h *host) daemonCommand() *exec.Cmd {
	h.t.Helper()
	pools, err := json.Marshal(h.cfg.Pools)
	if err != nil {
		h.t.Fatal(err)
	}
	return exec.Command(os.Args[0], "as", "daemon", h.dir, string(pools))
}

func untilConnected(t *testing.T, out io.Reader) []Info {
	t.Helper()
	for dec := json.NewDecoder(out); ; {
		var infos []Info
		if err := dec.Decode(&infos); err != nil {
			t.Fatal("the former daemon ended: ", err)
		}
		if all("connected")(infos) {
			return infos
		}
	}
}

// withKeys adds the keys, which are not shown, from workers.json.
func withKeys(t *testing.T, cfg Config, infos []Info) []Info {
	t.Helper()
	for _, rec := range written(t, cfg) {
		for i := range infos {
			if infos[i].PID == rec.PID {
				infos[i].Key = rec.Key
			}
		}
	}
	return infos
}

func written(t *testing.T, cfg Config) []record {
	t.Helper()
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	records, _, err := stateFile{path: cfg.StateFile, boot: boot}.load()
	if err != nil {
		t.Fatal(err)
	}
	return records
}

func write(t *testing.T, cfg Config, records ...record) {
	t.Helper()
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	if err := (stateFile{path: cfg.StateFile, boot: boot}).save(records, nil); err != nil {
		t.Fatal(err)
	}
}

// pidsOf returns the pids in order of seats.
func pidsOf(infos []Info) []int {
	var pids []int
	for _, i := range infos {
		pids = append(pids, i.PID)
	}
	return pids
}

func TestWorkersOfAKilledDaemonAreAdoptedWithoutARestart(t *testing.T) {
	h := newHost(t, "", poolAs("a", 3, "steady"))
	before := h.formerDaemon()
	h.run()
	after := h.until("connected", all("connected"))
	if !slices.Equal(pidsOf(before), pidsOf(after)) {
		t.Errorf("got pids %v, want those of before: %v", pidsOf(after), pidsOf(before))
	}
	for i, info := range after {
		if !info.Adopted || info.Restarts != 0 || info.Key != before[i].Key || !info.Started.Equal(before[i].Started) {
			t.Errorf("got %+v, want it adopted as %+v", info, before[i])
		}
	}
}

func TestDeathOfAnAdoptedWorkerIsSeenAndItIsReplaced(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "dying", "adopted", "9"))
	log := h.cfg.logsOf("a", 0).err
	if err := os.Mkdir(h.cfg.LogDir, 0o700); err != nil {
		t.Fatal(err)
	}
	writeAs(t, log, "words of another process\n", 0o600)
	before := h.formerDaemon()[0] // it hangs up as it dies, whereupon the worker dies as well, or just before
	h.run()
	e := h.exit()
	if e.Key != before.Key || e.PID != before.PID || e.How != "unknown (adopted)" || e.Asked {
		t.Errorf("got %+v, want the unknown death of %+v", e, before)
	}
	if want := "first words\nlast words: adopted\n"; e.Stderr != want {
		t.Errorf("got last words %q, want %q", e.Stderr, want)
	}
	if g := h.hello(); g.PID == before.PID {
		t.Error("got the same worker again")
	}
}

func TestKillOfAnAdoptedWorkerIsSeen(t *testing.T) {
	h := newHost(t, "", poolAs("a", 2, "steady"))
	before := h.formerDaemon()
	h.run()
	h.until("connected", all("connected"))
	if err := syscall.Kill(before[1].PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if e := h.exit(); e.Key != before[1].Key || e.How != "unknown (adopted)" || e.Asked {
		t.Errorf("got %+v, want the death of %+v", e, before[1])
	}
	after := h.until("replaced", func(infos []Info) bool { return all("connected")(infos) && infos[1].PID != before[1].PID })
	if after[0].PID != before[0].PID || after[1].Adopted {
		t.Errorf("got %+v, want the first one kept and the second one new", after)
	}
}

func TestWorkersThatDiedWhileNoDaemonRanAreTold(t *testing.T) {
	h := newHost(t, "", poolAs("a", 2, "steady"))
	before := h.formerDaemon()
	w := watchOf(before[0].PID)
	if err := syscall.Kill(before[0].PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, before[0].PID, w)
	h.run()
	if e := h.exit(); e.Key != before[0].Key || e.PID != before[0].PID || e.How != "unknown (adopted)" || e.Asked {
		t.Errorf("got %+v, want the death of %+v", e, before[0])
	}
	after := h.until("connected", all("connected"))
	if after[0].PID == before[0].PID || after[1].PID != before[1].PID {
		t.Errorf("got %+v, want the first one new and the second one kept", after)
	}
	h.end()
	h.exit()
	h.exit()
	h.noExit()
}

func TestAdoptedWorkerThatNeverSaysHelloIsReplaced(t *testing.T) {
	h := newHost(t, "", poolAs("quiet", 1, "mute"), poolAs("well", 1, "steady"))
	before := h.formerDaemon()
	h.cfg.AdoptTimeout = time.Second
	var err error
	if h.sup, err = New(h.cfg); err != nil {
		t.Fatal(err)
	}
	h.listen()
	h.hello() // of the other: its time does not count
	h.start()
	e := h.exit()
	if e.Key != before[0].Key || !e.Asked {
		t.Errorf("got %+v, want the asked death of the quiet one, %+v", e, before[0])
	}
	after := h.until("connected", all("connected"))
	if after[0].PID == before[0].PID || after[0].Adopted || after[1].PID != before[1].PID {
		t.Errorf("got %+v, want the quiet one new and the other kept", after)
	}
}

func TestAdoptedDeafWorkerIsKilledWithItsGroup(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "deaf"))
	before := h.formerDaemon()[0]
	h.cfg.StopTimeout = 100 * time.Millisecond
	h.run()
	h.until("connected", all("connected"))
	w := watchOf(before.PID)
	h.end()
	if e := h.exit(); e.Key != before.Key || !e.Asked || e.How != "unknown (adopted)" {
		t.Errorf("got %+v, want the asked death of %+v", e, before)
	}
	awaitGone(t, before.PID, w)
}

func TestSurplusOfASmallerPoolIsEndedAndTheRestAdopted(t *testing.T) {
	h := newHost(t, "", poolAs("a", 3, "polite"), poolAs("b", 1, "polite"))
	before := h.formerDaemon()
	h.cfg.Pools = []Pool{poolAs("a", 1, "polite")}
	h.run()
	var ended []int
	for range 3 {
		e := h.exit()
		if !e.Asked {
			t.Errorf("got %+v, want it asked", e)
		}
		ended = append(ended, e.PID)
	}
	want := pidsOf(before[1:])
	slices.Sort(want)
	if slices.Sort(ended); !slices.Equal(ended, want) {
		t.Errorf("got %v ended, want %v", ended, want)
	}
	after := h.until("down to one", func(infos []Info) bool { return len(infos) == 1 && infos[0].State == "connected" })
	if after[0].PID != before[0].PID {
		t.Errorf("got %+v, want %+v", after[0], before[0])
	}
}

func TestWorkerWhoseDaemonDiedBeforeWritingItsPidIsFoundByItsKey(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "steady"))
	before := h.formerDaemon()[0]
	rec := written(t, h.cfg)[0]
	rec.PID, rec.Start = 0, ""
	write(t, h.cfg, rec)
	h.run()
	if after := h.until("connected", all("connected"))[0]; after.PID != before.PID || !after.Adopted {
		t.Errorf("got %+v, want %+v adopted", after, before)
	}
}

func TestKeyWithoutAProcessIsForgotten(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "steady"))
	write(t, h.cfg, record{Pool: "a", Key: newKey()})
	h.run()
	h.until("connected", all("connected"))
	h.end()
	h.exit()
	h.noExit()
}

// bystander is a process that leads a group, as a worker does, and must not be harmed.
func bystander(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "as", "child")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

func TestProcessThatGotAWorkersPidIsNotTouched(t *testing.T) {
	other := bystander(t)
	pid := other.Process.Pid
	start, _ := look(pid)
	h := newHost(t, "", poolAs("a", 1, "steady"))
	h.cfg.AdoptTimeout = time.Millisecond
	rec := record{Pool: "a", Key: newKey(), PID: pid, Start: start + "0"}
	write(t, h.cfg, rec)
	h.run()
	if e := h.exit(); e.Key != rec.Key || e.How != "unknown (adopted)" {
		t.Errorf("got %+v, want the death of the record", e)
	}
	h.until("connected", all("connected"))
	h.end()
	if _, alive := look(pid); !alive {
		t.Error("the bystander was killed")
	}
}

func TestProcessThatLeadsNoGroupIsNotTouched(t *testing.T) {
	start, _ := look(os.Getpid())
	if syscall.Getpgrp() == os.Getpid() {
		t.Skip("the test runs as the leader of a group, so it cannot play somebody who leads none")
	}
	if p := adoptProcess(record{PID: os.Getpid(), Start: start}); p != nil {
		t.Error("got the test itself adopted")
	}
}

func TestStateThatCannotBeTrustedIsIgnored(t *testing.T) {
	other := bystander(t)
	start, _ := look(other.Process.Pid)
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	good := record{Pool: "a", Key: newKey(), PID: other.Process.Pid, Start: start}
	with := func(change func(*state)) string {
		st := state{Version: stateVersion, Boot: boot, Workers: []record{good}}
		change(&st)
		text, err := json.Marshal(st)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	whole := with(func(*state) {})
	cases := map[string]struct {
		text string
		mode os.FileMode
	}{
		"torn":               {whole[:len(whole)/2], 0o600},
		"empty":              {"", 0o600},
		"another boot":       {with(func(s *state) { s.Boot = "x" }), 0o600},
		"newer version":      {with(func(s *state) { s.Version = 2 }), 0o600},
		"pid of init":        {with(func(s *state) { s.Workers[0].PID = 1 }), 0o600},
		"pid of everybody":   {with(func(s *state) { s.Workers[0].PID = -1 }), 0o600},
		"no start time":      {with(func(s *state) { s.Workers[0].Start = "" }), 0o600},
		"no key":             {with(func(s *state) { s.Workers[0].Key = "" }), 0o600},
		"one key twice":      {with(func(s *state) { s.Workers = append(s.Workers, good) }), 0o600},
		"pool out of folder": {with(func(s *state) { s.Workers[0].Pool = "../a" }), 0o600},
		"writable by others": {whole, 0o622},
		"too long":           {whole + strings.Repeat(" ", maxState), 0o600},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, "", poolAs("a", 1, "steady"))
			h.cfg.AdoptTimeout = time.Millisecond
			writeAs(t, h.cfg.StateFile, c.text, c.mode)
			h.run()
			if g := h.hello(); g.PID == good.PID {
				t.Error("got the bystander as a worker")
			}
			h.end()
			h.exit()
			h.noExit()
		})
	}
	if _, alive := look(good.PID); !alive {
		t.Error("the bystander was killed")
	}
}

func writeAs(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestStateFileOfAnotherKindIsRefused(t *testing.T) {
	dir := t.TempDir()
	pipe, link := filepath.Join(dir, "pipe"), filepath.Join(dir, "link")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, link, dir} {
		if _, _, err := (stateFile{path: path}).load(); err == nil {
			t.Errorf("%s was read as state", path)
		}
	}
}

func TestSavedStateIsLoadedAgain(t *testing.T) {
	s := stateFile{path: filepath.Join(t.TempDir(), "workers.json"), boot: "b"}
	want := []record{{Pool: "a", Index: 3, Key: newKey(), PID: 4711, Start: "99", Binary: "/b", Started: t0, ErrFrom: 12}}
	pool := Pool{Name: "a", Binary: "/b", Procs: 3, Env: []string{"A=1"}, Queues: []broker.Queue{{Tenant: "t", Name: "q"}}, Limits: Limits{Core: new(int64)}}
	pasts := map[string]past{
		"a": {
			Name: "a", Configured: "c", Set: &pool, Old: &pastBuild{pool, "i"},
			failures: failures{"j", "r", true, true, []time.Time{t0}, t0, t0, []pastSeat{{1, 2, t0}}, "n"},
		},
		"b": {Name: "b", Paused: true},
	}
	if err := s.save(want, slices.Collect(maps.Values(pasts))); err != nil {
		t.Fatal(err)
	}
	got, gotPasts, err := s.load()
	if err != nil || !slices.Equal(got, want) || !reflect.DeepEqual(gotPasts, pasts) {
		t.Errorf("got %+v and %+v (%v), want %+v and %+v", got, gotPasts, err, want, pasts)
	}
	paused := map[string]past{"b": pasts["b"]}
	if _, got, _ := (stateFile{path: s.path, boot: "another"}).load(); !reflect.DeepEqual(got, paused) {
		t.Errorf("in another boot: got %+v, want only that b is paused", got)
	}
	if left, _ := filepath.Glob(s.path + "?*"); left != nil {
		t.Errorf("%v left over", left)
	}
}

func TestPollingSeesADeathToo(t *testing.T) {
	other := bystander(t)
	pid := other.Process.Pid
	start, _ := look(pid)
	gone := make(chan bool, 1)
	go func() { pollUntilGone(pid, start); gone <- true }()
	_ = other.Process.Kill()
	receive(t, "end of polling", gone)
}

func TestGroupIsSignalledWithoutAHandleToo(t *testing.T) {
	other := bystander(t)
	pid := other.Process.Pid
	start, _ := look(pid)
	p := &process{pid: pid, start: start, watch: watch{pid: pid, start: start}}
	if err := p.signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := p.wait(func() {}); got.how != adoptedEnd {
		t.Errorf("got %+v, want %+v", got, adoptedEnd)
	}
	if err := p.signal(syscall.SIGKILL); err != nil {
		t.Errorf("got %v for a signal to nobody, want nil", err)
	}
}

func TestStrangerWithAWorkersPidIsNotSignalled(t *testing.T) {
	other := bystander(t)
	pid := other.Process.Pid
	start, _ := look(pid)
	p := &process{pid: pid, start: start + "0", watch: watch{pid: pid, start: start + "0"}}
	if err := p.signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// Whichever signal was first ended it.
	_ = other.Process.Signal(syscall.SIGTERM)
	_ = other.Wait()
	if got := other.ProcessState.String(); got != "signal: terminated" {
		t.Errorf("the stranger ended by %q, want the test's own signal", got)
	}
}

func TestSecondProcessOfOneSeatIsEnded(t *testing.T) {
	h := newHost(t, "", poolAs("a", 2, "steady"))
	before := h.formerDaemon()
	records := written(t, h.cfg)
	records[1].Index = 0
	write(t, h.cfg, records...)
	h.run()
	if e := h.exit(); e.PID != before[1].PID || !e.Asked {
		t.Errorf("got %+v, want the asked death of %+v", e, before[1])
	}
	after := h.until("two", func(infos []Info) bool { return len(infos) == 2 && all("connected")(infos) })
	if after[0].PID != before[0].PID || after[1].PID == before[1].PID {
		t.Errorf("got %+v, want the first one kept and the second one new", after)
	}
}

func TestWorkerThatHadNoPlaceAnyMoreGetsNoneFromTheNextDaemon(t *testing.T) {
	h := newHost(t, "", poolAs("a", 2, "noting"))
	before := h.formerDaemon()
	records := written(t, h.cfg)
	records[0].Surplus, records[1].Index = true, 0
	write(t, h.cfg, records...)
	h.cfg.Pools[0].Procs = 1
	h.cfg.StopTimeout = 200 * time.Millisecond
	h.run()
	if e := h.exit(); e.Key != before[0].Key || !e.Asked {
		t.Errorf("got %+v, want the asked death of %+v", e, before[0])
	} else if e.Stderr != "" { // many a worker ends at once when it is asked again
		t.Errorf("it was asked a second time: %q", e.Stderr)
	}
	after := h.until("one", func(infos []Info) bool { return len(infos) == 1 && all("connected")(infos) })[0]
	if after.PID != before[1].PID || after.Restarts != 0 {
		t.Errorf("got %+v, want %+v kept", after, before[1])
	}
}

func TestWorkerThatHasNoPlaceAnyMoreFinishesAndGetsNothingNew(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "steady"))
	before := h.formerDaemon()[0]
	records := written(t, h.cfg)
	records[0].Surplus = true // so it has been asked to end
	write(t, h.cfg, records...)
	h.cfg.StopTimeout = time.Minute
	h.run()
	if may, known := h.sup.Admit(before.Key, before.PID, []string{"k"}); !known || !slices.Equal(may, []string{"k"}) {
		t.Errorf("it may serve %v, and its key is known: %v; want what it has served until now", may, known)
	}
	if terms := h.sup.Terms(before.Key); !terms.Paused {
		t.Errorf("its terms are %+v, want it paused", terms)
	}
	if err := syscall.Kill(before.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if e := h.exit(); e.Key != before.Key {
		t.Errorf("got %+v, want the death of %+v", e, before)
	}
}

func TestWorkerIsWrittenDownAsOneWithoutAPlaceOnceItHasNone(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "deaf"))
	h.cfg.StopTimeout = time.Second
	h.run()
	old := h.hello()
	h.until("connected", all("connected"))
	if err := h.sup.Recycle("a", 0, "test"); err != nil {
		t.Fatal(err)
	}
	h.until("taken over from", func(infos []Info) bool { return len(infos) == 2 && infos[1].State == "ending" })
	for _, rec := range written(t, h.cfg) {
		if rec.Surplus != (rec.Key == old.Key) {
			t.Errorf("got %+v, want the first worker alone without a place", rec)
		}
	}
}

func TestWhatIsStartedBesideWorkersIsReapedByWhoStartedIt(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "steady"))
	h.cfg.Former = &Former{}
	var err error
	if h.sup, err = New(h.cfg); err != nil {
		t.Fatal(err)
	}
	type other struct {
		cmd  *exec.Cmd
		stop io.Closer
	}
	var others []other
	for range 20 {
		cmd := exec.Command(os.Args[0], "as", "brief")
		stop, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		others = append(others, other{cmd, stop})
	}
	h.start()
	h.until("connected", all("connected"))
	for _, o := range others {
		_ = o.stop.Close()
		if err := o.cmd.Wait(); err != nil {
			t.Errorf("a process of ours is gone: %v", err)
		}
	}
}
