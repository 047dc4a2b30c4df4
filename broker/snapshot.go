package broker

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/respirated/respirated/protocol"
)

// ErrStopped says that the broker runs no longer.
var ErrStopped = errors.New("the broker has stopped")

// Snapshot is what a broker knows at one moment.
type Snapshot struct {
	Broker     string           `json:"broker"`
	Host       string           `json:"host"`
	Draining   bool             `json:"draining"`
	Busy       bool             `json:"busy"`       // inserters need not notify
	Candidates int              `json:"candidates"` // due strands at hand, leased by nobody
	Held       int              `json:"held"`       // strands leased for workers, or on their way
	Unsettled  int              `json:"unsettled"`  // results that the database has not answered for
	Workers    []WorkerSnapshot `json:"workers"`
	Exits      Exits            `json:"exits"` // of our worker processes

	Partition *PartitionSnapshot `json:"partition,omitempty"` // in the first database; nil = the ids are not divided
	Databases []DatabaseSnapshot `json:"databases"`
}

// DatabaseSnapshot is what a broker knows of one of its databases.
type DatabaseSnapshot struct {
	Name       string `json:"name"`
	Away       bool   `json:"away"`       // its last statement failed
	AwayMS     int64  `json:"away_ms"`    // for so long
	Busy       bool   `json:"busy"`       // inserters need not notify
	Candidates int    `json:"candidates"` // due strands at hand, leased by nobody
	Held       int    `json:"held"`       // strands leased for workers, or on their way
	Unsettled  int    `json:"unsettled"`  // results that it has not answered for
	Counts     Counts `json:"counts"`

	Partition *PartitionSnapshot `json:"partition,omitempty"` // nil = the ids are not divided
}

// PartitionSnapshot is how a broker believes the ids to be divided.
type PartitionSnapshot struct {
	Number int    `json:"number"` // 0 = none yet
	Rank   int    `json:"rank"`
	Of     int    `json:"of"`
	Range  string `json:"range"` // of the first 32 bits of ids, in hex: the first and the last; "none" without workers

	// The ranges of the kinds that some broker with workers does not serve: they are divided among those who do. A kind that is
	// served in some queues alone has one for each, such as "send in acme/mail".
	Otherwise map[string]string `json:"otherwise,omitempty"`

	Gaps    string           `json:"gaps"`
	Ready   bool             `json:"ready"` // it scans
	Members []MemberSnapshot `json:"members"`
}

// MemberSnapshot is what a broker knows of another one.
type MemberSnapshot struct {
	Broker   string `json:"broker"`
	Number   int    `json:"number"`
	SilentMS int64  `json:"silent_ms"` // since it was last heard; -1 = the database alone knows of it
	Twin     bool   `json:"twin"`      // it has the number of the broker that says so
}

// WorkerSnapshot is what a broker knows of one worker.
type WorkerSnapshot struct {
	Name      string   `json:"name"` // such as "pid 4711"
	Key       string   `json:"-"`    // spawn key; "" = not one of our processes
	Connected bool     `json:"connected"`
	Kinds     []string `json:"kinds"`
	Want      int      `json:"want"`
	Held      int      `json:"held"`
	Draining  bool     `json:"draining"`
	Paused    bool     `json:"paused"`    // its pool is
	SilentMS  int64    `json:"silent_ms"` // since it last sent anything
}

// Snapshot asks the loop for its state, which is consistent in itself. Before [Broker.Run] it waits for that, or for the
// end of ctx.
func (b *Broker) Snapshot(ctx context.Context) (Snapshot, error) {
	return inquire(ctx, b, func(s *schedule) Snapshot {
		now := protocol.BootNS()
		snap := s.snapshot(now)
		snap.Host = b.cfg.Host
		for i, l := range b.databases {
			d := &snap.Databases[i]
			d.Name, d.Away, d.Counts = l.Name, l.away, l.counts.told(now)
			if l.away {
				d.AwayMS = time.Since(l.since).Milliseconds()
			}
		}
		snap.Exits = b.exits
		return snap
	})
}

// Holder is what a broker knows of a strand. Without Held it has no lease of it, as far as it knows.
type Holder struct {
	Held   bool   `json:"held"`
	Worker string `json:"worker,omitempty"` // such as "pid 4711"; "" = none has it any more: its result is being stored
	HeldMS int64  `json:"held_ms"`          // since its lease was asked for, as far as this broker knows
}

// Holder asks the loop who has a strand, as [Broker.Snapshot] does.
func (b *Broker) Holder(ctx context.Context, strand ID) (Holder, error) {
	return inquire(ctx, b, func(s *schedule) Holder { return s.holder(strand, protocol.BootNS()) })
}

