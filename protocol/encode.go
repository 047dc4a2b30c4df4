package protocol

import (
	"encoding/binary"
	"fmt"
	"math"
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

// appendBody appends m's map with the op as its first pair.
func appendBody(dst []byte, m Message) ([]byte, error) {
	if m, ok := m.(byHand); ok {
		w := pairs{b: slices.Grow(dst, m.size())} // or it would be copied several times as it grows
		m.write(&w)
		return w.b, w.err
	}
	return appendByTags(dst, m)
}

// byHand is a message that carries work or its outcomes, by the hundred in one frame. It is encoded by hand, which takes a quarter
// of what the library does; a test holds that the bytes are those which the tags in message.go ask for.
type byHand interface {
	Message
	size() int // about how many bytes it takes, or fewer
	write(w *pairs)
}

// appendByTags has the library write the struct's map; the op goes in front by leaving room for it, and the map's first byte, which
// tells the number of pairs as no message has more than 14, moves ahead of it.
func appendByTags(dst []byte, m Message) ([]byte, error) {
	start := len(dst)
	dst = append(dst, 0, 0xa2, 'o', 'p', 0xa0|byte(len(m.Op())))
	dst = append(dst, m.Op()...)
	last := len(dst) - 1 // the map's first byte lands on op's last, which is restored below
	out, err := appendValue(dst[:last], m)
	if err != nil {
		return nil, err
	}
	out[start] = out[last] + 1
	out[last] = m.Op()[len(m.Op())-1]
	return out, nil
}

// appendValue has the library write a value.
func appendValue(dst []byte, v any) ([]byte, error) {
	out := &sink{b: dst}
	enc := msgpack.GetEncoder()
	defer msgpack.PutEncoder(enc)
	enc.Reset(out)
	enc.UseCompactInts(true)
	err := enc.Encode(v)
	return out.b, err
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

// What the keys and the fixed values of an entry take, and a little more.
const (
	strandSize = 240
	resultSize = 112
	ackSize    = 112
)

func (m *Strands) size() (bytes int) {
	for i := range m.Strands {
		s := &m.Strands[i]
		bytes += strandSize + len(s.Args) + len(s.Stack) + len(s.Metadata)
	}
	return bytes
}

func (m *Results) size() (bytes int) {
	for i := range m.Results {
		bytes += resultSize + len(m.Results[i].Value) + len(m.Results[i].Stack)
	}
	return bytes
}

func (m *Ack) size() int { return len(m.Entries) * ackSize }

func (m *Strands) write(w *pairs) {
	w.open(2)
	w.str("op", m.Op())
	writeList(w, "b", m.Strands, (*Strand).write)
}

func (m *Results) write(w *pairs) {
	w.open(3)
	w.str("op", m.Op())
	w.uint("id", m.ID)
	writeList(w, "r", m.Results, (*Result).write)
}

func (m *Ack) write(w *pairs) {
	w.open(3, m.All)
	w.str("op", m.Op())
	w.uint("re", m.Re)
	writeList(w, "r", m.Entries, (*AckEntry).write)
	w.optTrue("all", m.All)
}

func (s *Strand) write(w *pairs) {
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
}

func (r *Result) write(w *pairs) {
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
}

func (e *AckEntry) write(w *pairs) {
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
}

// pairs writes maps, pair by pair. The first error stays.
type pairs struct {
	b   []byte
	err error
}

// open starts a map of always pairs and those that are present.
func (w *pairs) open(always int, present ...bool) {
	for _, p := range present {
		if p {
			always++
		}
	}
	w.head(always, 16, 0x80, 0xde)
}

// head writes the first bytes of a map or array of n: one where n is below short.
func (w *pairs) head(n, short int, few, many byte) {
	switch {
	case n < short:
		w.b = append(w.b, few|byte(n))
	case n <= math.MaxUint16:
		w.b = binary.BigEndian.AppendUint16(append(w.b, many), uint16(n))
	default:
		w.b = binary.BigEndian.AppendUint32(append(w.b, many+1), uint32(n))
	}
}

// sized writes the first bytes of a str or bin of n bytes. code is that of the shortest whose length takes a byte of its own.
func (w *pairs) sized(n int, code byte) {
	switch {
	case n <= math.MaxUint8:
		w.b = append(w.b, code, byte(n))
	case n <= math.MaxUint16:
		w.b = binary.BigEndian.AppendUint16(append(w.b, code+1), uint16(n))
	default:
		w.b = binary.BigEndian.AppendUint32(append(w.b, code+2), uint32(n))
	}
}

func (w *pairs) text(s string) {
	if len(s) < 32 {
		w.b = append(w.b, 0xa0|byte(len(s)))
	} else {
		w.sized(len(s), 0xd9)
	}
	w.b = append(w.b, s...)
}

func (w *pairs) str(k, v string) {
	w.text(k)
	w.text(v)
}

func (w *pairs) bin(k string, v []byte) {
	w.text(k)
	if v == nil {
		w.b = append(w.b, 0xc0)
		return
	}
	w.sized(len(v), 0xc4)
	w.b = append(w.b, v...)
}

func (w *pairs) int(k string, v int64) {
	if v >= 0 {
		w.uint(k, uint64(v))
		return
	}
	w.text(k)
	switch {
	case v >= -32:
		w.b = append(w.b, byte(v))
	case v >= math.MinInt8:
		w.b = append(w.b, 0xd0, byte(v))
	case v >= math.MinInt16:
		w.b = binary.BigEndian.AppendUint16(append(w.b, 0xd1), uint16(v))
	case v >= math.MinInt32:
		w.b = binary.BigEndian.AppendUint32(append(w.b, 0xd2), uint32(v))
	default:
		w.b = binary.BigEndian.AppendUint64(append(w.b, 0xd3), uint64(v))
	}
}

func (w *pairs) uint(k string, v uint64) {
	w.text(k)
	switch {
	case v <= math.MaxInt8:
		w.b = append(w.b, byte(v))
	case v <= math.MaxUint8:
		w.b = append(w.b, 0xcc, byte(v))
	case v <= math.MaxUint16:
		w.b = binary.BigEndian.AppendUint16(append(w.b, 0xcd), uint16(v))
	case v <= math.MaxUint32:
		w.b = binary.BigEndian.AppendUint32(append(w.b, 0xce), uint32(v))
	default:
		w.b = binary.BigEndian.AppendUint64(append(w.b, 0xcf), v)
	}
}

// any writes what is rarely there.
func (w *pairs) any(k string, v any) {
	w.text(k)
	b, err := appendValue(w.b, v)
	if w.b = b; w.err == nil {
		w.err = err
	}
}

// writeList writes an array of maps.
func writeList[T any](w *pairs, k string, list []T, write func(*T, *pairs)) {
	w.text(k)
	if list == nil {
		w.b = append(w.b, 0xc0)
		return
	}
	w.head(len(list), 16, 0x90, 0xdc)
	for i := range list {
		write(&list[i], w)
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
	if v {
		w.text(k)
		w.b = append(w.b, 0xc3)
	}
}
