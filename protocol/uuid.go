package protocol

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
)

// The ids of strands, tokens, workers and brokers are UUIDs. On the wire and in Go they are text: 36 characters in
// lower case, as Postgres prints them.

// NewID draws a random UUID of version 4. Its first 32 bits, which decide who runs a strand, are all random.
func NewID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	t := make([]byte, 0, 36)
	for i, group := range [][]byte{b[0:4], b[4:6], b[6:8], b[8:10], b[10:16]} {
		if i > 0 {
			t = append(t, '-')
		}
		t = hex.AppendEncode(t, group)
	}
	return string(t)
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
	if len(s) != 36 {
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
