package broker

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Partition says which part of the ids a broker scans. The zero value: all of them, and nobody is told.
//
// Parts are hints, never locks: what two brokers both believe to be theirs is still leased to one of them only, and what
// none believes to be its own is found by all as overdue.
type Partition struct {
	Number int  // 1 to Most; [Auto] = the lowest that is free; 0 = none
	Most   int  // highest number; default 256, at most 4096
	Gaps   Gaps // what becomes of the part of a number that nobody has
}

// Auto asks for the lowest partition number that no live broker has.
const Auto = -1

const (
	defaultMost = 256
	highestMost = 4096
)

// Gaps says what becomes of the part of a number that nobody has, because its broker is dead, or never was.
type Gaps uint8

// The rules for gaps.
const (
	GapsRank    Gaps = iota // the live brokers divide the ids of each kind that they serve by the order of their numbers: there are no gaps
	GapsOverdue             // the part stays, and what is due in it is found when it is overdue: the rule of Ubicloud's respirate
)

// String is the rule's name in configuration files: rank or overdue.
func (g Gaps) String() string {
	switch g {
	case GapsRank:
		return "rank"
	case GapsOverdue:
		return "overdue"
	}
	return fmt.Sprintf("Gaps(%d)", uint8(g))
}

// ParseGaps reads the name of a rule.
func ParseGaps(name string) (Gaps, error) {
	for _, g := range []Gaps{GapsRank, GapsOverdue} {
		if name == g.String() {
			return g, nil
		}
	}
	return 0, fmt.Errorf("gaps is %.40q; it must be %s or %s", name, GapsRank, GapsOverdue)
}

func (p Partition) withDefaults() (Partition, error) {
	if p.Most == 0 {
		p.Most = defaultMost
	}
	switch {
	case p.Most < 1 || p.Most > highestMost:
		return p, fmt.Errorf("Partition.Most is %d; it must be 1 to %d", p.Most, highestMost)
	case p.Number != Auto && (p.Number < 0 || p.Number > p.Most):
		return p, fmt.Errorf("Partition.Number is %d; it must be 1 to %d, Auto, or 0 for none", p.Number, p.Most)
	case p.Gaps > GapsOverdue:
		return p, fmt.Errorf("Partition.Gaps is %d; it must be GapsRank or GapsOverdue", p.Gaps)
	}
	return p, nil
}

// division is how a broker believes the ids to be divided, and which part is its own: that of rank among of; 0 = it has none.
// The zero value: they are not.
type division struct{ number, rank, of int }

// slice is the part: those of ranks 1 to of are disjoint and cover all ids, for every of.
func (d division) slice() Slice {
	switch {
	case d.number == 0:
		return Slice{}
	case d.rank == 0:
		return nowhere()
	}
	return Slice{boundary(d.rank-1, d.of), boundary(d.rank, d.of)}
}

// boundary is where part k of n ends.
func boundary(k, n int) uint64 { return uint64(k) * space / uint64(n) }

// parts are the parts of a broker: that of the division among all who serve anything, and those of the kinds that some of them
// do not serve. It is never changed in place. The zero value: the ids are not divided, and all are its own.
type parts struct {
	division
	otherwise map[string]division // kinds that are divided otherwise; nil = none
	ours      []Slice             // the ids of all its parts: disjoint, in order
	elsewhere bool                // other brokers have parts of its kinds
}

// newParts are those of a broker that serves these kinds.
func newParts(d division, kinds []string, otherwise map[string]division) parts {
	p := parts{division: d, otherwise: otherwise}
	if len(otherwise) < len(kinds) {
		p.take(d)
	}
	for _, other := range otherwise {
		p.take(other)
	}
	p.join()
	return p
}

func (p *parts) take(d division) {
	slice := d.slice()
	p.ours = append(p.ours, slice)
	p.elsewhere = p.elsewhere || !slice.Whole()
}

// join makes the slices disjoint.
func (p *parts) join() {
	slices.SortFunc(p.ours, func(a, b Slice) int { return cmp.Compare(a.Lo, b.Lo) })
	joined := p.ours[:0]
	for _, s := range p.ours {
		if last := len(joined) - 1; last >= 0 && s.Lo <= joined[last].end() {
			joined[last].Hi = max(joined[last].end(), s.end())
		} else {
			joined = append(joined, s)
		}
	}
	p.ours = joined
}

func (p parts) equal(q parts) bool {
	return p.division == q.division && maps.Equal(p.otherwise, q.otherwise) && slices.Equal(p.ours, q.ours)
}

// among is how the ids of a kind, or of an area, are divided. Those of an area are as its kind's, unless the kind is served in some
// areas alone.
func (p parts) among(area string) division {
	if d, ok := p.otherwise[area]; ok {
		return d
	}
	if d, ok := p.otherwise[kindOf(area)]; ok {
		return d
	}
	return p.division
}

// alone says whether nobody else serves a kind that others could.
func (p parts) alone(kind string) bool {
	d, other := p.otherwise[kind]
	return other && d.of == 1
}

// slices are the parts of the kinds that are divided otherwise.
func (p parts) slices() map[string]Slice {
	if p.otherwise == nil {
		return nil
	}
	all := make(map[string]Slice, len(p.otherwise))
	for kind, d := range p.otherwise {
		all[kind] = d.slice()
	}
	return all
}

// hull is the narrowest slice that has all parts.
func (p parts) hull() Slice {
	switch {
	case p.number == 0:
		return Slice{}
	case len(p.ours) == 0:
		return nowhere()
	}
	return Slice{p.ours[0].Lo, p.ours[len(p.ours)-1].end()}
}

// mayHave says whether some id that begins with one of these bytes is in a part.
func (p parts) mayHave(firsts []byte) bool {
	return p.number == 0 || slices.ContainsFunc(p.ours, func(s Slice) bool { return s.mayHave(firsts) })
}

// ofAll is how many of something there are for all ids, if there are n for those of the parts.
func (p parts) ofAll(n int64) int64 {
	if p.number == 0 {
		return n
	}
	width := int64(0)
	for _, s := range p.ours {
		width += int64(s.end() - s.Lo)
	}
	if width == 0 {
		return 0
	}
	return (n*int64(space) + width/2) / width
}
