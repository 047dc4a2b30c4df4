package client

import (
	"crypto/rand"
	"fmt"
	"regexp"
	"strings"
)

// newID draws a random UUID of version 4. Its first 32 bits, which decide who runs the strand, are all random.
func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

var uuidText = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// canonicalID is id as Postgres prints it.
func canonicalID(id string) (string, error) {
	lower := strings.ToLower(id)
	if !uuidText.MatchString(lower) {
		return "", fmt.Errorf("%.40q is not a UUID such as 6ba7b810-9dad-41d1-80b4-00c04fd430c8", id)
	}
	return lower, nil
}
