package protocol

import (
	"strings"
	"unicode/utf8"
)

// Clip makes text from anywhere fit for a str of at most limit bytes that Postgres may keep: what is not UTF-8, and NUL, becomes
// U+FFFD, and what is too long ends in an ellipsis.
func Clip(s string, limit int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.ReplaceAll(s, "\x00", "\uFFFD")
	if len(s) <= limit {
		return s
	}
	const ellipsis = "…"
	cut := max(limit-len(ellipsis), 0)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + ellipsis[:min(limit, len(ellipsis))]
}
