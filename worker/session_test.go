package worker

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/respirated/respirated/protocol"
)

const t0 = int64(1e12) // any time

// at is d after t0.
func at(d time.Duration) int64 { return t0 + int64(d) }

func newTestSession(slots int) *session {
	return newSession(settings{
		hello:       protocol.Hello{Kinds: []protocol.Kind{{Name: "k"}, {Name: "other"}}},
		slots:       slots,
		maxHold:     16 * slots,
		orphanAfter: 10 * time.Minute,
		drain:       30 * time.Second,
		rand:        func() float64 { return 1 },
	}, t0)
}

func testWelcome() *protocol.Welcome {
	return &protocol.Welcome{Re: 1, Version: 1, MaxFrame: 1 << 20, MaxN: 1024, MaxBatch: 256, HeartMS: 5000, DeadMS: 15000,
		LeaseMS: 120_000, BootNS: t0}
}

// openSession is a session of a worker with so many slots, welcomed at t0.
func openSession(slots int) *session {
	s := newTestSession(slots)
	s.step(t0, tick{})
	s.step(t0, connected{})
	s.step(t0, received{testWelcome()})
	return s
}

// testStrand is a strand named by one letter, with a lease of two minutes.
func testStrand(name string) protocol.Strand {
	return protocol.Strand{ID: name, Token: "t" + name, Kind: "k", Label: "start", DeadlineNS: at(2 * time.Minute), TTLMS: 120_000}
}

func strandsOf(names ...string) received {
	m := &protocol.Strands{}
	for _, name := range names {
		m.Strands = append(m.Strands, testStrand(name))
	}
	return received{m}
}

func exits(name string) returned {
	return returned{"t" + name, &protocol.Result{Act: protocol.ActExit}}
}

func hops(name string) returned {
	return returned{"t" + name, &protocol.Result{Act: protocol.ActHop, Label: "next"}}
}

// goOf tells that the first results of these strands are stored, and that they go on.
func goOf(names ...string) received {
	ack := ackOf(protocol.AckApplied, names...)
	for i := range ack.msg.(*protocol.Ack).Entries {
		ack.msg.(*protocol.Ack).Entries[i].Next = protocol.NextGo
	}
	return ack
}

func ackOf(state string, names ...string) received {
	m := &protocol.Ack{Re: 1}
	for _, name := range names {
		m.Entries = append(m.Entries, protocol.AckEntry{Strand: name, Token: "t" + name, Seq: 1, State: state})
	}
	return received{m}
}

func cancelOf(why string, names ...string) received {
	m := &protocol.Cancel{}
	for _, name := range names {
		m.Cancels = append(m.Cancels, protocol.Stop{Strand: name, Token: "t" + name, Why: why})
	}
	return received{m}
}

func drainFor(d time.Duration) received {
	return received{&protocol.Drain{ByMS: milliseconds(d), Why: "roll"}}
}

// show writes effects as one line: what a reader would say of them.
func show(fx effects) string {
	var words []string
	say := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	for _, s := range fx.stop {
		say("stop %s: %v", s.token, s.cause)
	}
	for _, strand := range fx.start {
		say("start %s", strand.ID)
	}
	for _, m := range fx.send {
		say("%s", showMessage(m))
	}
	if fx.hangUp {
		say("hang up")
	}
	if fx.dial {
		say("dial")
	}
	if fx.kill {
		say("kill")
	}
	if fx.over {
		say("over: %v", fx.err)
	}
	return strings.Join(words, "; ")
}

func showMessage(m protocol.ToBroker) string {
	switch m := m.(type) {
	case *protocol.Want:
		return fmt.Sprintf("want %d", m.N)
	case *protocol.Hello:
		text := "hello"
		for _, h := range m.Hold {
			text += fmt.Sprintf(" %s=%s", h.Strand, h.State)
		}
		return text
	case *protocol.Results:
		text := "result"
		for _, r := range m.Results {
			text += fmt.Sprintf(" %s=%s", r.Strand, r.Act)
			if r.Chain {
				text += "+"
			}
		}
		return text
	}
	return m.Op()
}

func wantEffects(t *testing.T, fx effects, want string) {
	t.Helper()
	if got := show(fx); got != want {
		t.Errorf("effects:\n got %q\nwant %q", got, want)
	}
}

func TestSessionDialsAtOnceAndSaysHello(t *testing.T) {
	s := newTestSession(2)
	wantEffects(t, s.step(t0, tick{}), "dial")
	wantEffects(t, s.step(t0, connected{}), "hello")
	wantEffects(t, s.step(t0, received{testWelcome()}), "want 2")
}

