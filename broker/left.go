package broker

// What a broker has leased, and not handed to a worker, when it is killed is nobody's until the leases end. So whoever follows
// it on its host asks the database what is leased under its mark, once every worker that may hold any of it has said what it
// holds, or is dead. What none of them holds is given back.

// left is what a database is asked about the leases of former brokers.
type left struct {
	marks  []Mark // nil = nothing is to be asked
	asking bool
	after  int64 // not before, after an error
}

// Mark is what this broker's tokens begin with.
func (b *Broker) Mark() Mark { return b.schedule.mark }

// Reclaim gives back what former brokers with these marks have leased, and no worker holds that is connected or was. All
// workers that may hold any of it must have said hello, or be dead.
func (b *Broker) Reclaim(marks []Mark) { b.post(reclaiming{marks}) }

func (s *schedule) reclaim(marks []Mark) {
	for _, d := range s.databases {
		d.left = left{marks: marks}
	}
}

// askLeft asks what is left.
func (d *database) askLeft(now int64, req *requests) {
	if d.left.marks != nil && !d.left.asking && now >= d.left.after && d.s.pausedAt == 0 {
		d.left.asking = true
		req.left = d.left.marks
	}
}

func (l *left) next() int64 {
	if l.marks == nil || l.asking {
		return 0
	}
	return l.after
}

// foundLeft gives back what no worker holds.
func (d *database) foundLeft(now int64, ev foundLeft) {
	d.left.asking = false
	if ev.err != nil {
		d.left.after = now + errorRetry
		return
	}
	d.left.marks = nil
	for _, p := range ev.pairs {
		if r := d.s.runs[p.ID]; (r == nil || r.Pair != p) && !d.s.promised(p) {
			d.yield(p)
		}
	}
}

// promised says whether a worker has said that its result of a former broker's run follows.
func (s *schedule) promised(p Pair) bool {
	for _, w := range s.workers {
		if w.promised[p] {
			return true
		}
	}
	return false
}
