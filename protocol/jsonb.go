package protocol

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// MeasureJSON says why Postgres would not take b as jsonb, or else how many bytes b has in the spelling of jsonb, where a
// number has all its digits. (A key that occurs twice in an object counts twice here, though jsonb keeps one.)
func MeasureJSON(b []byte) (length int, err error) {
	if !json.Valid(b) {
		var any json.RawMessage
		return 0, fmt.Errorf("is not valid JSON: %w", json.Unmarshal(b, &any))
	}
	return MeasureMarshalled(b)
}

// MeasureMarshalled is MeasureJSON for what [json.Marshal] has written: that is JSON, yet perhaps none that Postgres takes.
func MeasureMarshalled(b []byte) (length int, err error) {
	if !utf8.Valid(b) {
		return 0, errors.New("is not valid UTF-8")
	}
	w := jsonWalk{rest: b}
	for len(w.rest) > 0 {
		if err := w.token(); err != nil {
			return 0, err
		}
	}
	return w.length, nil
}

// LongJSON says why the valid JSON b may not be stored: jsonb prints it with more than most bytes; nil = it may. Only what
// can grow is measured: short text has to hold numbers with exponents for that.
func LongJSON(b []byte, most int) error {
	if len(b) <= most/2 && !hasExponent(b) {
		return nil // without exponents nothing grows to more than twice its size, as a comma does
	}
	n, err := MeasureJSON(b)
	if err == nil && n > most {
		err = fmt.Errorf("is %d bytes long in the spelling of jsonb, at most %d are allowed", n, most)
	}
	return err
}

// hasExponent says whether there may be a number such as 1e9 in JSON. Text that looks like one counts too.
func hasExponent(b []byte) bool {
	for i := 1; i < len(b); i++ {
		if b[i]|0x20 == 'e' && (b[i-1] >= '0' && b[i-1] <= '9') {
			return true
		}
	}
	return false
}

// jsonWalk goes over JSON that is known to be well formed.
type jsonWalk struct {
	rest   []byte
	length int // of what has been passed, as jsonb prints it
}

func (w *jsonWalk) token() error {
	switch c := w.rest[0]; c {
	case ' ', '\t', '\r', '\n':
		w.skip(1, 0)
	case ',', ':':
		w.skip(1, len(", "))
	case '"':
		return w.text()
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return w.number()
	default: // a bracket, or a letter of true, false or null
		w.skip(1, 1)
	}
	return nil
}

// skip passes n bytes that jsonb prints as printed bytes.
func (w *jsonWalk) skip(n, printed int) {
	w.rest = w.rest[n:]
	w.length += printed
}

// text passes a string, both its quotes included.
func (w *jsonWalk) text() error {
	w.skip(1, 1)
	for {
		n := plain(w.rest)
		w.skip(n, n)
		if w.rest[0] == '"' {
			w.skip(1, 1)
			return nil
		}
		if err := w.escape(); err != nil {
			return err
		}
	}
}

// plain is how many bytes come before the end of a string, or before its next escape.
func plain(b []byte) int {
	for i, c := range b {
		if c == '"' || c == '\\' {
			return i
		}
	}
	return len(b)
}

func (w *jsonWalk) escape() error {
	switch w.rest[1] {
	case 'u':
		return w.unicode()
	case '/':
		w.skip(2, 1)
	default:
		w.skip(2, 2)
	}
	return nil
}

// unicode passes a \uXXXX, or the two of a surrogate pair.
func (w *jsonWalk) unicode() error {
	r, n := w.codePoint(), len(`\u0000`)
	if utf16.IsSurrogate(r) {
		r = w.pair(r)
		n *= 2
	}
	switch {
	case r == 0:
		return errors.New(`holds \u0000, which Postgres cannot store in text`)
	case r == utf8.RuneError && n > len(`\u0000`):
		return fmt.Errorf(`holds %.6s, which is half of a surrogate pair`, w.rest)
	}
	w.skip(n, printedRune(r))
	return nil
}

// codePoint reads the \uXXXX that is next, without passing it.
func (w *jsonWalk) codePoint() rune {
	n, _ := strconv.ParseUint(string(w.rest[2:6]), 16, 16) // well formed, so it cannot fail
	return rune(n)
}

// pair joins high with the \uXXXX that follows it, or returns utf8.RuneError.
func (w *jsonWalk) pair(high rune) rune {
	const half = len(`\u0000`)
	next := jsonWalk{rest: w.rest[half:]}
	if len(next.rest) < half || next.rest[0] != '\\' || next.rest[1] != 'u' {
		return utf8.RuneError
	}
	return utf16.DecodeRune(high, next.codePoint())
}

// printedRune is how many bytes jsonb prints for a rune in a string.
func printedRune(r rune) int {
	switch {
	case r == '"' || r == '\\' || r == '\b' || r == '\f' || r == '\n' || r == '\r' || r == '\t':
		return len(`\n`)
	case r < ' ':
		return len(`\u0001`)
	default:
		return utf8.RuneLen(r)
	}
}

// What Postgres' numeric can hold; a test asks it.
const (
	numericDigits = 131072 // before the point
	numericScale  = 16383  // after it
)

func (w *jsonWalk) number() error {
	n := 0
	for n < len(w.rest) && isNumeric(w.rest[n]) {
		n++
	}
	d := parseDecimal(string(w.rest[:n]))
	if d.digits > numericDigits || d.scale > numericScale {
		return fmt.Errorf("holds the number %.40s, which is beyond what Postgres can store", w.rest[:n])
	}
	w.skip(n, d.printed())
	return nil
}

func isNumeric(c byte) bool {
	return c >= '0' && c <= '9' || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E'
}
