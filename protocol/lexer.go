package protocol

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// lexer takes a frame apart into msgpack values. It knows single values and their limits; how they nest is for the [scanner].
type lexer struct {
	frame []byte
	pos   int
}

// span is a part of the frame.
type span struct{ from, to uint32 }

// kind is a msgpack type as far as the protocol tells them apart.
type kind uint8

const (
	kindNil kind = iota
	kindBool
	kindInt
	kindStr
	kindBin
	kindArray
	kindMap
)

// token is one msgpack value, or the opening of a container.
type token struct {
	kind kind
	n    uint64 // int: its bits; bool: 0 or 1; array, map: how many
	neg  bool   // int: below zero
	span span   // str, bin: the content
}

// next reads the value at pos, or the opening of a container, and moves behind it.
func (l *lexer) next() (token, error) {
	if l.pos == len(l.frame) {
		return token{}, l.bad(l.pos, "the frame ends where a value should be")
	}
	at := l.pos
	c := l.frame[at]
	l.pos++
	switch {
	case c <= 0x7f:
		return token{kind: kindInt, n: uint64(c)}, nil
	case c <= 0x8f:
		return token{kind: kindMap, n: uint64(c & 0x0f)}, nil
	case c <= 0x9f:
		return token{kind: kindArray, n: uint64(c & 0x0f)}, nil
	case c <= 0xbf:
		return l.content(kindStr, at, uint64(c&0x1f))
	case c >= 0xe0:
		return token{kind: kindInt, n: uint64(int64(int8(c))), neg: true}, nil
	}
	return l.long(at, c)
}

// long reads what takes more than its first byte c to tell, which was at the offset at.
func (l *lexer) long(at int, c byte) (token, error) {
	switch c {
	case 0xc0:
		return token{kind: kindNil}, nil
	case 0xc2, 0xc3:
		return token{kind: kindBool, n: uint64(c & 1)}, nil
	case 0xc4, 0xc5, 0xc6: // bin 8, 16, 32
		return l.sized(kindBin, at, 1<<(c-0xc4))
	case 0xcc, 0xcd, 0xce, 0xcf: // uint 8, 16, 32, 64
		return l.integer(at, 1<<(c-0xcc), false)
	case 0xd0, 0xd1, 0xd2, 0xd3: // int 8, 16, 32, 64
		return l.integer(at, 1<<(c-0xd0), true)
	case 0xd9, 0xda, 0xdb: // str 8, 16, 32
		return l.sized(kindStr, at, 1<<(c-0xd9))
	case 0xdc, 0xdd: // array 16, 32
		n, err := l.number(at, 2<<(c-0xdc))
		return token{kind: kindArray, n: n}, err
	case 0xde, 0xdf: // map 16, 32
		n, err := l.number(at, 2<<(c-0xde))
		return token{kind: kindMap, n: n}, err
	}
	return token{}, l.bad(at, "byte 0x%02x: %s", c, refused(c))
}

// refused names the msgpack types that no frame holds.
func refused(c byte) string {
	switch c {
	case 0xca, 0xcb:
		return "floats are not allowed"
	case 0xc1:
		return "it starts nothing in msgpack"
	}
	return "extension types are not allowed"
}

// sized reads a str or bin whose length takes width bytes.
func (l *lexer) sized(k kind, at, width int) (token, error) {
	n, err := l.number(at, width)
	if err != nil {
		return token{}, err
	}
	return l.content(k, at, n)
}

// content reads the n bytes of a str or bin.
func (l *lexer) content(k kind, at int, n uint64) (token, error) {
	if n > uint64(len(l.frame)-l.pos) {
		return token{}, l.bad(at, "%d bytes of content in the %d that are left", n, len(l.frame)-l.pos)
	}
	if k == kindStr && n > maxText {
		return token{}, l.bad(at, "a str of %d bytes, at most %d are allowed", n, maxText)
	}
	from := l.pos
	l.pos += int(n)
	t := token{kind: k, span: span{uint32(from), uint32(l.pos)}}
	if k == kindStr && !utf8.Valid(l.text(t.span)) {
		return token{}, l.bad(at, "a str that is not valid UTF-8")
	}
	return t, nil
}

// integer reads an integer of width bytes; any width is as good as another.
func (l *lexer) integer(at, width int, signed bool) (token, error) {
	n, err := l.number(at, width)
	if err != nil || !signed {
		return token{kind: kindInt, n: n}, err
	}
	unused := 64 - 8*width
	v := int64(n<<unused) >> unused
	return token{kind: kindInt, n: uint64(v), neg: v < 0}, nil
}

// number reads width bytes, most significant first.
func (l *lexer) number(at, width int) (uint64, error) {
	if width > len(l.frame)-l.pos {
		return 0, l.bad(at, "the frame ends within a number")
	}
	b := l.frame[l.pos : l.pos+width]
	l.pos += width
	switch width {
	case 1:
		return uint64(b[0]), nil
	case 2:
		return uint64(binary.BigEndian.Uint16(b)), nil
	case 4:
		return uint64(binary.BigEndian.Uint32(b)), nil
	}
	return binary.BigEndian.Uint64(b), nil
}

func (l *lexer) text(at span) []byte { return l.frame[at.from:at.to] }

// bad is the fault found at an offset of the frame's body.
func (l *lexer) bad(at int, format string, args ...any) *Err {
	e := Errorf(CodeBadFrame, format, args...)
	e.Message = fmt.Sprintf("at byte %d: %s", at, e.Message)
	return e
}
