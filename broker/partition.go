package broker

import "fmt"

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
	GapsRank    Gaps = iota // the live brokers divide the ids among them by the order of their numbers: there are no gaps
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

// division is how a broker believes the ids to be divided, and which part is its own: that of rank among of. The zero
// value: they are not.
type division struct{ number, rank, of int }

// slice is the part: those of ranks 1 to of are disjoint and cover all ids, for every of.
func (d division) slice() Slice {
	if d.of == 0 {
		return Slice{}
	}
	return Slice{boundary(d.rank-1, d.of), boundary(d.rank, d.of)}
}

// boundary is where part k of n ends.
func boundary(k, n int) uint64 { return uint64(k) * space / uint64(n) }
