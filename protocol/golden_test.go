package protocol

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files under testdata")

const (
	strandA = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
	strandB = "f47ac10b-58cc-4372-a567-0e02b2c3d479"
	strandC = "0b9c1f6e-2d3a-4c5b-8e7f-9a0b1c2d3e4f"
	tokenA  = "9b2fa2a4-6e0e-4f2b-9c51-b3f1d6f0a001"
	tokenB  = "9b2fa2a4-6e0e-4f2b-9c51-b3f1d6f0a002"
	tokenC  = "9b2fa2a4-6e0e-4f2b-9c51-b3f1d6f0a003"
	worker1 = "3d1c7a52-8b7e-4b6e-a1de-5f0c2b9a7e10"
	broker1 = "c2a9d7b4-1f3e-4e8a-9d2b-7a6c5b4d3e2f"
	made    = "5e8f3a1b-7c2d-4e9f-a0b1-c2d3e4f5a6b7"
)

func ms(n uint64) *uint64 { return &n }

// toBrokerSamples has every message that a worker may send, with every field set.
func toBrokerSamples() []ToBroker {
	return []ToBroker{
		&Hello{
			ID: 1, Versions: []uint64{1, 1}, Lib: "respirate-go/0.1.0", Worker: worker1, Build: "v1.4.2-3-g9fceb02", PID: 4711,
			Key: "b1f0c3a6d5e4", Kinds: []Kind{{Name: "mail.send"}, {Name: "report", RunMS: 600000, Labels: []string{"start", "print"}, Isolate: true}}, Caps: []string{CapSync, CapAckAll},
			BootNS: 86400000000000, Hold: []Hold{{Strand: strandA, Token: tokenA, Kind: "mail.send", State: HoldRun}, {Strand: strandB, Token: tokenB, Kind: "report", State: HoldDone}},
		},
		&Want{N: 40, Bytes: 8 << 20},
		&Touch{Grips: []Grip{{Strand: strandA, Token: tokenA}}, Note: "page 300 of 10000"},
		&Save{ID: 2, Strand: strandA, Token: tokenA, Seq: 1, Stack: []byte(`[{"cursor":300}]`)},
		&Results{ID: 3, Results: []Result{
			{Strand: strandA, Token: tokenA, Seq: 2, Act: ActExit, Value: []byte(`{"sent":true}`)},
			{Strand: strandB, Token: tokenB, Seq: 1, Act: ActNap, DelayMS: ms(60000), Stack: []byte(`[{"cursor":600}]`)},
			{Strand: strandC, Token: tokenC, Seq: 1, Act: ActHop, DelayMS: ms(0), Label: "charge", NewKind: "billing", Stack: []byte(`[]`), Inserts: []Insert{
				{Key: made, Kind: "mail.send", Args: []byte(`{"to":"ann@example.org"}`), Opts: []byte(`{"queue":"slow","in":30}`), Child: true, Watch: true},
			}, Signals: []Signal{{Strand: strandA, Name: "paid", Value: []byte(`{"eur":12}`), Quiet: true}}, Used: []uint64{7, 9}, Reaped: []string{strandB},
				Due: &Due{Target: "shipped", MS: 3600000, MostMS: 7200000}, Frame: 1, Chain: true},
			{Strand: strandA, Token: tokenA, Seq: 3, Act: ActFail, DelayMS: ms(1500), Stack: []byte(`[]`), Failure: &Failure{Class: "Timeout", Message: "no answer from smtp.example.org", Trace: "mail.go:41\nmail.go:12"}, Final: true},
			{Strand: strandB, Token: tokenB, Seq: 2, Act: ActCancel, Failure: &Failure{Class: "Obsolete", Message: "the order was withdrawn"}},
			{Strand: strandC, Token: tokenC, Seq: 2, Act: ActRelease, DelayMS: ms(250)},
			{Strand: strandB, Token: tokenC, Seq: 3, Act: ActOwn, Failure: &Failure{Class: "Commit", Message: "connection reset by peer"}},
		}},
		&Call{ID: 4, Method: MethodInsert, Inserts: []Insert{{Key: made, Kind: "report", Args: []byte(`[1,2]`), Opts: []byte(`{}`)}},
			Signals: []Signal{{Strand: strandA, Name: "paid", Value: []byte(`{"eur":12}`), Quiet: true}}},
		&Ping{N: 7},
		&Pong{N: 7},
		&Bye{Why: "done"},
		&Err{Re: 9, Code: CodeInternal, Message: "handler table is gone", RetryMS: 100},
	}
}

