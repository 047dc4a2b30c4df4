package protocol

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

const (
	idBytes = 16
	idText  = 36
)

// The ids of strands, tokens, workers and brokers are UUIDs. On the wire and in Go they are text: 36 characters in
// lower case, as Postgres prints them.

// NewID draws a random UUID of version 4. Its first 32 bits, which decide who runs a strand, are all random.
func NewID() string {
	var b [idBytes]byte
	rand.Read(b[:]) // never fails
	return string(appendID(make([]byte, 0, idText), versionFour(b)))
}

// NewIDs draws n ids as NewID does, all at once, and gives them in ascending order.
func NewIDs(n int) []string {
	random := make([]byte, n*idBytes)
	rand.Read(random) // never fails
	drawn := make([][idBytes]byte, n)
	for i := range drawn {
		drawn[i] = versionFour([idBytes]byte(random[i*idBytes:]))
	}
	slices.SortFunc(drawn, func(a, b [idBytes]byte) int { return bytes.Compare(a[:], b[:]) })
	text := make([]byte, 0, n*idText)
	for _, b := range drawn {
		text = appendID(text, b)
	}
	return cut(string(text), n)
}

// cut parts text into n ids, which share its memory.
func cut(text string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = text[i*idText : (i+1)*idText]
	}
	return ids
}

// versionFour marks random bytes as a UUID of version 4.
func versionFour(b [idBytes]byte) [idBytes]byte {
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return b
}

func appendID(text []byte, b [idBytes]byte) []byte {
	for i, group := range [...][]byte{b[0:4], b[4:6], b[6:8], b[8:10], b[10:16]} {
		if i > 0 {
			text = append(text, '-')
		}
		text = hex.AppendEncode(text, group)
	}
	return text
}

// IsID tells whether s is the text of a UUID, of any version, in lower case.
func IsID(s string) bool { return isID(s) }

// CanonicalID is a UUID from a person or a program in the spelling that the wire and the database use.
func CanonicalID(s string) (string, error) {
	lower := strings.ToLower(s)
	if !isID(lower) {
		return "", fmt.Errorf("%.40q is not a UUID such as 6ba7b810-9dad-41d1-80b4-00c04fd430c8", s)
	}
	return lower, nil
}

func isID[T string | []byte](s T) bool {
	if len(s) != idText {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}
