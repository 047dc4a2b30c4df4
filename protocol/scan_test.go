package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// op starts a map of two pairs, the first being an op; what is to be tested follows as the second.
const op = "\x82\xa2op\xa1x"

func TestScannerRefusesWhatIsNotOneMapWithinTheLimits(t *testing.T) {
	for _, c := range []struct{ name, frame, want string }{
		{"nothing", "", "at byte 0: the frame ends where a value should be"},
		{"an array", "\x91\xa2op", "at byte 0: a frame holds one map, this one starts with byte 0x91"},
		{"a number", "\x07", "starts with byte 0x07"},
		{"JSON", `{"op":"ping"}`, "starts with byte 0x7b"},
		{"an empty map", "\x80", "the map has no op"},
		{"no op", "\x81\xa1n\x01", "the map has no op"},
		{"an empty op", "\x81\xa2op\xa0", "the map has no op"},
		{"an op that is a number", "\x81\xa2op\x01", "op is no str (byte 0x01)"},
		{"an op that is a bin", "\x81\xa2op\xc4\x01x", "op is no str (byte 0xc4)"},
		{"bytes behind it", "\x81\xa2op\xa1x\x00\x00", "at byte 6: 2 bytes follow the map"},
		{"a second map", "\x81\xa2op\xa1x\x81\xa2op\xa1x", "at byte 6: 6 bytes follow the map"},
		{"an op twice", "\x82\xa2op\xa1x\xa2op\xa1y", `at byte 6: key "op" twice in one map`},
		{"a key twice, deep", op + "\xa1k\x91\x82\xa1a\x01\xa1a\x02", `key "a" twice in one map`},
		{"a key twice, of different widths", op + "\xd9\x02op\x01", `key "op" twice in one map`},
		{"a number as key", op + "\x01\x01", "at byte 6: a key that is no str (byte 0x01)"},
		{"a nil as key", op + "\xc0\x01", "a key that is no str (byte 0xc0)"},
		{"a map as key", op + "\x80\x01", "a key that is no str (byte 0x80)"},
		{"a bin as key", op + "\xc4\x01k\x01", "a key that is no str (byte 0xc4)"},
		{"a long key", op + "\xd9\x41" + strings.Repeat("k", 65) + "\x01", "a key of 65 bytes, at most 64 are allowed"},
		{"a float32", op + "\xa1k\xca\x00\x00\x00\x00", "at byte 8: byte 0xca: floats are not allowed"},
		{"a float64", op + "\xa1k\xcb\x00\x00\x00\x00\x00\x00\x00\x00", "floats are not allowed"},
		{"a timestamp", op + "\xa1k\xd6\xff\x00\x00\x00\x00", "byte 0xd6: extension types are not allowed"},
		{"a fixext", op + "\xa1k\xd4\x01\x00", "extension types are not allowed"},
		{"an ext 8", op + "\xa1k\xc7\x01\x01\x00", "extension types are not allowed"},
		{"the unused byte", op + "\xa1k\xc1", "it starts nothing in msgpack"},
		{"bad UTF-8 in a str", op + "\xa1k\xa2\xff\xfe", "at byte 8: a str that is not valid UTF-8"},
		{"bad UTF-8 in a key", op + "\xa1\xff\x01", "a str that is not valid UTF-8"},
		{"a surrogate in UTF-8", op + "\xa1k\xa3\xed\xa0\x80", "a str that is not valid UTF-8"},
		{"a str beyond the end", op + "\xa1k\xa5abc", "at byte 8: 5 bytes of content in the 3 that are left"},
		{"a str32 of 4 GiB", op + "\xa1k\xdb\xff\xff\xff\xff", "4294967295 bytes of content in the 0 that are left"},
		{"a bin32 of 2 GiB", op + "\xa1k\xc6\x7f\xff\xff\xff", "2147483647 bytes of content in the 0 that are left"},
		{"an array32 of 50 million", op + "\xa1k\xdd\x02\xfa\xf0\x80", "array of 50000000, at most 1024 are allowed"},
		{"a map32 of 4 billion", op + "\xa1k\xdf\xff\xff\xff\xff", "map of 4294967295, at most 64 are allowed"},
		{"an array of more than is left", op + "\xa1k\xdc\x00\x04\x01\x02\x03", "array of 4 in the 3 bytes that are left"},
		{"a map of more than is left", op + "\xa1k\x82\xa1a\x01", "map of 2 in the 3 bytes that are left"},
		{"an array of 1025", op + "\xa1k\xdc\x04\x01" + strings.Repeat("\x01", 1025), "array of 1025, at most 1024 are allowed"},
		{"a map of 65", op + "\xa1k" + mapOf(65), "map of 65, at most 64 are allowed"},
		{"a str of 64 KiB and a byte", op + "\xa1k\xdb\x00\x01\x00\x01" + strings.Repeat("a", maxText+1), "a str of 65537 bytes, at most 65536 are allowed"},
		{"13 levels", op + "\xa1k" + strings.Repeat("\x91", 12) + "\x01", "nested deeper than 12"},
		{"a length cut short", op + "\xa1k\xda\x01", "the frame ends within a number"},
		{"a number cut short", op + "\xa1k\xcf\x01\x02", "the frame ends within a number"},
		{"a map cut after a key", "\x81\xa2op", "the frame ends where a value should be"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := scan([]byte(c.frame))
			var fault *Err
			if !errors.As(err, &fault) {
				t.Fatalf("got %v, want an *Err", err)
			}
			if fault.Code != CodeBadFrame || !fault.Fatal {
				t.Errorf("code %s, fatal %t, want a fatal bad_frame", fault.Code, fault.Fatal)
			}
			if !strings.Contains(fault.Message, c.want) {
				t.Errorf("message %q, want it to say %q", fault.Message, c.want)
			}
		})
	}
}

