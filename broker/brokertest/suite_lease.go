package brokertest

import (
	"time"

	"github.com/respirated/respirated/broker"
)

var leaseCases = []testCase{
	{"LeaseReturnsTheStrandAsInserted", func(tr *trial) {
		id := tr.insert(`{"queue":"mail","tenant":"acme","priority":2,"max_tries":7,"label":"pack",` +
			`"tags":["a","b"],"metadata":{"by":"me"}}`)
		s := tr.lease(id)
		tr.equal("kind", s.Kind, kind)
		tr.equal("label", s.Label, "pack")
		tr.sameJSON("args", s.Args, `{"n":1}`)
		tr.sameJSON("stack", s.Stack, "null")
		tr.equal("tenant", s.Tenant, "acme")
		tr.equal("queue", s.Queue, "mail")
		tr.equal("priority", s.Priority, 2)
		tr.equal("try", s.Try, 0)
		tr.equal("max tries", s.MaxTries, 7)
		tr.equal("crashes", s.Crashes, 0)
		tr.equal("tags", s.Tags, []string{"a", "b"})
		tr.sameJSON("metadata", s.Metadata, `{"by":"me"}`)
		if age := time.Since(s.Created); age < -time.Minute || age > time.Minute {
			tr.t.Errorf("created: got %v, want about now", s.Created)
		}
		row := tr.row(id)
		tr.equal("leased", row.Leased, true)
		tr.about("lease", row.Left, ttl)
	}},
	{"LeaseOfDefaultsTellsThem", func(tr *trial) {
		s := tr.lease(tr.insert(""))
		tr.equal("label", s.Label, "start")
		tr.equal("tenant", s.Tenant, "")
		tr.equal("queue", s.Queue, "default")
		tr.equal("priority", s.Priority, 5)
		tr.equal("max tries", s.MaxTries, 25)
		tr.equal("tags", len(s.Tags), 0)
		tr.sameJSON("metadata", s.Metadata, "null")
	}},
	{"LeaseLeavesOutWhatItCannotHave", func(tr *trial) {
		undue := tr.insert(`{"in":3600}`)
		leased := tr.insertLeased("")
		locked := tr.insert("")
		free := tr.insert("")
		unlock := tr.store.Lock(locked)
		defer unlock()
		var pairs []broker.Pair
		for _, id := range []broker.ID{undue, leased.ID, locked, free, newID()} {
			pairs = append(pairs, broker.Pair{ID: id, Token: newToken()})
		}
		got := tr.tryLease(pairs...)
		if len(got) != 1 || got[0].ID != free {
			tr.t.Errorf("lease: got %+v, want only %s", got, free)
		}
		tr.equal("token of the leased strand still counts", tr.renewed(leased), []broker.Pair{leased})
	}},
}

// renewed renews leases and returns those that were kept.
func (tr *trial) renewed(pairs ...broker.Pair) (kept []broker.Pair) {
	tr.t.Helper()
	got, err := tr.store.Renew(tr.ctx, pairs, ttl)
	if err != nil {
		tr.t.Fatalf("renew: %v", err)
	}
	for _, k := range got {
		kept = append(kept, k.Pair)
	}
	return kept
}
