package protocol

import (
	"encoding/binary"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
)

// Append appends the frame of m, length and body, to dst. What it returns passes the peer's scanner: a message that does
// not, such as one with text that is not UTF-8, gives an *[Err] and leaves dst as it was, so that it harms its sender's
// caller and not the session.
func Append(dst []byte, m Message) ([]byte, error) {
	start := len(dst)
	out, err := appendBody(append(dst, 0, 0, 0, 0), m)
	if err != nil {
		return dst, fmt.Errorf("encode %s: %w", m.Op(), err)
	}
	body := out[start+header:]
	if len(body) > HardMaxFrame {
		return dst, Errorf(CodeTooLarge, "encode %s: %d bytes, at most %d are allowed in any frame", m.Op(), len(body), HardMaxFrame)
	}
	if !sound(m) {
		if _, err := scan(body); err != nil {
			return dst, fmt.Errorf("encode %s: %w", m.Op(), err)
		}
	}
	binary.BigEndian.PutUint32(out[start:], uint32(len(body)))
	return out, nil
}

// sound says of a message with many entries that the peer's scanner will surely take it, so that nobody has to try: how it is
// built is our affair, and its texts are looked at. Of those that have more in them than usual it says nothing.
func sound(m Message) bool {
	switch m := m.(type) {
	case *Strands:
		return allSound(m.Strands, func(s *Strand) bool {
			return len(s.Tags) == 0 && s.Inbox == nil && texts(s.ID, s.Token, s.Kind, s.Label, s.Tenant, s.Queue)
		})
	case *Results:
		return allSound(m.Results, func(r *Result) bool {
			return r.Failure == nil && len(r.Inserts)+len(r.Signals)+len(r.Used)+len(r.Reaped) == 0 && r.Due == nil && texts(r.Strand, r.Token, r.Act, r.Label, r.NewKind)
		})
	case *Ack:
		return allSound(m.Entries, func(e *AckEntry) bool {
			return e.Inbox == nil && texts(e.Strand, e.Token, e.State, e.Why, e.Next)
		})
	}
	return false
}

func allSound[T any](entries []T, sound func(*T) bool) bool {
	for i := range entries {
		if !sound(&entries[i]) {
			return false
		}
	}
	return len(entries) <= MaxItems
}

// texts says whether all of these may be a str.
func texts(all ...string) bool {
	for _, text := range all {
		if len(text) > maxText || !utf8.ValidString(text) {
			return false
		}
	}
	return true
}

// appendBody appends m's map with the op as its first pair. The library writes the struct's map; the op goes in front by
// leaving room for it, and the map's first byte, which tells the number of pairs as no message has more than 14, moves ahead of it.
func appendBody(dst []byte, m Message) ([]byte, error) {
	if large, ok := m.(interface{ payload() int }); ok {
		dst = slices.Grow(dst, large.payload()) // or it would be copied several times as it grows
	}
	start := len(dst)
	dst = append(dst, 0, 0xa2, 'o', 'p', 0xa0|byte(len(m.Op())))
	dst = append(dst, m.Op()...)
	last := len(dst) - 1 // the map's first byte lands on op's last, which is restored below
	out := &sink{b: dst[:last]}

	enc := msgpack.GetEncoder()
	defer msgpack.PutEncoder(enc)
	enc.Reset(out)
	enc.UseCompactInts(true)
	if err := enc.Encode(m); err != nil {
		return nil, err
	}
	out.b[start] = out.b[last] + 1
	out.b[last] = m.Op()[len(m.Op())-1]
	return out.b, nil
}

// payload is about how many bytes of the frame are what strands carry.
func (m *Strands) payload() (bytes int) {
	for i := range m.Strands {
		s := &m.Strands[i]
		bytes += len(s.Args) + len(s.Stack) + len(s.Metadata)
	}
	return bytes
}

// payload is about how many bytes of the frame are what results carry.
func (m *Results) payload() (bytes int) {
	for i := range m.Results {
		bytes += len(m.Results[i].Value) + len(m.Results[i].Stack)
	}
	return bytes
}

// sink collects what an encoder writes.
type sink struct{ b []byte }

func (s *sink) Write(p []byte) (int, error) {
	s.b = append(s.b, p...)
	return len(p), nil
}

func (s *sink) WriteByte(c byte) error {
	s.b = append(s.b, c)
	return nil
}

// The messages that carry work and its outcomes go by the hundred in one frame. Their entries are encoded by hand, to spare the
// reflection; a test holds that the bytes are those which the tags in message.go ask for.

