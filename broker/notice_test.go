package broker

import "testing"

func TestCreditThatVariesIsNoNewsToOtherBrokers(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	b.step(t0, announced{})
	announcements := 0
	for now := t0 + second; now < t0+9*second; now += second / 10 {
		if fx := b.step(now, wanted{session: 1, n: 1 + int(now/1e8)%50}); fx.announce != nil {
			announcements++
			b.step(now, announced{})
		}
	}
	if announcements > 1 {
		t.Errorf("%d announcements in 8 s, want what others act on to be told, and the rest every 10 s", announcements)
	}
}

func TestBusyThatMayHaveBeenToldIsWatchedUntilSettled(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 1)
	b.step(t0, announced{})
	b.scanner.busy, b.notice.changed = true, true
	if fx := b.step(t0 + second/5); fx.announce == nil || !fx.announce.Busy {
		t.Fatalf("announce %+v, want busy", fx.announce)
	}
	b.step(t0+second/5, announced{err: ErrAway})
	b.scanner.busy = false
	if fx := b.step(t0 + second); fx.announce == nil || fx.announce.Busy {
		t.Fatalf("announce %+v, want not busy", fx.announce)
	}
	b.step(t0+second, announced{})
	if b.scanner.settleEnd == 0 {
		t.Error("nobody watches for transactions that may have seen the announcement of unknown outcome")
	}
}
