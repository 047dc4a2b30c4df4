package supervisor

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/protocol"
)

// Pool is a set of worker processes of one binary with one configuration.
type Pool struct {
	Name        string         // names its logs and its place in workers.json; letters, digits, '.', '_', '-'; unique
	Binary      string         // path, or a name found in PATH
	Args        []string       // arguments after the binary's name
	Procs       int            // processes; 0 means 4, at most 10,000
	Slots       int            // concurrent runs in each process; 0 means 10, at most 1024
	Env         []string       // what workers see besides PATH, HOME, LANG ...: NAME as the daemon has it, or NAME=VALUE
	Dir         string         // working directory; "" = the daemon's
	StopTimeout time.Duration  // from TERM to KILL; 0 = that of Config
	Kinds       []string       // what its processes may serve, of the kinds that they announce; none = all
	Queues      []broker.Queue // that its processes may take strands of, at most 100; none = all
	Isolate     []string       // kinds whose strands run alone in a process; all are told who serve them on this host
	BootTimeout time.Duration  // a process that has not said hello by then is ended; 0 = 2 min
	Recycle     Recycle        // when a process has lived long enough
	User        string         // whom its processes run as: "name", "name:group", or numbers; "" = the daemon's user
	Limits      Limits         // of each process
}

// Recycle says when a process is replaced by a fresh one, which is connected before the old one is asked to end. Of a
// pool one at a time is, and each a little earlier than at its bound, so that they do not come together. 0 = never.
type Recycle struct {
	Strands int           // results that went well
	Age     time.Duration // since it was started
	RSS     int64         // bytes of memory
	Files   int           // open descriptors
}

// String is for people, such as "strands 10000, age 6h0m0s"; "" = never.
func (r Recycle) String() string {
	var all parts
	all.add(r.Strands > 0, "strands %d", r.Strands)
	all.add(r.Age > 0, "age %v", r.Age)
	all.add(r.RSS > 0, "rss %s", sizeOf(r.RSS))
	all.add(r.Files > 0, "files %d", r.Files)
	return all.String()
}

const (
	defaultProcs = 4
	defaultSlots = 10
	defaultBoot  = 2 * time.Minute
	maxProcs     = 10_000
	maxQueues    = 100
	maxSlots     = protocol.DefaultMaxN // a worker may hold no more strands than that
)

func compareQueues(a, b broker.Queue) int {
	return cmp.Or(strings.Compare(a.Tenant, b.Tenant), strings.Compare(a.Name, b.Name))
}

// commonEnv is what every worker may see of the daemon's environment.
var commonEnv = []string{"PATH", "HOME", "LANG", "TZ", "TMPDIR", "USER"}

