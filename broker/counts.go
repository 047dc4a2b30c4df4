package broker

import (
	"time"

	"github.com/respirated/respirated/protocol"
)

// Counts are what a broker has counted in one of its databases. They begin with the process, and anew with each upgrade.
type Counts struct {
	Calls        map[string]Calls  `json:"calls"`        // of a Store, by what for, such as "scan" and "commit"
	Found        uint64            `json:"found"`        // candidates that scans have brought; a strand may be found more than once
	Leased       uint64            `json:"leased"`       // leases that were granted
	Applied      map[string]uint64 `json:"applied"`      // reports that are stored, by act
	Verdicts     map[string]uint64 `json:"verdicts"`     // on all reports
	Hints        map[string]uint64 `json:"hints"`        // notifications: due, lanes, cancel, and presence of brokers, this one included
	Connects     uint64            `json:"connects"`     // of the channel that brings them
	Repartitions uint64            `json:"repartitions"` // times that the ids were divided otherwise than before
	Delays       Delays            `json:"delays"`       // of leased strands, from when they could have started to their lease
}

// Calls are statements, or transactions of several, that have come back.
type Calls struct {
	Done   uint64 `json:"done"`
	Failed uint64 `json:"failed"`
}

// Delays are how long strands have waited.
type Delays struct {
	Counts [len(DelayBounds) + 1]uint64 `json:"counts"` // by the bounds, each without those before it; the last are above all bounds
	Sum    time.Duration                `json:"sum"`

	// Of the last 200 within ten seconds; 0 = there were none.
	P50 time.Duration `json:"p50"`
	P95 time.Duration `json:"p95"`
}

// DelayBounds are the upper ends of what [Delays] counts together.
var DelayBounds = [...]time.Duration{
	time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second,
	10 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute, 30 * time.Minute,
}

// Exits are how many of our worker processes have ended.
type Exits struct {
	Asked uint64 `json:"asked"` // they had been asked to
	Died  uint64 `json:"died"`
}

// counts are what the loop counts of one database, by what comes back from there. It decides nothing by them.
type counts struct {
	calls    map[string]Calls
	found    uint64
	leased   uint64
	applied  [Own + 1]uint64
	verdicts [Later + 1]uint64
	hints    map[string]uint64
	connects uint64
	changes  uint64
	delayed  [len(DelayBounds) + 1]uint64
	waited   time.Duration
	recent   delays
}

func newCounts() counts { return counts{calls: map[string]Calls{}, hints: map[string]uint64{}} }

// count takes in an event before the schedule does, which still knows what it is about.
func (b *Broker) count(now int64, ev event) {
	switch ev := ev.(type) {
	case from:
		b.databases[ev.database].counts.count(now, b.schedule.databases[ev.database], ev.what)
	case exited:
		if ev.Asked {
			b.exits.Asked++
		} else {
			b.exits.Died++
		}
	default:
		b.databases[0].counts.count(now, b.schedule.databases[0], ev)
	}
}

func (c *counts) count(now int64, d *database, ev event) {
	switch ev := ev.(type) {
	case hinted:
		c.hint(ev.Hint)
	case scanned:
		c.called("scan", ev.err)
		c.found += uint64(len(ev.Candidates))
	case took:
		c.called("take", ev.err)
		for range ev.strands {
			c.start(now, now-d.taking.asked)
		}
	case leased:
		c.called("lease", ev.err)
		for i := range ev.granted {
			if r := d.s.runs[ev.granted[i].ID]; r != nil {
				c.start(now, now-r.since)
			}
		}
	case committed:
		c.called("commit", ev.err)
		for i, v := range ev.verdicts {
			c.verdicts[v.State]++
			if v.State == Applied && i < len(d.commits.flying) {
				c.applied[d.commits.flying[i].Act]++
			}
		}
	case foundLeft:
		c.called("left", ev.err)
	case recovered:
		c.called("held", ev.err)
	case renewed:
		c.called("renew", ev.err)
	case joined:
		c.called("join", ev.err)
	case announced:
		c.called("announce", ev.err)
	case told:
		c.called("tell", ev.err)
	case inserted:
		c.called("insert", ev.err)
	case signalled:
		c.called("signal", ev.err)
	}
}

func (c *counts) called(what string, err error) {
	n := c.calls[what]
	if n.Done++; err != nil {
		n.Failed++
	}
	c.calls[what] = n
}

func (c *counts) hint(h Hint) {
	switch {
	case h.Connected:
		c.connects++
	case h.Presence != nil || h.Bad != "":
		c.hints["presence"]++
	case h.Cancel:
		c.hints["cancel"]++
	case h.Lanes:
		c.hints["lanes"]++
	default:
		c.hints["due"]++
	}
}

// start takes in that a strand was leased which had waited for so long.
func (c *counts) start(now, waited int64) {
	c.leased++
	c.recent.add(now, waited)
	c.waited += time.Duration(waited)
	i := 0
	for i < len(DelayBounds) && time.Duration(waited) > DelayBounds[i] {
		i++
	}
	c.delayed[i]++
}

// told is a copy for others.
func (c *counts) told(now int64) Counts {
	told := Counts{
		Calls: map[string]Calls{}, Found: c.found, Leased: c.leased, Applied: map[string]uint64{}, Verdicts: map[string]uint64{},
		Hints: map[string]uint64{}, Connects: c.connects, Repartitions: c.changes,
		Delays: Delays{
			Counts: c.delayed, Sum: c.waited,
			P50: time.Duration(c.recent.quantile(now, 50)), P95: time.Duration(c.recent.quantile(now, 95)),
		},
	}
	for _, what := range []string{"scan", "take", "lease", "commit", "left", "held", "renew", "join", "announce", "tell", "insert", "signal"} {
		told.Calls[what] = c.calls[what]
	}
	for act := Exit; act <= Own; act++ {
		told.Applied[act.String()] = c.applied[act]
	}
	for state := Applied; state <= Later; state++ {
		told.Verdicts[state.wire()] = c.verdicts[state]
	}
	for _, about := range []string{"due", "lanes", "cancel", "presence"} {
		told.Hints[about] = c.hints[about]
	}
	return told
}

// String is the act's name on the wire; of the broker's own, which are not there, in counts.
func (a Act) String() string {
	switch a {
	case Exit:
		return protocol.ActExit
	case Nap:
		return protocol.ActNap
	case Hop:
		return protocol.ActHop
	case Fail:
		return protocol.ActFail
	case Cancel:
		return protocol.ActCancel
	case Release:
		return protocol.ActRelease
	case Save:
		return actSave
	case Yield:
		return "yield"
	case Crash:
		return "crash"
	case Own:
		return protocol.ActOwn
	}
	return "unknown"
}