func TestSessionBacksOffTwiceAsLongAfterEachFailure(t *testing.T) {
	s := newTestSession(1)
	now := t0
	var waits []time.Duration
	for range 9 {
		s.step(now, tick{})
		s.step(now, disconnected{errors.New("refused")})
		waits = append(waits, time.Duration(s.wake()-now))
		now = s.wake()
	}
	const ms = time.Millisecond
	want := []time.Duration{50 * ms, 100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 2000 * ms, 2000 * ms, 2000 * ms}
	if d := cmp.Diff(want, waits); d != "" {
		t.Errorf("waits (-want +got):\n%s", d)
	}
}

func TestSessionBackOffIsFullyJittered(t *testing.T) {
	s := newTestSession(1)
	s.rand = func() float64 { return 0 }
	s.step(t0, tick{})
	wantEffects(t, s.step(t0, disconnected{errors.New("refused")}), "dial")
}

func TestSessionBackOffStartsAnewAfterAGoodSession(t *testing.T) {
	s := openSession(1)
	s.tries = 7
	s.step(at(time.Minute), received{&protocol.Ping{N: 1}})
	s.step(at(time.Minute), disconnected{errors.New("EOF")})
	if got, want := s.dialAt, at(time.Minute+dialFirst); got != want {
		t.Errorf("next attempt after %v, want %v", time.Duration(got-at(time.Minute)), dialFirst)
	}
}

func TestSessionRunsAsManyAsThereAreSlots(t *testing.T) {
	s := openSession(2)
	wantEffects(t, s.step(t0, strandsOf("a", "b", "c")), "start a; start b")
	wantEffects(t, s.step(t0, exits("a")), "start c; result a=exit")
}

func TestSessionPutsResultsOfOneStepIntoOneFrame(t *testing.T) {
	s := openSession(3)
	s.step(t0, strandsOf("a", "b", "c"))
	wantEffects(t, s.step(t0, exits("b"), exits("a"), exits("c")), "result b=exit a=exit c=exit")
}

func TestSessionKeepsToTheBrokersBatchLimit(t *testing.T) {
	s := openSession(3)
	s.limits.batch = 2
	s.step(t0, strandsOf("a", "b", "c"))
	wantEffects(t, s.step(t0, exits("a"), exits("b"), exits("c")), "result a=exit b=exit; result c=exit")
}

func TestSessionThatWasNotThereToHearReadsBeforeItGivesUpTheBroker(t *testing.T) {
	s := openSession(1)
	wantEffects(t, s.step(at(time.Minute), tick{}), "ping")
	s.step(at(time.Minute+lateness-1), received{&protocol.Pong{}})
	wantEffects(t, s.step(at(time.Minute+lateness), tick{}), "")
}

func TestSessionThatIsAlwaysLateGivesUpASilentBroker(t *testing.T) {
	s := openSession(1)
	wantEffects(t, s.step(at(time.Minute), tick{}), "ping")
	wantEffects(t, s.step(at(2*time.Minute), tick{}), "hang up")
}

func TestEachSessionWantsTheBareSlotsFirst(t *testing.T) {
	s := openSession(1)
	s.step(t0, strandsOf("a"))
	s.step(t0, exits("a"))
	wantEffects(t, s.step(at(time.Second), ackOf(protocol.AckApplied, "a")), "want 16")
	s.step(at(time.Second), disconnected{errors.New("gone")})
	s.step(at(time.Minute), tick{})
	s.step(at(time.Minute), connected{})
	wantEffects(t, s.step(at(time.Minute), received{testWelcome()}), "want 1")
}

func TestSessionSendsUnackedResultsAgainAfterAReconnect(t *testing.T) {
	s := openSession(3)
	s.step(t0, strandsOf("a", "b", "c"))
	s.step(t0, exits("a"), exits("b"))
	s.step(t0, ackOf(protocol.AckApplied, "a"))
	s.step(t0, disconnected{errors.New("EOF")})
	s.step(s.wake(), tick{})
	wantEffects(t, s.step(t0, connected{}), "hello b=done c=run")
	wantEffects(t, s.step(t0, received{testWelcome()}), "result b=exit; want 3")
}

func TestSessionCollectsResultsWhileThereIsNoBroker(t *testing.T) {
	s := openSession(2)
	s.step(t0, strandsOf("a", "b", "c"))
	s.step(t0, disconnected{errors.New("EOF")})
	wantEffects(t, s.step(t0, exits("a")), "start c")
	s.step(s.wake(), tick{})
	wantEffects(t, s.step(t0, connected{}), "hello a=done b=run c=run")
	wantEffects(t, s.step(t0, received{testWelcome()}), "result a=exit; want 2")
}

func TestSessionForgetsAResultAtEachFinalAck(t *testing.T) {
	for _, state := range []string{protocol.AckApplied, protocol.AckDup, protocol.AckStale, protocol.AckGone, protocol.AckInvalid} {
		t.Run(state, func(t *testing.T) {
			s := openSession(1)
			s.step(t0, strandsOf("a"))
			s.step(t0, exits("a"))
			s.step(t0, ackOf(state, "a"))
			s.step(t0, ackOf(state, "a")) // a second one harms nothing
			if len(s.held) != 0 || s.flying != 0 {
				t.Errorf("held %d, %d bytes on their way; want nothing", len(s.held), s.flying)
			}
		})
	}
}

