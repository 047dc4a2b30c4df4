package protocol

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

const (
	header   = 4         // bytes of length before each frame
	startBuf = 4 << 10   // what a Reader starts with, whatever length a peer announces
	keepBuf  = 256 << 10 // a buffer that one frame grew beyond this is not kept for the next
)

// A Reader cuts a stream into frames. It is not safe for concurrent use.
type Reader struct {
	src   io.Reader
	max   int
	buf   []byte // buf[from:to] is read and not returned yet
	from  int
	to    int
	timer timer
}

// timer bounds the waits of a Reader.
type timer struct {
	conn  Deadliner // nil: no bounds
	idle  time.Duration
	rest  time.Duration
	begun bool // the deadline set now is that of a frame's rest
}

// A Deadliner is what a [Reader] needs of a net.Conn to bound its waits.
type Deadliner interface{ SetReadDeadline(t time.Time) error }

// NewReader returns a Reader of frames whose bodies are at most max bytes (at most [HardMaxFrame]).
func NewReader(src io.Reader, max int) *Reader {
	r := &Reader{src: src}
	r.SetMax(max)
	return r
}

// SetMax changes the limit for the frames that follow.
func (r *Reader) SetMax(max int) { r.max = min(max, HardMaxFrame) }

// SetTimeouts makes Next fail with a timeout of conn, which is the Reader's source, when a frame does not begin within
// idle, or does not end within rest from its first bytes. 0 means no bound. From now on the Reader owns conn's read deadline.
// It is called between two calls of Next.
func (r *Reader) SetTimeouts(conn Deadliner, idle, rest time.Duration) {
	r.timer = timer{conn: conn, idle: idle, rest: rest}
}

// Next returns the body of the next frame, valid until the next call. A stream that ends between two frames gives io.EOF,
// one that ends within a frame gives io.ErrUnexpectedEOF, wrapped; a length that is not allowed gives an *[Err]. After an error the
// stream is lost. Memory grows with the bytes that have arrived, never with those announced.
func (r *Reader) Next() ([]byte, error) {
	r.timer.begun = false
	if err := r.fill(header); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(r.buf[r.from:])
	if size == 0 {
		return nil, Errorf(CodeBadFrame, "a frame of length 0")
	}
	if uint64(size) > uint64(r.max) {
		return nil, Errorf(CodeTooLarge, "a frame of %d bytes, at most %d are allowed", size, r.max)
	}
	if err := r.fill(header + int(size)); err != nil {
		return nil, err
	}
	body := r.buf[r.from+header : r.from+header+int(size)]
	r.from += header + int(size)
	return body, nil
}

// fill reads until n bytes are there.
func (r *Reader) fill(n int) error {
	for r.to-r.from < n {
		if err := r.timer.arm(r.to > r.from); err != nil {
			return fmt.Errorf("set read deadline: %w", err)
		}
		r.makeRoom(n)
		got, err := r.src.Read(r.buf[r.to:])
		r.to += got
		if err != nil && r.to-r.from < n {
			return r.cut(n, err)
		}
	}
	return nil
}

// makeRoom leaves space behind what is buffered of a frame of n bytes. The buffer doubles only when that frame has filled it.
func (r *Reader) makeRoom(n int) {
	if r.from == r.to {
		r.from, r.to = 0, 0
		if len(r.buf) > keepBuf {
			r.buf = nil
		}
	}
	buf := r.buf
	switch {
	case len(buf) == 0:
		buf = make([]byte, startBuf)
	case r.to-r.from == len(buf):
		buf = make([]byte, 2*len(buf))
	case r.from == 0 || r.from+n <= len(buf):
		return
	}
	r.to = copy(buf, r.buf[r.from:r.to])
	r.from, r.buf = 0, buf
}

// cut is the error for a stream that ended, or failed, before n bytes were there.
func (r *Reader) cut(n int, err error) error {
	have := r.to - r.from
	if err == io.EOF && have == 0 {
		return io.EOF
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if have == 0 {
		return fmt.Errorf("read frame: %w", err)
	}
	return fmt.Errorf("read frame, %d of %d bytes: %w", have, n, err)
}

// arm sets the deadline for the next read: of a frame's rest if some of it is there, else of waiting for one.
func (t *timer) arm(begun bool) error {
	if t.conn == nil || begun && t.begun {
		return nil
	}
	t.begun = begun
	wait := t.idle
	if begun {
		wait = t.rest
	}
	if wait == 0 {
		return t.conn.SetReadDeadline(time.Time{})
	}
	return t.conn.SetReadDeadline(time.Now().Add(wait))
}
