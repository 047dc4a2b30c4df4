package supervisor

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// Limits are what one worker process of a pool may use. The zero value limits nothing.
//
// What the host cannot enforce is told once in the log, and never a reason not to start workers.
type Limits struct {
	Files        int    // open descriptors (RLIMIT_NOFILE)
	Core         *int64 // bytes of a core file (RLIMIT_CORE); nil = as the daemon's
	AddressSpace int64  // bytes (RLIMIT_AS). Go programs reserve much more than they use
	Procs        int    // processes and threads of the worker's user, on the whole host (RLIMIT_NPROC); root has no such limit
	Nice         int    // 1 to 19: after others on the CPU; below 0: before them, where the daemon may do that
	Umask        *int   // of files that it makes; nil = as the daemon's
	NoNewPrivs   bool   // nothing that it runs gains rights by setuid, setgid or file capabilities

	// These hold for the worker and all that it starts, by a cgroup of version 2 where there is one with the controllers.
	// Where there is none, Memory, MemorySoft and PIDs are looked after every few seconds.
	Memory     int64   // bytes; above, the worker is killed
	MemorySoft int64   // bytes; above for half a minute, another worker takes its place and it may finish
	CPU        float64 // CPUs, such as 1.5
	PIDs       int     // processes and threads
}

// check says what to change.
func (l Limits) check() error {
	for _, n := range []struct {
		name  string
		value int64
	}{
		{"nofile", int64(l.Files)},
		{"address_space", l.AddressSpace},
		{"nproc", int64(l.Procs)},
		{"memory", l.Memory},
		{"memory_soft", l.MemorySoft},
		{"pids", int64(l.PIDs)},
	} {
		if n.value < 0 {
			return fmt.Errorf("limits: %s is %d, must not be negative", n.name, n.value)
		}
	}
	switch {
	case l.Core != nil && *l.Core < 0:
		return fmt.Errorf("limits: core is %d, must not be negative", *l.Core)
	case l.Files != 0 && l.Files < leastFiles:
		return fmt.Errorf("limits: nofile is %d, must be %d at least: a worker needs some to start and to connect", l.Files, leastFiles)
	case l.Nice < -20 || l.Nice > 19:
		return fmt.Errorf("limits: nice is %d, must be -20 to 19", l.Nice)
	case l.Umask != nil && (*l.Umask < 0 || *l.Umask > 0o777):
		return fmt.Errorf("limits: umask is %#o, must be 0 to 0777", *l.Umask)
	case !(l.CPU >= 0 && l.CPU <= maxCPU):
		return fmt.Errorf("limits: cpu is %v, must be 0 to %d", l.CPU, maxCPU)
	case l.CPU > 0 && l.CPU < leastCPU:
		return fmt.Errorf("limits: cpu is %v, must be %v at least", l.CPU, leastCPU)
	case l.Memory > 0 && l.MemorySoft > l.Memory:
		return fmt.Errorf("limits: memory_soft is %d bytes, more than memory, which is %d", l.MemorySoft, l.Memory)
	}
	return nil
}

// String is for people, such as "memory 512MiB, cpu 1.5"; "" = there are none.
func (l Limits) String() string {
	var all parts
	all.add(l.Memory > 0, "memory %s", sizeOf(l.Memory))
	all.add(l.MemorySoft > 0, "memory_soft %s", sizeOf(l.MemorySoft))
	all.add(l.CPU > 0, "cpu %v", l.CPU)
	all.add(l.PIDs > 0, "pids %d", l.PIDs)
	all.add(l.Files > 0, "nofile %d", l.Files)
	if l.Core != nil {
		all.add(true, "core %s", sizeOf(*l.Core))
	}
	all.add(l.AddressSpace > 0, "address_space %s", sizeOf(l.AddressSpace))
	all.add(l.Procs > 0, "nproc %d", l.Procs)
	all.add(l.Nice != 0, "nice %d", l.Nice)
	if l.Umask != nil {
		all.add(true, "umask %#o", *l.Umask)
	}
	all.add(l.NoNewPrivs, "no_new_privs")
	return all.String()
}

// parts are what is set, for people.
type parts []string

func (p *parts) add(set bool, format string, args ...any) {
	if set {
		*p = append(*p, fmt.Sprintf(format, args...))
	}
}

func (p parts) String() string { return strings.Join(p, ", ") }

// sizeOf writes bytes in the largest unit that loses nothing, as a configuration has them.
func sizeOf(bytes int64) string {
	units := []string{"", "KiB", "MiB", "GiB", "TiB"}
	no := 0
	for ; no < len(units)-1 && bytes != 0 && bytes%1024 == 0; no++ {
		bytes /= 1024
	}
	return strconv.FormatInt(bytes, 10) + units[no]
}

const (
	leastFiles = 16
	leastCPU   = 0.01
	maxCPU     = 10_000
)

// grouped says whether a cgroup is of use.
func (l Limits) grouped() bool { return l.Memory > 0 || l.MemorySoft > 0 || l.CPU > 0 || l.PIDs > 0 }