// One word settles all results of its frame, and of no other: in each session the numbers of frames begin anew.
func TestSessionForgetsAllResultsOfAFrameAtOneWord(t *testing.T) {
	all := func(frame uint64) received { return received{&protocol.Ack{Re: frame, All: true}} }
	s := openSession(3)
	s.step(t0, strandsOf("a", "b", "c"))
	s.step(t0, exits("a"), exits("b"))
	s.step(t0, exits("c"))
	first, second := s.held["ta"].frame, s.held["tc"].frame
	s.step(t0, all(first))
	if len(s.held) != 1 || s.held["tc"] == nil || s.flying != s.held["tc"].size {
		t.Fatalf("%d held with %d bytes on their way after the first frame was acked, want c", len(s.held), s.flying)
	}
	s.step(t0, disconnected{errors.New("gone")})
	s.step(at(time.Second), connected{})
	s.step(at(time.Second), received{testWelcome()})
	s.step(at(time.Second), all(second))
	if s.held["tc"] == nil {
		t.Fatal("an ack of a frame of the session before has settled the result that was sent again")
	}
	s.step(at(time.Second), all(s.held["tc"].frame))
	if len(s.held) != 0 || len(s.frames) != 0 || s.flying != 0 {
		t.Errorf("%d held, %d frames with %d bytes on their way after the last ack, want none", len(s.held), len(s.frames), s.flying)
	}
}

// What was sent again since in another frame is not meant.
func TestSessionKeepsAResultThatHasLeftTheFrameWhichIsAcked(t *testing.T) {
	s := openSession(2)
	s.step(t0, strandsOf("a", "b"))
	s.step(t0, exits("a"), exits("b"))
	b := s.held["tb"]
	first := b.frame
	s.step(t0, received{&protocol.Ack{Re: first, Entries: []protocol.AckEntry{
		{Strand: b.strand.ID, Token: "tb", Seq: b.result.Seq, State: protocol.AckLater},
	}}})
	s.step(at(time.Second), received{&protocol.Ack{Re: first, All: true}})
	if len(s.held) != 1 || s.held["tb"] == nil || b.frame == first {
		t.Errorf("%d held, want the one that was put off", len(s.held))
	}
}

func TestSessionIgnoresAnAckOfAResultThatIsNotOnItsWay(t *testing.T) {
	s := openSession(1)
	s.step(t0, strandsOf("a"))
	s.step(t0, exits("a"))
	s.step(t0, ackOf(protocol.AckLater, "a"), ackOf(protocol.AckApplied, "a"))
	wantEffects(t, s.step(at(laterLeast), tick{}), "result a=exit")
}

func TestSessionSendsAgainWhatTheBrokerCouldNotStoreYet(t *testing.T) {
	s := openSession(1)
	s.step(t0, strandsOf("a"))
	s.step(t0, exits("a"))
	later := &protocol.Ack{Re: 2, Entries: []protocol.AckEntry{{Strand: "a", Token: "ta", Seq: 1, State: protocol.AckLater, RetryMS: 300}}}
	wantEffects(t, s.step(t0, received{later}), "")
	wantEffects(t, s.step(at(299*time.Millisecond), tick{}), "")
	wantEffects(t, s.step(at(300*time.Millisecond), tick{}), "result a=exit")
}

func TestSessionLimitsTheBytesOnTheirWay(t *testing.T) {
	s := openSession(8)
	s.step(t0, strandsOf("a", "b", "c", "d", "e", "f"))
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		s.step(t0, returned{"t" + name, &protocol.Result{Act: protocol.ActExit, Value: make([]byte, 1<<20-1000)}})
	}
	if s.flying > inFlight {
		t.Errorf("%d bytes on their way, want at most %d", s.flying, inFlight)
	}
	wantEffects(t, s.step(t0, ackOf(protocol.AckApplied, "a", "b")), "result e=exit; result f=exit")
}

func TestSessionLetsNoResultOvertakeALargeOne(t *testing.T) {
	s := openSession(8)
	s.limits.frame = 8 << 20
	s.step(t0, strandsOf("a", "b", "c"))
	s.step(t0, exits("a"))
	fx := s.step(t0, returned{"tb", &protocol.Result{Act: protocol.ActExit, Value: make([]byte, inFlight)}}, exits("c"))
	wantEffects(t, fx, "")
	wantEffects(t, s.step(t0, ackOf(protocol.AckApplied, "a")), "result b=exit")
	wantEffects(t, s.step(t0, ackOf(protocol.AckApplied, "b")), "result c=exit")
}

