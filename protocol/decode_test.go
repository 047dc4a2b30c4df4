package protocol

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vmihailenco/msgpack/v5"
)

// fields is a message as a worker in another language would write it down.
type fields = map[string]any

func entry(add fields) fields {
	e := fields{"s": strandA, "tok": tokenA, "seq": 1}
	for k, v := range add {
		e[k] = v
	}
	return e
}

func encodeFields(t testing.TB, m fields) []byte {
	t.Helper()
	var b bytes.Buffer
	enc := msgpack.NewEncoder(&b)
	enc.SetSortMapKeys(true)
	if err := enc.Encode(m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// sampleFields is the sample of an op, to be spoilt.
func sampleFields(t testing.TB, op string) fields {
	t.Helper()
	for _, m := range samples() {
		if m.Op() == op {
			got := fields{}
			if err := msgpack.Unmarshal(mustAppend(t, m)[header:], &got); err != nil {
				t.Fatal(err)
			}
			return got
		}
	}
	t.Fatalf("no sample of %s", op)
	return nil
}

func TestBrokerRefusesBadFieldsWithACodeThatSaysWhatIsLost(t *testing.T) {
	for _, c := range []struct {
		op, key string
		value   any // nil takes the key out
		code    Code
		fatal   bool
		want    string
	}{
		{"hello", "id", nil, CodeBadFrame, true, "hello: id: missing"},
		{"hello", "id", 0, CodeBadFrame, true, "hello: id: 0, want 1 to 9007199254740991"},
		{"hello", "id", -1, CodeBadFrame, true, "hello: id: -1, want 1 to"},
		{"hello", "id", uint64(1) << 53, CodeBadFrame, true, "hello: id: 9007199254740992, want"},
		{"hello", "v", []int{1}, CodeBadFrame, true, "hello: v: an array of 1, want 2"},
		{"hello", "v", []int{2, 1}, CodeBadFrame, true, "hello: v: [2, 1], want the lowest version first"},
		{"hello", "v", 1, CodeBadFrame, true, "hello: v: a int, want a array"},
		{"hello", "lib", strings.Repeat("l", 65), CodeBadFrame, true, "hello: lib: 65 bytes, at most 64 are allowed"},
		{"hello", "wid", "worker 7", CodeBadFrame, true, `hello: wid: "worker 7" is not a UUID in lower case`},
		{"hello", "wid", strings.ToUpper(worker1), CodeBadFrame, true, "is not a UUID in lower case"},
		{"hello", "pid", "4711", CodeBadFrame, true, "hello: pid: a str, want a int"},
		{"hello", "pid", uint64(1) << 63, CodeBadFrame, true, "hello: pid: 9223372036854775808, want at most"},
		{"hello", "kinds", []string{"mail"}, CodeBadFrame, true, "hello: kinds[0]: a str, want a map"},
		{"hello", "kinds", []fields{{"kind": "a"}, {"kind": ""}}, CodeBadFrame, true, "hello: kinds[1].kind: is empty"},
		{"hello", "kinds", []fields{{"kind": "a\nb"}}, CodeBadFrame, true, `hello: kinds[0].kind: has a control character: "a\nb"`},
		{"hello", "kinds", []fields{{"kind": strings.Repeat("k", 256)}}, CodeBadFrame, true, "hello: kinds[0].kind: 256 bytes, at most 255"},
		{"hello", "caps", []any{"sync", 1}, CodeBadFrame, true, "hello: caps[1]: a int, want a str"},
		{"hello", "hold", []fields{{"s": strandA, "tok": tokenA, "kind": "k", "st": "lost"}}, CodeBadFrame, true, `hello: hold[0].st: "lost", want "run" or "done"`},
		{"hello", "hold", []fields{{"s": strandA, "kind": "k", "st": "run"}}, CodeBadFrame, true, "hello: hold[0].tok: missing"},
		{"want", "n", nil, CodeBadField, false, "want: n: missing"},
		{"want", "n", -5, CodeBadField, false, "want: n: -5, want 0 to"},
		{"want", "n", true, CodeBadField, false, "want: n: a bool, want a int"},
		{"touch", "t", []fields{}, CodeBadField, false, "touch: t: empty, want one entry at least"},
		{"touch", "t", []fields{{"s": strandA, "tok": ""}}, CodeBadField, false, "touch: t[0].tok: empty"},
		{"touch", "t", []fields{{"s": strandA, "tok": strings.Repeat("t", 65)}}, CodeTooLarge, false, "touch: t[0].tok: 65 bytes"},
		{"touch", "note", strings.Repeat("n", 4097), CodeTooLarge, false, "touch: note: 4097 bytes, at most 4096 are allowed"},
		{"save", "seq", 0, CodeBadField, false, "save: seq: 0, want 1 to"},
		{"save", "stack", "[]", CodeBadField, false, "save: stack: a str, want a bin"},
		{"save", "stack", []byte(`{}`), CodeBadField, false, "save: stack: not a JSON array"},
		{"save", "stack", []byte(`["\u0000"]`), CodeBadField, false, `save: stack: it holds \u0000`},
		{"call", "m", 1, CodeBadField, false, "call: m: a int, want a str"},
		{"call", "enq", []fields{{"key": made, "kind": "k", "args": []byte(`{`)}}, CodeBadField, false, "call: enq[0].args: not valid JSON"},
		{"call", "enq", []fields{{"key": made, "kind": "k", "args": []byte(`1`), "opts": []byte(`[]`)}}, CodeBadField, false, "call: enq[0].opts: not a JSON object"},
		{"call", "enq", []fields{{"key": made, "kind": "k"}}, CodeBadField, false, "call: enq[0].args: missing"},
		{"call", "enq", []fields{{"key": made, "kind": "k", "args": []byte(`1`), "child": 1}}, CodeBadField, false, "call: enq[0].child: a int, want a bool"},
		{"call", "enq", []fields{{"key": made, "kind": "k", "args": []byte(`1`), "child": true}}, CodeBadField, false, "call: enq[0].child: a call has no strand"},
		{"call", "enq", []fields{{"key": made, "kind": "k", "args": []byte(`1`), "watch": true}}, CodeBadField, false, "call: enq[0].watch: a call has no strand"},
		{"result", "id", nil, CodeBadFrame, true, "result: id: missing"},
		{"result", "r", []fields{}, CodeBadFrame, true, "result: r: empty"},
		{"result", "r", []any{1}, CodeBadFrame, true, "result: r[0]: a int, want a map"},
		{"result", "r", []fields{{"tok": tokenA, "seq": 1, "act": "exit"}}, CodeBadFrame, true, "result: r[0].s: missing"},
		{"result", "r", []fields{{"s": strandA, "seq": 1, "act": "exit"}}, CodeBadFrame, true, "result: r[0].tok: missing"},
		{"result", "r", []fields{{"s": strandA, "tok": tokenA, "act": "exit"}}, CodeBadFrame, true, "result: r[0].seq: missing"},
		{"result", "r", []fields{{"s": strandA, "tok": tokenA, "seq": "1", "act": "exit"}}, CodeBadFrame, true, "result: r[0].seq: a str, want a int"},
		{"ping", "n", nil, CodeBadFrame, true, "ping: n: missing"},
		{"bye", "why", []byte("x"), CodeBadFrame, true, "bye: why: a bin, want a str"},
		{"err", "fatal", nil, CodeBadFrame, true, "err: fatal: missing"},
	} {
		t.Run(c.op+"."+c.key, func(t *testing.T) {
			m := sampleFields(t, c.op)
			m[c.key] = c.value
			id, _ := m["id"].(int8)
			_, err := DecodeToBroker(encodeFields(t, m))
			var fault *Err
			if !errors.As(err, &fault) {
				t.Fatalf("got %v, want an *Err", err)
			}
			if fault.Code != c.code || fault.Fatal != c.fatal || !strings.Contains(fault.Message, c.want) {
				t.Errorf("got %+v, want %s, fatal %t, that says %q", fault, c.code, c.fatal, c.want)
			}
			if c.key != "id" && fault.Re != uint64(id) {
				t.Errorf("it answers %d, the frame's id is %d", fault.Re, id)
			}
		})
	}
}

func TestBadResultIsInvalidAndItsNeighboursStay(t *testing.T) {
	for _, c := range []struct {
		name string
		add  fields
		want string
	}{
		{"no act", fields{}, "act: missing"},
		{"an act of no list", fields{"act": "explode"}, `act: "explode" is not an act`},
		{"an act that is no str", fields{"act": 1}, "act: a int, want a str"},
		{"a value that is no JSON", fields{"act": "exit", "val": []byte(`{"a":`)}, "val: not valid JSON"},
		{"a value with a NUL", fields{"act": "exit", "val": []byte(`"a\u0000"`)}, `val: it holds \u0000`},
		{"a value with half a pair", fields{"act": "exit", "val": []byte(`"\ud800"`)}, "val: it holds the first half"},
		{"a value as a str", fields{"act": "exit", "val": `1`}, "val: a str, want a bin"},
		{"a stack that is no array", fields{"act": "nap", "stack": []byte(`{}`)}, "stack: not a JSON array"},
		{"a value with a nap", fields{"act": "nap", "val": []byte(`1`)}, "val: does not go with nap"},
		{"a delay with an exit", fields{"act": "exit", "ms": 5}, "ms: does not go with exit"},
		{"a negative delay", fields{"act": "nap", "ms": -5}, "ms: -5, want 0 to"},
		{"a label with a nap", fields{"act": "nap", "label": "x"}, "label: does not go with nap"},
		{"a hop to nowhere", fields{"act": "hop"}, "label: missing, a hop needs it"},
		{"a hop to a bad label", fields{"act": "hop", "label": "a\x00"}, `label: has a control character: "a\x00"`},
		{"a fail without a reason", fields{"act": "fail"}, "err: missing, a fail needs it"},
		{"a failure without a class", fields{"act": "fail", "err": fields{"msg": "m"}}, "err.class: missing"},
		{"a failure with a NUL", fields{"act": "fail", "err": fields{"class": "c", "msg": "a\x00b"}}, "err.msg: a NUL at byte 1"},
		{"a long message", fields{"act": "fail", "err": fields{"class": "c", "msg": strings.Repeat("m", 4097)}}, "err.msg: 4097 bytes, at most 4096"},
		{"final with a cancel", fields{"act": "cancel", "final": true}, "final: does not go with cancel"},
		{"a chain with a delay", fields{"act": "hop", "label": "x", "ms": 5, "chain": true}, "chain: does not go with a delay"},
		{"a chain with an exit", fields{"act": "exit", "chain": true}, "chain: does not go with exit"},
		{"signals with a fail", fields{"act": "fail", "err": fields{"class": "c", "msg": ""}, "sig": []fields{{"name": "n"}}}, "sig: does not go with fail"},
		{"used semaphores with a release", fields{"act": "release", "used": []int{1}}, "used: does not go with release"},
		{"a deadline with an exit", fields{"act": "exit", "due": fields{"target": "t", "ms": 1}}, "due: does not go with exit"},
		{"more frames than there may be", fields{"act": "nap", "frame": MaxFrames + 1}, "frame: "},
		{"inserts with a release", fields{"act": "release", "enq": []fields{{"key": made, "kind": "k", "args": []byte(`1`)}}}, "enq: does not go with release"},
		{"a bad insert", fields{"act": "exit", "enq": []fields{{"key": made, "kind": "k", "args": []byte(`1`)}, {"key": "x", "kind": "k", "args": []byte(`1`)}}}, `enq[1].key: "x" is not a UUID`},
		{"bad args of an insert", fields{"act": "exit", "enq": []fields{{"key": made, "kind": "k", "args": []byte(`nope`)}}}, "enq[0].args: not valid JSON"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := fields{"s": strandB, "tok": tokenB, "seq": 4, "act": "exit"}
			after := fields{"s": strandC, "tok": tokenC, "seq": 5, "act": "release"}
			frame := encodeFields(t, fields{"op": "result", "id": 9, "r": []fields{before, entry(c.add), after}})
			got, err := DecodeToBroker(frame)
			if err != nil {
				t.Fatal(err)
			}
			m := got.(*Results)
			wantResults := []Result{{Strand: strandB, Token: tokenB, Seq: 4, Act: ActExit}, {Strand: strandC, Token: tokenC, Seq: 5, Act: ActRelease}}
			if diff := cmp.Diff(wantResults, m.Results); diff != "" {
				t.Errorf("neighbours (-want +got):\n%s", diff)
			}
			if len(m.Invalid) != 1 || m.Invalid[0].Strand != strandA || m.Invalid[0].Token != tokenA || m.Invalid[0].Seq != 1 || !strings.Contains(m.Invalid[0].Why, c.want) {
				t.Errorf("invalid %+v, want the one that says %q", m.Invalid, c.want)
			}
		})
	}
}

func TestWorkerEndsASessionThatItCannotFollow(t *testing.T) {
	for _, c := range []struct {
		op, key string
		value   any
		want    string
	}{
		{"welcome", "max_frame", HardMaxFrame + 1, "welcome: max_frame: 16777217, want 1 to 16777216"},
		{"welcome", "hb_ms", 0, "welcome: hb_ms: 0, want 1 to"},
		{"strands", "b", []fields{{"s": strandA}}, "strands: b[0].tok: missing"},
		{"lease", "l", nil, "lease: l: missing"},
		{"cancel", "c", []fields{}, "cancel: c: empty"},
		{"ack", "r", []fields{entry(nil)}, "ack: r[0].st: missing"},
		{"reply", "ids", "x", "reply: ids: a str, want a array"},
		{"drain", "by_ms", -1, "drain: by_ms: -1, want 0 to"},
	} {
		m := sampleFields(t, c.op)
		m[c.key] = c.value
		_, err := DecodeToWorker(encodeFields(t, m))
		var fault *Err
		if !errors.As(err, &fault) || fault.Code != CodeBadFrame || !fault.Fatal || !strings.Contains(fault.Message, c.want) {
			t.Errorf("%s.%s: got %v, want a fatal bad_frame that says %q", c.op, c.key, err, c.want)
		}
	}
}

func TestUnknownOpIsSkippedUnlessItMustNotBe(t *testing.T) {
	for _, c := range []struct {
		name string
		m    fields
		want Err
	}{
		{"no id", fields{"op": "sing"}, Err{Code: CodeUnknownOp, Message: `op "sing" is unknown here`}},
		{"an id", fields{"op": "sing", "id": 7}, Err{Re: 7, Code: CodeUnknownOp, Message: `op "sing" is unknown here`}},
		{"must be false", fields{"op": "sing", "must": false}, Err{Code: CodeUnknownOp, Message: `op "sing" is unknown here`}},
		{"must", fields{"op": "sing", "must": true, "id": 7}, Err{Re: 7, Code: CodeVersion, Message: `op "sing" is unknown to version 1 and must not be ignored`, Fatal: true}},
	} {
		frame := encodeFields(t, c.m)
		_, toBroker := DecodeToBroker(frame)
		_, toWorker := DecodeToWorker(frame)
		for _, err := range []error{toBroker, toWorker} {
			var fault *Err
			if !errors.As(err, &fault) || *fault != c.want {
				t.Errorf("%s: got %+v, want %+v", c.name, err, c.want)
			}
		}
	}
}

func TestMessagesOfTheOtherDirectionAreUnknown(t *testing.T) {
	for _, m := range toWorkerSamples() {
		if _, err := DecodeToBroker(mustAppend(t, m)[header:]); !isUnknown(err) {
			t.Errorf("broker takes %s: %v", m.Op(), err)
		}
	}
	for _, m := range toBrokerSamples() {
		if _, both := m.(ToWorker); both {
			continue
		}
		if _, err := DecodeToWorker(mustAppend(t, m)[header:]); !isUnknown(err) {
			t.Errorf("worker takes %s: %v", m.Op(), err)
		}
	}
}

func isUnknown(err error) bool {
	var fault *Err
	return errors.As(err, &fault) && fault.Code == CodeUnknownOp
}

func TestUnknownKeysAreIgnoredAtEveryLevel(t *testing.T) {
	odd := []any{nil, true, -1, "text", []byte{0xff}, []any{fields{"deep": 1}}, fields{}}
	for _, m := range samples() {
		got := fields{}
		if err := msgpack.Unmarshal(mustAppend(t, m)[header:], &got); err != nil {
			t.Fatal(err)
		}
		frame := encodeFields(t, withExtras(got, odd).(fields))
		if diff := cmp.Diff(m, decodeEither(t, frame)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", m.Op(), diff)
		}
	}
}

// withExtras adds a key that nobody knows to every map.
func withExtras(v any, extra any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, inner := range v {
			v[k] = withExtras(inner, extra)
		}
		v["a_new_key"] = extra
	case []any:
		for i := range v {
			v[i] = withExtras(v[i], extra)
		}
	}
	return v
}