// before is what only a process itself can do before it becomes a worker.
func (l Limits) before(as *identity) shimOrder {
	return shimOrder{
		Files: l.Files, Core: l.Core, AddressSpace: l.AddressSpace, Procs: l.Procs, Nice: l.Nice, Umask: l.Umask, NoNewPrivs: l.NoNewPrivs, As: as,
	}
}

// shimOrder is what to do to oneself before becoming the worker.
type shimOrder struct {
	Path string `json:",omitempty"` // of the worker's program
	Pipe int    `json:",omitempty"` // descriptor to tell trouble to; what is behind it is closed

	Files        int       `json:",omitempty"`
	Core         *int64    `json:",omitempty"`
	AddressSpace int64     `json:",omitempty"`
	Procs        int       `json:",omitempty"`
	Nice         int       `json:",omitempty"`
	Umask        *int      `json:",omitempty"`
	NoNewPrivs   bool      `json:",omitempty"`
	As           *identity `json:",omitempty"` // nil = stay who we are
}

// identity is a user to run as.
type identity struct {
	UID, GID int
	Groups   []int
	name     string
	home     string
}

// identityOf finds the user that a pool names: "name" or "name:group", or their numbers.
func identityOf(spec string) (*identity, error) {
	name, group, grouped := strings.Cut(spec, ":")
	u, err := user.Lookup(name)
	if _, isNumber := strconv.Atoi(name); err != nil && isNumber == nil {
		u, err = user.LookupId(name)
	}
	if err != nil {
		return nil, fmt.Errorf("user %q: %w", spec, err)
	}
	id := &identity{name: u.Username, home: u.HomeDir}
	if id.UID, err = strconv.Atoi(u.Uid); err != nil {
		return nil, fmt.Errorf("user %q has the id %q, which is no number", spec, u.Uid)
	}
	gid := u.Gid
	if grouped {
		g, err := user.LookupGroup(group)
		if _, isNumber := strconv.Atoi(group); err != nil && isNumber == nil {
			g, err = user.LookupGroupId(group)
		}
		if err != nil {
			return nil, fmt.Errorf("user %q: %w", spec, err)
		}
		gid = g.Gid
	}
	if id.GID, err = strconv.Atoi(gid); err != nil {
		return nil, fmt.Errorf("user %q has the group %q, which is no number", spec, gid)
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("groups of user %q: %w", spec, err)
	}
	for _, text := range append(ids, gid) {
		if n, err := strconv.Atoi(text); err == nil {
			id.Groups = append(id.Groups, n)
		}
	}
	return id, nil
}

// checkUser says whether workers can run as that user.
func checkUser(spec string) error {
	if spec == "" {
		return nil
	}
	id, err := identityOf(spec)
	switch {
	case err != nil:
		return err
	case !hasShim:
		return errors.New("user: workers cannot be started as another user on this system")
	case os.Geteuid() != 0 && id.UID != os.Geteuid():
		return fmt.Errorf("user is %q, and only root can start processes of another user: start the daemon as root, or as that user", spec)
	}
	return nil
}

// identity is whom workers of this pool run as; nil = the daemon's user.
func (p Pool) identity() (*identity, error) {
	if p.User == "" {
		return nil, nil
	}
	id, err := identityOf(p.User)
	if err != nil || id.UID == os.Geteuid() && os.Geteuid() != 0 {
		return nil, err
	}
	return id, nil
}

// environment is what of the user the worker sees.
func (id *identity) environment() []string {
	if id == nil {
		return nil
	}
	return []string{"HOME=" + cmp.Or(id.home, "/"), "USER=" + id.name}
}

// workerOOM is added to what the kernel thinks of when it has to kill somebody for memory: workers go before the daemon.
const workerOOM = 200

// groupPrefix begins the name of each worker cgroup.
const groupPrefix = "respirate-"

// ownGroupPath says whether a path may be that of a worker cgroup.
func ownGroupPath(path string) bool {
	return filepath.IsAbs(path) && filepath.Clean(path) == path && strings.HasPrefix(filepath.Base(path), groupPrefix)
}

// controllers are those that enforce the limits which a cgroup is for, by the limits' names in a configuration.
func (l Limits) controllers() map[string]string {
	of := make(map[string]string)
	for _, c := range []struct {
		limit, controller string
		set               bool
	}{{"memory", "memory", l.Memory > 0}, {"memory_soft", "memory", l.MemorySoft > 0}, {"cpu", "cpu", l.CPU > 0}, {"pids", "pids", l.PIDs > 0}} {
		if c.set {
			of[c.limit] = c.controller
		}
	}
	return of
}

// lookedAt says what is done about a limit that the kernel does not enforce.
func lookedAt(limit string) string {
	switch {
	case limit == "cpu" || !hasSamples:
		return "nothing: there is no such limit on this host"
	case limit == "memory_soft":
		return "" // looked at in any case
	}
	return "workers are looked at every " + sampleEvery.String() + " and killed when they are above"
}
