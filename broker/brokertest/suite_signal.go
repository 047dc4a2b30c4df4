package brokertest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/respirated/respirated/broker"
)

// signalCases tell how semaphores come to a strand, and what waits for it when it is leased.
var signalCases = []testCase{
	{"SignalOfASleeperMakesItDue", func(tr *trial) {
		id := tr.insert(`{"in":3600}`)
		tr.signal(broker.Signal{ID: id, Name: "go"})
		tr.finds(id)
	}},
	{"SignalOfADueStrandKeepsItsPlace", func(tr *trial) {
		early, late := tr.insert(""), tr.insert("")
		tr.signal(broker.Signal{ID: early, Name: "go"})
		tr.finds(early, late)
	}},
	{"SignalOfASleeperIsTold", func(tr *trial) {
		id := tr.insert(`{"in":3600}`)
		tr.announce(broker.Announcement{Broker: newID()}) // somebody who is to be told
		told := make(chan struct{}, 100)
		defer tr.store.Listen(func(h broker.Hint) {
			if !h.Connected && h.Presence == nil {
				told <- struct{}{}
			}
		})()
		tr.signal(broker.Signal{ID: id, Name: "go"})
		select {
		case <-told:
		case <-time.After(30 * time.Second):
			tr.t.Error("told of a signal: got nothing, want a hint")
		}
	}},
	{"SignalIsInTheInboxOfTheNextLease", func(tr *trial) {
		id := tr.insert("")
		tr.signal(broker.Signal{ID: id, Name: "paid", Value: []byte(`{"eur":12}`)})
		got := tr.mail(tr.lease(id).Inbox).Semaphores
		if len(got) != 1 || got[0].ID == 0 || got[0].Name != "paid" {
			tr.t.Fatalf("semaphores: got %+v, want one that is called paid", got)
		}
		tr.sameJSON("value", got[0].Value, `{"eur":12}`)
		if age := time.Since(got[0].Sent); age < -time.Minute || age > time.Minute {
			tr.t.Errorf("sent: got %v, want about now", got[0].Sent)
		}
	}},
	{"SignalsOfOneNameHideNoOthers", func(tr *trial) {
		id := tr.insert("")
		var many []broker.Signal
		for range broker.InboxItems + 10 {
			many = append(many, broker.Signal{ID: id, Name: "update"})
		}
		tr.signal(append(many, broker.Signal{ID: id, Name: "destroy"})...)
		in := tr.mail(tr.lease(id).Inbox)
		tr.equal("listed", len(in.Semaphores), broker.InboxItems)
		tr.equal("the last one listed", in.Semaphores[len(in.Semaphores)-1].Name, "destroy")
		tr.equal("more", in.More, true)
		tr.equal("in the order sent", slices.IsSortedFunc(in.Semaphores, func(a, b broker.Semaphore) int { return cmp.Compare(a.ID, b.ID) }), true)
	}},
	{"SignalWithoutAValueHasNone", func(tr *trial) {
		id := tr.insert("")
		tr.signal(broker.Signal{ID: id, Name: "go"}, broker.Signal{ID: id, Name: "go", Value: []byte(`null`)})
		for _, got := range tr.mail(tr.lease(id).Inbox).Semaphores {
			tr.sameJSON("value", got.Value, `null`)
		}
	}},
	{"SignalOfALeasedStrandTouchesNoLease", func(tr *trial) {
		p := tr.insertLeased("")
		before := tr.row(p.ID)
		tr.signal(broker.Signal{ID: p.ID, Name: "go"})
		before.Inbox = 1
		tr.sameRow("row", tr.row(p.ID), before)
		tr.report(broker.Applied, broker.Report{Pair: p, Seq: 1, Act: broker.Exit})
	}},
	{"SignalDuringARunCutsItsNap", func(tr *trial) { tr.signalCuts(broker.Report{Act: broker.Nap}) }},
	{"SignalDuringARunCutsTheDelayOfItsHop", func(tr *trial) {
		tr.signalCuts(broker.Report{Act: broker.Hop, Label: "next"})
	}},
	{"SignalDuringARunCutsNoBackOff", func(tr *trial) {
		p := tr.insertLeased("")
		tr.signal(broker.Signal{ID: p.ID, Name: "go"})
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Fail, Delay: time.Hour, Failure: &boom})
		tr.about("due", tr.row(p.ID).Due, time.Hour)
	}},
	{"SignalBeforeTheLeaseIsSeenByThatRun", func(tr *trial) {
		id := tr.insert("")
		tr.signal(broker.Signal{ID: id, Name: "go"})
		s := tr.lease(id)
		tr.equal("names", names(s.Inbox), []string{"go"})
		tr.applied(broker.Report{Pair: pairOf(s), Seq: 1, Act: broker.Nap, Delay: time.Hour})
		tr.about("due", tr.row(id).Due, time.Hour)
	}},
	{"SignalOutlivesALeaseThatRanOut", func(tr *trial) {
		p := tr.insertLeased("")
		tr.signal(broker.Signal{ID: p.ID, Name: "go"})
		tr.expire(p.ID)
		tr.equal("names", names(tr.lease(p.ID).Inbox), []string{"go"})
	}},
	{"QuietSignalWakesNobody", func(tr *trial) {
		sleeper, p := tr.insert(`{"in":3600}`), tr.insertLeased("")
		tr.signal(broker.Signal{ID: sleeper, Name: "psst", Quiet: true}, broker.Signal{ID: p.ID, Name: "psst", Quiet: true})
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Delay: time.Hour})
		for _, id := range []broker.ID{sleeper, p.ID} {
			tr.about("due", tr.row(id).Due, time.Hour)
			tr.arrive(id)
			tr.equal("names", names(tr.lease(id).Inbox), []string{"psst"})
		}
	}},
	{"SignalsSayOfEachWhetherThereIsSuchAStrand", func(tr *trial) {
		over := tr.insertLeased("")
		tr.applied(exitOf(over))
		live, missing := tr.insert(""), newID()
		found, err := tr.store.Signal(tr.ctx, []broker.Signal{
			{ID: missing, Name: "a"}, {ID: live, Name: "b"}, {ID: over.ID, Name: "c"}, {ID: live, Name: "d"},
		})
		if err != nil {
			tr.t.Fatalf("signal: %v", err)
		}
		tr.equal("found", found, []bool{false, true, false, true})
		tr.equal("names", names(tr.lease(live).Inbox), []string{"b", "d"})
	}},
	{"SignalToNobodyLeavesNothing", func(tr *trial) {
		id := newID()
		if found, err := tr.store.Signal(tr.ctx, []broker.Signal{{ID: id, Name: "go"}}); err != nil || !slices.Equal(found, []bool{false}) {
			tr.t.Errorf("signal: got %v and error %v, want false", found, err)
		}
		tr.isEmpty(id)
		tr.insertAs(id, kind, "")
		tr.equal("inbox", tr.lease(id).Inbox, (*broker.Inbox)(nil))
	}},
	{"SignalsOfNothingAreNothing", func(tr *trial) {
		if found, err := tr.store.Signal(tr.ctx, nil); err != nil || len(found) > 0 {
			tr.t.Errorf("signal: got %v and error %v, want nothing", found, err)
		}
	}},
	{"SignalsComeInTheOrderSent", func(tr *trial) {
		id := tr.insert("")
		tr.signal(broker.Signal{ID: id, Name: "b"}, broker.Signal{ID: id, Name: "a"})
		tr.signal(broker.Signal{ID: id, Name: "c"}, broker.Signal{ID: id, Name: "a"})
		tr.equal("names", names(tr.lease(id).Inbox), []string{"b", "a", "c", "a"})
	}},
	{"SignalOfALockedStrandIsNotLost", func(tr *trial) {
		id := tr.insert(`{"in":3600}`)
		sent := false
		tr.whileLocked(id, func(ctx context.Context) {
			found, err := tr.store.Signal(ctx, []broker.Signal{{ID: id, Name: "go"}})
			sent = err == nil
			if err == nil && !slices.Equal(found, []bool{true}) {
				tr.t.Errorf("signal: got %v, want true", found)
			}
		})
		if !sent {
			tr.signal(broker.Signal{ID: id, Name: "go"})
		}
		tr.equal("names", names(tr.lease(id).Inbox), []string{"go"})
	}},
	{"BadSignalIsRefusedAndNothingIsSent", func(tr *trial) {
		id := tr.insert(`{"in":3600}`)
		for _, b := range badSignals {
			b.signal.ID = id
			_, err := tr.store.Signal(tr.ctx, []broker.Signal{{ID: id, Name: "good"}, b.signal, {ID: id, Name: "good"}})
			var bad *broker.SignalError
			if !errors.As(err, &bad) || bad.Index != 1 || bad.Why == "" {
				tr.t.Errorf("%s: got %v, want an error about signal 1", b.name, err)
			}
		}
		tr.isEmpty(id)
		tr.about("due", tr.row(id).Due, time.Hour)
	}},
	{"BadSignalToNobodyIsRefusedToo", func(tr *trial) {
		_, err := tr.store.Signal(tr.ctx, []broker.Signal{{ID: newID(), Name: ""}})
		var bad *broker.SignalError
		if !errors.As(err, &bad) || bad.Index != 0 {
			tr.t.Errorf("signal: got %v, want an error about signal 0", err)
		}
	}},
	{"SemaphoresVanishWithTheirStrand", func(tr *trial) {
		for _, end := range []func(broker.Pair){
			func(p broker.Pair) { tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Exit}) },
			func(p broker.Pair) {
				tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Fail, Final: true, Failure: &boom})
			},
			func(p broker.Pair) { tr.expire(p.ID); tr.store.Cancel(p.ID) },
		} {
			p := tr.insertLeased("")
			tr.signal(broker.Signal{ID: p.ID, Name: "go"})
			end(p)
			tr.isEmpty(p.ID)
		}
	}},
	{"InboxIsNilWhereNothingWaits", func(tr *trial) {
		tr.equal("inbox", tr.lease(tr.insert("")).Inbox, (*broker.Inbox)(nil))
	}},
	{"InboxComesAgainWithALeaseAskedAgain", func(tr *trial) {
		p := broker.Pair{ID: tr.insert(""), Token: newToken()}
		tr.signal(broker.Signal{ID: p.ID, Name: "a"})
		tr.equal("names", names(tr.tryLease(p)[0].Inbox), []string{"a"})
		tr.signal(broker.Signal{ID: p.ID, Name: "b"})
		tr.equal("names when asked again", names(tr.tryLease(p)[0].Inbox), []string{"a", "b"})
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Delay: time.Hour})
		tr.finds(p.ID)
	}},
	{"InboxOfEachLeaseIsItsOwn", func(tr *trial) {
		var pairs []broker.Pair
		want := map[broker.ID][]string{}
		for i := range 10 {
			p := broker.Pair{ID: tr.insert(""), Token: newToken()}
			for n := range i % 3 {
				name := fmt.Sprintf("%d-%d", i, n)
				tr.signal(broker.Signal{ID: p.ID, Name: name})
				want[p.ID] = append(want[p.ID], name)
			}
			pairs = append(pairs, p)
		}
		for _, s := range tr.tryLease(pairs...) {
			tr.equal("names", names(s.Inbox), want[s.ID])
		}
	}},
	{"InboxListsUpToSoManyAndTheRestLater", func(tr *trial) {
		const more = 5
		id := tr.insert("")
		var signals []broker.Signal
		for range broker.InboxItems + more {
			signals = append(signals, broker.Signal{ID: id, Name: "go"})
		}
		tr.signal(signals...)
		s := tr.lease(id)
		first := tr.mail(s.Inbox)
		tr.equal("listed", len(first.Semaphores), broker.InboxItems)
		tr.equal("more", first.More, true)
		v := tr.report(broker.Applied, broker.Report{Pair: pairOf(s), Seq: 1, Act: broker.Nap, Stay: true, Used: semaphoreIDs(first)})
		tr.equal("listed later", len(tr.mail(v.Inbox).Semaphores), more)
		tr.equal("more later", v.Inbox.More, false)
	}},
	{"InboxListsUpToSoManyBytesOfSemaphores", func(tr *trial) {
		id := tr.insert("")
		big := broker.Signal{ID: id, Name: "big", Value: fmt.Appendf(nil, "%q", strings.Repeat("x", broker.InboxBytes*3/4))}
		tr.signal(big, big, big)
		for left := 3; left > 0; left-- {
			s := tr.lease(id)
			in := tr.mail(s.Inbox)
			tr.equal("listed", len(in.Semaphores), 1)
			tr.equal("more", in.More, left > 1)
			tr.applied(broker.Report{Pair: pairOf(s), Seq: 1, Act: broker.Nap, Used: semaphoreIDs(in)})
		}
		tr.isEmpty(id)
	}},
	{"InboxListsASemaphoreOfTheLargestSize", func(tr *trial) {
		id := tr.insert("")
		largest := fmt.Appendf(nil, "%q", strings.Repeat("x", broker.SignalBytes-2))
		tr.signal(broker.Signal{ID: id, Name: "a", Value: largest}, broker.Signal{ID: id, Name: "b"})
		in := tr.mail(tr.lease(id).Inbox)
		tr.equal("names", names(&in), []string{"a", "b"})
		tr.sameJSON("value", in.Semaphores[0].Value, string(largest))
	}},
}

