package pgtext

// Field is one column of a row on its way through a COPY.
type Field struct {
	Text string
	Null bool
}

// AppendRow writes a row in COPY's text format.
func AppendRow(b []byte, fields ...Field) []byte {
	for i, f := range fields {
		if i > 0 {
			b = append(b, '\t')
		}
		b = f.append(b)
	}
	return append(b, '\n')
}

func (f Field) append(b []byte) []byte {
	if f.Null {
		return append(b, `\N`...)
	}
	for i := range len(f.Text) {
		switch c := f.Text[i]; c {
		case '\\':
			b = append(b, `\\`...)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			b = append(b, c)
		}
	}
	return b
}
