package broker

// rest tells when all workers are idle, once until they are not. It is a value of the goroutine of Run.
type rest struct {
	since int64 // when the broker was first seen to have nothing at hand; 0 = it has something
	told  bool
}

// restAfter is how long there must be nothing, so that the moment between two strands is not taken for rest.
const restAfter = sweepEvery

// step takes in whether there is something to do now, and tells whether it is the moment to tell that there is not.
func (r *rest) step(now int64, busy bool) bool {
	switch {
	case busy:
		*r = rest{}
	case r.since == 0:
		r.since = now
	case !r.told && now-r.since >= restAfter:
		r.told = true
		return true
	}
	return false
}

// busy tells whether a worker holds a strand, or one is at hand for it.
func (s *schedule) busy() bool {
	if len(s.runs) > 0 {
		return true
	}
	for _, d := range s.databases {
		if d.buffer.len()+len(d.alone) > 0 {
			return true
		}
	}
	return false
}
