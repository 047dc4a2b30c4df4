package broker

import "slices"

// serve has each database know which kinds have workers that want strands.
func (s *schedule) serve(now int64) {
	s.otherKinds = false
	kinds := s.served()
	for _, d := range s.databases {
		d.place.serves(now, kinds)
	}
}

// served are those kinds, sorted. Of a kind that nobody serves in all queues it is the areas, so that brokers whose pools are for
// the same queues divide those among each other, and rely on no one else for them.
func (s *schedule) served() (kinds []string) {
	for _, c := range s.classes {
		switch {
		case !c.wants():
		case c.queues == nil:
			kinds = append(kinds, c.kinds...)
		default:
			for _, a := range c.areas {
				kinds = append(kinds, a.name)
			}
		}
	}
	slices.Sort(kinds)
	kinds = slices.Compact(kinds)
	if len(s.named) == 0 {
		return kinds
	}
	whole := ""
	return slices.DeleteFunc(kinds, func(name string) bool {
		kind := kindOf(name)
		if kind == name {
			whole = kind // its areas follow
		}
		return kind == whole && kind != name
	})
}

// divide keeps the place among the brokers, and acts on what is new about it.
func (d *database) divide(now int64, req *requests) {
	if req.change = d.place.divide(now); req.change != nil && req.change.why != nil {
		d.scanner.divided(d, now)
		d.notice.changed = true
	}
	if d.place.join(now) {
		req.join = &JoinRequest{Broker: d.s.broker, Number: d.place.wanted(), Most: d.s.partition.Most}
	}
	req.present = d.place.speak(now)
	req.relisten = d.place.deaf()
}

// hint takes in a notification. What became due in the parts of others is their affair.
func (d *database) hint(now int64, h Hint) {
	switch {
	case h.Presence != nil:
		d.place.heard(now, *h.Presence)
		return
	case h.Bad != "":
		return
	case h.Connected:
		d.place.connected(now)
	case h.Cancel:
		d.renewAll(now)
	case h.Lanes:
	case len(h.Due) > 0 && !d.place.parts.mayHave(h.Due):
		return
	}
	d.scanner.hint(h)
}

// sayGoodbye tells the others that this broker takes no more work.
func (d *database) sayGoodbye(now int64) {
	if d.place.on() {
		d.place.leave(now)
		d.notice.changed = true
	}
}
