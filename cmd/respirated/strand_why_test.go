package main

import (
	"strings"
	"testing"
	"time"

	"github.com/respirated/respirated/client"
)

func TestWhyAStrandDoesNotRun(t *testing.T) {
	now := time.Now()
	in := func(d time.Duration) *time.Time { at := now.Add(d); return &at }
	here := []*client.BrokerRow{{Alive: true, Kinds: []string{"k"}}, {Alive: false, Kinds: []string{"gone"}}}
	for _, c := range []struct {
		row  client.StrandRow
		want string
	}{
		{client.StrandRow{State: client.Ready, Kind: "k", ScheduledAt: in(-time.Minute)}, "it is due since 2"},
		{client.StrandRow{State: client.Ready, Kind: "gone", ScheduledAt: in(0)}, "no worker serves this kind"},
		{client.StrandRow{State: client.Ready, Kind: "k", ScheduledAt: in(0), LeasedUntil: in(-time.Second), CancelAt: in(-time.Hour)}, "it was cancelled, and its worker has vanished"},
		{client.StrandRow{State: client.Paused, Kind: "k", ScheduledAt: in(0)}, "its queue is paused"},
		{client.StrandRow{State: client.Leased, LeasedUntil: in(90 * time.Second)}, "its lease ends in 1m30s"},
		{client.StrandRow{State: client.Leased, LeasedUntil: in(time.Minute), CancelAt: in(-time.Minute)}, "its worker was asked to end it 1m00s ago"},
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
			if got := whyNot(&client.StrandRow{State: client.Deferred, ScheduledAt: in(time.Hour)}, &p, here, now); !strings.Contains(got, want) {
				t.Errorf("%+v: got %q, want %q", p, got, want)
			}
		}
		if got := whyNot(&c.row, &client.Program{}, here, now); !strings.Contains(got, c.want) {
			t.Errorf("%+v: got %q, want %q", c.row, got, c.want)
		}
	}
	if got := whyNot(&client.StrandRow{State: client.Ready, Kind: "k", ScheduledAt: in(0)}, &client.Program{}, nil, now); !strings.Contains(got, "no broker is there") {
		t.Errorf("nobody there: got %q", got)
	}
}
