package protocol

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"
)

// The tags in message.go say what is on the wire. What is encoded by hand must not differ from what the library makes of them.
func TestHandWrittenEncodersWriteWhatTheTagsSay(t *testing.T) {
	type plainStrand Strand // without the method
	type plainResult Result
	type plainAckEntry AckEntry
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.Make[Strand]().Draw(t, "strand")
		r := rapid.Make[Result]().Draw(t, "result")
		a := rapid.Make[AckEntry]().Draw(t, "ack")
		for _, pair := range [][2]any{{&s, (*plainStrand)(&s)}, {&r, (*plainResult)(&r)}, {&a, (*plainAckEntry)(&a)}} {
			if byHand, byTags := marshal(t, pair[0]), marshal(t, pair[1]); !bytes.Equal(byHand, byTags) {
				t.Fatalf("%T:\nby hand %x\nby tags %x", pair[0], byHand, byTags)
			}
		}
	})
}

func marshal(t *rapid.T, v any) []byte {
	var b bytes.Buffer
	enc := msgpack.NewEncoder(&b)
	enc.UseCompactInts(true)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestOpIsTheFirstKeyAndNoMessageOutgrowsItsFirstByte(t *testing.T) {
	for _, m := range samples() {
		fields := reflect.TypeOf(m).Elem().NumField()
		if fields > 14 {
			t.Errorf("%s has %d fields: with op its map takes more than one byte to open, which appendBody does not expect", m.Op(), fields)
		}
		frame := mustAppend(t, m)
		if want := append([]byte("\xa2op"), 0xa0|byte(len(m.Op()))); !bytes.HasPrefix(frame[header+1:], append(want, m.Op()...)) {
			t.Errorf("%s starts with %x", m.Op(), frame[:16])
		}
	}
}

func TestAppendAppends(t *testing.T) {
	first := mustAppend(t, &Ping{N: 1})
	both, err := Append(bytes.Clone(first), &Pong{N: 2})
	if err != nil {
		t.Fatal(err)
	}
	if want := append(first, mustAppend(t, &Pong{N: 2})...); !bytes.Equal(both, want) {
		t.Errorf("got %x, want %x", both, want)
	}
}

func TestAppendRefusesWhatThePeerWouldRefuseAndKeepsWhatWasThere(t *testing.T) {
	for _, c := range []struct {
		name string
		m    Message
		code Code
		want string
	}{
		{"text that is not UTF-8", &Bye{Why: "\xff"}, CodeBadFrame, "encode bye: bad_frame: at byte 12: a str that is not valid UTF-8"},
		{"text beyond 64 KiB", &Bye{Why: strings.Repeat("a", maxText+1)}, CodeBadFrame, "a str of 65537 bytes"},
		{"a list beyond 1024", &Touch{Grips: make([]Grip, 1025)}, CodeBadFrame, "array of 1025"},
		{"more than 16 MiB", &Save{Stack: make([]byte, HardMaxFrame)}, CodeTooLarge, "at most 16777216 are allowed in any frame"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dst := []byte("kept")
			got, err := Append(dst, c.m)
			var fault *Err
			if !errors.As(err, &fault) || fault.Code != c.code || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s that says %q", err, c.code, c.want)
			}
			if string(got) != "kept" {
				t.Errorf("dst became %q", got)
			}
		})
	}
}

