package protocol

import "fmt"

// A field is one key of a map and how its value is read into a T. An absent key and a nil value are the same.
type field[T any] struct {
	key      string
	required bool
	read     func(*cursor, *T) error
}

const (
	need     = true
	optional = false
)

// readMap reads a map. It goes on after a fault, so that a message whose field is bad still has its id and its neighbours, and
// returns the first. Keys that are not in fields are skipped.
func readMap[T any](c *cursor, fields []field[T], to *T) error {
	if err := c.expect(kindMap); err != nil {
		return err
	}
	n, err := c.dec.DecodeMapLen()
	if err != nil {
		return err
	}
	var first error
	var seen uint32
	next := 0
	for range n {
		key, err := c.raw(kindStr)
		if err != nil {
			return err
		}
		i := find(fields, key, next)
		if i < 0 || c.is(kindNil) {
			if err := c.skip(); err != nil {
				return err
			}
			continue
		}
		next = i + 1
		seen |= 1 << i
		if err := readField(c, &fields[i], to); err != nil && first == nil {
			first = err
		}
	}
	if first != nil {
		return first
	}
	return missing(fields, seen)
}

// readField reads a value and, whatever is wrong with it, leaves the cursor behind it.
func readField[T any](c *cursor, f *field[T], to *T) error {
	start := c.pos()
	err := f.read(c, to)
	if err == nil {
		return nil
	}
	c.back(start)
	if err := c.skip(); err != nil {
		return err
	}
	return within(err, f.key)
}

// find returns the index of a key, or -1. Senders that keep to the order of the tables are found at once.
func find[T any](fields []field[T], key []byte, next int) int {
	if next < len(fields) && fields[next].key == string(key) {
		return next
	}
	for i := range fields {
		if fields[i].key == string(key) {
			return i
		}
	}
	return -1
}

func missing[T any](fields []field[T], seen uint32) error {
	for i := range fields {
		if fields[i].required && seen&(1<<i) == 0 {
			return &fault{code: CodeBadField, path: fields[i].key, why: "missing"}
		}
	}
	return nil
}

// readList reads an array of maps. It stops at the first entry with a fault.
func readList[T any](c *cursor, fields []field[T], to *[]T) error {
	return readEach(c, to, func(c *cursor, entry *T) error { return readMap(c, fields, entry) })
}

// readSome is readList for a list that says nothing when it is empty.
func readSome[T any](c *cursor, fields []field[T], to *[]T) error {
	if err := readList(c, fields, to); err != nil {
		return err
	}
	if len(*to) == 0 {
		return misfit("empty, want one entry at least")
	}
	return nil
}

// The values that several messages carry.

func readID(c *cursor, to *uint64) error { return c.uint(to, 1, MaxID) }

func readCount(c *cursor, to *uint64) error { return c.uint(to, 0, MaxID) }

func readMS(c *cursor, to *uint64) error { return c.uint(to, 0, maxMS) }

func readMessage(c *cursor, to *string) error { return c.str(to, MaxMessage) }

// readWord reads a short word of a list that newer versions may extend.
func readWord(c *cursor, to *string) error { return c.shared(to, MaxName) }

// readUUID reads 36 characters of lower-case hexadecimal digits and dashes.
func readUUID(c *cursor, to *string) error {
	b, err := c.raw(kindStr)
	if err != nil {
		return err
	}
	if !isID(b) {
		return misfit("%.40q is not a UUID in lower case, such as 6ba7b810-9dad-41d1-80b4-00c04fd430c8", b)
	}
	*to = string(b)
	return nil
}

// readIDs reads an array of ids.
func readIDs(c *cursor, to *[]uint64) error { return readEach(c, to, readID) }

// readUUIDs reads an array of UUIDs.
func readUUIDs(c *cursor, to *[]string) error { return readEach(c, to, readUUID) }

// readEach reads an array, value by value. It stops at the first with a fault.
func readEach[T any](c *cursor, to *[]T, read func(*cursor, *T) error) error {
	n, err := c.count()
	if err != nil {
		return err
	}
	list := make([]T, 0, c.reserve(n))
	for i := range n {
		list = append(list, *new(T))
		if err := read(c, &list[i]); err != nil {
			return within(err, fmt.Sprintf("[%d]", i))
		}
	}
	*to = list
	return nil
}

func readToken(c *cursor, to *string) error {
	if err := c.str(to, MaxToken); err != nil {
		return err
	}
	if *to == "" {
		return misfit("empty")
	}
	return nil
}

// readName reads the name of a kind or label, or another text that a terminal shows in one line.
func readName(c *cursor, to *string) error {
	if err := c.shared(to, MaxName); err != nil {
		return err
	}
	if err := CheckName(*to); err != nil {
		return misfit("%v", err)
	}
	return nil
}

// readStored reads text for people that Postgres is to keep, which it cannot if there is a NUL in it.
func readStored(c *cursor, to *string, limit int) error {
	b, err := c.text(limit)
	if err != nil {
		return err
	}
	for i, ch := range b {
		if ch == 0 {
			return misfit("a NUL at byte %d, which Postgres cannot store", i)
		}
	}
	*to = string(b)
	return nil
}

// readJSON reads a payload that Postgres will take as jsonb and that starts with open, if that is not 0.
func readJSON(c *cursor, to *[]byte, open byte) error {
	b, err := c.raw(kindBin)
	if err != nil {
		return err
	}
	if err := checkJSON(b); err != nil {
		return misfit("%v", err)
	}
	if open != 0 && firstByte(b) != open {
		return misfit("not a JSON %s", map[byte]string{'[': "array", '{': "object"}[open])
	}
	*to = append([]byte(nil), b...)
	return nil
}
