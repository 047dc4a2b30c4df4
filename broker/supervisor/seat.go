package supervisor

import "cmp"

// seat is a place for one process. A surplus seat has no crew: it exists only until the process on it has ended. An heir
// has the index of the seat whose place it is to take.
type seat struct {
	crew     *crew
	pool     string
	index    int
	life     life
	proc     *process // nil: nobody
	rec      record   // of proc; its Key is "" when there is none, nor one about to be
	build    *build   // what proc was started from; nil = nobody knows
	old      *seat    // whose place it is to take; nil = it has one of its own
	due      string   // why another process shall take over; "" = none shall
	wear     wear     // of proc
	results  int      // that proc has brought
	spared   bool     // that proc is too young to be replaced was said
	diet     diet
	restarts int
	lastExit string
	doubt    string // what proc does that it should not; "" = nothing
	blame    string // why proc is killed, for which it is to blame; "" = it is not
}

// inOrder is the order of seats.
func inOrder(a, b *seat) int {
	if a.crew == nil || b.crew == nil {
		return cmp.Compare(btoi(a.crew == nil), btoi(b.crew == nil))
	}
	return cmp.Or(cmp.Compare(a.crew.place, b.crew.place), cmp.Compare(a.index, b.index), cmp.Compare(btoi(a.old != nil), btoi(b.old != nil)))
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (s *seat) info() Info {
	return Info{
		Pool: s.pool, Index: s.index, Key: s.rec.Key, PID: s.rec.PID, State: string(s.life.phase),
		Adopted: s.proc != nil && s.proc.child == nil, Started: s.rec.Started, Restarts: s.restarts, LastExit: s.lastExit,
		Build: s.rec.Image, Due: s.due,
	}
}

// facts are what a log line says of a seat and its process.
func (s *seat) facts() []any {
	return []any{"pool", s.pool, "index", s.index, "worker", s.rec.PID}
}

// news is an event of the process on the seat.
func (s *seat) news(kind EventKind, text string) Event {
	return Event{Kind: kind, Pool: s.pool, Index: s.index, PID: s.rec.PID, Text: text}
}
