package supervisor

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// withFolder gives the host a folder of workers.
func (h *host) withFolder() *host {
	h.t.Helper()
	h.cfg.WorkersDir = filepath.Join(h.dir, "workers.d")
	if err := os.Mkdir(h.cfg.WorkersDir, 0o700); err != nil {
		h.t.Fatal(err)
	}
	return h
}

func (h *host) drop(name, lines string, role ...string) string {
	h.t.Helper()
	path := filepath.Join(h.cfg.WorkersDir, name)
	h.install(path, lines, role...)
	return path
}

func TestFileThatIsDroppedInIsAPoolForAsLongAsItIsThere(t *testing.T) {
	h := newHost(t, "").withFolder()
	first := h.drop("first", "export VERSION=1", "polite")
	h.run()
	h.hellosOf("1", defaultProcs)
	h.drop("second", "export VERSION=2", "polite")
	h.hellosOf("2", defaultProcs)
	if p := h.pool("running", "second", isIn("running")); !p.DropIn || p.Binary != filepath.Join(h.cfg.WorkersDir, "second") {
		t.Errorf("got %+v", p)
	}
	apply(t, h, poolAs("third", 1, "polite")) // which leaves them alone
	h.hello()
	if err := os.Remove(first); err != nil {
		t.Fatal(err)
	}
	for range defaultProcs {
		if e := h.exit(); !e.Asked {
			t.Errorf("got %+v, want an asked end", e)
		}
	}
	infos := h.until("two pools", func(infos []Info) bool { return len(infos) == defaultProcs+1 && all("connected")(infos) })
	for _, i := range infos {
		if i.Pool == "first" {
			t.Errorf("got %+v of a pool that is gone", i)
		}
	}
}

func TestWorkersOfAFormerDaemonAreAdoptedAlsoWhereFilesAreDroppedIn(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "steady")).withFolder()
	dropped := Pool{Name: "dropped", Binary: h.drop("dropped", "", "steady"), Procs: defaultProcs}
	h.cfg.Pools = append(h.cfg.Pools, dropped)
	before := h.formerDaemon()
	h.cfg.Pools = h.cfg.Pools[:1]
	h.run()
	for range before {
		if g := h.hello(); !slices.ContainsFunc(before, func(i Info) bool { return i.PID == g.PID }) {
			t.Errorf("process %d was started, though one of before has its place", g.PID)
		}
	}
	infos := h.until("connected", all("connected"))
	for i, info := range infos {
		if len(infos) != len(before) || info.PID != before[i].PID || !info.Adopted {
			t.Fatalf("shown %+v, were %+v", infos, before)
		}
	}
}

func TestDroppedInFileThatIsReplacedIsRolled(t *testing.T) {
	h := newHost(t, "").withFolder()
	h.drop("a", "export VERSION=1", "polite")
	h.run()
	h.hellosOf("1", defaultProcs)
	h.drop("a", "export VERSION=2", "polite")
	h.sup.Served(h.hellosOf("2", 1)[0].Key, 1)
	h.hellosOf("2", defaultProcs-1)
}

func TestDroppedInFileThatIsReplacedByOneThatOthersMayWriteIsRolledOnceTheyMayNot(t *testing.T) {
	h := newHost(t, "").withFolder()
	path := h.drop("a", "export VERSION=1", "polite")
	h.run()
	h.hellosOf("1", defaultProcs)
	next := h.drop(".a", "export VERSION=2", "polite")
	if err := errors.Join(os.Chmod(next, 0o775), os.Rename(next, path)); err != nil {
		t.Fatal(err)
	}
	if p := h.pool("told", "a", func(p PoolInfo) bool { return p.Note != "" }); !strings.Contains(p.Note, "its new file is refused") || !strings.Contains(p.Note, "chmod go-w") {
		t.Errorf("the note is %q", p.Note)
	}
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	h.hellosOf("2", 1)
}

