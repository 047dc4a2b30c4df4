package brokertest

import (
	"testing"
	"time"

	"github.com/respirated/respirated/broker"
)

func TestStoreInMemoryKeepsThePromises(t *testing.T) {
	TestStore(t, func(*testing.T) Subject { return NewStore(time.Now) })
}

// So many cannot be made here, nor in the suite.
func TestChildrenOfOneStrandAreLimited(t *testing.T) {
	s, tr, p := leasedStrand(t)
	s.live[p.ID].childrenLeft = maxChildren - 1
	child := func() broker.Insert { return broker.Insert{ID: newID(), Kind: kind, Args: []byte(`{}`), Child: true} }
	tr.report(broker.Invalid, broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Inserts: []broker.Insert{child(), child()}})
	tr.report(broker.Applied, broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Inserts: []broker.Insert{child()}})
}
