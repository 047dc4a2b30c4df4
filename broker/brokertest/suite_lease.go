package brokertest

import (
	"context"
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
	{"LeaseTellsWhatHappenedBefore", func(tr *trial) {
		p := tr.insertLeased("")
		tr.applied(broker.Report{Pair: p, Act: broker.Crash, Failure: &broker.Failure{Exit: "exit status 2"}})
		p = tr.leaseAgain(p.ID)
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Fail, Stack: []byte(`[{"i":1}]`), Failure: &broker.Failure{Class: "E"}})
		tr.arrive(p.ID)
		s := tr.lease(p.ID)
		tr.equal("try", s.Try, 1)
		tr.equal("crashes", s.Crashes, 1)
		tr.sameJSON("stack", s.Stack, `[{"i":1}]`)
	}},
	{"LeaseTakesManyAtOnce", func(tr *trial) {
		var pairs []broker.Pair
		want := map[broker.Pair]bool{}
		for range 50 {
			p := broker.Pair{ID: tr.insert(""), Token: newToken()}
			pairs = append(pairs, p)
			want[p] = true
		}
		got := map[broker.Pair]bool{}
		for _, s := range tr.tryLease(pairs...) {
			got[pairOf(s)] = true
		}
		tr.equal("leased", got, want)
	}},
	{"LeaseOfNothingIsNothing", func(tr *trial) {
		tr.equal("leased", len(tr.tryLease()), 0)
		tr.equal("renewed", len(tr.renewed()), 0)
		tr.commit(nil)
		tr.equal("inserted", len(tr.insertAll()), 0)
	}},
	{"LeaseLeavesOutWhatItCannotHave", func(tr *trial) {
		undue := tr.insert(`{"in":3600}`)
		leased := tr.insertLeased("")
		asked := tr.insertLeased("")
		tr.store.Cancel(asked.ID)
		tr.expire(asked.ID)
		locked := tr.insert("")
		free := tr.insert("")
		unlock := tr.store.Lock(locked)
		defer unlock()
		var pairs []broker.Pair
		for _, id := range []broker.ID{undue, leased.ID, asked.ID, locked, free, newID()} {
			pairs = append(pairs, broker.Pair{ID: id, Token: newToken()})
		}
		got := tr.tryLease(pairs...)
		if len(got) != 1 || got[0].ID != free {
			tr.t.Errorf("lease: got %+v, want only %s", got, free)
		}
		tr.equal("leases that the first taker still has", tr.renewed(leased), []broker.Pair{leased})
	}},
	{"LeaseAskedAgainIsGivenAgain", func(tr *trial) {
		p := broker.Pair{ID: tr.insert(""), Token: newToken()}
		for range 2 {
			got := tr.tryLease(p)
			if len(got) != 1 || pairOf(got[0]) != p {
				tr.t.Fatalf("lease of %v: got %+v", p, got)
			}
		}
		tr.equal("rescues", tr.row(p.ID).Rescues, 0)
	}},
	{"LeaseThatRanOutGoesToTheNextAndIsCounted", func(tr *trial) {
		first := tr.insertLeased("")
		tr.expire(first.ID)
		second := pairOf(tr.lease(first.ID))
		row := tr.row(first.ID)
		tr.equal("rescues", row.Rescues, 1)
		tr.about("lease", row.Left, ttl)
		tr.report(broker.Stale, broker.Report{Pair: first, Seq: 1, Act: broker.Exit})
		tr.report(broker.Applied, broker.Report{Pair: second, Seq: 1, Act: broker.Exit})
	}},
	{"LeaseAfterAReleaseIsNoRescue", func(tr *trial) {
		p := tr.insertLeased("")
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Release})
		tr.lease(p.ID)
		tr.equal("rescues", tr.row(p.ID).Rescues, 0)
	}},
	{"LeaseStartsCountingReportsAnew", func(tr *trial) {
		first := tr.insertLeased("")
		tr.applied(broker.Report{Pair: first, Seq: 9, Act: broker.Save, Stack: []byte(`[]`)})
		tr.expire(first.ID)
		second := pairOf(tr.lease(first.ID))
		tr.report(broker.Applied, broker.Report{Pair: second, Seq: 1, Act: broker.Save, Stack: []byte(`[1]`)})
		tr.sameJSON("stack", tr.row(first.ID).Stack, `[1]`)
	}},
}