func TestFilesThatOthersMayWriteOrThatAreNotFinishedAreNotStarted(t *testing.T) {
	h := newHost(t, "", poolAs("taken", 1, "polite")).withFolder()
	dir := h.cfg.WorkersDir
	for _, name := range []string{".hidden", "backup~", "half.tmp", "old.bak", "#edited#"} {
		h.drop(name, "", "polite")
	}
	h.drop("group", "", "polite")
	h.drop("world", "", "polite")
	h.drop("other", "", "polite")
	h.drop("taken", "", "polite")
	h.drop("bad name", "", "polite")
	err := errors.Join(os.Chmod(dir+"/group", 0o770), os.Chmod(dir+"/world", 0o702), os.Symlink(os.Args[0], dir+"/link"), os.Mkdir(dir+"/folder", 0o700),
		os.WriteFile(dir+"/plain", nil, 0o600), syscall.Mkfifo(dir+"/pipe", 0o700))
	if os.Geteuid() == 0 {
		err = errors.Join(err, os.Chown(dir+"/other", 1, 1))
	} else {
		err = errors.Join(err, os.Remove(dir+"/other"))
	}
	if err != nil {
		t.Fatal(err)
	}
	h.run()
	h.hello()                                // of the configured pool
	h.pool("shown", "link", isIn("refused")) // and nobody waits for somebody to write to the pipe
	refused := map[string]string{}
	for _, p := range h.sup.Pools() {
		if p.State == "refused" {
			refused[p.Name] = p.Note
		}
	}
	want := map[string]string{
		"group": "can be written by others (mode 0770): chmod go-w", "world": "can be written by others (mode 0702)", "link": "is a symbolic link",
		"taken": "the configuration has a pool of this name", "bad name": "name must be", "pipe": "is not a regular file",
	}
	if os.Geteuid() == 0 {
		want["other"] = "belongs to somebody else"
	}
	for name, why := range want {
		if !strings.Contains(refused[name], why) {
			t.Errorf("%s: refused with %q, want %q", name, refused[name], why)
		}
	}
	if len(refused) != len(want) {
		t.Errorf("got %v refused, want %d files", refused, len(want))
	}
	if err := os.Chmod(dir+"/group", 0o700); err != nil {
		t.Fatal(err)
	}
	h.pool("taken in", "group", isIn("running"))
}

func TestFolderThatOthersMayWriteIsRefused(t *testing.T) {
	h := newHost(t, "").withFolder()
	h.drop("a", "", "polite")
	if err := os.Chmod(h.cfg.WorkersDir, 0o777); err != nil {
		t.Fatal(err)
	}
	h.run()
	if p := h.pool("refused", "a", isIn("refused")); !strings.Contains(p.Note, "folder "+h.cfg.WorkersDir+" can be written by others") {
		t.Errorf("got %+v", p)
	}
}

func TestWorkerIsAdmittedToTheKindsOfItsPoolOnly(t *testing.T) {
	p := poolAs("a", 1, "polite")
	p.Kinds = []string{"x", "y"}
	h := newHost(t, "", p).run()
	g := h.hello()
	if may, known := h.sup.Admit(g.Key, g.PID, []string{"x", "z"}); strings.Join(may, " ") != "x" || !known {
		t.Errorf("admitted to %q, known %v, want x of a known one", may, known)
	}
	h.pool("noted", "a", func(p PoolInfo) bool { return strings.Contains(p.Note, "may not take: z") })
	if may, known := h.sup.Admit("foreign", g.PID, []string{"x", "z"}); strings.Join(may, " ") != "x z" || known {
		t.Errorf("a foreign worker is admitted to %q, known %v", may, known)
	}
	h.pool("noted", "a", func(p PoolInfo) bool { return strings.Contains(p.Note, "without the key") })
	if err := h.sup.Recycle("a", 0, "test"); err != nil {
		t.Fatal(err)
	}
	h.exit()
	h.pool("of no process that is there", "a", func(p PoolInfo) bool { return p.Note == "" })
}
