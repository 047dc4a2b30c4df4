package broker

import (
	"errors"
	"fmt"
	"time"

	"github.com/respirated/respirated/protocol"
)

// perSession keeps one T for each session, in the order in which they were first asked for.
type perSession[T any] struct {
	fresh T // what each begins as
	order []sessionID
	byID  map[sessionID]*T
}

func (p *perSession[T]) of(session sessionID) *T {
	if t := p.byID[session]; t != nil {
		return t
	}
	if p.byID == nil {
		p.byID = map[sessionID]*T{}
	}
	t := new(T)
	*t = p.fresh
	p.byID[session] = t
	p.order = append(p.order, session)
	return t
}

func (p *perSession[T]) each(do func(sessionID, *T)) {
	for _, session := range p.order {
		do(session, p.byID[session])
	}
}

// handout gathers the strands of one session into frames that its worker can take.
type handout struct {
	share   int // about how many to make room for
	bytes   int
	strands []protocol.Strand
}

const (
	strandOverhead = 512 // what a strand takes in a frame besides its payload, and more
	tagOverhead    = 5   // and what a tag takes
	itemOverhead   = 80  // what a semaphore or an ended child takes besides its name and value, and more
	mostInFrame    = 512
	usualFrame     = 192 << 10 // bytes of a frame; more only for a strand that is larger: readers keep no larger buffer
)

func (h *handout) fits(payload, most int) bool {
	return len(h.strands) < mostInFrame && h.bytes+payload+strandOverhead <= most
}

// usual is how many bytes of payload go into one frame together.
func (s *schedule) usual() int { return min(s.maxFrame/2, usualFrame) }

func (h *handout) add(st protocol.Strand, payload int) {
	if h.strands == nil {
		h.strands = make([]protocol.Strand, 0, min(h.share, mostInFrame))
	}
	h.bytes += payload + strandOverhead
	h.strands = append(h.strands, st)
}

func (h *handout) flush(session sessionID, fx *effects) {
	if len(h.strands) == 0 {
		return
	}
	fx.tell(session, &protocol.Strands{Strands: h.strands})
	h.strands, h.bytes = nil, 0
}

// payload is about how many bytes a strand holds: its texts of any length, of which tags may have many.
func (st *Strand) payload() int {
	bytes := len(st.Args) + len(st.Stack) + len(st.Metadata) + len(st.Kind) + len(st.Label) + len(st.Tenant) + len(st.Queue)
	bytes += st.Inbox.payload()
	for _, tag := range st.Tags {
		bytes += tagOverhead + len(tag)
	}
	return bytes
}

func wireStrand(st *Strand, deadline, now int64, limit time.Duration) protocol.Strand {
	id, token := Pair{st.ID, st.Token}.text()
	return protocol.Strand{
		ID: id, Token: token, Kind: st.Kind, Label: st.Label, Args: st.Args, Stack: st.Stack,
		Tenant: st.Tenant, Queue: st.Queue, Priority: int64(st.Priority), Try: uint64(st.Try + 1), MaxTries: uint64(st.MaxTries),
		CreatedMS: st.Created.UnixMilli(), DeadlineNS: deadline, TTLMS: millis(deadline - now), RunMS: uint64(limit.Milliseconds()),
		Tags: st.Tags, Metadata: st.Metadata, Inbox: st.Inbox.wire(),
	}
}

// payload is about how many bytes of a frame an inbox takes.
func (in *Inbox) payload() (bytes int) {
	if in == nil {
		return 0
	}
	for i := range in.Semaphores {
		bytes += in.Semaphores[i].payload()
	}
	for i := range in.Ended {
		bytes += in.Ended[i].payload()
	}
	return bytes
}

func (s *Semaphore) payload() int { return itemOverhead + len(s.Name) + len(s.Value) }

func (e *Ended) payload() int { return itemOverhead + len(e.Kind) + len(e.Value) }

// within is as much of an inbox as takes no more than so many bytes, but the first ended child in any case: what has been listed
// can be taken out, and then the rest comes. The first semaphore always fits beside the largest strand and the largest value of
// a child if a frame may have its default size; where it does not, it waits, as no signal may end a strand.
func (in *Inbox) within(most int) *Inbox {
	if in == nil || in.payload() <= most {
		return in
	}
	cut := &Inbox{Ended: in.Ended[:min(1, len(in.Ended))], Left: in.Left, More: true}
	for i := range max(len(in.Semaphores), len(in.Ended)) {
		next := *cut
		next.Semaphores, next.Ended = in.Semaphores[:min(i+1, len(in.Semaphores))], in.Ended[:min(i+1, len(in.Ended))]
		if next.payload() > most {
			break
		}
		*cut = next
	}
	return cut
}

func (in *Inbox) wire() *protocol.Inbox {
	if in == nil {
		return nil
	}
	out := &protocol.Inbox{Left: uint64(in.Left), More: in.More}
	for _, s := range in.Semaphores {
		out.Semaphores = append(out.Semaphores, protocol.Semaphore{ID: uint64(s.ID), Name: s.Name, Value: s.Value, SentMS: s.Sent.UnixMilli()})
	}
	for _, e := range in.Ended {
		out.Ended = append(out.Ended, protocol.Ended{Strand: e.ID.String(), Kind: e.Kind, State: e.State, Value: e.Value})
	}
	return out
}

func denied() *protocol.Err {
	return &protocol.Err{Code: protocol.CodeDenied, Message: "this worker is not admitted", Fatal: true}
}

func superseded() *protocol.Err {
	return &protocol.Err{Code: protocol.CodeSuperseded, Message: "a newer connection of this worker has taken over", Fatal: true}
}

func dead(why string) *protocol.Err {
	return &protocol.Err{Code: protocol.CodeDead, Message: why, Fatal: true}
}

func outOfRange(field string, got, most int) *protocol.Err {
	return &protocol.Err{Code: protocol.CodeRange, Message: fmt.Sprintf("%s is %d; the most is %d", field, got, most), Fatal: true}
}

func tooManyCalls() *protocol.Err {
	return &protocol.Err{Code: protocol.CodeDBAway, Message: "too many calls wait for the database", RetryMS: 1000}
}

// replyError tells a caller why its call failed.
func replyError(err error) *protocol.Err {
	var badInsert *InsertError
	var badSignal *SignalError
	switch {
	case errors.As(err, &badInsert):
		return &protocol.Err{Code: protocol.CodeBadField, Message: fmt.Sprintf("insert %d: %s", badInsert.Index, badInsert.Error())}
	case errors.As(err, &badSignal):
		return &protocol.Err{Code: protocol.CodeBadField, Message: fmt.Sprintf("signal %d: %s", badSignal.Index, badSignal.Error())}
	case errors.Is(err, ErrAway):
		return &protocol.Err{Code: protocol.CodeDBAway, Message: "the database is away", RetryMS: 1000}
	}
	return &protocol.Err{Code: protocol.CodeInternal, Message: "the call failed; the broker's log says why"}
}