// sampleInbox is an inbox with every field set.
func sampleInbox() *Inbox {
	return &Inbox{
		Semaphores: []Semaphore{{ID: 7, Name: "paid", Value: []byte(`{"eur":12}`), SentMS: 1767225600000}},
		Ended:      []Ended{{Strand: strandB, Kind: "report", State: EndedDone, Value: []byte(`{"pages":3}`)}},
		Left:       2, More: true,
	}
}

// toWorkerSamples has every message that a broker may send and a worker may not, with every field set.
func toWorkerSamples() []ToWorker {
	return []ToWorker{
		&Welcome{
			Re: 1, Version: 1, Broker: broker1, Session: "1-17", MaxFrame: DefaultMaxFrame, MaxN: DefaultMaxN, MaxBatch: DefaultMaxBatch,
			HeartMS: 5000, DeadMS: 15000, LeaseMS: 120000, Caps: []string{"sync"}, BootNS: 86400000123456,
		},
		&Strands{Strands: []Strand{{
			ID: strandA, Token: tokenA, Kind: "mail.send", Label: "start", Args: []byte(`{"to":"bob@example.org"}`), Stack: []byte(`[{"cursor":300}]`),
			Tenant: "acme", Queue: "default", Priority: 5, Try: 2, MaxTries: 25, CreatedMS: 1767225600000, DeadlineNS: 86520000000000, TTLMS: 120000,
			RunMS: 30000, Tags: []string{"vip", "eu"}, Metadata: []byte(`{"trace":"00-4bf9"}`),
			Inbox: sampleInbox(),
		}}},
		&Lease{Leases: []Deadline{{Strand: strandA, Token: tokenA, DeadlineNS: 86640000000000, TTLMS: 120000}}},
		&Cancel{Cancels: []Stop{{Strand: strandB, Token: tokenB, Why: StopTimeout, ByMS: 10000}}},
		&Ack{Re: 3, Entries: []AckEntry{
			{Strand: strandA, Token: tokenA, Seq: 2, State: AckApplied},
			{Strand: strandB, Token: tokenB, Seq: 1, State: AckInvalid, Why: "stack: not a JSON array"},
			{Strand: strandC, Token: tokenC, Seq: 1, State: AckLater, RetryMS: 1000},
			{Strand: strandC, Token: tokenC, Seq: 2, State: AckApplied, Next: NextGo, Inbox: sampleInbox()},
		}, All: true},
		&Reply{Re: 4, IDs: []string{made}, Found: []bool{true, false}, Err: &Err{Re: 4, Code: CodeBadField, Message: "opts.priority: 12, want 1 to 9"}},
		&Drain{ByMS: 30000, Why: "roll"},
	}
}

func samples() []Message {
	var all []Message
	for _, m := range toBrokerSamples() {
		all = append(all, m)
	}
	for _, m := range toWorkerSamples() {
		all = append(all, m)
	}
	return all
}

func TestEveryMessageIsTheGoldenFrameBothWays(t *testing.T) {
	for _, m := range samples() {
		t.Run(m.Op(), func(t *testing.T) {
			path := filepath.Join("testdata", m.Op()+".txt")
			golden(t, path, mustAppend(t, m))

			frame := readGolden(t, path)
			got := decodeEither(t, frame[header:])
			if diff := cmp.Diff(m, got); diff != "" {
				t.Errorf("%s decodes differently (-want +got):\n%s", path, diff)
			}
		})
	}
}