func TestNilIsAsGoodAsAbsent(t *testing.T) {
	frame := encodeFields(t, fields{"op": "result", "id": 1, "r": []fields{entry(fields{
		"act": "exit", "ms": nil, "label": nil, "kind": nil, "val": nil, "stack": nil, "err": nil, "final": nil, "enq": nil,
	})}})
	got, err := DecodeToBroker(frame)
	want := &Results{ID: 1, Results: []Result{{Strand: strandA, Token: tokenA, Seq: 1, Act: ActExit}}}
	if diff := cmp.Diff(ToBroker(want), got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestIntegersOfAnyWidthAreTheSame(t *testing.T) {
	for _, n := range []string{"\x05", "\xcc\x05", "\xcd\x00\x05", "\xce\x00\x00\x00\x05", "\xcf\x00\x00\x00\x00\x00\x00\x00\x05", "\xd0\x05", "\xd1\x00\x05", "\xd2\x00\x00\x00\x05", "\xd3\x00\x00\x00\x00\x00\x00\x00\x05"} {
		got, err := DecodeToBroker([]byte("\x82\xa2op\xa4want\xa1n" + n))
		if err != nil || got.(*Want).N != 5 {
			t.Errorf("n as %x: %+v, %v", n, got, err)
		}
	}
}

func TestDecodedMessageSharesNoMemoryWithItsFrame(t *testing.T) {
	for _, m := range samples() {
		body := mustAppend(t, m)[header:]
		got := decodeEither(t, body)
		for i := range body {
			body[i] = 0xff
		}
		if diff := cmp.Diff(m, got); diff != "" {
			t.Errorf("%s changed with its frame (-want +got):\n%s", m.Op(), diff)
		}
	}
}

func TestCutFramesAreRefusedWhereverTheyAreCut(t *testing.T) {
	for _, m := range samples() {
		body := mustAppend(t, m)[header:]
		for n := range body {
			for _, decode := range []func() error{
				func() error { _, err := DecodeToBroker(body[:n]); return err },
				func() error { _, err := DecodeToWorker(body[:n]); return err },
			} {
				var fault *Err
				if err := decode(); !errors.As(err, &fault) || fault.Code != CodeBadFrame || !fault.Fatal {
					t.Errorf("%s cut after %d of %d bytes: %v, want a fatal bad_frame", m.Op(), n, len(body), err)
				}
			}
		}
	}
}
