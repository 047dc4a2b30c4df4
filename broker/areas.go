package broker

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"
)

// A pool may be for some queues alone. Then not every worker that serves a kind may get all strands of it, and where candidates
// wait and where scans look go by areas: the strands of a kind in one queue that some worker's pool names, or those in all
// queues that none names. The latter has the name of the kind, so that without such pools areas are kinds. What is in an area that
// no worker may take from is neither looked for nor kept.

// Queue names a queue.
type Queue struct {
	Tenant string // "" = of none
	Name   string
}

// ParseQueue reads "queue" or "tenant/queue". A tenant whose name has a slash cannot be written.
func ParseQueue(text string) (Queue, error) {
	tenant, name, of := strings.Cut(text, "/")
	if !of {
		tenant, name = "", text
	}
	if name == "" || of && tenant == "" {
		return Queue{}, errors.New("want the name of a queue, or tenant/queue")
	}
	return Queue{tenant, name}, nil
}

// String is the queue as [ParseQueue] reads it.
func (q Queue) String() string {
	if q.Tenant == "" {
		return q.Name
	}
	return q.Tenant + "/" + q.Name
}

func compareQueues(a, b Queue) int {
	return cmp.Or(strings.Compare(a.Tenant, b.Tenant), strings.Compare(a.Name, b.Name))
}

// Queues are some queues, or all but some.
type Queues struct {
	Names []Queue // sorted
	But   bool    // all but those
}

// Has says whether a queue is among them.
func (q Queues) Has(queue Queue) bool { return slices.Contains(q.Names, queue) != q.But }

// area is one of a class.
type area struct{ name, kind string }

const areaMark = "\x00" // in no name that the database takes

func areaName(kind string, q Queue) string { return kind + areaMark + q.Tenant + areaMark + q.Name }

// area is the name of the area that a strand of a kind and queue is in.
func (s *schedule) area(kind string, q Queue) string {
	if len(s.named) == 0 || !s.named[q] {
		return kind
	}
	return areaName(kind, q)
}

// kindOf is the kind of an area.
func kindOf(area string) string {
	kind, _, _ := strings.Cut(area, areaMark)
	return kind
}

// queueOf is the queue of an area; none = it is all that nobody names.
func queueOf(area string) (q Queue, one bool) {
	_, of, one := strings.Cut(area, areaMark)
	q.Tenant, q.Name, _ = strings.Cut(of, areaMark)
	return q, one
}

// chart takes in which queues are named, after there is another class or one less. Where that has changed, candidates go to
// other areas, and everything is looked through again: who may take what is another question for each strand.
func (s *schedule) chart() {
	named := map[Queue]bool{}
	for _, c := range s.classes {
		for _, q := range c.queues {
			named[q] = true
		}
	}
	if maps.Equal(named, s.named) {
		for _, c := range s.classes {
			if c.areas == nil {
				c.areas = s.areasOf(c)
			}
		}
		return
	}
	s.named = named
	for _, c := range s.classes {
		c.areas = s.areasOf(c)
	}
	for _, d := range s.databases {
		d.buffer.regroup(s.area)
		d.scanner.cut = nil
		d.scanner.startAnew()
	}
}

// areasOf lists the areas that the workers of a class may take strands from, sorted by name.
func (s *schedule) areasOf(c *class) (all []area) {
	for _, kind := range c.kinds {
		if c.queues == nil {
			all = append(all, area{kind, kind})
			for q := range s.named {
				all = append(all, area{areaName(kind, q), kind})
			}
		}
		for _, q := range c.queues {
			all = append(all, area{areaName(kind, q), kind})
		}
	}
	slices.SortFunc(all, func(a, b area) int { return strings.Compare(a.name, b.name) })
	return all
}

// takes says whether the workers of a class may get strands of a queue.
func (c *class) takes(q Queue) bool { return c.queues == nil || slices.Contains(c.queues, q) }

// has says whether an area is among those of a class.
func (c *class) has(name string) bool {
	_, has := slices.BinarySearchFunc(c.areas, name, func(a area, name string) int { return strings.Compare(a.name, name) })
	return has
}

// servedIn says whether some connected worker may get strands at that label of an area.
func (s *schedule) servedIn(area, label string) bool {
	kind := kindOf(area)
	return slices.ContainsFunc(s.classes, func(c *class) bool { return c.has(area) && hasLabel(c.labels, kind, label) })
}

// lookAt is what a scan of these areas, which are sorted, has to look at. It is never changed in place.
func (s *schedule) lookAt(areas []string) (kinds []string, queues map[string]Queues) {
	if len(s.named) == 0 {
		return slices.Clone(areas), nil
	}
	asked := map[string][]Queue{}
	for _, name := range areas {
		kind := kindOf(name)
		if len(kinds) == 0 || kinds[len(kinds)-1] != kind {
			kinds = append(kinds, kind)
		}
		if q, one := queueOf(name); one {
			asked[kind] = append(asked[kind], q)
		}
	}
	queues = map[string]Queues{}
	for _, kind := range kinds {
		some := Queues{Names: asked[kind]}
		if _, others := slices.BinarySearch(areas, kind); others {
			some = Queues{But: true}
			for q := range s.named {
				if !slices.Contains(asked[kind], q) {
					some.Names = append(some.Names, q)
				}
			}
			if len(some.Names) == 0 {
				continue
			}
		}
		slices.SortFunc(some.Names, compareQueues)
		queues[kind] = some
	}
	return kinds, queues
}
