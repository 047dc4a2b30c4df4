package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"unicode/utf8"
)

// checkJSON refuses what Postgres would refuse as jsonb after the message has travelled all the way: text that is not JSON or not
// UTF-8, a NUL, half of a surrogate pair.
func checkJSON(b []byte) error {
	switch {
	case !utf8.Valid(b):
		return errors.New("not valid UTF-8")
	case !json.Valid(b):
		return errors.New("not valid JSON")
	case bytes.Contains(b, []byte(`\u`)):
		return checkEscapes(b)
	}
	return nil
}

// checkEscapes looks at the \u escapes of valid JSON.
func checkEscapes(b []byte) error {
	for i := bytes.IndexByte(b, '\\'); i >= 0 && i < len(b); i++ {
		if b[i] != '\\' {
			continue
		}
		i++ // at the escaped byte, which is there as the JSON is valid
		if b[i] != 'u' {
			continue
		}
		unit := hex4(b[i+1:])
		i += 4
		switch {
		case unit == 0:
			return errors.New(`it holds \u0000, which Postgres cannot store`)
		case unit >= 0xdc00 && unit <= 0xdfff:
			return errors.New("it holds the second half of a surrogate pair without its first")
		case unit >= 0xd800 && unit <= 0xdbff:
			if !lowSurrogate(b[i+1:]) {
				return errors.New("it holds the first half of a surrogate pair without its second")
			}
			i += 6
		}
	}
	return nil
}

// lowSurrogate reports whether b starts with the escape of a pair's second half.
func lowSurrogate(b []byte) bool {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return false
	}
	unit := hex4(b[2:])
	return unit >= 0xdc00 && unit <= 0xdfff
}

// hex4 is the value of four hexadecimal digits.
func hex4(b []byte) rune {
	var v rune
	for _, c := range b[:4] {
		v <<= 4
		switch {
		case c <= '9':
			v |= rune(c - '0')
		case c <= 'F':
			v |= rune(c - 'A' + 10)
		default:
			v |= rune(c - 'a' + 10)
		}
	}
	return v
}

// firstByte is the first byte of a JSON text that is not white space; 0 if there is none.
func firstByte(b []byte) byte {
	b = bytes.TrimLeft(b, " \t\r\n")
	if len(b) == 0 {
		return 0
	}
	return b[0]
}