var renewCases = []testCase{
	{"RenewMovesTheEndOfTheLeaseAndTheScheduleWithIt", func(tr *trial) {
		p := tr.insertLeased("")
		tr.store.Age(p.ID, ttl/2)
		tr.equal("kept", tr.renewed(p), []broker.Pair{p})
		row := tr.row(p.ID)
		tr.about("lease", row.Left, ttl)
		tr.about("schedule", row.Due, ttl)
	}},
	{"RenewKeepsALeaseThatRanOutAndNobodyTook", func(tr *trial) {
		p := tr.insertLeased("")
		tr.expire(p.ID)
		tr.equal("kept", tr.renewed(p), []broker.Pair{p})
		tr.about("lease", tr.row(p.ID).Left, ttl)
		tr.equal("rescues", tr.row(p.ID).Rescues, 0)
	}},
	{"RenewGivesBackOnlyWhatIsStillHeld", func(tr *trial) {
		held, taken, rests, yielded, over := tr.insertLeased(""), tr.insertLeased(""), tr.insertLeased(""), tr.insertLeased(""), tr.insertLeased("")
		tr.expire(taken.ID)
		next := pairOf(tr.lease(taken.ID))
		tr.applied(
			broker.Report{Pair: rests, Seq: 1, Act: broker.Nap},
			broker.Report{Pair: yielded, Act: broker.Yield},
			broker.Report{Pair: over, Seq: 1, Act: broker.Exit},
		)
		unknown := broker.Pair{ID: newID(), Token: newToken()}
		tr.equal("kept", tr.renewed(held, taken, rests, yielded, over, unknown), []broker.Pair{held})
		tr.equal("kept by the next", tr.renewed(next), []broker.Pair{next})
		tr.equal("rester is leased", tr.row(rests.ID).Leased, false)
	}},
	{"RenewTwiceIsTheSame", func(tr *trial) {
		p := tr.insertLeased("")
		tr.equal("first", tr.renewed(p), []broker.Pair{p})
		tr.equal("second", tr.renewed(p), []broker.Pair{p})
	}},
	{"RenewTellsThatACancelIsAskedFor", func(tr *trial) {
		p := tr.insertLeased("")
		tr.store.Cancel(p.ID)
		got, err := tr.store.Renew(tr.ctx, []broker.Pair{p}, ttl)
		if err != nil {
			tr.t.Fatalf("renew: %v", err)
		}
		tr.equal("kept", got, []broker.Kept{{Pair: p, Cancel: true}})
	}},
	{"RenewOfALockedRowTellsSoAndLosesNothing", renewLocked},
}

func renewLocked(tr *trial) {
	ours, lost, free := tr.insertLeased(""), tr.insertLeased(""), tr.insertLeased("")
	tr.expire(lost.ID)
	tr.lease(lost.ID)
	tr.store.Age(ours.ID, ttl/2)
	unlockOurs, unlockLost := tr.store.Lock(ours.ID), tr.store.Lock(lost.ID)
	ctx, cancel := context.WithTimeout(tr.ctx, 30*time.Second) // a store that waits for the lock waits for ever
	defer cancel()
	got, err := tr.store.Renew(ctx, []broker.Pair{ours, lost, free}, ttl)
	unlockOurs()
	unlockLost()
	if err != nil {
		tr.t.Fatalf("renew: %v", err)
	}
	tr.equal("kept", keptByID(got), map[broker.ID]broker.Kept{
		ours.ID: {Pair: ours, Locked: true},
		free.ID: {Pair: free},
	})
	tr.about("lease that was locked", tr.row(ours.ID).Left, ttl/2)
	tr.equal("kept later", tr.renewed(ours), []broker.Pair{ours})
	tr.about("lease that was locked, later", tr.row(ours.ID).Left, ttl)
}

// renewed renews leases and returns those that were kept, in the order asked.
func (tr *trial) renewed(pairs ...broker.Pair) (kept []broker.Pair) {
	tr.t.Helper()
	got, err := tr.store.Renew(tr.ctx, pairs, ttl)
	if err != nil {
		tr.t.Fatalf("renew: %v", err)
	}
	for _, p := range pairs {
		for _, k := range got {
			if k.Pair == p {
				kept = append(kept, p)
			}
		}
	}
	return kept
}

// leaseAgain lets a strand become due and takes it.
func (tr *trial) leaseAgain(id broker.ID) broker.Pair {
	tr.t.Helper()
	tr.arrive(id)
	return pairOf(tr.lease(id))
}

func pairOf(s broker.Strand) broker.Pair { return broker.Pair{ID: s.ID, Token: s.Token} }