// EncodeMsgpack is called by the msgpack library.
func (s *Strand) EncodeMsgpack(enc *msgpack.Encoder) error {
	w := pairs{enc: enc}
	w.open(12, len(s.Stack) > 0, s.Tenant != "", s.RunMS != 0, len(s.Tags) > 0, len(s.Metadata) > 0, s.Inbox != nil)
	w.str("s", s.ID)
	w.str("tok", s.Token)
	w.str("kind", s.Kind)
	w.str("label", s.Label)
	w.bin("args", s.Args)
	w.optBin("stack", s.Stack)
	w.optStr("tenant", s.Tenant)
	w.str("queue", s.Queue)
	w.int("prio", s.Priority)
	w.uint("try", s.Try)
	w.uint("max_tries", s.MaxTries)
	w.int("created_ms", s.CreatedMS)
	w.int("dl_bns", s.DeadlineNS)
	w.uint("ttl_ms", s.TTLMS)
	w.optUint("run_ms", s.RunMS)
	w.optStrs("tags", s.Tags)
	w.optBin("meta", s.Metadata)
	if s.Inbox != nil {
		w.any("in", s.Inbox)
	}
	return w.err
}

// EncodeMsgpack is called by the msgpack library.
func (r *Result) EncodeMsgpack(enc *msgpack.Encoder) error {
	w := pairs{enc: enc}
	w.open(4, r.DelayMS != nil, r.Label != "", r.NewKind != "", len(r.Value) > 0, len(r.Stack) > 0,
		r.Failure != nil, r.Final, len(r.Inserts) > 0, len(r.Signals) > 0, len(r.Used) > 0, len(r.Reaped) > 0, r.Due != nil, r.Frame != 0, r.Chain)
	w.str("s", r.Strand)
	w.str("tok", r.Token)
	w.uint("seq", r.Seq)
	w.str("act", r.Act)
	if r.DelayMS != nil {
		w.uint("ms", *r.DelayMS)
	}
	w.optStr("label", r.Label)
	w.optStr("kind", r.NewKind)
	w.optBin("val", r.Value)
	w.optBin("stack", r.Stack)
	if r.Failure != nil {
		w.any("err", r.Failure)
	}
	w.optTrue("final", r.Final)
	if len(r.Inserts) > 0 {
		w.any("enq", r.Inserts)
	}
	if len(r.Signals) > 0 {
		w.any("sig", r.Signals)
	}
	if len(r.Used) > 0 {
		w.any("used", r.Used)
	}
	w.optStrs("reap", r.Reaped)
	if r.Due != nil {
		w.any("due", r.Due)
	}
	w.optUint("frame", r.Frame)
	w.optTrue("chain", r.Chain)
	return w.err
}

// EncodeMsgpack is called by the msgpack library.
func (e *AckEntry) EncodeMsgpack(enc *msgpack.Encoder) error {
	w := pairs{enc: enc}
	w.open(4, e.Why != "", e.RetryMS != 0, e.Next != "", e.Inbox != nil)
	w.str("s", e.Strand)
	w.str("tok", e.Token)
	w.uint("seq", e.Seq)
	w.str("st", e.State)
	w.optStr("why", e.Why)
	w.optUint("retry_ms", e.RetryMS)
	w.optStr("next", e.Next)
	if e.Inbox != nil {
		w.any("in", e.Inbox)
	}
	return w.err
}

// pairs writes a map, pair by pair. The first error stays.
type pairs struct {
	enc *msgpack.Encoder
	err error
}

// open starts a map of always pairs and those that are present.
func (w *pairs) open(always int, present ...bool) {
	for _, p := range present {
		if p {
			always++
		}
	}
	w.err = w.enc.EncodeMapLen(always)
}

// key writes a key and returns whether the value can follow.
func (w *pairs) key(k string) bool {
	if w.err == nil {
		w.err = w.enc.EncodeString(k)
	}
	return w.err == nil
}

func (w *pairs) str(k, v string) {
	if w.key(k) {
		w.err = w.enc.EncodeString(v)
	}
}

func (w *pairs) bin(k string, v []byte) {
	if w.key(k) {
		w.err = w.enc.EncodeBytes(v)
	}
}

func (w *pairs) int(k string, v int64) {
	if w.key(k) {
		w.err = w.enc.EncodeInt(v)
	}
}

func (w *pairs) uint(k string, v uint64) {
	if w.key(k) {
		w.err = w.enc.EncodeUint(v)
	}
}

func (w *pairs) any(k string, v any) {
	if w.key(k) {
		w.err = w.enc.Encode(v)
	}
}

func (w *pairs) optStr(k, v string) {
	if v != "" {
		w.str(k, v)
	}
}

func (w *pairs) optBin(k string, v []byte) {
	if len(v) > 0 {
		w.bin(k, v)
	}
}

func (w *pairs) optUint(k string, v uint64) {
	if v != 0 {
		w.uint(k, v)
	}
}

func (w *pairs) optStrs(k string, v []string) {
	if len(v) > 0 {
		w.any(k, v)
	}
}

func (w *pairs) optTrue(k string, v bool) {
	if v && w.key(k) {
		w.err = w.enc.EncodeBool(true)
	}
}
