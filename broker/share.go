package broker

// slice is what this broker scans of a database.
func (d *database) slice() Slice { return d.place.division.slice() }

// divide keeps the place among the brokers, and acts on what is new about it.
func (d *database) divide(now int64, req *requests) {
	if req.change = d.place.divide(now); req.change != nil && req.change.why != nil {
		d.scanner.divided(d, now)
		d.notice.changed = true
	}
	if d.place.join(now) {
		req.join = &JoinRequest{Broker: d.s.broker, Number: max(d.s.partition.Number, 0), Most: d.s.partition.Most}
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
	case len(h.Due) > 0 && !d.slice().mayHave(h.Due):
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
