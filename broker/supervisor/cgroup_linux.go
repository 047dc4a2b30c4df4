package supervisor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Worker cgroups are folders of version 2 beneath our own: made before a worker, which is born in its own, and removed after
// its death. All that is done to them is to write some words into files.

// daemonGroup is where the daemon itself goes, if it has to: controllers can be had for folders beneath a cgroup only while
// no process is in that cgroup itself.
const daemonGroup = "respirated"

// groupHome is where worker cgroups can be made, and what they can enforce.
type groupHome struct {
	base        string            // "" = nowhere
	controllers []string          // for what is beneath it
	why         string            // there is none
	missing     map[string]string // controller: why it does not work beneath base
}

// findGroupHome looks for our own cgroup, and has these controllers work beneath it, as far as they are to be had. ours tells
// which processes may be moved for that.
func findGroupHome(controllers []string, ours func(pid int) bool) groupHome {
	mount, err := groupMount()
	if err != nil {
		return groupHome{why: err.Error()}
	}
	own, err := ownGroup()
	if err != nil {
		return groupHome{why: err.Error()}
	}
	base := filepath.Join(mount, own)
	if filepath.Base(base) == daemonGroup { // we went there before
		base = filepath.Dir(base)
	}
	if err := unix.Access(base, unix.W_OK); err != nil {
		return groupHome{why: "our cgroup is not ours to change: " + err.Error()}
	}
	return enableIn(base, controllers, ours)
}

// groupMount is where the cgroups of version 2 are.
func groupMount() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(mounts)) {
		before, after, _ := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if strings.HasPrefix(after, "cgroup2 ") && len(fields) > 4 {
			return fields[4], nil
		}
	}
	return "", errors.New("no cgroup v2")
}

// ownGroup is our cgroup, as a path beneath the mount.
func ownGroup() (string, error) {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(groups)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSpace(path), nil
		}
	}
	return "", errors.New("no cgroup v2")
}

// enableIn has controllers work for the folders beneath base.
func enableIn(base string, controllers []string, ours func(pid int) bool) groupHome {
	home := groupHome{base: base, missing: make(map[string]string)}
	available := wordsOf(filepath.Join(base, "cgroup.controllers"))
	for _, name := range controllers {
		if err := enable(base, name, available, ours); err != nil {
			home.missing[name] = err.Error()
			continue
		}
		home.controllers = append(home.controllers, name)
	}
	return home
}

// lacks says why a controller does not work for workers; "" = it does.
func (h groupHome) lacks(controller string) string {
	if h.base == "" {
		return h.why
	}
	return h.missing[controller]
}

func enable(base, controller string, available []string, ours func(pid int) bool) error {
	control := filepath.Join(base, "cgroup.subtree_control")
	switch {
	case slices.Contains(wordsOf(control), controller):
		return nil
	case !slices.Contains(available, controller):
		return fmt.Errorf("no cgroup v2 %s controller", controller)
	}
	err := writeWord(control, "+"+controller)
	if errors.Is(err, unix.EBUSY) {
		if err = stepAside(base, ours); err == nil {
			err = writeWord(control, "+"+controller)
		}
	}
	if err != nil {
		return fmt.Errorf("cgroup v2 %s controller: %w", controller, err)
	}
	return nil
}

