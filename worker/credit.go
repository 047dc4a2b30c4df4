package worker

import "time"

// credit decides how many strands a worker asks for. One for each slot keeps the slots busy while a run takes longer
// than the way from its result to the next strand. Where runs are shorter, slots would stand idle during that way, so
// there are more in hand: as many as the slots finish in twice that time. Where runs are long it is the bare number of
// slots: what waits here could be running elsewhere.
type credit struct {
	slots int
	most  int
	run   mean // of how long a run takes
	lag   mean // of how long a result takes to be acked
	told  int  // what the broker has been told in this session; -1 = nothing
}

// begin begins a session: the broker takes what is asked for first for the slots, so nothing is known of runs yet.
func (c *credit) begin() { c.run, c.lag, c.told = mean{}, mean{}, -1 }

// want is the number to ask for.
func (c *credit) want() int {
	n := c.slots
	if c.run.known && c.lag.known {
		ahead := float64(c.slots) * 2 * float64(c.lag.value) / float64(max(c.run.value, time.Microsecond))
		n += int(min(ahead, float64(c.most)))
	}
	return min(n, c.most)
}

// worth tells whether n differs enough from what was told to send it: a quarter, so that noise in the means costs no
// frames. The bare slots and less are always worth it: runs are long, or some slots are not ours to offer.
func (c *credit) worth(n int) bool {
	if c.told < 0 || n == c.told {
		return c.told < 0
	}
	band := c.told / 4
	return n <= c.slots || c.told < c.slots || n > c.told+band || n < c.told-band
}

// mean is a running mean, in which a new value weighs an eighth.
type mean struct {
	value time.Duration
	known bool
}

func (m *mean) add(d time.Duration) {
	if !m.known {
		m.value, m.known = d, true
		return
	}
	m.value += (d - m.value) / 8
}

// atLeast raises the mean to d, for what has been going on for d without an end.
func (m *mean) atLeast(d time.Duration) {
	m.value, m.known = max(m.value, d), true
}
