package pgtext

import "strconv"

// A row in COPY's text format is written field by field, each with the tab behind it; EndRow puts the end in place of the
// last tab.

// AppendField writes a field of text.
func AppendField[T ~string | ~[]byte](b []byte, text T) []byte {
	written := 0
	for i := range len(text) {
		var escape byte
		switch text[i] {
		case '\\':
			escape = '\\'
		case '\n':
			escape = 'n'
		case '\r':
			escape = 'r'
		case '\t':
			escape = 't'
		default:
			continue
		}
		b = append(append(b, text[written:i]...), '\\', escape)
		written = i + 1
	}
	return append(append(b, text[written:]...), '\t')
}

// AppendInt writes a field that holds a whole number.
func AppendInt(b []byte, n int) []byte { return append(strconv.AppendInt(b, int64(n), 10), '\t') }

// AppendBool writes a field that is true or false.
func AppendBool(b []byte, v bool) []byte { return append(strconv.AppendBool(b, v), '\t') }

// AppendNull writes a field that is null.
func AppendNull(b []byte) []byte { return append(b, '\\', 'N', '\t') }

// EndRow ends a row of at least one field.
func EndRow(b []byte) []byte {
	b[len(b)-1] = '\n'
	return b
}
