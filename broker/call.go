package broker

import "github.com/respirated/respirated/protocol"

// call takes in inserts or signals from outside a run. They are not gathered: they are rare, since those of a run travel in
// its result, and each call is all or nothing.
func (s *schedule) call(now int64, ev called, fx *effects) {
	s.hear(now, ev.session)
	d := s.databases[ev.home]
	if len(d.calls) == mostCalls || d.callBytes > 0 && d.callBytes+ev.payload() > s.maxBytes {
		fx.tell(ev.session, &protocol.Reply{Re: ev.id, Err: tooManyCalls()})
		return
	}
	d.queue(ev)
}

func (d *database) queue(c called) {
	d.calls = append(d.calls, c)
	d.callBytes += c.payload()
}

func (c *called) payload() int { return payloadOf(c.inserts) + signalBytes(c.signals) }

// callNext asks for the next call to be made. Many at once would take the database's connections from leases and commits.
func (d *database) callNext(req *requests) {
	if d.calling != nil || len(d.calls) == 0 {
		return
	}
	next := d.calls[0]
	d.calling, req.call = &next, &next
	d.calls[0] = called{} // the slice behind it must not keep what it held
	d.calls = d.calls[1:]
	d.callBytes -= next.payload()
}

// inserted answers a call that inserts.
func (d *database) inserted(ev inserted, fx *effects) {
	reply := &protocol.Reply{}
	for _, id := range ev.ids {
		reply.IDs = append(reply.IDs, id.String())
	}
	d.reply(d.calling, reply, ev.err, fx)
}

// signalled answers a call that signals, or has the next database be asked for the strands that this one does not have.
func (d *database) signalled(ev signalled, fx *effects) {
	call := d.calling
	if ev.err == nil {
		left := call.learn(ev.found)
		if next := d.s.after(d); len(left.signals) > 0 && next.no != call.home {
			d.calling = nil
			next.queue(left)
			return
		}
	}
	d.reply(call, &protocol.Reply{Found: call.found}, ev.err, fx)
}

// learn takes in which strands a database has, and returns the call for those it does not have.
func (c *called) learn(found []bool) called {
	if c.found == nil {
		c.found = make([]bool, len(c.signals))
		c.places = make([]int, len(c.signals))
		for i := range c.places {
			c.places[i] = i
		}
	}
	left := *c
	left.signals, left.places = nil, nil
	for i, has := range found {
		if c.found[c.places[i]] = has; !has {
			left.signals, left.places = append(left.signals, c.signals[i]), append(left.places, c.places[i])
		}
	}
	return left
}

func (d *database) reply(to *called, reply *protocol.Reply, err error, fx *effects) {
	d.calling = nil
	if d.s.sessions[to.session] == 0 {
		return
	}
	if err != nil {
		reply = &protocol.Reply{Err: replyError(err)}
	}
	reply.Re = to.id
	fx.tell(to.session, reply)
}