func TestSessionGivesBackAStrandWhoseLeaseIsAboutToEnd(t *testing.T) {
	s := openSession(1)
	strand := testStrand("a")
	strand.DeadlineNS = at(time.Second)
	wantEffects(t, s.step(t0, received{&protocol.Strands{Strands: []protocol.Strand{strand}}}), "result a=release")
	if s.credit.run.known {
		t.Error("that was taken for a run")
	}
}

func TestSessionReplacesAResultThatIsLargerThanAFrame(t *testing.T) {
	s := openSession(1)
	s.step(t0, strandsOf("a"))
	fx := s.step(t0, returned{"ta", &protocol.Result{Act: protocol.ActExit, Value: make([]byte, 1<<20)}})
	wantEffects(t, fx, "result a=fail")
	message := fx.send[0].(*protocol.Results).Results[0].Failure.Message
	if want := "takes 1048"; !strings.Contains(message, want) {
		t.Errorf("failure says %q, want it to say %q...", message, want)
	}
}

func TestSessionSizesResultsNoSmallerThanTheyAre(t *testing.T) {
	text := func(n int) string { return strings.Repeat("x", n) }
	ms := uint64(1 << 40)
	results := []protocol.Result{
		{Strand: text(36), Token: text(64), Seq: 1, Act: protocol.ActRelease},
		{Strand: text(36), Token: text(64), Seq: 1 << 50, Act: protocol.ActHop, DelayMS: &ms, Label: text(255), NewKind: text(255),
			Stack: make([]byte, 70_000), Inserts: []protocol.Insert{
				{Key: text(36), Kind: text(255), Args: make([]byte, 300), Opts: make([]byte, 70_000), Child: true}, {Key: text(36)}},
			Signals: []protocol.Signal{{Strand: text(36), Name: text(255), Value: make([]byte, 70_000), Quiet: true}, {Name: "x"}},
			Used:    slices.Repeat([]uint64{1 << 50}, 1024), Reaped: slices.Repeat([]string{text(36)}, 1024),
			Due: &protocol.Due{Target: text(255), MS: 1 << 40, MostMS: 1 << 40}, Frame: 63, Chain: true},
		{Strand: text(36), Token: text(64), Seq: 1, Act: protocol.ActFail, DelayMS: &ms, Final: true,
			Failure: &protocol.Failure{Class: text(255), Message: text(4096), Trace: text(65_536)}},
	}
	size := frameOverhead
	for i := range results {
		size += resultSize(&results[i])
	}
	frame, err := protocol.Append(nil, &protocol.Results{ID: protocol.MaxID, Results: results})
	if err != nil {
		t.Fatal(err)
	}
	if len(frame) > size {
		t.Errorf("a frame of %d bytes was sized %d", len(frame), size)
	}
}

func TestSessionSendsAResultThatIsToBlameAloneThenAsAFailureThenNotAtAll(t *testing.T) {
	s := openSession(2)
	s.step(t0, strandsOf("a", "b"))
	fx := s.step(t0, exits("a"), exits("b"))
	refuse := func(fx effects) received {
		return received{&protocol.Err{Re: fx.send[0].(*protocol.Results).ID, Code: protocol.CodeBadField, Message: "no"}}
	}
	s.step(t0, refuse(fx))
	fx = s.step(at(laterLeast), tick{})
	wantEffects(t, fx, "result a=exit; result b=exit")

	s.step(at(laterLeast), refuse(fx), ackOf(protocol.AckApplied, "b"))
	fx = s.step(at(2*laterLeast), tick{})
	wantEffects(t, fx, "result a=fail")

	s.step(at(2*laterLeast), refuse(fx))
	wantEffects(t, s.step(at(time.Second), tick{}), "")
	if len(s.held) != 0 {
		t.Errorf("held %d, want it dropped", len(s.held))
	}
}

func TestSessionKeepsAResultThroughFaultsOfTheBroker(t *testing.T) {
	for _, code := range []protocol.Code{protocol.CodeInternal, protocol.CodeDBAway, protocol.CodeUnknownOp} {
		for _, fatal := range []bool{false, true} {
			t.Run(fmt.Sprint(code, fatal), func(t *testing.T) {
				s := openSession(1)
				s.step(t0, strandsOf("a"))
				fx := s.step(t0, exits("a"))
				now := t0
				for range 20 {
					wantEffects(t, fx, "result a=exit")
					s.step(now, received{&protocol.Err{Re: fx.send[0].(*protocol.Results).ID, Code: code, Message: "no", Fatal: fatal}})
					fx, now = untilResult(s)
				}
				if now < at(time.Second) || now > at(2*time.Minute) {
					t.Errorf("20 faults took %v, want a back-off that has an end", time.Duration(now-t0))
				}
			})
		}
	}
}

