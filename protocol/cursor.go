package protocol

import (
	"bytes"
	"fmt"
	"io"

	"github.com/vmihailenco/msgpack/v5"
)

// cursor reads the values of one scanned frame through the library's decoder. The library converts between types where it can (bin to
// str, -1 to 2^64-1); the cursor looks at a value's first byte before, and refuses.
type cursor struct {
	frame []byte
	src   bytes.Reader
	dec   *msgpack.Decoder
	names [16]string // recent short texts, by hash: a frame repeats its kinds, labels and queues
	room  int        // entries of lists that may still be allocated before they are seen
}

// minEntry is less than what an entry of a list takes on the wire, if it passes.
const minEntry = 24

// newCursor returns a cursor at the start of the frame; close it.
func newCursor(frame []byte) *cursor {
	c := &cursor{frame: frame, dec: msgpack.GetDecoder(), room: len(frame) / minEntry}
	c.src.Reset(frame)
	c.dec.Reset(&c.src)
	return c
}

func (c *cursor) close() { msgpack.PutDecoder(c.dec) }

func (c *cursor) pos() int { return len(c.frame) - c.src.Len() }

// back returns to a position.
func (c *cursor) back(pos int) { _, _ = c.src.Seek(int64(pos), io.SeekStart) }

// skip steps over a value. The library's Skip would recurse, and keep a buffer as large as the largest bin it ever skipped.
func (c *cursor) skip() error {
	l := lexer{frame: c.frame, pos: c.pos()}
	for todo := 1; todo > 0; todo-- {
		t, err := l.next()
		if err != nil {
			return err
		}
		switch t.kind {
		case kindArray:
			todo += int(t.n)
		case kindMap:
			todo += 2 * int(t.n)
		}
	}
	c.back(l.pos)
	return nil
}

// is reports whether the next value is of a kind.
func (c *cursor) is(k kind) bool { return kindOf(c.frame[c.pos()]) == k }

// kindOf tells a value's kind by its first byte, in a frame that the scanner let pass.
func kindOf(b byte) kind {
	switch {
	case b <= 0x7f || b >= 0xe0 || b >= 0xcc && b <= 0xd3:
		return kindInt
	case b <= 0x8f || b >= 0xde:
		return kindMap
	case b <= 0x9f || b >= 0xdc:
		return kindArray
	case b <= 0xbf || b >= 0xd9:
		return kindStr
	case b >= 0xc4:
		return kindBin
	case b == 0xc0:
		return kindNil
	}
	return kindBool
}

// expect gives a fault unless the next value is of a kind.
func (c *cursor) expect(k kind) error {
	if got := kindOf(c.frame[c.pos()]); got != k {
		return misfit("a %s, want a %s", got, k)
	}
	return nil
}

// String is the name that messages and PROTOCOL.md use.
func (k kind) String() string {
	return [...]string{"nil", "bool", "int", "str", "bin", "array", "map"}[k]
}

// raw reads a str or bin without copying it.
func (c *cursor) raw(k kind) ([]byte, error) {
	if err := c.expect(k); err != nil {
		return nil, err
	}
	n, err := c.dec.DecodeBytesLen()
	if err != nil {
		return nil, err
	}
	at := c.pos()
	c.back(at + n)
	return c.frame[at : at+n], nil
}

// text reads a str of at most limit bytes without copying it.
func (c *cursor) text(limit int) ([]byte, error) {
	b, err := c.raw(kindStr)
	if err == nil && len(b) > limit {
		return nil, &fault{code: CodeTooLarge, why: fmt.Sprintf("%d bytes, at most %d are allowed", len(b), limit)}
	}
	return b, err
}

// str reads a str of at most limit bytes.
func (c *cursor) str(to *string, limit int) error {
	b, err := c.text(limit)
	*to = string(b)
	return err
}

// shared reads a str that is likely to come again in this frame, and then shares its memory.
func (c *cursor) shared(to *string, limit int) error {
	b, err := c.text(limit)
	if err != nil {
		return err
	}
	slot := &c.names[hash(b)%uint32(len(c.names))]
	if *slot != string(b) {
		*slot = string(b)
	}
	*to = *slot
	return nil
}

// bin reads a copy of a bin.
func (c *cursor) bin(to *[]byte) error {
	b, err := c.raw(kindBin)
	*to = bytes.Clone(b)
	return err
}

// uint reads an int from min to max.
func (c *cursor) uint(to *uint64, lo, hi uint64) error {
	if err := c.expect(kindInt); err != nil {
		return err
	}
	negative := c.negative()
	n, err := c.dec.DecodeUint64()
	switch {
	case err != nil:
		return err
	case negative:
		return misfit("%d, want %d to %d", int64(n), lo, hi)
	case n < lo || n > hi:
		return misfit("%d, want %d to %d", n, lo, hi)
	}
	*to = n
	return nil
}

// int reads an int that need not be positive.
func (c *cursor) int(to *int64) error {
	if err := c.expect(kindInt); err != nil {
		return err
	}
	negative := c.negative()
	n, err := c.dec.DecodeInt64()
	if err == nil && n < 0 && !negative {
		return misfit("%d, want at most 9223372036854775807", uint64(n))
	}
	*to = n
	return err
}

// negative reports whether the int that comes next is below zero.
func (c *cursor) negative() bool {
	b := c.frame[c.pos():]
	return b[0] >= 0xe0 || b[0] >= 0xd0 && b[0] <= 0xd3 && b[1] >= 0x80
}

func (c *cursor) bool(to *bool) error {
	if err := c.expect(kindBool); err != nil {
		return err
	}
	b, err := c.dec.DecodeBool()
	*to = b
	return err
}

// count opens an array.
func (c *cursor) count() (int, error) {
	if err := c.expect(kindArray); err != nil {
		return 0, err
	}
	return c.dec.DecodeArrayLen()
}

// reserve tells for how many of n announced entries memory may be taken at once. All lists of a frame draw on one account, or a list
// of lists of nothing would cost a hundred times its frame.
func (c *cursor) reserve(n int) int {
	n = min(n, c.room)
	c.room -= n
	return n
}

// hash tells the short texts of a frame apart well enough.
func hash(text []byte) uint32 {
	h := uint32(len(text))
	for _, b := range text {
		h = h*31 + uint32(b)
	}
	return h ^ h>>6
}

// strs reads an array of strs of at most limit bytes each.
func (c *cursor) strs(to *[]string, limit int) error {
	n, err := c.count()
	if err != nil {
		return err
	}
	list := make([]string, n)
	for i := range list {
		if err := c.shared(&list[i], limit); err != nil {
			return within(err, fmt.Sprintf("[%d]", i))
		}
	}
	*to = list
	return nil
}

// fault is what is wrong with a field.
type fault struct {
	code Code
	path string // such as r[3].act
	why  string
}

func (f *fault) Error() string {
	if f.path == "" {
		return f.why
	}
	return f.path + ": " + f.why
}

func misfit(format string, args ...any) *fault {
	return &fault{code: CodeBadField, why: fmt.Sprintf(format, args...)}
}

// within adds where a fault was found: a key or an index.
func within(err error, step string) error {
	f, ok := err.(*fault)
	if !ok {
		return fmt.Errorf("%s: %w", step, err)
	}
	if f.path != "" && f.path[0] != '[' {
		step += "."
	}
	f.path = step + f.path
	return f
}
