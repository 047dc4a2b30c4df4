package supervisor

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"reflect"
	"strings"

	"golang.org/x/sys/unix"
)

// build is what processes are started from: one version of a binary, and how it is run. The loop owns it.
type build struct {
	pool  Pool
	image image    // zero = not known
	file  *os.File // that version, also when its path has another one; nil where it cannot be read
}

// newBuild takes hold of what is at the binary's path now.
func newBuild(p Pool) *build {
	b := &build{pool: p}
	if f, err := openBinary(p.Binary); err == nil {
		if b.image, err = imageOfFile(f); err == nil && canStartFrom {
			b.file = f
			return b
		}
		f.Close()
	}
	b.image, _ = imageOf(p.Binary) // a program need not be readable
	return b
}

// openBinary opens a program's file. It does not wait for somebody to write to what is none, as open(2) does of a pipe: the
// loop is not to be held up.
func openBinary(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
}

// close lets go of the version. Processes that run it do not need it.
func (b *build) close() {
	if b.file != nil {
		b.file.Close()
		b.file = nil
	}
}

// kept is the version, if its path has another one or nothing now. A file that was overwritten in place is lost.
func (b *build) kept() *os.File {
	if b.file == nil {
		return nil
	}
	if now, err := imageOf(b.pool.Binary); err == nil && now == b.image {
		return nil
	}
	if now, err := imageOfFile(b.file); err != nil || now.inode != b.image.inode || now.size != b.image.size || !now.changed.Equal(b.image.changed) {
		return nil
	}
	return b.file
}

// runsAs tells apart the ways in which processes of a pool are started, as runsLike does, between one daemon and the next.
// What is not set makes no difference, so that a build which knows more settings finds the same.
func (p Pool) runsAs() string {
	p.Procs, p.Recycle, p.StopTimeout, p.BootTimeout, p.Queues, p.Isolate = 0, Recycle{}, 0, 0, nil, nil
	return p.sum()
}

// sum tells apart pools of which anything is set in another way.
func (p Pool) sum() string {
	sum := sha256.Sum256([]byte(settings(reflect.ValueOf(p))))
	return hex.EncodeToString(sum[:8])
}

// settings are the fields of a struct that are set.
func settings(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Pointer:
		return settings(v.Elem())
	case reflect.Struct:
		var text strings.Builder
		for i := range v.NumField() {
			if f := v.Field(i); !f.IsZero() && !(f.Kind() == reflect.Slice && f.Len() == 0) {
				fmt.Fprintf(&text, "%s: %s\n", v.Type().Field(i).Name, settings(f))
			}
		}
		return text.String()
	}
	return fmt.Sprintf("%#v", v)
}

// runsLike says whether processes of both pools are started in the same way. How many there are, when they are recycled, and
// which strands they get makes no difference to them.
func (p Pool) runsLike(q Pool) bool {
	p.Procs, p.Recycle, p.StopTimeout, p.BootTimeout = q.Procs, q.Recycle, q.StopTimeout, q.BootTimeout
	p.Queues, p.Isolate = q.Queues, q.Isolate
	return reflect.DeepEqual(p, q)
}
