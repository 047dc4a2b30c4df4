package broker

import (
	"encoding/hex"
	"fmt"
)

// ID is a strand's id, a UUID. Its first 32 bits decide the partition, its first byte is the bucket.
type ID [16]byte

// Token is the random proof of one lease, a UUID: the [Mark] of a broker, and 62 bits that are drawn for it.
type Token [16]byte

// Mark is what all tokens begin with that one run of a broker draws. Of whatever is leased when the broker is killed, it tells
// what was leased by it.
type Mark [8]byte

// Marks says whether the token begins with the mark.
func (m Mark) Marks(t Token) bool { return [len(m)]byte(t[:len(m)]) == m }

// MarshalText writes it as hexadecimal digits.
func (m Mark) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(m[:])), nil }

// UnmarshalText reads that.
func (m *Mark) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(m)) {
		return fmt.Errorf("%.40q is not the mark of a broker", text)
	}
	_, err := hex.Decode(m[:], text)
	return err
}

// String is the lower-case text form with dashes.
func (id ID) String() string { return uuidText(id) }

// String is the lower-case text form with dashes.
func (t Token) String() string { return uuidText(t) }

// ParseID reads the 36-character text form.
func ParseID(s string) (ID, error) {
	b, err := parseUUID(s)
	return ID(b), err
}

// ParseToken reads the 36-character text form.
func ParseToken(s string) (Token, error) {
	b, err := parseUUID(s)
	return Token(b), err
}

// text is both as text, in one piece of memory: frames are full of such pairs.
func (p Pair) text() (id, token string) {
	var t [2 * uuidLen]byte
	putUUID(t[:uuidLen], p.ID)
	putUUID(t[uuidLen:], p.Token)
	both := string(t[:])
	return both[:uuidLen], both[uuidLen:]
}

const uuidLen = 36

func uuidText(b [16]byte) string {
	var t [uuidLen]byte
	putUUID(t[:], b)
	return string(t[:])
}

func putUUID(t []byte, b [16]byte) {
	hex.Encode(t[0:8], b[0:4])
	hex.Encode(t[9:13], b[4:6])
	hex.Encode(t[14:18], b[6:8])
	hex.Encode(t[19:23], b[8:10])
	hex.Encode(t[24:36], b[10:16])
	t[8], t[13], t[18], t[23] = '-', '-', '-', '-'
}

func parseUUID(s string) (b [16]byte, err error) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return b, fmt.Errorf("%.40q is not a UUID such as 6ba7b810-9dad-41d1-80b4-00c04fd430c8", s)
	}
	var digits [32]byte
	n := copy(digits[:], s[0:8])
	n += copy(digits[n:], s[9:13])
	n += copy(digits[n:], s[14:18])
	n += copy(digits[n:], s[19:23])
	copy(digits[n:], s[24:36])
	if _, err := hex.Decode(b[:], digits[:]); err != nil {
		return b, fmt.Errorf("%.40q is not a UUID: %w", s, err)
	}
	return b, nil
}

// parsePair reads the two names of a lease.
func parsePair(strand, token string) (p Pair, err error) {
	if p.ID, err = ParseID(strand); err == nil {
		p.Token, err = ParseToken(token)
	}
	return p, err
}