// badSignals cannot be sent.
var badSignals = []struct {
	name   string
	signal broker.Signal
}{
	{"NameThatIsEmpty", broker.Signal{}},
	{"NameThatIsTooLong", broker.Signal{Name: strings.Repeat("x", maxName+1)}},
	{"NameWithANUL", broker.Signal{Name: "a\x00b"}},
	{"NameWithAControlCharacter", broker.Signal{Name: "a\nb"}},
	{"NameThatIsNotUTF8", broker.Signal{Name: "a\xff"}},
	{"ValueThatIsNoJSON", broker.Signal{Name: "a", Value: []byte(`{"a":`)}},
	{"ValueThatIsEmpty", broker.Signal{Name: "a", Value: []byte{}}},
	{"ValueWithAnEscapedNUL", broker.Signal{Name: "a", Value: []byte(`"\u0000"`)}},
	{"ValueThatIsTooDeep", broker.Signal{Name: "a", Value: deep}},
	{"ValueThatIsTooLong", broker.Signal{Name: "a", Value: bytes.Repeat([]byte("1"), broker.SignalBytes+1)}},
}

// signal sends semaphores to strands that must be there.
func (tr *trial) signal(signals ...broker.Signal) {
	tr.t.Helper()
	found, err := tr.store.Signal(tr.ctx, signals)
	if err != nil {
		tr.t.Fatalf("signal: %v", err)
	}
	tr.equal("found", found, slices.Repeat([]bool{true}, len(signals)))
}