// A name is part of file names, so it may not lead out of the folder, nor hide.
var poolName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$`)

// check fills in the defaults and makes paths absolute. Its errors say what to change.
func (p Pool) check(stop time.Duration) (Pool, error) {
	p.Procs = orElse(p.Procs, defaultProcs)
	p.Slots = orElse(p.Slots, defaultSlots)
	p.StopTimeout = orElse(p.StopTimeout, stop)
	p.BootTimeout = orElse(p.BootTimeout, defaultBoot)
	p.Queues = slices.Compact(slices.SortedFunc(slices.Values(p.Queues), compareQueues)) // none stays nil
	if err := p.checkFields(); err != nil {
		return p, fmt.Errorf("pool %q: %w", p.Name, err)
	}
	var err error
	if p.Dir != "" {
		if p.Dir, err = findDir(p.Dir); err != nil {
			return p, fmt.Errorf("pool %q: working directory: %w", p.Name, err)
		}
	}
	if p.Binary, err = findBinary(p.Binary); err != nil {
		return p, fmt.Errorf("pool %q: %w", p.Name, err)
	}
	return p, nil
}

// unfit is an error of a pool that could be, but for its binary: that cannot be started now, and may be by and by.
type unfit struct{ error }

func (u unfit) Unwrap() error { return u.error }

func orElse[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

func (p Pool) checkFields() error {
	switch {
	case !poolName.MatchString(p.Name):
		return errors.New("name must be 1 to 64 letters, digits, '.', '_' or '-', and not start with '.' or '-'")
	case p.Procs < 1 || p.Procs > maxProcs:
		return fmt.Errorf("procs is %d, must be 1 to %d", p.Procs, maxProcs)
	case p.Slots < 1 || p.Slots > maxSlots:
		return fmt.Errorf("slots is %d, must be 1 to %d", p.Slots, maxSlots)
	case p.StopTimeout < 0:
		return fmt.Errorf("stop timeout is %v, must not be negative", p.StopTimeout)
	case p.BootTimeout < 0:
		return fmt.Errorf("boot timeout is %v, must not be negative", p.BootTimeout)
	case p.Recycle.Strands < 0 || p.Recycle.Age < 0 || p.Recycle.RSS < 0 || p.Recycle.Files < 0:
		return errors.New("recycle: a bound must not be negative")
	}
	if err := errors.Join(p.Limits.check(), checkUser(p.User)); err != nil {
		return err
	}
	if len(p.Queues) > maxQueues {
		return fmt.Errorf("queues lists %d, must be %d at most", len(p.Queues), maxQueues)
	}
	for _, q := range p.Queues {
		if q.Name == "" {
			return errors.New("queues lists one without a name")
		}
	}
	if slices.Contains(p.Kinds, "") {
		return errors.New("kinds lists one without a name: none at all = all kinds")
	}
	for _, arg := range p.Args {
		if strings.Contains(arg, "\x00") {
			return fmt.Errorf("args lists %q, and no process can be given a NUL", arg)
		}
	}
	for _, kind := range p.Isolate {
		if kind == "" || p.Kinds != nil && !slices.Contains(p.Kinds, kind) {
			return fmt.Errorf("isolate lists %q, must be a kind that the pool may serve", kind)
		}
	}
	for _, entry := range p.Env {
		if name, _, _ := strings.Cut(entry, "="); name == "" || strings.Contains(entry, "\x00") {
			return fmt.Errorf("env lists %q, must be NAME of a variable of the daemon, or NAME=VALUE", entry)
		}
	}
	return nil
}

// findBinary returns the absolute path of a program that can be run.
func findBinary(binary string) (string, error) {
	if binary == "" {
		return "", errors.New("no worker binary given")
	}
	if !strings.Contains(binary, "/") {
		path, err := exec.LookPath(binary)
		if err != nil {
			return "", fmt.Errorf("worker binary %q is not in PATH: give its path, such as ./%s", binary, binary)
		}
		binary = path
	}
	path, err := filepath.Abs(binary)
	if err != nil {
		return "", fmt.Errorf("worker binary %q: %w", binary, err)
	}
	if err := checkBinary(path); err != nil {
		return path, unfit{err}
	}
	return path, nil
}

func checkBinary(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("worker binary %s does not exist: build it or correct the path", path)
	case err != nil:
		return fmt.Errorf("worker binary: %w", err)
	case info.IsDir():
		return fmt.Errorf("worker binary %s is a folder: name the program in it", path)
	case !info.Mode().IsRegular():
		return fmt.Errorf("worker binary %s is not a regular file (%v)", path, info.Mode().Type())
	case info.Mode()&0o111 == 0:
		return fmt.Errorf("worker binary %s is not executable: chmod +x %s", path, path)
	}
	return nil
}

func findDir(dir string) (string, error) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("%q: %w", dir, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return "", fmt.Errorf("%s is not a folder", path)
	}
	return path, nil
}

// environment is all that a worker of this pool sees. It may run as somebody else; nil = as we do.
func (p Pool) environment(socket, key string, as *identity) []string {
	var env []string
	for _, entry := range append(commonEnv[:len(commonEnv):len(commonEnv)], p.Env...) {
		if strings.Contains(entry, "=") {
			env = append(env, entry)
		} else if value, ok := os.LookupEnv(entry); ok {
			env = append(env, entry+"="+value)
		}
	}
	// Ours come last: of two values the last one counts.
	return append(append(env, as.environment()...),
		"RESPIRATE_SOCKET="+socket,
		"RESPIRATE_WORKER_KEY="+key,
		"RESPIRATE_SLOTS="+strconv.Itoa(p.Slots))
}

// image tells one version of a binary from another.
type image struct {
	dev, inode uint64
	size       int64
	changed    time.Time
}

func imageOf(path string) (image, error) {
	info, err := os.Stat(path)
	if err != nil {
		return image{}, err
	}
	return imageIn(info), nil
}

func imageOfFile(f *os.File) (image, error) {
	info, err := f.Stat()
	if err != nil {
		return image{}, err
	}
	return imageIn(info), nil
}

func imageIn(info fs.FileInfo) image {
	im := image{size: info.Size(), changed: info.ModTime()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		im.dev, im.inode = uint64(st.Dev), uint64(st.Ino)
	}
	return im
}

// String names the version in listings, and for the next daemon: the same in each of them.
func (im image) String() string {
	if im == (image{}) {
		return ""
	}
	sum := fnv.New64a()
	fmt.Fprintf(sum, "%d %d %d %d", im.dev, im.inode, im.size, im.changed.UnixNano())
	return strconv.FormatUint(sum.Sum64(), 16)
}
