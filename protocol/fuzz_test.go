package protocol

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"
)

// seeds are the bodies of the golden frames, and some that are wrong.
func seeds(f *testing.F) {
	f.Helper()
	for _, m := range samples() {
		f.Add(readGolden(f, "testdata/"+m.Op()+".txt")[header:])
	}
	for _, s := range []string{"", "\x80", op, op + "\xa1k\x91\x91\x91\x91\x91\x91\x91\x91\x91\x01", op + "\xa1k\xdd\x02\xfa\xf0\x80", op + "\xa1k\xc6\x7f\xff\xff\xff", "\x82\xa2op\xa6result\xa1r\x91\x80"} {
		f.Add([]byte(s))
	}
}

// Whatever arrives: frames come out whole or the fault is named, and no two ways of arriving make a difference.
func FuzzFrame(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x00\x00\x00\x00"))
	f.Add([]byte("\xff\xff\xff\xffGET"))
	for _, m := range samples() {
		frame := readGolden(f, "testdata/"+m.Op()+".txt")
		f.Add(append(bytes.Clone(frame), frame[:len(frame)/2]...))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		once, end := frames(bytes.NewReader(stream))
		trickled, sameEnd := frames(iotest.OneByteReader(bytes.NewReader(stream)))
		if diff := cmp.Diff(once, trickled); diff != "" || end.Error() != sameEnd.Error() {
			t.Errorf("at once: %v; a byte at a time: %v (-once +trickled):\n%s", end, sameEnd, diff)
		}
		used := 0
		for _, frame := range once {
			used += header + len(frame)
		}
		var fault *Err
		switch {
		case end == io.EOF && used == len(stream), errors.Is(end, io.ErrUnexpectedEOF) && used < len(stream), errors.As(end, &fault):
		default:
			t.Errorf("ended with %v after %d of %d bytes", end, used, len(stream))
		}
	})
}

// frames reads a stream to its end.
func frames(src io.Reader) (all [][]byte, end error) {
	r := NewReader(src, HandshakeMaxFrame)
	for {
		frame, err := r.Next()
		if err != nil {
			return all, err
		}
		all = append(all, bytes.Clone(frame))
	}
}

// What the scanner lets pass, the library decodes without panic, whole, and in memory that the frame accounts for.
func FuzzScan(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, frame []byte) {
		env, err := scan(frame)
		if err != nil {
			var fault *Err
			if !errors.As(err, &fault) || fault.Code != CodeBadFrame {
				t.Fatalf("refused with %v, want bad_frame", err)
			}
			return
		}
		var got map[string]any
		rest := bytes.NewReader(frame)
		cost := allocated(func() { err = msgpack.NewDecoder(rest).Decode(&got) })
		if err != nil || rest.Len() != 0 {
			t.Fatalf("the library: %v, %d bytes left", err, rest.Len())
		}
		if limit := uint64(64<<10 + 1000*len(frame)); cost > limit {
			t.Errorf("the library allocated %d bytes for a frame of %d", cost, len(frame))
		}
		if op, _ := got["op"].(string); op != string(env.op) {
			t.Errorf("op %q, the library found %q", env.op, op)
		}
	})
}

func FuzzDecodeToBroker(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, frame []byte) {
		m, err := DecodeToBroker(frame)
		if refusedWell(t, err) {
			return
		}
		if r, ok := m.(*Results); ok {
			r.Invalid = nil // they are not sent again
			if len(r.Results) == 0 {
				return
			}
		}
		comesBack(t, m, func(body []byte) (Message, error) { return DecodeToBroker(body) })
	})
}

func FuzzDecodeToWorker(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, frame []byte) {
		m, err := DecodeToWorker(frame)
		if refusedWell(t, err) {
			return
		}
		comesBack(t, m, func(body []byte) (Message, error) { return DecodeToWorker(body) })
	})
}

// refusedWell checks that an error is one that can be sent back.
func refusedWell(t *testing.T, err error) bool {
	if err == nil {
		return false
	}
	var fault *Err
	if !errors.As(err, &fault) {
		t.Fatalf("refused with %v, want an *Err", err)
	}
	if _, err := Append(nil, fault); err != nil {
		t.Fatalf("the refusal cannot be sent: %v", err)
	}
	if body := mustAppend(t, fault)[header:]; !reflect.DeepEqual(decodeEither(t, body), Message(fault)) {
		t.Fatalf("the refusal %+v changes on its way", fault)
	}
	return true
}

// comesBack checks that a message that was taken is taken again, and means the same, after it has been encoded.
func comesBack(t testing.TB, m Message, decode func([]byte) (Message, error)) {
	t.Helper()
	frame, err := Append(nil, m)
	if err != nil {
		t.Fatalf("%+v was taken and cannot be sent: %v", m, err)
	}
	again, err := decode(frame[header:])
	if err != nil {
		t.Fatalf("%+v was taken once and not twice: %v", m, err)
	}
	if diff := cmp.Diff(m, again, cmp.Comparer(sameBytes), cmp.Comparer(sameStrings)); diff != "" {
		t.Fatalf("%s changes on its way (-want +got):\n%s", m.Op(), diff)
	}
}

func sameBytes(a, b []byte) bool { return bytes.Equal(a, b) }

// sameStrings takes no list for an empty one, as the wire does.
func sameStrings(a, b []string) bool {
	return len(a) == len(b) && (len(a) == 0 || reflect.DeepEqual(a, b))
}