// signalCuts checks that a run that was signalled is followed by another at once.
func (tr *trial) signalCuts(r broker.Report) {
	tr.t.Helper()
	r.Pair, r.Seq, r.Delay = tr.insertLeased(""), 1, time.Hour
	tr.signal(broker.Signal{ID: r.ID, Name: "go"})
	tr.applied(r)
	tr.finds(r.ID)
	s := tr.lease(r.ID)
	tr.equal("names", names(s.Inbox), []string{"go"})
	r.Pair, r.Seq = pairOf(s), 1
	tr.applied(r)
	tr.about("due after a run that nobody signalled", tr.row(r.ID).Due, time.Hour)
}

// mail is an inbox that must be there.
func (tr *trial) mail(in *broker.Inbox) broker.Inbox {
	tr.t.Helper()
	if in == nil {
		tr.t.Fatal("inbox: got none, want one")
	}
	return *in
}

// isEmpty checks that nothing is stored for a strand.
func (tr *trial) isEmpty(id broker.ID) {
	tr.t.Helper()
	if got := tr.store.Waiting(id); len(got.Semaphores)+len(got.Ended) > 0 {
		tr.t.Errorf("stored for %s: got %+v, want nothing", id, got)
	}
	if row, _ := tr.store.Row(id); row.Inbox != 0 {
		tr.t.Errorf("count of what waits for %s: got %d, want 0", id, row.Inbox)
	}
}

// names are those of the semaphores of an inbox; nil has none.
func names(in *broker.Inbox) (names []string) {
	if in != nil {
		for _, s := range in.Semaphores {
			names = append(names, s.Name)
		}
	}
	return names
}

// stored are the names of the semaphores that are stored for a strand.
func (tr *trial) stored(id broker.ID) []string {
	in := tr.store.Waiting(id)
	return names(&in)
}

func semaphoreIDs(in broker.Inbox) (ids []int64) {
	for _, s := range in.Semaphores {
		ids = append(ids, s.ID)
	}
	return ids
}