// stepAside moves us, and workers that were started without a cgroup of their own, out of a cgroup that has nobody else in it.
func stepAside(base string, ours func(pid int) bool) error {
	leaf := filepath.Join(base, daemonGroup)
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	const tries = 10 // somebody may be forked meanwhile
	for range tries {
		in := wordsOf(filepath.Join(base, "cgroup.procs"))
		if len(in) == 0 {
			return nil
		}
		for _, word := range in {
			if pid, err := strconv.Atoi(word); err != nil || !ours(pid) {
				return fmt.Errorf("our cgroup has another process in it, %s", word)
			}
		}
		for _, pid := range in {
			if err := writeWord(filepath.Join(leaf, "cgroup.procs"), pid); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	return errors.New("processes in our cgroup go on to start others")
}

// group is the cgroup of one worker.
type group struct {
	path string
	dir  *os.File // for the worker to be born in; nil = adopted
}

// make makes a cgroup with the limits that the controllers can enforce.
func (h groupHome) make(name string, l Limits) (*group, error) {
	path := filepath.Join(h.base, groupPrefix+name)
	if err := os.Mkdir(path, 0o755); err != nil {
		return nil, fmt.Errorf("make a cgroup: %w", err)
	}
	g := &group{path: path}
	for _, set := range h.settings(l) {
		if err := writeWord(filepath.Join(path, set.file), set.value); err != nil {
			g.remove()
			return nil, fmt.Errorf("set %s of a cgroup: %w", set.file, err)
		}
	}
	var err error
	if g.dir, err = os.Open(path); err != nil {
		g.remove()
		return nil, fmt.Errorf("open a cgroup: %w", err)
	}
	return g, nil
}

type groupSetting struct{ file, value string }

// cpuPeriod is in which time a worker may use its share of CPU.
const cpuPeriod = 100 * time.Millisecond

func (h groupHome) settings(l Limits) (settings []groupSetting) {
	add := func(controller string, wanted bool, file, value string) {
		if wanted && slices.Contains(h.controllers, controller) {
			settings = append(settings, groupSetting{file, value})
		}
	}
	add("memory", l.MemorySoft > 0, "memory.high", strconv.FormatInt(l.MemorySoft, 10))
	add("memory", l.Memory > 0, "memory.max", strconv.FormatInt(l.Memory, 10))
	add("memory", l.Memory > 0, "memory.oom.group", "1")
	add("pids", l.PIDs > 0, "pids.max", strconv.Itoa(l.PIDs))
	period := cpuPeriod.Microseconds()
	add("cpu", l.CPU > 0, "cpu.max", fmt.Sprintf("%d %d", int64(l.CPU*float64(period)), period))
	return settings
}

// kill ends all that is in the cgroup, whatever session it has made for itself.
func (g *group) kill() {
	if g != nil {
		_ = writeWord(filepath.Join(g.path, "cgroup.kill"), "1") // before Linux 5.14 the group of processes has to do
	}
}

// oomKills is how many processes the kernel has killed because of the memory limit.
func (g *group) oomKills() int64 {
	for _, line := range g.lines("memory.events") {
		if n, ok := strings.CutPrefix(line, "oom_kill "); ok {
			return numberOf(n)
		}
	}
	return 0
}

// usage is what all that was in the cgroup has used.
func (g *group) usage() (u usage) {
	for _, line := range g.lines("memory.peak") { // from Linux 5.19 on
		u.peak = numberOf(line)
	}
	for _, line := range g.lines("cpu.stat") {
		if n, ok := strings.CutPrefix(line, "usage_usec "); ok {
			u.cpu = time.Duration(numberOf(n)) * time.Microsecond
		}
	}
	return u
}

// tasks is how many processes and threads are in the cgroup; 0 = not known.
func (g *group) tasks() int {
	if g == nil {
		return 0
	}
	return len(wordsOf(filepath.Join(g.path, "cgroup.threads")))
}

func (g *group) lines(file string) []string {
	if g == nil {
		return nil
	}
	text, _ := os.ReadFile(filepath.Join(g.path, file)) // no file, no limit
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// receive has a process be born in the cgroup.
func (g *group) receive(attr *syscall.SysProcAttr) {
	if g != nil {
		attr.UseCgroupFD, attr.CgroupFD = true, int(g.dir.Fd())
	}
}

// close says that the worker is born.
func (g *group) close() {
	if g != nil && g.dir != nil {
		_ = g.dir.Close()
		g.dir = nil
	}
}

// remove removes the cgroup of a process that is no more. What is left in it is killed first.
func (g *group) remove() {
	if g == nil {
		return
	}
	g.close()
	const tries, apart = 50, 10 * time.Millisecond // killed processes are in it until they are dead
	for range tries {
		if err := unix.Rmdir(g.path); err != unix.EBUSY {
			return
		}
		g.kill()
		time.Sleep(apart)
	}
}

// adoptGroup takes over the cgroup of a former daemon's worker.
func adoptGroup(path string) *group {
	if path == "" {
		return nil
	}
	return &group{path: path}
}

// writeWord is how all is told to the kernel.
func writeWord(file, word string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(word)
	return errors.Join(err, f.Close())
}

func wordsOf(file string) []string {
	text, _ := os.ReadFile(file)
	return strings.Fields(string(text))
}

func numberOf(text string) int64 {
	n, _ := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	return n
}