// golden compares the frame with a file, or rewrites that.
func golden(t *testing.T, path string, frame []byte) {
	t.Helper()
	got := fmt.Sprintf("%s\n%s", indentJSON(t, asJSON(t, frame[header:])), hexLines(frame))
	compareFile(t, path, got)
}

func compareFile(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs; if that is wanted, go test ./protocol -update (-want +got):\n%s", path, diff)
	}
}

// readGolden returns the frame in a golden file: the lines that are nothing but hex.
func readGolden(t testing.TB, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var frame []byte
	for line := range strings.Lines(string(text)) {
		if b, err := hex.DecodeString(strings.TrimSpace(line)); err == nil {
			frame = append(frame, b...)
		}
	}
	return frame
}

func hexLines(b []byte) string {
	var out strings.Builder
	for len(b) > 0 {
		n := min(32, len(b))
		fmt.Fprintf(&out, "%x\n", b[:n])
		b = b[n:]
	}
	return out.String()
}

// asJSON shows a frame's body with its keys in the order of the wire. A bin becomes {"bin": "its text"}.
func asJSON(t testing.TB, body []byte) string {
	t.Helper()
	l := lexer{frame: body}
	var out strings.Builder
	writeJSON(t, &l, &out)
	return out.String()
}

func writeJSON(t testing.TB, l *lexer, out *strings.Builder) {
	v, err := l.next()
	if err != nil {
		t.Fatal(err)
	}
	switch v.kind {
	case kindNil:
		out.WriteString("null")
	case kindBool:
		fmt.Fprint(out, v.n == 1)
	case kindInt:
		if v.neg {
			fmt.Fprint(out, int64(v.n))
			return
		}
		fmt.Fprint(out, v.n)
	case kindStr:
		out.WriteString(quote(l.text(v.span)))
	case kindBin:
		fmt.Fprintf(out, `{"bin":%s}`, quote(l.text(v.span)))
	case kindArray, kindMap:
		writeContainer(t, l, v, out)
	}
}

func writeContainer(t testing.TB, l *lexer, v token, out *strings.Builder) {
	brackets := "[]"
	if v.kind == kindMap {
		brackets = "{}"
	}
	out.WriteByte(brackets[0])
	for i := range v.n {
		if i > 0 {
			out.WriteByte(',')
		}
		if v.kind == kindMap {
			writeJSON(t, l, out)
			out.WriteByte(':')
		}
		writeJSON(t, l, out)
	}
	out.WriteByte(brackets[1])
}

func quote(b []byte) string {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(string(b)) // a string always encodes
	return strings.TrimSpace(out.String())
}

func indentJSON(t testing.TB, s string) string {
	t.Helper()
	var out bytes.Buffer
	if err := json.Indent(&out, []byte(s), "", "  "); err != nil {
		t.Fatal(err)
	}
	return out.String() + "\n"
}