// untilResult lets time pass, and a broker answer each call, until a result is sent. It returns when that was.
func untilResult(s *session) (effects, int64) {
	for {
		now := s.wake()
		fx := s.step(now, tick{})
		if fx.dial {
			s.step(now, connected{})
			fx = s.step(now, received{testWelcome()})
		}
		fx.send = slices.DeleteFunc(fx.send, func(m protocol.ToBroker) bool { return m.Op() != "result" })
		if len(fx.send) > 0 {
			return fx, now
		}
		s.step(now, received{&protocol.Pong{}})
	}
}

func TestSessionSendsAResultAloneAfterAFaultOfTheBroker(t *testing.T) {
	s := openSession(2)
	s.step(t0, strandsOf("a", "b"))
	fx := s.step(t0, exits("a"), exits("b"))
	s.step(t0, received{&protocol.Err{Re: fx.send[0].(*protocol.Results).ID, Code: protocol.CodeInternal}})
	fx, _ = untilResult(s)
	wantEffects(t, fx, "result a=exit; result b=exit")
}

func TestSessionTreatsAFrameThatCannotBeEncodedAsRefused(t *testing.T) {
	s := openSession(1)
	s.step(t0, strandsOf("a"))
	fx := s.step(t0, exits("a"))
	s.step(t0, unsendable{fx.send[0].(*protocol.Results).ID, errors.New("not UTF-8")})
	wantEffects(t, s.step(at(laterLeast), tick{}), "result a=exit")
}

func TestSessionGivesBackWhatWaitsForASlotTooLongAndAsksForLess(t *testing.T) {
	s := openSession(1)
	s.credit.run.add(time.Millisecond)
	s.credit.lag.add(2 * time.Millisecond)
	wantEffects(t, s.step(t0, strandsOf("a", "b")), "start a; want 5")
	wantEffects(t, s.step(at(patience), tick{}), "result b=release; want 1")
}

func TestSessionAsksForLessWhileALostHandlerKeepsItsSlot(t *testing.T) {
	s := openSession(2)
	s.step(t0, strandsOf("a", "b"))
	wantEffects(t, s.step(t0, cancelOf(protocol.StopLost, "a")), "stop ta: the lease of the strand is lost; want 1")
	wantEffects(t, s.step(t0, exits("a")), "want 2")
}

func TestSessionPassesCancelsOn(t *testing.T) {
	for _, c := range []struct{ why, want string }{
		{protocol.StopCancelled, "stop ta: the strand was cancelled"},
		{protocol.StopTimeout, "stop ta: the run's time limit has passed"},
		{"some new reason", "stop ta: the strand was cancelled"},
	} {
		t.Run(c.why, func(t *testing.T) {
			s := openSession(1)
			s.step(t0, strandsOf("a"))
			wantEffects(t, s.step(t0, cancelOf(c.why, "a")), c.want)
			wantEffects(t, s.step(t0, exits("a")), "result a=exit")
		})
	}
}

func TestSessionDropsTheResultOfALostStrand(t *testing.T) {
	s := openSession(1)
	s.step(t0, strandsOf("a", "b", "c"))
	s.step(t0, exits("a"))
	fx := s.step(t0, cancelOf(protocol.StopLost, "a", "b", "c", "unknown"))
	wantEffects(t, fx, "stop tb: the lease of the strand is lost; want 0")
	wantEffects(t, s.step(t0, exits("b")), "want 1")
	if len(s.held) != 0 || s.flying != 0 {
		t.Errorf("held %d, %d bytes on their way; want nothing", len(s.held), s.flying)
	}
}

func TestSessionStopsAStrandThatHasNotStarted(t *testing.T) {
	for why, want := range map[string]string{
		protocol.StopCancelled: "result b=cancel",
		"some new reason":      "result b=cancel",
		protocol.StopTimeout:   "result b=release",
	} {
		t.Run(why, func(t *testing.T) {
			s := openSession(1)
			s.step(t0, strandsOf("a", "b"))
			wantEffects(t, s.step(t0, cancelOf(why, "b")), want)
			wantEffects(t, s.step(t0, exits("a")), "result a=exit") // and b does not start
		})
	}
}

func TestSessionStopsAHandlerBeforeItsLeaseEndsAndSendsWhatBecameOfIt(t *testing.T) {
	s := openSession(1)
	s.step(t0, strandsOf("a"))
	s.step(at(100*time.Second), received{&protocol.Ping{}})
	wantEffects(t, s.step(at(110*time.Second), received{&protocol.Pong{}}), "stop ta: the lease of the strand is lost; ping")
	wantEffects(t, s.step(at(111*time.Second), exits("a")), "result a=exit")
}

func TestSessionRunsOnWhenItsLeaseIsMoved(t *testing.T) {
	s := openSession(1)
	s.step(t0, strandsOf("a"))
	s.step(at(100*time.Second), received{&protocol.Lease{Leases: []protocol.Deadline{{Strand: "a", Token: "ta", DeadlineNS: at(220 * time.Second)}}}})
	wantEffects(t, s.step(at(115*time.Second-1), received{&protocol.Pong{}}), "ping")
	wantEffects(t, s.step(at(119*time.Second), exits("a")), "result a=exit")
}

