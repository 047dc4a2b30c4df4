package broker

import (
	"slices"
	"time"
)

// notice decides when this broker makes itself known again: when something has changed that others act on, and every
// few seconds.
type notice struct {
	changed   bool
	flying    bool
	known     bool  // some of it has arrived
	busyTold  bool  // others may believe that we are busy: the last one said it, or one of unknown outcome
	busySaid  bool  // what the one in flight says
	slice     Slice // of the last one that arrived
	sliceSaid Slice // of the one in flight
	at        int64 // the next one by time
	notBefore int64
}

const (
	announceEvery = int64(15 * time.Second)
	announceTTL   = 30 * time.Second
	announceApart = int64(200 * time.Millisecond)
)

func (n *notice) decide(d *database, now int64, req *requests) {
	if n.flying || now < n.notBefore || !n.changed && now < n.at || d.place.on() && d.place.number == 0 {
		return
	}
	a := d.announcement()
	n.flying, n.changed, n.busySaid, n.sliceSaid = true, false, a.Busy, a.Slice
	req.announce = &a
}

// told notes that the others know. Whoever inserted before we were known, or known to look after these ids, did not
// notify, so we look once more; some transaction may still believe in what we have said before, or that we are busy.
func (n *notice) told(d *database, now int64, err error) {
	n.flying, n.notBefore, n.at = false, now+announceApart, now+announceEvery
	if err != nil {
		n.changed, n.busyTold = true, n.busyTold || n.busySaid
		return
	}
	moved := n.known && n.slice != n.sliceSaid
	if !n.known || moved {
		d.scanner.startAnew()
	}
	if moved || n.busyTold && !n.busySaid {
		d.scanner.settleEnd = now + settleMost
		d.scanner.at = min(d.scanner.at, now+settlePoll)
	}
	n.known, n.busyTold, n.slice = true, n.busySaid, n.sliceSaid
}

func (n *notice) next() int64 {
	switch {
	case n.flying:
		return 0
	case n.changed:
		return n.notBefore
	}
	return n.at
}

func (d *database) announcement() Announcement {
	a := Announcement{Broker: d.s.broker, Slice: d.place.parts.hull(), Busy: d.scanner.busy}
	for _, c := range d.s.classes {
		a.Kinds = append(a.Kinds, c.kinds...)
		a.Workers += len(c.members)
		for _, w := range c.members {
			a.Slots += w.wantN
		}
	}
	slices.Sort(a.Kinds)
	a.Kinds = slices.Compact(a.Kinds)
	if d.place.leaving {
		a.Slots = 0
		return a
	}
	a.Number, a.Rank, a.Members = d.place.parts.number, d.place.parts.rank, d.place.parts.division.of
	return a
}
