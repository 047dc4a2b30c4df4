package worker

import "github.com/respirated/respirated/protocol"

// frameOverhead is room for what a frame of results has beside them.
const frameOverhead = 64

// packer spreads results over frames.
type packer struct {
	limits  limits
	batches [][]*run
	size    int  // of the last batch
	total   int  // of all
	closed  bool // the last batch takes no more
}

// room is what the results of one frame may take.
func (p *packer) room() int { return p.limits.frame - frameOverhead }

// add puts r into the last batch if it fits there. A result that was refused before gets a frame of its own.
func (p *packer) add(r *run) {
	size, alone := resultSize(&r.result), r.refusals > 0
	last := len(p.batches) - 1
	if last < 0 || p.closed || alone || len(p.batches[last]) == p.limits.batch || p.size+size > p.room() {
		p.batches, p.size = append(p.batches, nil), 0
		last++
	}
	p.batches[last] = append(p.batches[last], r)
	p.size += size
	p.total += size
	p.closed = alone
}

// resultSize is at least what a result takes in a frame.
func resultSize(r *protocol.Result) int {
	const pairs = 128 // keys, lengths and numbers
	n := pairs + len(r.Strand) + len(r.Token) + len(r.Label) + len(r.NewKind) + len(r.Value) + len(r.Stack)
	if f := r.Failure; f != nil {
		n += len(f.Class) + len(f.Message) + len(f.Trace)
	}
	for i := range r.Inserts {
		in := &r.Inserts[i]
		n += pairs + len(in.Key) + len(in.Kind) + len(in.Args) + len(in.Opts)
	}
	return n
}
