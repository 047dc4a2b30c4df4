package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// dropIns are the files of WorkersDir. Each executable there is a pool of its own, named after the file, for as long as the
// file is there: what it serves it says itself. A file that others could have written is not started.
type dropIns struct {
	dir     string // "" = there is none
	lookAt  time.Time
	files   map[string]*dropIn // by name
	unread  string             // why the folder cannot be read, as it was said
	refused []PoolInfo         // in order of names
}

// dropIn is a file there.
type dropIn struct {
	rest    settling
	missing int    // looks in a row that did not find it
	refused string // why it is not started, as it was said; "" = it is
}

// mostMissing is how many looks a file may be gone for: some deployments move the old one away first.
const mostMissing = 2

// unfinished are endings of files that editors and copying programs leave, or have not finished yet.
var unfinished = []string{"~", ".tmp", ".new", ".old", ".bak", ".orig", ".rej", ".swp", ".part", ".partial", ".dpkg-new", ".dpkg-old", ".dpkg-tmp", ".rpmnew", ".rpmsave"}

func ignored(name string) bool {
	ends := func(end string) bool { return strings.HasSuffix(name, end) }
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "#") || slices.ContainsFunc(unfinished, ends)
}

// lookIn notices files that have come and gone. The seats of new ones are not filled yet: a former daemon's workers may be
// theirs. That a file has changed is noticed as with any other pool.
func (l *loop) lookIn(now time.Time) {
	d := &l.dropIns
	if d.dir == "" || now.Before(d.lookAt) {
		return
	}
	d.lookAt = now.Add(l.lookEvery)
	entries, err := os.ReadDir(d.dir)
	if said := fmt.Sprint(err); err != nil {
		if said != d.unread {
			l.log.Error("folder of workers cannot be read: its pools stay as they are", "error", err)
		}
		d.unread = said
		return
	}
	d.unread = ""
	found := make(map[string]bool)
	for _, e := range entries {
		if !ignored(e.Name()) && l.lookAtFile(now, e.Name()) {
			found[e.Name()] = true
		}
	}
	for name, file := range d.files {
		if file.missing++; found[name] {
			file.missing = 0
		}
		if file.missing >= mostMissing {
			l.dropOut(name)
		}
	}
	d.list()
}

// lookAtFile says whether there is something to be a pool, and makes it one once it is whole.
func (l *loop) lookAtFile(now time.Time, name string) bool {
	d := &l.dropIns
	path := filepath.Join(d.dir, name)
	info, err := os.Lstat(path)
	if err != nil || info.IsDir() || info.Mode().IsRegular() && info.Mode()&0o111 == 0 {
		return false
	}
	file := d.files[name]
	if file == nil {
		file = &dropIn{}
		d.files[name] = file
	}
	c := l.crewOf(name)
	if c != nil && c.dropIn {
		return true
	}
	if !file.rest.look(now, imageIn(info), l.lookEvery) {
		return true
	}
	switch {
	case c != nil:
		err = errors.New("the configuration has a pool of this name")
	default:
		err = safe(d.dir, path)
	}
	if err == nil && beingWritten(path) { // which opens it: a file that others have put there is not even opened
		return true
	}
	p := Pool{Name: name, Binary: path}
	if err == nil {
		p, err = p.check(l.cfg.StopTimeout)
	}
	if err != nil {
		l.refuse(name, file, err)
		return true
	}
	file.refused = ""
	l.log.Info("pool is new: its file has come", "pool", name, "binary", path)
	l.addCrew(p).dropIn = true
	return true
}

func (l *loop) refuse(name string, file *dropIn, err error) {
	if file.refused != err.Error() {
		l.log.Error("file in the folder of workers is refused", "pool", name, "error", err)
	}
	file.refused = err.Error()
}

// dropOut ends the pool of a file that is gone.
func (l *loop) dropOut(name string) {
	delete(l.dropIns.files, name)
	if c := l.crewOf(name); c != nil && c.dropIn {
		l.removeCrew(c)
	}
}

// list tells of files that are not started.
func (d *dropIns) list() {
	d.refused = nil
	for name, file := range d.files {
		if file.refused != "" {
			d.refused = append(d.refused, PoolInfo{Name: name, Binary: filepath.Join(d.dir, name), State: "refused", Note: file.refused, DropIn: true})
		}
	}
	slices.SortFunc(d.refused, func(a, b PoolInfo) int { return strings.Compare(a.Name, b.Name) })
}

// safe refuses a file that somebody else than root and us could have written, or put there.
func safe(dir, path string) error {
	folder, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if err := ours(folder); err != nil {
		return fmt.Errorf("folder %s %w", dir, err)
	}
	file, err := os.Lstat(path)
	if err != nil {
		return err
	}
	switch err := ours(file); {
	case file.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("file %s is a symbolic link: put the program itself there", path)
	case err != nil:
		return fmt.Errorf("file %s %w", path, err)
	}
	return nil
}

func ours(info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok || st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return errors.New("belongs to somebody else: chown it to root, or to the daemon's user")
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("can be written by others (mode %04o): chmod go-w", info.Mode().Perm())
	}
	return nil
}

// takeIn makes a pool of each file that is there when a daemon begins, so that it finds the workers of a former one.
func (l *loop) takeIn(now time.Time) {
	if l.dropIns.dir == "" {
		return
	}
	l.lookIn(now)
	for name, file := range l.dropIns.files {
		if file.refused == "" {
			l.lookAtFile(now.Add(l.lookEvery), name) // if it is being written just now it is changed soon, and that is noticed
		}
	}
	l.dropIns.list()
	l.dropIns.lookAt = now.Add(l.lookEvery)
}
