package broker

// slice is what this broker scans.
func (s *schedule) slice() Slice { return s.place.division.slice() }

// divide keeps the place among the brokers, and acts on what is new about it.
func (s *schedule) divide(now int64, fx *effects) {
	if fx.change = s.place.divide(now); fx.change != nil && fx.change.why != nil {
		s.scanner.divided(s, now)
		s.notice.changed = true
	}
	if s.place.join(now) {
		fx.join = &JoinRequest{Broker: s.broker, Number: max(s.partition.Number, 0), Most: s.partition.Most}
	}
	fx.present = s.place.speak(now)
	fx.relisten = s.place.deaf()
}

// hint takes in a notification. What became due in the parts of others is their affair.
func (s *schedule) hint(now int64, h Hint) {
	switch {
	case h.Presence != nil:
		s.place.heard(now, *h.Presence)
		return
	case h.Bad != "":
		return
	case h.Connected:
		s.place.connected(now)
	case h.Cancel:
		s.renewAll(now)
	case h.Lanes:
	case len(h.Due) > 0 && !s.slice().mayHave(h.Due):
		return
	}
	s.scanner.hint(h)
}

// sayGoodbye tells the others that this broker takes no more work.
func (s *schedule) sayGoodbye(now int64) {
	if s.place.on() {
		s.place.leave(now)
		s.notice.changed = true
	}
}
