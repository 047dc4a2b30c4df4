package supervisor

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	maxLine   = 64 << 10 // bytes of a line; the rest of it is passed over
	readChunk = 4 * maxLine
)

// LogReader reads the lines of a worker's log from where it was left. The log may be set aside meanwhile, be punched, or
// even be cut: what is lost by that is counted. It is not for several goroutines.
type LogReader struct {
	path   string
	stream string
	place  place
	ends   []logEnd // of processes that wrote to it, in order; at most maxEnds
	buf    []byte   // readChunk; nil = it is made when there is something to read
	lost   int64    // bytes, since Lost was asked
}

// logEnd says that up to an offset, and after the end before, a log is of a process that has ended.
type logEnd struct {
	path   string
	inode  uint64
	offset int64
	pid    int
}

// maxEnds are as many as a pool in a crash loop may have between two turns of a reader, and more.
const maxEnds = 100

// place is where a reader is. It can be written down.
type place struct {
	Inode  uint64 `json:"inode"`          // 0 = at the beginning of whatever file there is
	Offset int64  `json:"offset"`         // of what has not been read
	Amid   bool   `json:"amid,omitempty"` // of a line whose rest is to be passed over
}

// NewLogReader reads the log of a stream, "out" or "err", from its beginning.
func NewLogReader(path, stream string) *LogReader { return &LogReader{path: path, stream: stream} }

// Stream is what it reads: out or err.
func (r *LogReader) Stream() string { return r.stream }