func TestSessionEndsItsProcessBeforeTheLeaseOfAHandlerThatIgnoresIt(t *testing.T) {
	s := openSession(1)
	s.step(t0, strandsOf("a"))
	s.step(at(time.Minute), disconnected{errors.New("EOF")})
	wantEffects(t, s.step(at(110*time.Second), tick{}), "stop ta: the lease of the strand is lost; dial")
	wantEffects(t, s.step(at(118*time.Second), tick{}), "")
	if wake := s.wake(); wake != at(119*time.Second) {
		t.Errorf("wakes at %v, want a second before the lease ends at 2m", time.Duration(wake-t0))
	}
	wantEffects(t, s.step(at(119*time.Second), tick{}), "kill")
}

func TestSessionThatSleptThroughALeaseAsksBeforeItEndsTheProcess(t *testing.T) {
	s := openSession(2)
	s.step(t0, strandsOf("a", "b"))
	const woke = 10 * time.Minute
	wantEffects(t, s.step(at(woke), tick{}),
		"stop ta: the lease of the strand is lost; stop tb: the lease of the strand is lost; ping")
	wantEffects(t, s.step(at(woke), exits("a")), "result a=exit") // and kept for the next broker
	for s.link != linkDialing {
		s.step(s.wake(), tick{})
	}
	wantEffects(t, s.step(at(woke+4*time.Second), connected{}), "hello a=done b=run")
	wantEffects(t, s.step(at(woke+5*time.Second), tick{}), "kill")
}

func TestSessionThatSleptThroughALeaseLeavesItsHandlersToABrokerThatIsBack(t *testing.T) {
	s := openSession(2)
	s.step(t0, strandsOf("a", "b"))
	const woke = 10 * time.Minute
	s.step(at(woke), tick{}, exits("a"))
	for s.link != linkDialing {
		s.step(s.wake(), tick{})
	}
	s.step(at(woke+time.Second), connected{})
	welcome := testWelcome()
	welcome.BootNS = at(woke + time.Second)
	wantEffects(t, s.step(at(woke+time.Second), received{welcome}), "result a=exit; want 2")
	s.step(at(woke+time.Second), cancelOf(protocol.StopLost, "b"))
	wantEffects(t, s.step(at(woke+10*time.Second), received{&protocol.Pong{}}), "ping")
	if fx := s.step(at(woke+11*time.Second), disconnected{errors.New("EOF")}); !fx.kill {
		t.Errorf("effects %q, want kill as soon as the broker is gone", show(fx))
	}
}

func TestSessionLeavesTheEndOfAHandlerToABrokerThatAnswers(t *testing.T) {
	s := openSession(1)
	s.step(t0, strandsOf("a"))
	for d := time.Duration(0); d < 3*time.Minute; d += 5 * time.Second {
		if fx := s.step(at(d), received{&protocol.Pong{}}); fx.kill {
			t.Fatalf("killed at %v", d)
		}
	}
	if fx := s.step(at(3*time.Minute), disconnected{errors.New("EOF")}); !fx.kill {
		t.Errorf("effects %q, want kill as soon as the broker is gone", show(fx))
	}
}

func TestSessionGoesByRemainingTimeWhenTheClocksDiffer(t *testing.T) {
	for _, boot := range []int64{t0 - 1, t0 + int64(time.Second), 0} {
		s := newTestSession(1)
		s.step(t0, tick{})
		s.step(t0, connected{})
		w := testWelcome()
		w.BootNS = boot
		s.step(t0, received{w})
		strand := testStrand("a")
		strand.DeadlineNS, strand.TTLMS = 5, 120_000
		s.step(t0, received{&protocol.Strands{Strands: []protocol.Strand{strand}}})
		if got, want := s.held["ta"].deadline, at(2*time.Minute); got != want {
			t.Errorf("broker's clock %d: deadline %d, want %d", boot, got, want)
		}
	}
}

func TestSessionSaysSomethingEachHeartbeat(t *testing.T) {
	s := openSession(1)
	wantEffects(t, s.step(at(4999*time.Millisecond), received{&protocol.Pong{}}), "")
	wantEffects(t, s.step(at(5*time.Second), tick{}), "ping")
	wantEffects(t, s.step(at(7*time.Second), received{&protocol.Ping{N: 3}}), "pong")
	wantEffects(t, s.step(at(10*time.Second), tick{}), "")
	wantEffects(t, s.step(at(12*time.Second), tick{}), "ping")
}

func TestSessionGivesUpASilentBroker(t *testing.T) {
	s := openSession(1)
	s.step(at(5*time.Second), tick{})
	s.step(at(10*time.Second), tick{})
	wantEffects(t, s.step(at(15*time.Second), tick{}), "hang up")
	if s.link != linkDown {
		t.Errorf("link %d, want down", s.link)
	}
}