func mustAppend(t testing.TB, m Message) []byte {
	t.Helper()
	frame, err := Append(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

// decodeEither decodes at the end that takes the op.
func decodeEither(t testing.TB, body []byte) Message {
	t.Helper()
	b, err := DecodeToBroker(body)
	if err == nil {
		return b
	}
	w, werr := DecodeToWorker(body)
	if werr != nil {
		t.Fatalf("broker: %v; worker: %v", err, werr)
	}
	return w
}

// said is one message of a conversation.
type said struct {
	who string
	m   Message
}

// conversation is a whole session: two strands, one fails and is retried, one checkpoints, the broker rolls the worker.
func conversation() []said {
	strand := Strand{
		ID: strandA, Token: tokenA, Kind: "mail.send", Label: "start", Args: []byte(`{"to":"bob@example.org"}`), Queue: "default", Priority: 5,
		Try: 1, MaxTries: 25, CreatedMS: 1767225600000, DeadlineNS: 86520000000000, TTLMS: 120000,
	}
	other := strand
	other.ID, other.Token, other.Kind, other.Args = strandB, tokenB, "report", []byte(`{"month":"2026-01"}`)
	again := other
	again.Token, again.Stack, again.Try = tokenC, []byte(`[{"cursor":300}]`), 2
	return []said{
		{"worker", &Hello{ID: 1, Versions: []uint64{1, 1}, Lib: "respirate-go/0.1.0", Worker: worker1, Build: "v1", PID: 4711, Kinds: []Kind{{Name: "mail.send"}, {Name: "report"}}, BootNS: 86400000000000}},
		{"broker", &Welcome{Re: 1, Version: 1, Broker: broker1, Session: "1-17", MaxFrame: DefaultMaxFrame, MaxN: DefaultMaxN, MaxBatch: DefaultMaxBatch, HeartMS: 5000, DeadMS: 15000, LeaseMS: 120000, BootNS: 86400000123456}},
		{"worker", &Want{N: 2}},
		{"broker", &Strands{Strands: []Strand{strand, other}}},
		{"worker", &Save{ID: 2, Strand: strandB, Token: tokenB, Seq: 1, Stack: []byte(`[{"cursor":300}]`)}},
		{"broker", &Ack{Re: 2, Entries: []AckEntry{{Strand: strandB, Token: tokenB, Seq: 1, State: AckApplied}}}},
		{"worker", &Results{ID: 3, Results: []Result{{Strand: strandA, Token: tokenA, Seq: 1, Act: ActExit, Value: []byte(`null`)}}}},
		{"broker", &Ack{Re: 3, Entries: []AckEntry{{Strand: strandA, Token: tokenA, Seq: 1, State: AckApplied}}}},
		{"broker", &Ping{N: 1}},
		{"worker", &Pong{N: 1}},
		{"worker", &Results{ID: 4, Results: []Result{{Strand: strandB, Token: tokenB, Seq: 2, Act: ActFail, Failure: &Failure{Class: "Timeout", Message: "no answer"}}}}},
		{"broker", &Ack{Re: 4, Entries: []AckEntry{{Strand: strandB, Token: tokenB, Seq: 2, State: AckApplied}}}},
		{"broker", &Strands{Strands: []Strand{again}}},
		{"broker", &Lease{Leases: []Deadline{{Strand: strandB, Token: tokenC, DeadlineNS: 86640000000000, TTLMS: 120000}}}},
		{"broker", &Drain{ByMS: 30000, Why: "roll"}},
		{"worker", &Results{ID: 5, Results: []Result{{Strand: strandB, Token: tokenC, Seq: 1, Act: ActRelease}}}},
		{"broker", &Ack{Re: 5, Entries: []AckEntry{{Strand: strandB, Token: tokenC, Seq: 1, State: AckApplied}}}},
		{"worker", &Bye{Why: "drained"}},
	}
}

func TestWholeSessionIsTheGoldenTranscript(t *testing.T) {
	var got strings.Builder
	streams := map[string][]byte{}
	for _, s := range conversation() {
		frame := mustAppend(t, s.m)
		streams[s.who] = append(streams[s.who], frame...)
		fmt.Fprintf(&got, "%s: %s\n%s\n", s.who, asJSON(t, frame[header:]), hexLines(frame))
	}
	compareFile(t, filepath.Join("testdata", "session.txt"), got.String())

	readers := map[string]*Reader{}
	for who, stream := range streams {
		readers[who] = NewReader(bytes.NewReader(stream), HandshakeMaxFrame)
	}
	for i, s := range conversation() {
		frame, err := readers[s.who].Next()
		if err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		if diff := cmp.Diff(s.m, decodeEither(t, frame)); diff != "" {
			t.Errorf("frame %d (-want +got):\n%s", i, diff)
		}
	}
}