func (s *schedule) holder(strand ID, now int64) Holder {
	r := s.runs[strand]
	if r == nil || r.state == leasing {
		return Holder{}
	}
	h := Holder{Held: true}
	if w := s.workers[r.worker]; w != nil {
		h.Worker = w.name
	}
	if r.leased != 0 {
		h.HeldMS = (now - r.leased) / int64(time.Millisecond)
	}
	return h
}

// Servers counts the connected workers of this broker that might run a strand.
type Servers struct {
	Kind  int `json:"kind"`  // those that serve its kind, and do not drain
	Label int `json:"label"` // those of them that may get it now: they have its label, or have not told their labels

	OtherQueues int `json:"other_queues"` // those that serve its kind in a pool for other queues
	Paused      int `json:"paused"`       // those that could have it, were their pool not paused
}

// Servers asks the loop who might run a strand of that kind, at that label and in that queue, as [Broker.Snapshot] does.
func (b *Broker) Servers(ctx context.Context, kind, label string, q Queue) (Servers, error) {
	return inquire(ctx, b, func(s *schedule) Servers { return s.servers(kind, label, q) })
}

func (s *schedule) servers(kind, label string, q Queue) (n Servers) {
	for _, w := range s.workers {
		if _, serves := w.kinds[kind]; !serves || w.session == 0 || w.draining {
			continue
		}
		n.Kind++
		switch {
		case w.terms.Queues != nil && !slices.Contains(w.terms.Queues, q):
			n.OtherQueues++
		case !hasLabel(w.labels, kind, label):
		case w.terms.Paused:
			n.Paused++
		default:
			n.Label++
		}
	}
	return n
}

// inquire has the loop answer a question about its state.
func inquire[T any](ctx context.Context, b *Broker, question func(*schedule) T) (none T, err error) {
	answer := make(chan T, 1)
	select {
	case b.queries <- func(s *schedule) { answer <- question(s) }:
		return <-answer, nil
	case <-b.over:
		return none, ErrStopped
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

func (s *schedule) snapshot(now int64) Snapshot {
	snap := Snapshot{
		Broker:    s.broker.String(),
		Draining:  s.draining,
		Held:      len(s.runs),
		Workers:   []WorkerSnapshot{},
		Partition: s.databases[0].place.snapshot(now),
	}
	for _, d := range s.databases {
		ds := d.shot(now)
		snap.Busy = snap.Busy || ds.Busy
		snap.Candidates += ds.Candidates
		snap.Unsettled += ds.Unsettled
		snap.Databases = append(snap.Databases, ds)
	}
	for _, r := range s.runs {
		snap.Databases[r.of].Held++
	}
	for _, w := range s.workers {
		ws := WorkerSnapshot{
			Name: w.name, Key: w.key, Connected: w.session != 0, Want: w.wantN, Held: w.held, Draining: w.draining, Paused: w.terms.Paused,
			SilentMS: (now - w.heard) / int64(time.Millisecond),
		}
		for kind := range w.kinds {
			ws.Kinds = append(ws.Kinds, kind)
		}
		slices.Sort(ws.Kinds)
		snap.Workers = append(snap.Workers, ws)
	}
	slices.SortFunc(snap.Workers, func(a, b WorkerSnapshot) int { return strings.Compare(a.Name, b.Name) })
	return snap
}

func (d *database) shot(now int64) DatabaseSnapshot {
	return DatabaseSnapshot{
		Busy:       d.scanner.busy,
		Candidates: d.buffer.len() + len(d.alone),
		Unsettled:  len(d.commits.waiting) + len(d.commits.locked) + len(d.commits.flying),
		Partition:  d.place.snapshot(now),
	}
}

// snapshot is nil where ids are not divided.
func (p *place) snapshot(now int64) *PartitionSnapshot {
	if !p.on() {
		return nil
	}
	d := p.parts.division
	snap := PartitionSnapshot{
		Number: d.number, Rank: d.rank, Of: d.of, Range: d.slice().String(), Gaps: p.gaps.String(), Ready: p.ready(now),
		Members: []MemberSnapshot{},
	}
	for kind, slice := range p.parts.slices() {
		if snap.Otherwise == nil {
			snap.Otherwise = map[string]string{}
		}
		if q, one := queueOf(kind); one {
			kind = kindOf(kind) + " in " + q.String()
		}
		snap.Otherwise[kind] = slice.String()
	}
	for id, o := range p.others {
		ms := MemberSnapshot{Broker: id.String(), Number: o.number, SilentMS: -1, Twin: o.number == d.number}
		if o.heardAt != 0 {
			ms.SilentMS = (now - o.heardAt) / int64(time.Millisecond)
		}
		snap.Members = append(snap.Members, ms)
	}
	slices.SortFunc(snap.Members, func(a, b MemberSnapshot) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), strings.Compare(a.Broker, b.Broker))
	})
	return &snap
}