func TestSessionGivesUpABrokerThatDoesNotWelcomeIt(t *testing.T) {
	s := newTestSession(1)
	s.step(t0, tick{})
	s.step(t0, connected{})
	if wake := s.wake(); wake != at(15*time.Second) {
		t.Errorf("wakes after %v, want 15s", time.Duration(wake-t0))
	}
	wantEffects(t, s.step(s.wake(), tick{}), "hang up")
}

func TestSessionHangsUpOnASecondWelcome(t *testing.T) {
	s := openSession(1)
	wantEffects(t, s.step(t0, received{testWelcome()}), "hang up")
}

func TestSessionDoesNotNameALostStrandToTheNextBroker(t *testing.T) {
	s := openSession(2)
	s.step(t0, strandsOf("a", "b"))
	s.step(t0, cancelOf(protocol.StopLost, "a"), disconnected{errors.New("EOF")})
	s.step(s.wake(), tick{})
	wantEffects(t, s.step(t0, connected{}), "hello b=run")
}

func TestSessionBacksOffAsTheFaultDemands(t *testing.T) {
	for _, c := range []struct {
		fault protocol.Err
		want  time.Duration
	}{
		{protocol.Err{Code: protocol.CodeDenied}, time.Minute},
		{protocol.Err{Code: protocol.CodeVersion}, time.Minute},
		{protocol.Err{Code: protocol.CodeSuperseded}, time.Minute},
		{protocol.Err{Code: protocol.CodeBadFrame}, time.Second},
		{protocol.Err{Code: protocol.CodeState}, time.Second},
		{protocol.Err{Code: protocol.CodeRange}, time.Second},
		{protocol.Err{Code: protocol.CodeFull, RetryMS: 7000}, 7 * time.Second},
		{protocol.Err{Code: protocol.CodeRate}, time.Second},
		{protocol.Err{Code: protocol.CodeSlow}, 50 * time.Millisecond},
		{protocol.Err{Code: protocol.CodeDead}, 50 * time.Millisecond},
	} {
		t.Run(string(c.fault.Code), func(t *testing.T) {
			s := openSession(1)
			s.tries = 0
			c.fault.Fatal = true
			wantEffects(t, s.step(t0, received{&c.fault}), "hang up")
			if got := time.Duration(s.dialAt - t0); got != c.want {
				t.Errorf("next attempt after %v, want %v", got, c.want)
			}
		})
	}
}

func TestSessionLeavesADenyingBrokerAloneThoughTheStreamEndsInTheSameStep(t *testing.T) {
	s := openSession(1)
	denied := &protocol.Err{Code: protocol.CodeDenied, Fatal: true}
	wantEffects(t, s.step(t0, received{denied}, disconnected{errors.New("EOF")}), "hang up")
	if got := time.Duration(s.dialAt - t0); got != time.Minute || s.tries != 1 {
		t.Errorf("attempt %d after %v, want attempt 1 after 1m", s.tries, got)
	}
}

func TestSessionRefusesAnotherProtocolVersion(t *testing.T) {
	s := newTestSession(1)
	s.step(t0, tick{})
	s.step(t0, connected{})
	w := testWelcome()
	w.Version = 2
	wantEffects(t, s.step(t0, received{w}), "hang up")
	if got := time.Duration(s.dialAt - t0); got != time.Minute {
		t.Errorf("next attempt after %v, want 1m", got)
	}
}

func TestSessionTakesNoStrandsBeforeWelcome(t *testing.T) {
	s := newTestSession(1)
	s.step(t0, tick{})
	s.step(t0, connected{})
	wantEffects(t, s.step(t0, strandsOf("a")), "hang up")
	wantEffects(t, s.step(t0, strandsOf("a")), "")
}

func TestSessionDrainsWhenAsked(t *testing.T) {
	for name, ask := range map[string]event{"by the broker": drainFor(30 * time.Second), "by its process": stopping{}} {
		t.Run(name, func(t *testing.T) {
			s := openSession(1)
			s.step(t0, strandsOf("a", "b"))
			wantEffects(t, s.step(t0, ask), "result b=release; want 0")
			wantEffects(t, s.step(t0, strandsOf("c")), "result c=release")
			wantEffects(t, s.step(t0, ackOf(protocol.AckApplied, "b", "c")), "")
			wantEffects(t, s.step(t0, exits("a")), "result a=exit")
			wantEffects(t, s.step(t0, ackOf(protocol.AckApplied, "a")), "bye; over: <nil>")
		})
	}
}

