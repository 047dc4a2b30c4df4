package brokertest

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/respirated/respirated/broker"
)

// listening runs test with a store in memory and what its channel told, in a bubble.
func listening(t *testing.T, test func(tr *trial, s *Store, told *[]broker.Hint)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := NewStore(time.Now)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		var told []broker.Hint
		go func() { ended <- s.Channel().Run(ctx, func(h broker.Hint) { told = append(told, h) }) }()
		synctest.Wait()
		test(newTrial(t, s), s, &told)
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("run: got error %v, want %v", err, context.Canceled)
		}
		before := len(told)
		s.Channel().Hint(hint)
		if len(told) != before {
			t.Error("a channel told something after its context had ended")
		}
	})
}

var (
	hello = broker.Hint{Connected: true}
	hint  = broker.Hint{}
	stop  = broker.Hint{Cancel: true}
)

func TestChannelTellsOfEachConnectAndLosesHintsWhileDown(t *testing.T) {
	listening(t, func(tr *trial, s *Store, told *[]broker.Hint) {
		s.Channel().Hint(hint)
		s.Channel().Down()
		s.Channel().Hint(hint)
		s.Channel().Up()
		tr.equal("told", *told, []broker.Hint{hello, hint, hello})
	})
}

func TestChannelHintsAtWhateverMayBecomeDue(t *testing.T) {
	listening(t, func(tr *trial, s *Store, told *[]broker.Hint) {
		id := tr.insert("")
		tr.equal("told of an insert", *told, []broker.Hint{hello, hint})
		p := pairOf(tr.lease(id))
		tr.equal("told of a lease", *told, []broker.Hint{hello, hint})
		tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Delay: time.Hour})
		tr.equal("told of a nap", *told, []broker.Hint{hello, hint, hint})
		s.Wake(id)
		tr.equal("told of a wake", *told, []broker.Hint{hello, hint, hint, hint})
	})
}

func TestChannelTellsOfACancelThatALeaseHolds(t *testing.T) {
	listening(t, func(tr *trial, s *Store, told *[]broker.Hint) {
		tr.announce(broker.Announcement{Broker: newID(), Busy: true})
		s.Cancel(tr.insert(""))
		tr.equal("told of a cancel of a free strand", *told, []broker.Hint{hello})
		s.Cancel(tr.insertLeased("").ID)
		tr.equal("told of a cancel of a leased strand", *told, []broker.Hint{hello, stop})
	})
}

func TestChannelIsSilentWhileEveryLiveBrokerIsBusy(t *testing.T) {
	listening(t, func(tr *trial, s *Store, told *[]broker.Hint) {
		busy := broker.Announcement{Broker: newID(), Busy: true}
		idle := broker.Announcement{Broker: newID()}
		tr.announce(busy)
		tr.insert("")
		tr.equal("told with one busy broker", *told, []broker.Hint{hello})
		tr.announce(idle)
		tr.insert("")
		tr.equal("told with an idle one too", *told, []broker.Hint{hello, hint})
		time.Sleep(2 * time.Hour) // both fall silent
		tr.announce(busy)
		tr.insert("")
		tr.equal("told after the idle one fell silent", *told, []broker.Hint{hello, hint})
	})
}
