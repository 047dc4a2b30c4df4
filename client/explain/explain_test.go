package explain

import (
	"strings"
	"testing"
	"time"

	"github.com/respirated/respirated/client"
)

func TestWhyAStrandDoesNotRun(t *testing.T) {
	now := time.Now()
	in := func(d time.Duration) *time.Time { at := now.Add(d); return &at }
	here := []*client.BrokerRow{{ID: "1", Host: "h", PID: 7, Alive: true, Kinds: []string{"k"}}, {Alive: false, Kinds: []string{"gone"}}}
	for _, c := range []struct {
		row  client.StrandRow
		want string
	}{
		{client.StrandRow{State: client.Ready, Kind: "k", ScheduledAt: in(-time.Minute)}, "it is due since 2"},
		{client.StrandRow{State: client.Ready, Kind: "gone", ScheduledAt: in(0)}, "no worker serves this kind, gone: none of h (pid 7, 0 workers); it is due since 2"},
		{client.StrandRow{State: client.Ready, Kind: "k", ScheduledAt: in(0), LeasedUntil: in(-time.Second), CancelAt: in(-time.Hour)}, "it was cancelled, and its worker has vanished"},
		{client.StrandRow{State: client.Paused, Kind: "k", ScheduledAt: in(0)}, "its queue is paused"},
		{client.StrandRow{State: client.Leased, Kind: "k", LeasedUntil: in(90 * time.Second)}, "a worker on h (pid 7) runs it; if nothing is heard of that, its lease ends in 1m30s"},
		{client.StrandRow{State: client.Leased, Kind: "gone", LeasedUntil: in(90 * time.Second)}, "who had it is gone, or just ending; if nothing"},
		{client.StrandRow{State: client.Leased, Kind: "k", LeasedUntil: in(time.Minute), CancelAt: in(-time.Minute)}, "a worker on h (pid 7) runs it, and was asked to end it 1m00s ago; if nothing"},
		{client.StrandRow{State: client.Deferred, ScheduledAt: in(time.Hour)}, "it is due 2"},
		{client.StrandRow{State: client.Deferred, ScheduledAt: in(time.Hour), Try: 2}, "it has failed 2 times, and is retried in 1h00m"},
		{client.StrandRow{State: client.Deferred, ScheduledAt: in(time.Hour), ChildrenLeft: 3}, "it naps, and 3 children are left"},
		{client.StrandRow{State: client.Deferred, ScheduledAt: in(2 * forEver), ChildrenLeft: 3}, "it waits for 3 children"},
		{client.StrandRow{State: client.Deferred, ScheduledAt: in(2 * forEver)}, "it hibernates until a signal"},
		{client.StrandRow{State: client.Done, FinishedAt: in(-time.Minute)}, "it has ended 1m00s ago"},
		{client.StrandRow{State: client.Dead, FinishedAt: in(-time.Minute), Attempts: []client.Attempt{{Outcome: "failed", Class: "E", Message: "no luck"}}},
			"it has ended 1m00s ago, after it had failed: E: no luck"},
	} {
		for want, p := range map[string]client.Program{
			"until its deadline for the label sent at the latest, 2": {Deadlines: []client.Deadline{{Target: "x", At: now}, {Target: "sent", At: now.Add(time.Hour)}}},
			"it waits for the signal paid until 2":                   {Semaphores: []client.Semaphore{{Name: "x"}, {Name: awaitMark + "paid"}}},
		} {
			if got := (Strand{StrandRow: &client.StrandRow{State: client.Deferred, ScheduledAt: in(time.Hour)}, Program: &p, Brokers: here, Now: now}).Why(); !strings.Contains(got, want) {
				t.Errorf("%+v: got %q, want %q", p, got, want)
			}
		}
		if got := (Strand{StrandRow: &c.row, Program: &client.Program{}, Brokers: here, Now: now}).Why(); !strings.Contains(got, c.want) {
			t.Errorf("%+v: got %q, want %q", c.row, got, c.want)
		}
	}
	if got := (Strand{StrandRow: &client.StrandRow{State: client.Ready, Kind: "k", ScheduledAt: in(0)}, Program: &client.Program{}, Now: now}).Why(); !strings.Contains(got, "no broker is there") {
		t.Errorf("nobody there: got %q", got)
	}
}