func TestSessionAsksHandlersToStopInTheLastPartOfADrain(t *testing.T) {
	s := openSession(1)
	s.step(t0, strandsOf("a"))
	s.step(t0, drainFor(10*time.Second))
	wantEffects(t, s.step(at(8*time.Second), received{&protocol.Pong{}}), "stop ta: the worker is stopping; ping")
	wantEffects(t, s.step(at(9*time.Second), tick{}), "")
	wantEffects(t, s.step(at(10*time.Second), tick{}), "over: strands left unfinished: 1 held at the end of the drain, 1 of them running")
}

func TestSessionDrainsNoLongerThanTheShorterDemand(t *testing.T) {
	s := openSession(1)
	s.step(t0, strandsOf("a"))
	s.step(t0, drainFor(10*time.Second))
	s.step(at(time.Second), stopping{})
	if s.drainBy != at(10*time.Second) {
		t.Errorf("drain ends after %v, want 10s", time.Duration(s.drainBy-t0))
	}
	s.step(at(time.Second), drainFor(2*time.Second))
	if s.drainBy != at(3*time.Second) {
		t.Errorf("drain ends after %v, want 3s", time.Duration(s.drainBy-t0))
	}
}

func TestSessionThatHoldsNothingStopsAtOnceWithoutABroker(t *testing.T) {
	s := newTestSession(1)
	s.step(t0, tick{})
	s.step(t0, disconnected{errors.New("refused")})
	wantEffects(t, s.step(t0, stopping{}), "over: <nil>")
}

func TestSessionDrainsOverAReconnect(t *testing.T) {
	s := openSession(1)
	s.step(t0, strandsOf("a"))
	s.step(t0, stopping{}, disconnected{errors.New("EOF")})
	s.step(t0, exits("a"))
	s.step(s.wake(), tick{})
	wantEffects(t, s.step(t0, connected{}), "hello a=done")
	wantEffects(t, s.step(t0, received{testWelcome()}), "result a=exit; want 0")
	wantEffects(t, s.step(t0, ackOf(protocol.AckApplied, "a")), "bye; over: <nil>")
}

func TestSessionWithoutABrokerEnds(t *testing.T) {
	s := newTestSession(1)
	now := t0
	var fx effects
	for ; !fx.over && now < at(time.Hour); now = s.wake() {
		fx = s.step(now, tick{})
		if fx.dial {
			fx = s.step(now, disconnected{errors.New("refused")})
		}
	}
	if !errors.Is(fx.err, ErrNoBroker) || now-t0 > int64(11*time.Minute) {
		t.Errorf("ended after %v with %v, want ErrNoBroker after 10m", time.Duration(now-t0), fx.err)
	}
}

func TestSessionLeavesABrokerThatSaysBye(t *testing.T) {
	s := openSession(1)
	wantEffects(t, s.step(t0, received{&protocol.Bye{Why: "stop"}}), "hang up")
}

func TestSessionIgnoresAStrandItHoldsAlready(t *testing.T) {
	s := openSession(2)
	s.step(t0, strandsOf("a"))
	wantEffects(t, s.step(t0, strandsOf("a")), "")
}

// Whatever happens, a session loses no result, runs nothing twice under one token, and never runs more than its slots.
func TestSessionKeepsItsPromisesInARandomWalk(t *testing.T) {
	for seed := range uint64(300) {
		w := newWalk(seed)
		for range 400 {
			w.move()
			if w.fault != "" {
				t.Fatalf("seed %d, after %d moves: %s\n%s", seed, len(w.story), w.fault, strings.Join(w.story, "\n"))
			}
		}
	}
}

func TestSessionSendsHoldsInOrderOfArrival(t *testing.T) {
	s := openSession(20)
	var names []string
	for i := range 20 {
		names = append(names, fmt.Sprint("s", i))
	}
	s.step(t0, strandsOf(names...))
	s.step(t0, disconnected{errors.New("EOF")})
	s.step(s.wake(), tick{})
	hello := s.step(t0, connected{}).send[0].(*protocol.Hello)
	var got []string
	for _, h := range hello.Hold {
		got = append(got, h.Strand)
	}
	if !slices.Equal(got, names) {
		t.Errorf("hold %v, want %v", got, names)
	}
}

// While short runs go on, results wait a moment for others to share their frame; nothing waits once no strand does.
func TestResultsOfShortRunsWaitAMomentForCompany(t *testing.T) {
	s := openSession(1)
	s.step(t0, strandsOf("a", "b", "c"))
	wantEffects(t, s.step(t0, exits("a")), "start b")
	if got := s.wake(); got != at(companyWait) {
		t.Errorf("wakes %v later, want after %v", time.Duration(got-t0), companyWait)
	}
	if got := show(s.step(at(companyWait), tick{})); !strings.Contains(got, "result a=exit") {
		t.Errorf("effects %q, want the result sent when its wait is over", got)
	}
	if got := show(s.step(at(companyWait), exits("b"))); !strings.Contains(got, "result b=exit") {
		t.Errorf("effects %q, want the result sent at once, as no strand waits for a slot", got)
	}
}
