package broker

import "time"

// A worker may tell which labels of a kind it has: two builds of a program run side by side during each deploy. A strand at a
// label goes to a worker that has it. One that nobody here has is passed over by scans. It stays due, so that it is found as soon
// as a worker with its label comes, or, as overdue, by a broker that has one already. Strands in numbers would be in the way of
// what is due behind them, so the surplus is leased, which only shows what is known, and put off.

const (
	mostPassed = 256              // strands to pass over in one look through everything
	parkTime   = 30 * time.Second // for which the surplus is put off
)

// kindLabel is where a strand may be.
type kindLabel struct{ kind, label string }

// pass says whether a candidate that no worker here can run may be passed over. One that may not goes to any that serves its kind.
func (sc *scanner) pass(c *Candidate) bool {
	at := kindLabel{c.Kind, c.Label}
	if _, known := sc.nobodys[at]; !known && len(sc.nobodys) < mostPassed {
		sc.nobodys = with(sc.nobodys, at)
	}
	if sc.passed < mostPassed {
		sc.passed++
		return true
	}
	c.Label = ""
	return false
}

// areaLabel is where a candidate may be.
type areaLabel struct{ area, label string }

// with adds a place, at first as false.
func with[P comparable](places map[P]bool, at P) map[P]bool {
	if places == nil {
		places = map[P]bool{}
	}
	places[at] = false
	return places
}

// refill has the next scan begin at the bottom if candidates run short of which there was more.
func (sc *scanner) refill(d *database, now int64, low int) {
	for at := range sc.cut {
		if d.buffer.countAt(at.area, at.label) < low {
			delete(sc.cut, at)
			sc.bottomAt = min(sc.bottomAt, now)
		}
	}
}

// tell lists those labels of which the log has not been told.
func (sc *scanner) tell() (all []kindLabel) {
	for at, told := range sc.nobodys {
		if !told {
			all, sc.nobodys[at] = append(all, at), true
		}
	}
	return all
}

// learned takes in that workers have come, who may have the labels of what was passed over.
func (sc *scanner) learned() {
	if sc.passed+sc.passedBefore > 0 {
		sc.nobodys = nil
		sc.startAnew()
	}
}

// misplaced gives a strand back that turned out to be at a label which its worker does not have. Its label has changed since it
// was found, and some other worker has it; or nobody has.
func (s *schedule) misplaced(granted *Strand) Report {
	rep := yieldOf(Pair{granted.ID, granted.Token})
	if !s.canRun(granted.Kind, granted.Label, Queue{granted.Tenant, granted.Queue}) {
		rep.Delay = parkTime
	}
	return rep
}