func TestALabelThatNobodyHasIsNamedAndWhoIsKnownNotToHaveIt(t *testing.T) {
	now := time.Now()
	a := &client.BrokerRow{ID: "1", Host: "a", PID: 7, Alive: true, Kinds: []string{"k"}}
	b := &client.BrokerRow{ID: "2", Host: "b", PID: 8, Alive: true, Kinds: []string{"k"}}
	other := &client.BrokerRow{ID: "3", Host: "c", PID: 9, Alive: true, Kinds: []string{"other"}}
	const due = "it is due since 2"
	for _, example := range []struct {
		brokers []*client.BrokerRow
		here    *client.BrokerRow
		servers *Servers
		want    string
	}{
		{[]*client.BrokerRow{a, other}, a, &Servers{Kind: 3}, "none of the 3 workers on a that serve its kind k has its label l, and no other host serves the kind; it goes on as soon as a worker may"},
		{[]*client.BrokerRow{a, b}, a, &Servers{Kind: 3}, "none of the 3 workers on a that serve its kind k has its label l; ask there whether one on b (pid 8) may have it"},
		{[]*client.BrokerRow{b, other}, other, &Servers{}, "no worker on c has the label l of the kind k; ask there whether one on b (pid 8) may have it"},
		{[]*client.BrokerRow{a}, a, &Servers{Kind: 3, OtherQueues: 1}, "none of the 2 workers on a that serve its kind k has its label l"},
		{[]*client.BrokerRow{a}, a, &Servers{Kind: 3, OtherQueues: 3}, "the pools of the 3 workers on a that serve its kind k are for other queues than acme/mail, and no other"},
		{[]*client.BrokerRow{a}, a, &Servers{Kind: 3, OtherQueues: 1, Paused: 2}, "the pool of the 2 workers on a that could have it is paused (respirated pool resume)"},
		{[]*client.BrokerRow{a}, a, &Servers{Kind: 3, Label: 1, Paused: 2}, due},
		{[]*client.BrokerRow{a}, a, nil, due}, // a daemon that is older
		{[]*client.BrokerRow{a}, nil, nil, due},
	} {
		row := &client.StrandRow{State: client.Ready, Kind: "k", Label: "l", Queue: "mail", Tenant: "acme", ScheduledAt: &now}
		l := Strand{StrandRow: row, Program: &client.Program{}, Brokers: example.brokers, Here: example.here, Holder: Holder{Servers: example.servers}, Now: now}
		if got := l.Why(); !strings.Contains(got, example.want) || strings.HasPrefix(got, "parked since 2") == (example.want == due) {
			t.Errorf("%+v: got %q, want %q", example.servers, got, example.want)
		}
	}
}

func TestWhoHoldsALeasedStrand(t *testing.T) {
	a := &client.BrokerRow{ID: "1", Host: "a", PID: 7, Alive: true, Kinds: []string{"k"}}
	b := &client.BrokerRow{ID: "2", Host: "b", PID: 8, Alive: true, Kinds: []string{"k"}}
	c := &client.BrokerRow{ID: "3", Host: "c", PID: 9, Alive: true, Kinds: []string{"k"}}
	for _, example := range []struct {
		brokers []*client.BrokerRow
		here    *client.BrokerRow
		holder  Holder
		want    string
	}{
		{[]*client.BrokerRow{a, b}, a, Holder{Held: true, Worker: "pid 4711", For: 61 * time.Second}, "the worker pid 4711 on a has had it for 1m01s"},
		{[]*client.BrokerRow{a, b}, a, Holder{Held: true}, "the daemon of this host, a, is writing down how it went on"},
		{[]*client.BrokerRow{a, b}, a, Holder{}, "a worker on b (pid 8) runs it"},
		{[]*client.BrokerRow{a, b, c}, a, Holder{}, "a worker runs it, on one of b (pid 8), c (pid 9)"},
		{[]*client.BrokerRow{a, b}, nil, Holder{}, "a worker runs it, on one of a (pid 7), b (pid 8)"},
		{[]*client.BrokerRow{a}, a, Holder{}, "who had it is gone, or just ending"},
	} {
		l := Strand{StrandRow: &client.StrandRow{State: client.Leased, Kind: "k"}, Brokers: example.brokers, Here: example.here, Holder: example.holder}
		if got := l.held(); got != example.want {
			t.Errorf("%+v: got %q, want %q", example.holder, got, example.want)
		}
	}
}
