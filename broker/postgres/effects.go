package postgres

import (
	"slices"
	"time"

	"github.com/respirated/respirated/broker"
)

// This is what reports do beyond what becomes of their strands: semaphores used and sent, children reaped, deadlines.

// targets are the strands that reports signal, beside their own.
func (l *look) targets() uuids {
	ids := uuids{}
	for _, e := range l.entries {
		for i := range e.report.Signals {
			if id := e.report.Signals[i].ID; id != (broker.ID{}) {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// cannotSignal says that somebody else has locked a strand that a report signals.
func (l *look) cannotSignal(r *broker.Report) bool {
	return slices.ContainsFunc(r.Signals, func(g broker.Signal) bool { return l.present[g.ID] })
}

// asReported are the applied reports in the order in which they were reported.
func (l *look) asReported() []*entry {
	applied := slices.DeleteFunc(slices.Clone(l.entries), func(e *entry) bool {
		_, ok := l.fates[e.report.ID]
		return !ok
	})
	slices.SortFunc(applied, func(a, b *entry) int { return a.place - b.place })
	return applied
}

// settle queues what strands that live on have used and reaped, before children end in the same batch: those are not reaped
// yet.
func (l *look) settle(b *plainBatch, living []*entry) {
	strands, parents, reaped := uuids{}, uuids{}, uuids{}
	used := []int64{}
	for _, e := range living {
		for _, id := range e.report.Used {
			strands, used = append(strands, e.report.ID), append(used, id)
		}
		for _, id := range e.report.Reaped {
			parents, reaped = append(parents, e.report.ID), append(reaped, id)
		}
	}
	if len(used)+len(reaped) > 0 {
		b.queue("settle", strands, used, parents, reaped)
	}
}

// signal queues the semaphores. Those to a strand itself do not wake it, and vanish with it.
func (l *look) signal(b *plainBatch) {
	var all []broker.Signal
	for _, e := range l.asReported() {
		for _, g := range e.report.Signals {
			if g.ID == (broker.ID{}) {
				g.ID, g.Quiet = e.report.ID, true
			}
			all = append(all, g)
		}
	}
	if all != nil {
		b.queue("signal", signalColumns(all)...)
	}
}

// moveDeadlines queues where the frames have come to of strands that nap or hop, as far as they have deadlines or get one.
func (l *look) moveDeadlines(b *plainBatch, living []*entry) {
	moved := slices.DeleteFunc(slices.Clone(living), func(e *entry) bool {
		return !rests(e.report) || !l.rows[e.report.ID].timed && e.report.Due == nil
	})
	if len(moved) == 0 {
		return
	}
	ids, _, _ := fenceColumns(moved)
	due := func(r *broker.Report) broker.Due {
		if r.Due == nil {
			return broker.Due{}
		}
		return *r.Due
	}
	b.queue("deadlines", ids,
		column(moved, func(r *broker.Report) int32 { return int32(r.Frame) }),
		column(moved, func(r *broker.Report) *string { return textIf(r.Act == broker.Hop, r.Label) }),
		column(moved, func(r *broker.Report) *string { return textIf(r.Act == broker.Hop && r.Kind != "", r.Kind) }),
		column(moved, func(r *broker.Report) *string { return textIf(r.Due != nil, due(r).Target) }),
		column(moved, func(r *broker.Report) time.Duration { return max(due(r).In, 0) }),
		column(moved, func(r *broker.Report) time.Duration { return max(due(r).Most, 0) }))
}

// openPages queues the pages of strands that a deadline has passed of. Their naps were cut by it once more; the next is not.
func (l *look) openPages(b *plainBatch, living []*entry) {
	var ids uuids
	for _, e := range living {
		if rests(e.report) && l.rows[e.report.ID].late {
			ids = append(ids, e.report.ID)
		}
	}
	if ids != nil {
		b.queue("pages", ids)
	}
}