// ToLast goes to the n-th line from the end of the file as it is now.
func (r *LogReader) ToLast(n int) error {
	f, info, err := openToRead(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	r.place = place{Inode: inodeOf(info), Offset: startOfLast(f, info.Size(), n)}
	return nil
}

// startOfLast is where the n-th line from the end begins. What follows the last line's end counts as a line.
func startOfLast(f io.ReaderAt, size int64, n int) int64 {
	if n <= 0 {
		return size
	}
	buf := make([]byte, readChunk)
	for end := size; end > 0; {
		chunk := buf[:min(end, readChunk)]
		if got, err := f.ReadAt(chunk, end-int64(len(chunk))); got < len(chunk) && err != nil {
			return end
		}
		begin := end - int64(len(chunk))
		for i := len(chunk) - 1; i >= 0; i-- {
			switch {
			case chunk[i] == 0: // a hole
				return begin + int64(i) + 1
			case chunk[i] != '\n' || begin+int64(i) == size-1:
			case n == 1:
				return begin + int64(i) + 1
			default:
				n--
			}
		}
		end = begin
	}
	return 0
}

// Lost is how many bytes were passed over since it was asked last: they were gone, or too much to be read in time.
func (r *LogReader) Lost() int64 {
	lost := r.lost
	r.lost = 0
	return lost
}

// Read calls each with every whole line that is there, up to about budget bytes of them, and tells whether there may be
// more. With end, what follows the last whole line is a line, too.
func (r *LogReader) Read(budget int, end bool, each func(LogLine)) (more bool, err error) {
	return r.read(budget, end, func(l LogLine, _ int) { each(l) })
}

// read also tells of each line whose it is, if that process has ended; 0 = it has not.
func (r *LogReader) read(budget int, end bool, each func(l LogLine, pid int)) (more bool, err error) {
	if r.nothingNew() {
		return false, nil
	}
	f, last, err := r.open()
	if f == nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	size := info.Size()
	r.find(f, inodeOf(info), size)
	if r.buf == nil {
		r.buf = make([]byte, readChunk)
	}
	for begin := r.place.Offset; r.place.Offset < size; {
		if r.place.Offset-begin >= int64(budget) {
			return true, nil
		}
		until, pid := size, 0
		if e, ok := r.nextEnd(size); ok {
			until, pid = e.offset, e.pid
		}
		n, err := f.ReadAt(r.buf[:min(readChunk, until-r.place.Offset)], r.place.Offset)
		whole := r.place.Offset+int64(n) == until && (end || !last || pid != 0)
		if r.lines(r.buf[:n], whole, func(l LogLine) { each(l, pid) }) == 0 {
			break // a line that is not whole
		}
		if err != nil && err != io.EOF {
			return false, err
		}
	}
	if r.place.Offset < size || last {
		return false, nil
	}
	r.forget(r.place.Inode) // on with the next file
	return true, nil
}

// nothingNew is for most turns of most logs.
func (r *LogReader) nothingNew() bool {
	info, err := os.Lstat(r.path)
	return err == nil && inodeOf(info) == r.place.Inode && info.Size() == r.place.Offset
}

// nextEnd is the end of the process whose line is read next, if it has ended and others have written since.
func (r *LogReader) nextEnd(size int64) (logEnd, bool) {
	for _, e := range r.ends {
		if e.inode == r.place.Inode && e.offset > r.place.Offset && e.offset <= size {
			return e, true
		}
	}
	return logEnd{}, false
}

// forget leaves a file for ever.
func (r *LogReader) forget(inode uint64) {
	r.place = place{}
	r.ends = slices.DeleteFunc(r.ends, func(e logEnd) bool { return e.inode == inode })
}

// lines hands out the lines of a chunk, and returns how much of it they were.
func (r *LogReader) lines(chunk []byte, end bool, each func(LogLine)) (used int) {
	for used < len(chunk) {
		rest := chunk[used:]
		line, step := rest, len(rest)
		at := bytes.IndexByte(rest, '\n')
		switch {
		case at >= 0:
			line, step = rest[:at], at+1
		case !r.place.Amid && len(rest) < maxLine && !end:
			return used
		}
		cut := len(line) > maxLine || at < 0 && !end
		if !r.place.Amid {
			each(newLogLine(r.stream, line[:min(len(line), maxLine)], cut))
		}
		r.place.Amid = at < 0 && !end
		r.place.Offset += int64(step)
		used += step
	}
	return used
}

// open opens the file that the place is in, and tells whether it is the last one. nil = there is none.
func (r *LogReader) open() (f *os.File, last bool, err error) {
	f, info, err := openToRead(r.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	if r.place.Inode == 0 || err == nil && inodeOf(info) == r.place.Inode {
		return f, true, nil
	}
	if old, oldInfo, err := openToRead(setAside(r.path)); err == nil {
		if inodeOf(oldInfo) == r.place.Inode {
			if f != nil {
				f.Close()
			}
			return old, false, nil
		}
		old.Close()
	}
	if f != nil { // the file that we were in is gone
		r.forget(r.place.Inode)
	}
	return f, true, nil
}

// find goes on to where there is something to read.
func (r *LogReader) find(f *os.File, inode uint64, size int64) {
	r.place.Inode = inode
	if r.place.Offset > size { // somebody has cut it
		r.place.Offset, r.place.Amid = 0, false
	}
	if r.place.Offset == size {
		return
	}
	if data := min(afterHole(f, r.place.Offset), size); data > r.place.Offset {
		r.skipTo(data)
	}
}

// SkipAllBut passes over what would be more to read.
func (r *LogReader) SkipAllBut(most int64) {
	info, err := os.Lstat(r.path)
	if err == nil && r.place.Inode == 0 {
		r.place.Inode = inodeOf(info)
	}
	if err == nil && inodeOf(info) == r.place.Inode && info.Size()-r.place.Offset > most {
		r.skipTo(info.Size() - most/2)
	}
}

func (r *LogReader) skipTo(offset int64) {
	r.lost += offset - r.place.Offset
	r.place.Offset, r.place.Amid = offset, true
}

// openToRead opens a log, which nobody may have replaced by something else.
func openToRead(path string) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New(path + " is not a regular file")
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

func inodeOf(info fs.FileInfo) uint64 { return uint64(info.Sys().(*syscall.Stat_t).Ino) }
