package broker

import (
	"encoding/binary"
	"fmt"
)

// Slice is a half-open range of the 2^32 space of the first 32 bits of ids. The zero value is the whole space.
type Slice struct {
	Lo, Hi uint64 // Hi at most 1<<32; Hi = 0 means 1<<32
}

const space = uint64(1) << 32

// nowhere has no id.
func nowhere() Slice { return Slice{space, space} }

// end is Hi, whichever way it is said.
func (s Slice) end() uint64 {
	if s.Hi == 0 {
		return space
	}
	return s.Hi
}

// Whole says whether every id is in the slice.
func (s Slice) Whole() bool { return s.Lo == 0 && s.end() == space }

// Has says whether an id is in the slice.
func (s Slice) Has(id ID) bool {
	place := uint64(binary.BigEndian.Uint32(id[:4]))
	return s.Lo <= place && place < s.end()
}

// mayHave says whether some id that begins with one of these bytes is in the slice.
func (s Slice) mayHave(firsts []byte) bool {
	for _, first := range firsts {
		lo := uint64(first) << 24
		if lo < s.end() && s.Lo < lo+1<<24 {
			return true
		}
	}
	return false
}

// String is the first and the last place in hex, such as 55555555-aaaaaaa9, or none.
func (s Slice) String() string {
	if s.Lo >= s.end() {
		return "none"
	}
	return fmt.Sprintf("%08x-%08x", s.Lo, s.end()-1)
}
