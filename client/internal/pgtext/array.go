package pgtext

import "strings"

// Array writes texts as Postgres reads an array from a string, which every driver can send as an argument.
func Array(texts []string) string {
	n := len("{}")
	for _, s := range texts {
		n += len(s) + len(`"",`) + strings.Count(s, `"`)
	}
	var b strings.Builder
	b.Grow(n)
	b.WriteByte('{')
	for i, s := range texts {
		if i > 0 {
			b.WriteByte(',')
		}
		writeElement(&b, s)
	}
	b.WriteByte('}')
	return b.String()
}

func writeElement(b *strings.Builder, s string) {
	b.WriteByte('"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	b.WriteByte('"')
}