func TestScannerTakesWhatIsJustWithinTheLimits(t *testing.T) {
	for _, c := range []struct{ name, frame string }{
		{"12 levels", op + "\xa1k" + strings.Repeat("\x91", 11) + "\x01"},
		{"an array of 1024", op + "\xa1k\xdc\x04\x00" + strings.Repeat("\x01", 1024)},
		{"a map of 64", op + "\xa1k" + mapOf(64)},
		{"a str of 64 KiB", op + "\xa1k\xdb\x00\x01\x00\x00" + strings.Repeat("a", maxText)},
		{"a key of 64 bytes", op + "\xd9\x40" + strings.Repeat("k", 64) + "\x01"},
		{"a bin of 1 MiB that is no text", op + "\xa1k\xc6\x00\x10\x00\x00" + strings.Repeat("\xff", 1<<20)},
		{"empty containers and texts", op + "\xa1k\x94\x80\x90\xa0\xc4\x00"},
		{"nil, true, false", op + "\xa1k\x93\xc0\xc2\xc3"},
		{"a key again in another map", op + "\xa1k\x92\x81\xa1a\x01\x81\xa1a\x01"},
		{"a key again one level down", op + "\xa1k\x81\xa1k\x01"},
		{"integers of every width", op + "\xa1k\x98\xcc\x01\xcd\x00\x01\xce\x00\x00\x00\x01\xcf\x00\x00\x00\x00\x00\x00\x00\x01" +
			"\xd0\xff\xd1\xff\xff\xd2\xff\xff\xff\xff\xd3\xff\xff\xff\xff\xff\xff\xff\xff"},
	} {
		if _, err := scan([]byte(c.frame)); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// mapOf is a map of n pairs.
func mapOf(n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\xde\x00%c", n)
	for i := range n {
		fmt.Fprintf(&b, "\xa3k%02d\x01", i)
	}
	return b.String()
}

func TestScannerTellsOpIDAndMust(t *testing.T) {
	for _, c := range []struct {
		frame string
		want  envelope
	}{
		{"\x81\xa2op\xa4ping", envelope{op: []byte("ping")}},
		{"\x82\xa2id\x07\xa2op\xa4ping", envelope{op: []byte("ping"), id: 7}},
		{"\x83\xa2id\xcd\x01\x00\xa2op\xa4ping\xa4must\xc3", envelope{op: []byte("ping"), id: 256, must: true}},
		{"\x83\xa2id\xff\xa2op\xa4ping\xa4must\xc2", envelope{op: []byte("ping")}},
		{"\x82\xa2op\xa1x\xa1k\x83\xa2op\xa1y\xa2id\x07\xa4must\xc3", envelope{op: []byte("x")}}, // only the frame's own map counts
	} {
		got, err := scan([]byte(c.frame))
		if err != nil || !bytes.Equal(got.op, c.want.op) || got.id != c.want.id || got.must != c.want.must {
			t.Errorf("scan(%q) = %q %d %t, %v; want %q %d %t", c.frame, got.op, got.id, got.must, err, c.want.op, c.want.id, c.want.must)
		}
	}
}

func TestScannerAllocatesNothing(t *testing.T) {
	for _, m := range samples() {
		body := mustAppend(t, m)[header:]
		if n := testing.AllocsPerRun(100, func() { _, _ = scan(body) }); n != 0 {
			t.Errorf("%s: %v allocations, want none", m.Op(), n)
		}
	}
}

// The frames that killed the library, or made it allocate without bound, behind a valid envelope and instead of one.
func TestFramesThatKillTheLibraryCostNothing(t *testing.T) {
	deep := strings.Repeat("\x91", 3_000_000)
	for _, c := range []struct{ name, frame string }{
		{"array32 of 50 million in 5 bytes", "\xdd\x02\xfa\xf0\x80"},
		{"bin32 of 2 GiB in 5 bytes", "\xc6\x7f\xff\xff\xff"},
		{"map32 of 20 million in 5 bytes", "\xdf\x01\x31\x2d\x00"},
		{"3 million levels", deep},
		{"3 million levels under an unknown key", op + "\xa1k" + deep},
		{"3 million maps under an unknown key", op + "\xa1k" + strings.Repeat("\x81\xa1k", 3_000_000)},
		{"array32 of 50 million as r", "\x82\xa2op\xa6result\xa1r\xdd\x02\xfa\xf0\x80"},
		{"array32 of 50 million as b", "\x82\xa2op\xa7strands\xa1b\xdd\x02\xfa\xf0\x80"},
		{"bin32 of 2 GiB as a stack", "\x82\xa2op\xa4save\xa5stack\xc6\x7f\xff\xff\xff"},
		{"str32 of 4 GiB under an unknown key", op + "\xa1k\xdb\xff\xff\xff\xff"},
	} {
		t.Run(c.name, func(t *testing.T) {
			frame := []byte(c.frame)
			for _, decode := range []func() error{
				func() error { _, err := DecodeToBroker(frame); return err },
				func() error { _, err := DecodeToWorker(frame); return err },
			} {
				var err error
				cost := allocated(func() { err = decode() })
				var fault *Err
				if !errors.As(err, &fault) || fault.Code != CodeBadFrame {
					t.Errorf("got %v, want bad_frame", err)
				}
				if cost > 16<<10 {
					t.Errorf("%d bytes allocated, want at most 16 KiB", cost)
				}
			}
		})
	}
}

// allocated returns the bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// The worst frames that pass the scanner: as many entries as fit, each as small as msgpack allows.
func TestDecodedMemoryIsBoundedByTheFrame(t *testing.T) {
	emptyMaps := "\xdc\x04\x00" + strings.Repeat("\x80", 1024)
	tiny := "\xa1s\xd9\x24" + strandA + "\xa3tok\xa1t\xa3seq\x01\xa3act\xa4exit\xa3enq" + emptyMaps
	for _, c := range []struct{ name, frame string }{
		{"1024 empty results", "\x83\xa2op\xa6result\xa2id\x01\xa1r" + emptyMaps},
		{"1024 empty strands", "\x82\xa2op\xa7strands\xa1b" + emptyMaps},
		{"1024 results of 1024 empty inserts", "\x83\xa2op\xa6result\xa2id\x01\xa1r\xdc\x04\x00" + strings.Repeat("\x85"+tiny, 1024)},
		{"a bin of 1 MiB under an unknown key", op + "\xa1k\xc6\x00\x10\x00\x00" + strings.Repeat("\xff", 1<<20)},
	} {
		t.Run(c.name, func(t *testing.T) {
			frame := []byte(c.frame)
			cost := allocated(func() { _, _ = DecodeToBroker(frame); _, _ = DecodeToWorker(frame) })
			if limit := uint64(32<<10 + 16*len(frame)); cost > limit {
				t.Errorf("%d bytes allocated for a frame of %d, want at most %d", cost, len(frame), limit)
			}
		})
	}
}
