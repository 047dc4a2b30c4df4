package worker

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/respirated/respirated/protocol"
)

func TestSessionAsksToGoOnWhereItCan(t *testing.T) {
	ms := func(n uint64) *uint64 { return &n }
	for _, c := range []struct {
		name   string
		result protocol.Result
		want   string
	}{
		{"a hop", protocol.Result{Act: protocol.ActHop, Label: "next"}, "result a=hop+"},
		{"a hop of no delay", protocol.Result{Act: protocol.ActHop, Label: "next", DelayMS: ms(0)}, "result a=hop+"},
		{"a hop to the kind it has", protocol.Result{Act: protocol.ActHop, Label: "next", NewKind: "k"}, "result a=hop+"},
		{"a hop to another kind that is served", protocol.Result{Act: protocol.ActHop, Label: "next", NewKind: "other"}, "result a=hop+"},
		{"a nap of nothing", protocol.Result{Act: protocol.ActNap, DelayMS: ms(0)}, "result a=nap+"},
		{"a hop to a kind of another worker", protocol.Result{Act: protocol.ActHop, Label: "next", NewKind: "elsewhere"}, "result a=hop"},
		{"a hop later", protocol.Result{Act: protocol.ActHop, Label: "next", DelayMS: ms(1)}, "result a=hop"},
		{"a nap", protocol.Result{Act: protocol.ActNap, DelayMS: ms(1)}, "result a=nap"},
		{"an exit", protocol.Result{Act: protocol.ActExit}, "result a=exit"},
		{"a failure", protocol.Result{Act: protocol.ActFail, DelayMS: ms(0)}, "result a=fail"},
		{"a release", protocol.Result{Act: protocol.ActRelease}, "result a=release"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openSession(1)
			s.step(t0, strandsOf("a"))
			wantEffects(t, s.step(t0, returned{"ta", &c.result}), c.want)
		})
	}
}

func TestSessionDoesNotAskToGoOnWhenItsTimeIsOver(t *testing.T) {
	t.Run("of the worker", func(t *testing.T) {
		s := openSession(1)
		s.step(t0, strandsOf("a"))
		s.step(t0, stopping{})
		wantEffects(t, s.step(t0, hops("a")), "result a=hop")
	})
	t.Run("of the lease", func(t *testing.T) {
		s := openSession(1)
		s.step(t0, strandsOf("a"))
		s.step(at(100*time.Second), received{&protocol.Ping{}})
		s.step(at(110*time.Second), received{&protocol.Pong{}})
		wantEffects(t, s.step(at(111*time.Second), hops("a")), "result a=hop")
	})
}

func TestSessionRunsTheNextLabelUnderTheLeaseItHas(t *testing.T) {
	s := openSession(1)
	strand := testStrand("a")
	strand.Args, strand.Stack, strand.Try, strand.RunMS, strand.Inbox = []byte("{}"), []byte("[1]"), 7, 9000, &protocol.Inbox{Left: 2}
	first := s.step(t0, received{&protocol.Strands{Strands: []protocol.Strand{strand}}}).start[0].Strand
	before := *first
	s.step(t0, returned{"ta", &protocol.Result{Act: protocol.ActHop, Label: "next", NewKind: "other", Stack: []byte("[2]")}})
	ack := goOf("a")
	inbox := &protocol.Inbox{Semaphores: []protocol.Semaphore{{ID: 5, Name: "x"}}}
	ack.msg.(*protocol.Ack).Entries[0].Inbox = inbox
	fx := s.step(at(time.Second), ack)
	if len(fx.start) != 1 || fx.start[0].seq != 2 {
		t.Fatalf("effects %q, want a start whose result is the second", show(fx))
	}
	want := strand
	want.Label, want.Kind, want.Stack, want.Try, want.RunMS, want.Inbox = "next", "other", []byte("[2]"), 1, 0, inbox
	if d := cmp.Diff(want, *fx.start[0].Strand); d != "" {
		t.Errorf("strand that goes on (-want +got):\n%s", d)
	}
	if d := cmp.Diff(before, *first); d != "" {
		t.Errorf("the first label's strand, which a handler may have kept, was changed (-before +after):\n%s", d)
	}
	fx = s.step(at(time.Second), returned{"ta", &protocol.Result{Act: protocol.ActNap}})
	if r := fx.send[0].(*protocol.Results).Results[0]; r.Seq != 2 || r.Token != "ta" || !r.Chain {
		t.Errorf("second result %+v, want number 2 of the same token", r)
	}
}

func TestSessionKeepsTheArgsAndTheLabelOfANapThatGoesOn(t *testing.T) {
	s := openSession(1)
	strand := testStrand("a")
	strand.Stack, strand.RunMS, strand.Inbox = []byte("[1]"), 9000, &protocol.Inbox{Left: 2}
	s.step(t0, received{&protocol.Strands{Strands: []protocol.Strand{strand}}})
	s.step(t0, returned{"ta", &protocol.Result{Act: protocol.ActNap}})
	want := strand
	want.Try, want.Inbox = 1, nil
	if d := cmp.Diff(want, *s.step(t0, goOf("a")).start[0].Strand); d != "" {
		t.Errorf("strand that goes on (-want +got):\n%s", d)
	}
}

