package broker

import (
	"slices"
	"time"
)

// delays are how long the strands that started lately had waited. Where a broker cannot keep up, so cannot its neighbours,
// and what they have not started yet is no sign that they are dead.
type delays struct {
	last []delay // at most keptDelays
	turn int     // the one to overwrite next
}

type delay struct{ at, took int64 }

const (
	keptDelays = 200
	freshDelay = int64(10 * time.Second)
	overdueMin = int64(5 * time.Second)
)

func (d *delays) add(now, took int64) {
	if len(d.last) < keptDelays {
		d.last = append(d.last, delay{now, took})
		return
	}
	d.last[d.turn] = delay{now, took}
	d.turn = (d.turn + 1) % keptDelays
}

// overdue is the age above which a strand that others should have started is overdue: five seconds, and a fifth more than
// what all but a twentieth of our own have waited.
func (d *delays) overdue(now int64) time.Duration {
	return time.Duration(overdueMin + d.quantile(now, 95)*12/10)
}

// quantile is the delay that so many of 100 do not exceed, of those of the last seconds; 0 = there are none.
func (d *delays) quantile(now int64, percent int) int64 {
	var fresh []int64
	for _, one := range d.last {
		if now-one.at <= freshDelay {
			fresh = append(fresh, one.took)
		}
	}
	if fresh == nil {
		return 0
	}
	slices.Sort(fresh)
	return fresh[(len(fresh)*percent+99)/100-1]
}
