package broker

import (
	"cmp"
	"slices"
)

// buffer keeps candidates in the order in which they should start: by priority, then as they were found. They are
// ids only: nothing in it is leased or locked, so it may be dropped at any time.
type buffer struct {
	lines map[string][]queued // by kind, each sorted by (priority, found)
	have  map[ID]struct{}
	found uint64 // candidates ever added; breaks ties
}

// sighting is a candidate as a scan has shown it.
type sighting struct {
	Candidate
	since   int64 // when it could have started
	foreign bool  // it is of another broker's part, and overdue
}

type queued struct {
	sighting
	found uint64
}

func (q queued) before(r queued) bool {
	return cmp.Or(cmp.Compare(q.Priority, r.Priority), cmp.Compare(q.found, r.found)) < 0
}

func newBuffer() buffer {
	return buffer{lines: map[string][]queued{}, have: map[ID]struct{}{}}
}

func (b *buffer) len() int { return len(b.have) }

func (b *buffer) has(id ID) bool {
	_, ok := b.have[id]
	return ok
}

// add queues c behind everything of its kind that has its priority or a better one. Scans mostly come in that order,
// so the walk from the end is short.
func (b *buffer) add(c sighting) {
	b.found++
	b.have[c.ID] = struct{}{}
	line := append(b.lines[c.Kind], queued{c, b.found})
	for i := len(line) - 1; i > 0 && line[i].before(line[i-1]); i-- {
		line[i], line[i-1] = line[i-1], line[i]
	}
	b.lines[c.Kind] = line
}

// first is the best candidate among kinds.
func (b *buffer) first(kinds []string) (sighting, bool) {
	var best queued
	ok := false
	for _, kind := range kinds {
		if line := b.lines[kind]; len(line) > 0 && (!ok || line[0].before(best)) {
			best, ok = line[0], true
		}
	}
	return best.sighting, ok
}

// remove takes out c, which is the first of its kind or near it.
func (b *buffer) remove(c sighting) {
	line := b.lines[c.Kind]
	switch i := slices.IndexFunc(line, func(q queued) bool { return q.ID == c.ID }); i {
	case -1:
	case 0: // nearly always, and then nothing moves
		line = line[1:]
	default:
		line = slices.Delete(line, i, i+1)
	}
	delete(b.have, c.ID)
	b.setLine(c.Kind, line)
}

// discard takes out the candidate with this id, wherever it is.
func (b *buffer) discard(id ID) {
	if !b.has(id) {
		return
	}
	for _, line := range b.lines {
		if i := slices.IndexFunc(line, func(q queued) bool { return q.ID == id }); i >= 0 {
			b.remove(line[i].sighting)
			return
		}
	}
}

// retain drops the lines of kinds that nobody serves any more.
func (b *buffer) retain(served func(kind string) bool) {
	for kind, line := range b.lines {
		if served(kind) {
			continue
		}
		for _, q := range line {
			delete(b.have, q.ID)
		}
		delete(b.lines, kind)
	}
}

func (b *buffer) setLine(kind string, line []queued) {
	if len(line) == 0 {
		delete(b.lines, kind)
		return
	}
	b.lines[kind] = line
}