// Whatever the two ends of this package may send, the other end takes as it was meant.
func TestAnyValidMessageArrivesAsItWasSent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		strands := &Strands{Strands: rapid.SliceOfN(rapid.Custom(drawStrand), 1, 20).Draw(t, "strands")}
		results := &Results{ID: drawID(t), Results: rapid.SliceOfN(rapid.Custom(drawResult), 1, 20).Draw(t, "results")}
		for _, m := range []Message{strands, results} {
			frame, err := Append(nil, m)
			if err != nil {
				t.Fatal(err)
			}
			var got Message
			if _, ok := m.(ToBroker); ok {
				got, err = DecodeToBroker(frame[header:])
			} else {
				got, err = DecodeToWorker(frame[header:])
			}
			if diff := cmp.Diff(m, got, cmp.Comparer(sameBytes), cmp.Comparer(sameStrings)); err != nil || diff != "" {
				t.Fatalf("%v (-sent +got):\n%s", err, diff)
			}
		}
	})
}

func drawID(t *rapid.T) uint64 { return rapid.Uint64Range(1, MaxID).Draw(t, "id") }

func drawUUID(t *rapid.T) string {
	return rapid.StringMatching(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`).Draw(t, "uuid")
}

func drawName(t *rapid.T) string {
	return rapid.StringMatching(`[ -~äöü]{1,60}`).Draw(t, "name")
}

func drawJSON(t *rapid.T) []byte {
	return []byte(rapid.SampledFrom([]string{`null`, `{}`, `[1,{"a":"b"}]`, `"\u00e4"`, ` 7 `}).Draw(t, "json"))
}

func drawStack(t *rapid.T) []byte {
	return []byte(rapid.SampledFrom([]string{``, `[]`, ` [{"cursor":3}]`}).Draw(t, "stack"))
}

func drawStrand(t *rapid.T) Strand {
	return Strand{
		ID: drawUUID(t), Token: drawUUID(t), Kind: drawName(t), Label: drawName(t), Args: drawJSON(t), Stack: drawStack(t),
		Tenant: rapid.StringMatching(`[a-z]{0,9}`).Draw(t, "tenant"), Queue: drawName(t), Priority: rapid.Int64Range(1, 9).Draw(t, "priority"),
		Try: drawID(t), MaxTries: drawID(t), CreatedMS: rapid.Int64().Draw(t, "created"), DeadlineNS: rapid.Int64().Draw(t, "deadline"),
		TTLMS: rapid.Uint64Range(0, maxMS).Draw(t, "ttl"), RunMS: rapid.Uint64Range(0, maxMS).Draw(t, "run"),
		Tags: rapid.SliceOfN(rapid.Custom(drawName), 0, 5).Draw(t, "tags"), Metadata: drawStack(t), Inbox: drawInbox(t),
	}
}

func drawInbox(t *rapid.T) *Inbox {
	if rapid.Bool().Draw(t, "nothing waits") {
		return nil
	}
	in := &Inbox{Left: rapid.Uint64Range(0, MaxID).Draw(t, "left"), More: rapid.Bool().Draw(t, "more")}
	for range rapid.IntRange(0, 2).Draw(t, "semaphores") {
		in.Semaphores = append(in.Semaphores, Semaphore{ID: drawID(t), Name: drawName(t), Value: drawJSON(t), SentMS: rapid.Int64().Draw(t, "sent")})
	}
	for range rapid.IntRange(0, 2).Draw(t, "ended") {
		in.Ended = append(in.Ended, Ended{Strand: drawUUID(t), Kind: drawName(t), State: EndedDead, Value: drawJSON(t)})
	}
	return in
}

func drawResult(t *rapid.T) Result {
	r := Result{Strand: drawUUID(t), Token: drawUUID(t), Seq: drawID(t)}
	r.Act = rapid.SampledFrom([]string{ActExit, ActNap, ActHop, ActFail, ActCancel, ActRelease, ActOwn}).Draw(t, "act")
	switch r.Act {
	case ActExit:
		r.Value = drawJSON(t)
	case ActNap:
		r.DelayMS, r.Stack = ms(rapid.Uint64Range(0, MaxID).Draw(t, "delay")), drawStack(t)
	case ActHop:
		r.Label, r.NewKind, r.Stack = drawName(t), drawName(t), drawStack(t)
	case ActFail:
		r.Failure, r.Final = &Failure{Class: drawName(t), Message: drawName(t), Trace: drawName(t)}, rapid.Bool().Draw(t, "final")
	}
	if r.Act == ActFail || r.Act == ActCancel || r.Act == ActRelease || r.Act == ActOwn {
		return r // these leave nothing behind
	}
	for range rapid.IntRange(0, 3).Draw(t, "inserts") {
		r.Inserts = append(r.Inserts, Insert{Key: drawUUID(t), Kind: drawName(t), Args: drawJSON(t), Child: rapid.Bool().Draw(t, "child"),
			Watch: rapid.Bool().Draw(t, "watch")})
	}
	for range rapid.IntRange(0, 2).Draw(t, "signals") {
		r.Signals = append(r.Signals, Signal{Strand: drawUUID(t), Name: drawName(t), Value: drawJSON(t), Quiet: rapid.Bool().Draw(t, "quiet")})
		r.Used, r.Reaped = append(r.Used, drawID(t)), append(r.Reaped, drawUUID(t))
	}
	if r.Act != ActExit && rapid.Bool().Draw(t, "program") {
		r.Due, r.Frame = &Due{Target: drawName(t), MS: rapid.Uint64Range(0, maxMS).Draw(t, "due")}, rapid.Uint64Range(0, MaxFrames).Draw(t, "frame")
		r.Chain = r.DelayMS == nil
	}
	return r
}
