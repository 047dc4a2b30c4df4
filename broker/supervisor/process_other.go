//go:build !linux

package supervisor

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// bootID names this boot of the host: macOS has an id for it, other systems know the second it began.
func bootID() (string, error) {
	out, err := exec.Command("sysctl", "-n", "kern.bootsessionuuid").Output()
	if err != nil {
		out, err = exec.Command("sysctl", "-n", "kern.boottime").Output()
	}
	return strings.TrimSpace(string(out)), err
}

// look returns when the process with this pid was started, to the second, and whether it runs. One that has ended but
// was not reaped does not run.
func look(pid int) (start string, alive bool) {
	ps := exec.Command("ps", "-o", "stat=,lstart=", "-p", strconv.Itoa(pid))
	ps.Env = []string{"LC_ALL=C", "TZ=UTC"} // the text is compared with that of another day
	out, err := ps.Output()
	state, start, ok := strings.Cut(strings.TrimSpace(string(out)), " ")
	if err != nil || !ok {
		return "", false
	}
	return strings.TrimSpace(start), !strings.HasPrefix(state, "Z")
}

// isChild tells whether the process with this pid is our child, ended or not.
func isChild(pid int) bool {
	out, err := exec.Command("ps", "-o", "ppid=", "-p", strconv.Itoa(pid)).Output()
	parent, perr := strconv.Atoi(strings.TrimSpace(string(out)))
	return err == nil && perr == nil && parent == os.Getpid()
}

// children finds nothing: what it is for can wait for our end.
func children() []int { return nil }

// findKey finds nothing: environments of other processes cannot be read here.
func findKey(string) (pid int, start string) { return 0, "" }

// sessionOf cannot be told, and need not: it is for cgroups.
func sessionOf(int) int { return 0 }

func offerToOOM(int) {}

// keepDescriptors trusts whoever has started us to have kept theirs.
func keepDescriptors() error { return nil }

// awaitEnd returns after the process has ended. Our own child is reaped by then: nothing else tells of its end.
func (p *process) awaitEnd() {
	if p.child != nil {
		p.reap()
		return
	}
	p.watch.wait()
}

// watch polls: there is no handle to hold on to a process that is not our child.
type watch struct {
	pid   int
	start string
}

func openWatch(pid int, start string) watch { return watch{pid: pid, start: start} }

func (w watch) wait() { pollUntilGone(w.pid, w.start) }

func (w watch) signal(syscall.Signal, bool) error { return errNoHandleSignal }

func (w watch) close() {}

// canStartFrom says that a file cannot be started that has no path any more.
const canStartFrom = false

func pathOfExtra(int) string { panic("bug: a file without a path is started") }

// program cannot be told here.
func (p *process) program() *os.File { return nil }

// beingWritten cannot be told here.
func beingWritten(string) bool { return false }