func TestSlotsAreFreeWhileResultsAreOnTheirWayAndThoseThatGoOnComeFirst(t *testing.T) {
	s := openSession(2)
	s.step(t0, strandsOf("a", "b", "c", "d", "e"))
	s.credit.run.add(time.Second) // so that no result waits for company
	wantEffects(t, s.step(t0, hops("a"), hops("b")), "start c; start d; result a=hop+ b=hop+")
	wantEffects(t, s.step(t0, goOf("b", "a")), "") // they wait for a slot, as e does
	wantEffects(t, s.step(t0, exits("c"), exits("d")), "start b; start a; result c=exit d=exit")
	wantEffects(t, s.step(t0, exits("a")), "start e; result a=exit")
}

func TestOnlyAResultThatIsAppliedGoesOn(t *testing.T) {
	for _, state := range []string{protocol.AckDup, protocol.AckStale, protocol.AckGone, protocol.AckInvalid} {
		t.Run(state, func(t *testing.T) {
			s := openSession(1)
			s.step(t0, strandsOf("a"))
			s.step(t0, hops("a"))
			ack := goOf("a")
			ack.msg.(*protocol.Ack).Entries[0].State = state
			if fx := s.step(t0, ack); len(fx.start) != 0 || len(s.held) != 0 || s.flying != 0 {
				t.Errorf("effects %q, %d held, want it forgotten", show(fx), len(s.held))
			}
		})
	}
	t.Run("without a go", func(t *testing.T) {
		s := openSession(1)
		s.step(t0, strandsOf("a"))
		s.step(t0, hops("a"))
		if fx := s.step(t0, ackOf(protocol.AckApplied, "a")); len(fx.start) != 0 || len(s.held) != 0 {
			t.Errorf("effects %q, %d held, want it forgotten", show(fx), len(s.held))
		}
	})
	t.Run("one word for a frame", func(t *testing.T) {
		s := openSession(1)
		s.step(t0, strandsOf("a"))
		s.step(t0, hops("a"))
		s.step(t0, received{&protocol.Ack{Re: s.held["ta"].frame, All: true}})
		if len(s.held) != 0 {
			t.Errorf("%d held, want it forgotten", len(s.held))
		}
	})
	t.Run("a second time", func(t *testing.T) {
		s := openSession(1)
		s.step(t0, strandsOf("a"))
		s.step(t0, hops("a"))
		s.step(t0, goOf("a"))
		wantEffects(t, s.step(t0, goOf("a")), "")
		s.step(t0, hops("a"))
		wantEffects(t, s.step(t0, goOf("a")), "") // that was an earlier number
	})
}

func TestAGoThatComesWhileTheWorkerDrainsIsGivenBack(t *testing.T) {
	s := openSession(1)
	s.step(t0, strandsOf("a"))
	s.step(t0, hops("a"))
	s.step(t0, stopping{})
	fx := s.step(t0, goOf("a"))
	wantEffects(t, fx, "result a=release")
	if r := fx.send[0].(*protocol.Results).Results[0]; r.Seq != 2 {
		t.Errorf("result number %d, want 2", r.Seq)
	}
	ack := &protocol.Ack{Re: 1, Entries: []protocol.AckEntry{{Strand: "a", Token: "ta", Seq: 2, State: protocol.AckApplied}}}
	wantEffects(t, s.step(t0, received{ack}), "bye; over: <nil>")
}

func TestWhatGoesOnAndFindsNoSlotIsGivenBack(t *testing.T) {
	s := openSession(1)
	s.step(t0, strandsOf("a", "b"))
	s.credit.run.add(time.Second)
	s.step(t0, hops("a"))
	s.step(t0, goOf("a"))
	fx := s.step(at(patience), tick{})
	if got := show(fx); got != "result a=release" && got != "result a=release; want 1" {
		t.Errorf("effects %q, want it given back", got)
	}
}

// What is held after a reconnect: what goes on runs, and a result that was not acked comes again, as it was.
func TestChainsOverAReconnect(t *testing.T) {
	s := openSession(2)
	s.step(t0, strandsOf("a", "b"))
	s.step(t0, hops("a"))
	s.step(t0, hops("b"))
	s.step(t0, goOf("a"))
	s.step(t0, disconnected{errors.New("EOF")})
	s.step(s.wake(), tick{})
	wantEffects(t, s.step(t0, connected{}), "hello a=run b=done")
	wantEffects(t, s.step(t0, received{testWelcome()}), "result b=hop+; want 2")
	wantEffects(t, s.step(t0, goOf("b")), "start b")
	fx := s.step(t0, hops("a"))
	if r := fx.send[0].(*protocol.Results).Results[0]; r.Seq != 2 {
		t.Errorf("result number %d, want 2: numbers rise over connections", r.Seq)
	}
}

func TestALostStrandDoesNotGoOn(t *testing.T) {
	s := openSession(1)
	s.step(t0, strandsOf("a"))
	s.step(t0, hops("a"))
	s.step(t0, cancelOf(protocol.StopLost, "a"))
	wantEffects(t, s.step(t0, goOf("a")), "")
	if len(s.held) != 0 {
		t.Errorf("%d held, want none", len(s.held))
	}
}

func TestAStrandThatGoesOnIsCancelledInTheQueue(t *testing.T) {
	s := openSession(1)
	s.step(t0, strandsOf("a", "b"))
	s.credit.run.add(time.Second)
	s.step(t0, hops("a"))
	s.step(t0, goOf("a"))
	wantEffects(t, s.step(t0, cancelOf(protocol.StopCancelled, "a")), "result a=cancel")
}