// What is not scanned before it is sent is what the scanner would have taken.
func TestAppendSparesTheScannerOnlyWhatItTakes(t *testing.T) {
	text := rapid.SampledFrom([]string{"", "k", "\xff", "\xed\xa0\x80", "é", strings.Repeat("a", maxText), strings.Repeat("a", maxText+1)})
	payload := rapid.SampledFrom([][]byte{nil, []byte("[]"), []byte("\xff"), make([]byte, maxText+1)})
	inbox := rapid.Custom(func(t *rapid.T) *Inbox {
		if rapid.Bool().Draw(t, "nothing waits") {
			return nil
		}
		return &Inbox{Semaphores: []Semaphore{{Name: text.Draw(t, "name")}}}
	})
	strand := rapid.Custom(func(t *rapid.T) Strand {
		return Strand{ID: text.Draw(t, "id"), Token: text.Draw(t, "token"), Kind: text.Draw(t, "kind"), Label: text.Draw(t, "label"),
			Args: payload.Draw(t, "args"), Tenant: text.Draw(t, "tenant"), Queue: text.Draw(t, "queue"), Tags: rapid.SliceOfN(text, 0, 2).Draw(t, "tags"), Inbox: inbox.Draw(t, "in")}
	})
	result := rapid.Custom(func(t *rapid.T) Result {
		r := Result{Strand: text.Draw(t, "id"), Token: text.Draw(t, "token"), Act: text.Draw(t, "act"), Label: text.Draw(t, "label"),
			NewKind: text.Draw(t, "kind"), Value: payload.Draw(t, "value"), Stack: payload.Draw(t, "stack")}
		if rapid.Bool().Draw(t, "failed") {
			r.Failure = &Failure{Message: text.Draw(t, "message")}
		}
		switch rapid.IntRange(0, 4).Draw(t, "more") {
		case 1:
			r.Signals = []Signal{{Name: text.Draw(t, "name")}}
		case 2:
			r.Reaped = []string{text.Draw(t, "reaped")}
		case 3:
			r.Due = &Due{Target: text.Draw(t, "target")}
		case 4:
			r.Used = make([]uint64, MaxItems+1)
		}
		return r
	})
	entry := rapid.Custom(func(t *rapid.T) AckEntry {
		return AckEntry{Strand: text.Draw(t, "id"), Token: text.Draw(t, "token"), State: text.Draw(t, "state"), Why: text.Draw(t, "why"), Next: text.Draw(t, "next"), Inbox: inbox.Draw(t, "in")}
	})
	rapid.Check(t, func(t *rapid.T) {
		m := []Message{
			&Strands{Strands: rapid.SliceOfN(strand, 1, 3).Draw(t, "strands")},
			&Results{ID: 1, Results: rapid.SliceOfN(result, 1, 3).Draw(t, "results")},
			&Ack{Re: 1, Entries: rapid.SliceOfN(entry, 0, 3).Draw(t, "entries")},
		}[rapid.IntRange(0, 2).Draw(t, "which")]
		body, err := appendBody(nil, m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := scan(body); sound(m) && err != nil {
			t.Fatalf("%s counts as sound, but: %v", m.Op(), err)
		}
	})
	if sound(&Strands{Strands: []Strand{{Tags: []string{"\xff"}}}}) {
		t.Error("a tag that is no text counts as sound")
	}
	for _, m := range []Message{&Strands{Strands: make([]Strand, MaxItems+1)}, &Results{Results: make([]Result, MaxItems+1)}, &Ack{Entries: make([]AckEntry, MaxItems+1)}} {
		if sound(m) {
			t.Errorf("%s of %d counts as sound, want at most %d", m.Op(), MaxItems+1, MaxItems)
		}
	}
}

func TestLargestListsFitIntoOneFrame(t *testing.T) {
	strand := Strand{ID: strandA, Token: tokenA, Kind: "mail.send", Label: "start", Args: []byte(`{"to":"bob@example.org"}`), Queue: "default", Priority: 5, Try: 1, MaxTries: 25, CreatedMS: 1, DeadlineNS: 1, TTLMS: 1}
	insert := Insert{Key: made, Kind: "mail.send", Args: []byte(`{"to":"ann@example.org"}`)}
	result := Result{Strand: strandA, Token: tokenA, Seq: 1, Act: ActExit, Inserts: repeat(insert, 8)}
	longest := strings.Repeat("k", MaxName)
	for _, m := range []Message{
		&Hello{ID: 1, Versions: []uint64{1, 1}, Lib: "x", Worker: worker1, Kinds: repeat(Kind{Name: longest, RunMS: maxMS}, DefaultMaxN), Hold: repeat(Hold{Strand: strandA, Token: tokenA, Kind: longest, State: HoldDone}, DefaultMaxN)},
		&Strands{Strands: repeat(strand, DefaultMaxN)},
		&Results{ID: 1, Results: repeat(result, DefaultMaxBatch)},
		&Lease{Leases: repeat(Deadline{Strand: strandA, Token: tokenA, DeadlineNS: 1 << 62, TTLMS: maxMS}, DefaultMaxN)},
		&Touch{Grips: repeat(Grip{Strand: strandA, Token: tokenA}, DefaultMaxN)},
		&Ack{Re: 1, Entries: repeat(AckEntry{Strand: strandA, Token: tokenA, Seq: 1, State: AckApplied}, DefaultMaxBatch)},
	} {
		body := mustAppend(t, m)[header:]
		if len(body) > HandshakeMaxFrame {
			t.Errorf("%s takes %d bytes, a frame %d", m.Op(), len(body), HandshakeMaxFrame)
		}
		decodeEither(t, body)
	}
}

func repeat[T any](v T, n int) []T {
	list := make([]T, n)
	for i := range list {
		list[i] = v
	}
	return list
}
