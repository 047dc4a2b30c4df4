package protocol

import (
	"strings"
	"testing"
)

func TestNewIDIsARandomUUIDOfVersionFour(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := NewID()
		if !IsID(id) || id[14] != '4' || !strings.ContainsRune("89ab", rune(id[19])) || seen[id] {
			t.Fatalf("bad or repeated id %q", id)
		}
		seen[id] = true
	}
}

func TestNewIDsAreDifferentUUIDsOfVersionFourInOrder(t *testing.T) {
	ids, buckets := NewIDs(1000), map[string]bool{}
	for i, id := range ids {
		if !IsID(id) || id[14] != '4' || !strings.ContainsRune("89ab", rune(id[19])) || i > 0 && id <= ids[i-1] {
			t.Fatalf("id %d is %q after %q", i, id, ids[max(0, i-1)])
		}
		buckets[id[:1]] = true
	}
	if len(buckets) != 16 {
		t.Errorf("1000 ids begin with %d different digits, want all 16", len(buckets))
	}
	if ids := NewIDs(0); len(ids) != 0 {
		t.Errorf("got %q, want none", ids)
	}
}

func TestIsIDKnowsTheOneSpelling(t *testing.T) {
	for text, want := range map[string]bool{
		strandA:                                true,
		"00000000-0000-0000-0000-000000000000": true,
		strings.ToUpper(strandA):               false,
		strings.ReplaceAll(strandA, "-", ""):   false,
		"{" + strandA[1:35] + "}":              false,
		"6ba7b8109-dad-41d1-80b4-00c04fd430c8": false,
		"6ba7b810-9dad-41d1-80b4-00c04fd430cg": false,
		strandA + "0":                          false,
		"":                                     false,
	} {
		if got := IsID(text); got != want {
			t.Errorf("IsID(%q) = %v, want %v", text, got, want)
		}
	}
}

func TestCanonicalIDIsInLowerCase(t *testing.T) {
	if got, err := CanonicalID(strings.ToUpper(strandA)); got != strandA || err != nil {
		t.Errorf("got %q, %v; want %q", got, err, strandA)
	}
	if _, err := CanonicalID("order 7"); err == nil || !strings.Contains(err.Error(), `"order 7" is not a UUID such as`) {
		t.Errorf("got %v, want it to name the text and show an id", err)
	}
}
