package broker

import (
	"cmp"
	"slices"
)

// buffer keeps candidates in the order in which they should start: by priority, then as they were found. They are
// ids only: nothing in it is leased or locked, so it may be dropped at any time.
type buffer struct {
	lines map[string][]line // by area, one for each label
	have  map[ID]struct{}
	found uint64 // candidates ever added; breaks ties
}

// line has the candidates at one label in an area, sorted by (priority, found); never empty.
type line struct {
	label string
	queue []queued
	room  []queued // the memory that queue is the end of
}

// push adds q at the end. Where those that are gone from the front take half of the memory, it is used again.
func (l *line) push(q queued) {
	switch n := len(l.queue); {
	case n < cap(l.queue):
		l.queue = append(l.queue, q)
	case 2*n < cap(l.room):
		l.queue = append(append(l.room[:0], l.queue...), q)
	default:
		l.queue = append(l.queue, q)
		l.room = l.queue
	}
}

// sighting is a candidate as a scan has shown it.
type sighting struct {
	Candidate
	since   int64 // when it could have started
	foreign bool  // it is of another broker's part, and overdue
	area    string
}

type queued struct {
	sighting
	found uint64
}

func (q queued) before(r queued) bool {
	return cmp.Or(cmp.Compare(q.Priority, r.Priority), cmp.Compare(q.found, r.found)) < 0
}

func newBuffer() buffer {
	return buffer{lines: map[string][]line{}, have: map[ID]struct{}{}}
}

func (b *buffer) len() int { return len(b.have) }

func (b *buffer) has(id ID) bool {
	_, ok := b.have[id]
	return ok
}

// at is the line of a label, which is made if there is none.
func (b *buffer) at(area, label string) *line {
	lines := b.lines[area]
	i := slices.IndexFunc(lines, func(l line) bool { return l.label == label })
	if i < 0 {
		i, lines = len(lines), append(lines, line{label: label})
		b.lines[area] = lines
	}
	return &lines[i]
}

// add queues c behind everything of its area and label that has its priority or a better one. Scans mostly come in that order,
// so the walk from the end is short.
func (b *buffer) add(c sighting) {
	b.found++
	b.have[c.ID] = struct{}{}
	l := b.at(c.area, c.Label)
	l.push(queued{c, b.found})
	for i := len(l.queue) - 1; i > 0 && l.queue[i].before(l.queue[i-1]); i-- {
		l.queue[i], l.queue[i-1] = l.queue[i-1], l.queue[i]
	}
}

// first is the best candidate for a class.
func (b *buffer) first(c *class) (sighting, bool) {
	var best queued
	ok := false
	for _, a := range c.areas {
		for _, l := range b.lines[a.name] {
			if (!ok || l.queue[0].before(best)) && hasLabel(c.labels, a.kind, l.label) {
				best, ok = l.queue[0], true
			}
		}
	}
	return best.sighting, ok
}

// count is how many candidates there are for a class in an area of its.
func (b *buffer) count(c *class, a area) (n int) {
	for _, l := range b.lines[a.name] {
		if hasLabel(c.labels, a.kind, l.label) {
			n += len(l.queue)
		}
	}
	return n
}

// countAt is how many there are at a label in an area.
func (b *buffer) countAt(area, label string) int {
	i := slices.IndexFunc(b.lines[area], func(l line) bool { return l.label == label })
	if i < 0 {
		return 0
	}
	return len(b.lines[area][i].queue)
}

// countIn is how many there are in an area.
func (b *buffer) countIn(area string) (n int) {
	for _, l := range b.lines[area] {
		n += len(l.queue)
	}
	return n
}

// remove takes out c, which is the first of its line or near it.
func (b *buffer) remove(c sighting) {
	l := b.at(c.area, c.Label)
	switch i := slices.IndexFunc(l.queue, func(q queued) bool { return q.ID == c.ID }); i {
	case -1:
	case 0: // nearly always, and then nothing moves
		l.queue = l.queue[1:]
	default:
		l.queue = slices.Delete(l.queue, i, i+1)
	}
	delete(b.have, c.ID)
	if len(l.queue) == 0 {
		b.drop(c.area, func(at line) bool { return at.label == c.Label })
	}
}

// discard takes out the candidate with this id, wherever it is.
func (b *buffer) discard(id ID) {
	if !b.has(id) {
		return
	}
	for _, lines := range b.lines {
		for _, l := range lines {
			if i := slices.IndexFunc(l.queue, func(q queued) bool { return q.ID == id }); i >= 0 {
				b.remove(l.queue[i].sighting)
				return
			}
		}
	}
}

// retain drops the lines of areas and labels that nobody serves any more.
func (b *buffer) retain(served func(area, label string) bool) {
	for area := range b.lines {
		b.drop(area, func(l line) bool { return !served(area, l.label) })
	}
}

// regroup puts each candidate into its area as it is now.
func (b *buffer) regroup(areaOf func(kind string, q Queue) string) {
	var all []queued
	for _, lines := range b.lines {
		for _, l := range lines {
			all = append(all, l.queue...)
		}
	}
	slices.SortFunc(all, func(p, q queued) int {
		return cmp.Or(cmp.Compare(p.Priority, q.Priority), cmp.Compare(p.found, q.found))
	})
	b.lines = map[string][]line{}
	for _, q := range all {
		q.area = areaOf(q.Kind, q.Queue)
		b.at(q.area, q.Label).push(q)
	}
}

// drop takes lines of an area out.
func (b *buffer) drop(area string, out func(line) bool) {
	lines := slices.DeleteFunc(b.lines[area], func(l line) bool {
		gone := out(l)
		if gone {
			for _, q := range l.queue {
				delete(b.have, q.ID)
			}
		}
		return gone
	})
	if len(lines) == 0 {
		delete(b.lines, area)
		return
	}
	b.lines[area] = lines
}
