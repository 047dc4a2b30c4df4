package broker

import (
	"encoding/binary"
	"testing"
)

func TestBufferUsesTheMemoryOfWhatIsGoneAgain(t *testing.T) {
	b := newBuffer()
	numbered := func(n int) sighting {
		var id ID
		binary.BigEndian.PutUint64(id[:], uint64(n))
		return sighting{Candidate: Candidate{ID: id, Kind: "mail", Label: "start"}, area: "mail"}
	}
	const atHand, most = 100, 10_000
	all := &class{areas: []area{{"mail", "mail"}}}
	for n := range most {
		b.add(numbered(n))
		if n < atHand {
			continue
		}
		first, ok := b.first(all)
		if want := numbered(n - atHand); !ok || first.ID != want.ID {
			t.Fatalf("the first is %v, want %v", first.ID, want.ID)
		}
		b.remove(first)
	}
	if l := b.lines["mail"][0]; len(l.queue) != atHand || cap(l.room) > 4*atHand {
		t.Errorf("%d candidates in memory for %d, want %d for at most %d", len(l.queue), cap(l.room), atHand, 4*atHand)
	}
}
