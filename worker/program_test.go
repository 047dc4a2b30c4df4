package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/respirated/respirated/protocol"
)

const (
	someID  = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
	otherID = "6ba7b811-9dad-41d1-80b4-00c04fd430c8"
)

// atStart runs f as the label "start" of kind "sum", without a broker.
func atStart(t *testing.T, f Label[sums], change ...func(*protocol.Strand)) protocol.Result {
	t.Helper()
	return workIn(t, progOf(f), change...)
}

// workIn runs a strand of kind "sum" in a worker with that mux, without a broker.
func workIn(t *testing.T, mux *Mux, change ...func(*protocol.Strand)) (result protocol.Result) {
	t.Helper()
	h := &handler{programs: mux.programs, log: slog.New(slog.DiscardHandler)}
	strand := &protocol.Strand{ID: someID, Kind: "sum", Label: StartLabel, Args: []byte(`{"a":1,"b":2}`), Try: 1}
	for _, f := range change {
		f(strand)
	}
	h.work(t.Context(), start{strand, 1}, func(r *protocol.Result) { result = *r })
	return result
}

func wantResult(t *testing.T, want, got protocol.Result) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("result (-want +got):\n%s", d)
	}
}

func withStack(stack string) func(*protocol.Strand) {
	return func(s *protocol.Strand) { s.Stack = []byte(stack) }
}

func withInbox(in protocol.Inbox) func(*protocol.Strand) {
	return func(s *protocol.Strand) { s.Inbox = &in }
}

// waits is an inbox of semaphores of these names, numbered from 1.
func waits(names ...string) func(*protocol.Strand) {
	var in protocol.Inbox
	for i, name := range names {
		in.Semaphores = append(in.Semaphores, protocol.Semaphore{ID: uint64(i + 1), Name: name, Value: fmt.Appendf(nil, "%d", i+1), SentMS: int64(i)})
	}
	return withInbox(in)
}

// tree is a kind that others push.
type tree struct {
	Height int `json:"height"`
}

func (tree) Kind() string { return "tree" }

func TestPushPutsAFrameOnTheStackWithTheWayBack(t *testing.T) {
	for _, c := range []struct {
		name    string
		outcome Outcome
		stack   string
		want    protocol.Result
	}{
		{"the first", Push(tree{3}), "", protocol.Result{Act: protocol.ActHop, Label: "start", NewKind: "tree", Frame: 1,
			Stack: []byte(`[{"height":3},{"kind":"sum","label":"start","args":{"a":1,"b":2}}]`)}},
		{"to a label, back to another, with new args", Push(tree{3}).At("grow").Then("other").With(sums{A: 9}), "",
			protocol.Result{Act: protocol.ActHop, Label: "grow", NewKind: "tree", Frame: 1,
				Stack: []byte(`[{"height":3},{"kind":"sum","label":"other","args":{"a":9,"b":0}}]`)}},
		{"of its own kind", Push(sums{A: 5}).At("other"), "", protocol.Result{Act: protocol.ActHop, Label: "other", Frame: 1,
			Stack: []byte(`[{"a":5,"b":0},{"kind":"sum","label":"start","args":{"a":1,"b":2}}]`)}},
		{"onto others, later", Push(tree{}).After(time.Second), `[{"a":7},{"kind":"top","label":"x","args":1}]`,
			protocol.Result{Act: protocol.ActHop, Label: "start", NewKind: "tree", Frame: 2, DelayMS: delay(time.Second),
				Stack: []byte(`[{"height":0},{"kind":"sum","label":"start","args":{"a":7}},{"kind":"top","label":"x","args":1}]`)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantResult(t, c.want, atStart(t, func(context.Context, *Strand[sums]) (Outcome, error) { return c.outcome, nil }, withStack(c.stack)))
		})
	}
}

func TestPopReturnsToTheCallerWithAValue(t *testing.T) {
	for _, c := range []struct {
		name, stack string
		value       any
		want        protocol.Result
	}{
		{"to another kind", `[{"a":7},{"kind":"top","label":"x","args":{"n":1}},{"kind":"low","label":"y","args":2}]`, "hi",
			protocol.Result{Act: protocol.ActHop, Label: "x", NewKind: "top", Frame: 1,
				Stack: []byte(`[{"n":1},{"ret":"hi"},{"kind":"low","label":"y","args":2}]`)}},
		{"to its own kind, with nothing", `[{"a":7},{"ret":5},{"kind":"sum","label":"other","args":{}}]`, nil,
			protocol.Result{Act: protocol.ActHop, Label: "other", Stack: []byte(`[{},{"ret":null}]`)}},
		{"from the last frame, which is an exit", `[{"a":7}]`, 5, protocol.Result{Act: protocol.ActExit, Value: []byte("5")}},
		{"from the only frame", "", nil, protocol.Result{Act: protocol.ActExit}},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantResult(t, c.want, atStart(t, func(context.Context, *Strand[sums]) (Outcome, error) { return Pop(c.value), nil }, withStack(c.stack)))
		})
	}
}

func TestAWorkerThatIsDoneReturnsToWhoeverPushedIt(t *testing.T) {
	r := workIn(t, muxOf(func(context.Context, *Strand[sums]) error { return nil }), withStack(`[{},{"kind":"top","label":"x","args":{}}]`))
	wantResult(t, protocol.Result{Act: protocol.ActHop, Label: "x", NewKind: "top", Stack: []byte(`[{},{"ret":null}]`)}, r)
}

func TestReturnedIsThereForOneRun(t *testing.T) {
	for name, end := range map[string]struct {
		outcome Outcome
		err     error
		stack   string // that is stored; "" = it stays
	}{
		"a hop":    {Hop("other"), nil, `[{"a":1},{"kind":"top","label":"x","args":1}]`},
		"a nap":    {Nap(time.Second), nil, `[{"a":1},{"kind":"top","label":"x","args":1}]`},
		"a snooze": {Outcome{}, Snooze(time.Second), `[{"a":1},{"kind":"top","label":"x","args":1}]`},
		"an error": {Outcome{}, errors.New("no"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			var got *int
			r := atStart(t, func(_ context.Context, s *Strand[sums]) (_ Outcome, err error) {
				if got, err = Returned[int](s); err != nil {
					t.Error(err)
				}
				return end.outcome, end.err
			}, withStack(`[{"a":1},{"ret":42},{"kind":"top","label":"x","args":1}]`))
			if got == nil || *got != 42 {
				t.Errorf("returned %v, want 42", got)
			}
			if string(r.Stack) != end.stack {
				t.Errorf("stack %s, want %q", r.Stack, end.stack)
			}
			if want := uint64(len(end.stack) / max(len(end.stack), 1)); r.Frame != want {
				t.Errorf("frame %d, want %d", r.Frame, want)
			}
		})
	}
}

func TestReturnedIsNothingWithoutAReturnAndSaysWhatDoesNotFit(t *testing.T) {
	atStart(t, func(_ context.Context, s *Strand[sums]) (Outcome, error) {
		if v, err := Returned[int](s); v != nil || err != nil {
			t.Errorf("returned %v, %v; want nothing", v, err)
		}
		return Exit(nil), nil
	}, withStack(`[{"a":1},{"kind":"top","label":"x","args":1}]`))
	atStart(t, func(_ context.Context, s *Strand[sums]) (Outcome, error) {
		_, err := Returned[int](s)
		wantError(t, err, "what the frame above returned: decode a value into int")
		return Exit(nil), nil
	}, withStack(`[{"a":1},{"ret":"text"}]`))
}

// A kind that pushes itself, by another, without an end.
func TestACycleOfPushesEndsAtTheLimitAndNamesItsKinds(t *testing.T) {
	stack := `[{"a":1}` + strings.Repeat(`,{"kind":"tree","label":"start","args":{}},{"kind":"sum","label":"start","args":{}}`, 31)
	push := func(context.Context, *Strand[sums]) (Outcome, error) { return Push(tree{}), nil }
	if r := atStart(t, push, withStack(stack+"]")); r.Act != protocol.ActHop || r.Frame != 63 {
		t.Errorf("the 64th frame: %s with frame %d, %v", r.Act, r.Frame, r.Failure)
	}
	r := atStart(t, push, withStack(stack+`,{"kind":"root","label":"start","args":{}}]`))
	wantFailure(t, r, "", `push "tree": the stack has 64 frames already, the most there may be, of the kinds "sum", "tree", "root"`)
}

func TestImpossiblePushesAndPops(t *testing.T) {
	for _, c := range []struct {
		name    string
		outcome Outcome
		stack   string
		want    string
	}{
		{"push of nothing", Push(nil), "", "push: args is nil"},
		{"push of a bad kind", Push(named{}), "", "push: the name of a kind is empty"},
		{"push to a label that is not there", Push(sums{}).At("ohter"), "", `push: kind "sum" has no label "ohter"`},
		{"push with a way back that is not there", Push(tree{}).Then("ohter"), "", `push: the label to go on at: kind "sum" has no label "ohter"`},
		{"push to", Push(tree{}).To("x"), "", "Push takes no To"},
		{"push of what is not JSON", Push(unwritable{}), "", "push: encode args worker.unwritable"},
		{"hop with a way back", Hop("other").Then("other"), "", "At and Then go with Push only"},
		{"pop after", Pop(1).After(1), "", "Pop takes no After, With or To"},
		{"pop to a frame that is none", Pop(1), `[{},7]`, "decode the frame to return to"},
		{"pop to a frame without a label", Pop(1), `[{},{"kind":"top"}]`, "the frame to return to: the name of a label is empty"},
		{"pop of what is not JSON", Pop(make(chan int)), `[{},{"kind":"top","label":"x"}]`, "encode the exit value"},
	} {
		t.Run(c.name, func(t *testing.T) {
			nameOfNamed = ""
			r := atStart(t, func(context.Context, *Strand[sums]) (Outcome, error) { return c.outcome, nil }, withStack(c.stack))
			wantFailure(t, r, "", c.want)
		})
	}
}

func TestEveryOutcomeOfAPushedFrameTellsItsDepth(t *testing.T) {
	for name, o := range map[string]Outcome{"nap": Nap(time.Second), "hop": Hop("other"), "hibernate": Hibernate()} {
		r := atStart(t, func(context.Context, *Strand[sums]) (Outcome, error) { return o, nil },
			withStack(`[{},{"kind":"a","label":"x"},{"kind":"b","label":"x"}]`))
		if r.Frame != 2 || r.Stack != nil {
			t.Errorf("%s: frame %d with stack %s, want frame 2 and no stack", name, r.Frame, r.Stack)
		}
	}
}

func TestHibernateNapsForALifetime(t *testing.T) {
	r := atStart(t, func(context.Context, *Strand[sums]) (Outcome, error) { return Hibernate(), nil })
	if r.Act != protocol.ActNap || *r.DelayMS != uint64(protocol.MaxDuration/time.Millisecond) {
		t.Errorf("result %s in %d ms", r.Act, *r.DelayMS)
	}
}

func TestSemaphoresAreSeenInOrderAndTakenOnce(t *testing.T) {
	r := atStart(t, func(_ context.Context, s *Strand[sums]) (Outcome, error) {
		if !s.Has("x") || s.Has("z") || len(s.Semaphores("x")) != 2 {
			t.Errorf("x: %v, z: %v", s.Semaphores("x"), s.Semaphores("z"))
		}
		first, ok := s.Take("x")
		if v, err := Decode[int](first.Value); !ok || v != 1 || err != nil || first.Name != "x" || !first.SentAt.Equal(time.UnixMilli(0)) {
			t.Errorf("took %+v, %v", first, ok)
		}
		if n := s.Decr("y"); n != 2 {
			t.Errorf("took %d of y, want 2", n)
		}
		if n := s.Decr("y"); n != 0 || s.Has("y") {
			t.Errorf("took %d of y once more", n)
		}
		if left := s.Semaphores("x"); len(left) != 1 || string(left[0].Value) != "3" {
			t.Errorf("left of x: %v, want the second", left)
		}
		if _, ok := s.Take("z"); ok {
			t.Error("took what is not there")
		}
		return Nap(0), nil
	}, waits("x", "y", "x", "y"))
	wantResult(t, protocol.Result{Act: protocol.ActNap, DelayMS: delay(0), Used: []uint64{1, 2, 4}}, r)
}

func TestIncrIsSeenAtOnceAndStoredUnlessItIsTaken(t *testing.T) {
	r := atStart(t, func(ctx context.Context, s *Strand[sums]) (Outcome, error) {
		for i, name := range []string{"a", "b", "b"} {
			if err := s.Incr(name, i); err != nil {
				t.Error(err)
			}
		}
		if err := Signal(ctx, strings.ToUpper(someID), "mine", nil); err != nil {
			t.Error(err)
		}
		if !s.Has("a") || len(s.Semaphores("b")) != 2 || !s.Has("mine") {
			t.Error("not seen")
		}
		if b, ok := s.Take("b"); !ok || string(b.Value) != "1" {
			t.Errorf("took %+v", b)
		}
		return Nap(time.Second), nil
	})
	wantResult(t, protocol.Result{Act: protocol.ActNap, DelayMS: delay(time.Second), Signals: []protocol.Signal{
		{Name: "a", Value: []byte("0")}, {Name: "b", Value: []byte("2")}, {Name: "mine"}}}, r)
}

func TestSignalTravelsInTheResult(t *testing.T) {
	r := atStart(t, func(ctx context.Context, _ *Strand[sums]) (Outcome, error) {
		return Exit(nil), errors.Join(
			Signal(ctx, strings.ToUpper(otherID), "loud", map[string]int{"n": 1}),
			SignalMany(ctx, []SignalParams{{ID: otherID, Name: "soft", Quiet: true}, {ID: someID, Name: "own"}}))
	})
	wantResult(t, protocol.Result{Act: protocol.ActExit, Signals: []protocol.Signal{
		{Strand: otherID, Name: "loud", Value: []byte(`{"n":1}`)}, {Strand: otherID, Name: "soft", Quiet: true}, {Name: "own"}}}, r)
}

func TestSignalRefusesWhatTheBrokerWouldRefuse(t *testing.T) {
	atStart(t, func(ctx context.Context, s *Strand[sums]) (Outcome, error) {
		wantError(t, Signal(ctx, "7", "x", nil), `signal "x": the id of the strand`)
		wantError(t, Signal(ctx, otherID, "", nil), "the name of a signal is empty")
		wantError(t, Signal(ctx, otherID, "x", make(chan int)), `encode the value of "x"`)
		wantError(t, s.Incr("a\n", nil), "has a control character")
		return Exit(nil), nil
	})
	wantError(t, Signal(t.Context(), otherID, "x", nil), "not that of a running handler")
}

func TestSignalsStopAtWhatFitsIntoOneResult(t *testing.T) {
	atStart(t, func(ctx context.Context, _ *Strand[sums]) (Outcome, error) {
		for range protocol.MaxItems {
			if err := Signal(ctx, otherID, "x", nil); err != nil {
				t.Fatal(err)
			}
		}
		wantError(t, Signal(ctx, otherID, "x", nil), "this run has sent 1024 signals already")
		return Exit(nil), nil
	})
	r := atStart(t, func(_ context.Context, s *Strand[sums]) (Outcome, error) {
		for range protocol.MaxItems + 1 {
			if err := s.Incr("x", nil); err != nil {
				t.Fatal(err)
			}
		}
		return Nap(0), nil
	})
	wantFailure(t, r, "", "this run sends 1025 signals, at most 1024 fit into one result")
}

func TestARunThatFailsKeepsNothing(t *testing.T) {
	in := protocol.Inbox{Semaphores: []protocol.Semaphore{{ID: 1, Name: "x"}}, Ended: []protocol.Ended{{Strand: otherID, State: ChildDone}}}
	for name, end := range map[string]func() (Outcome, error){
		"error":   func() (Outcome, error) { return Exit(nil), errors.New("no") },
		"cancel":  func() (Outcome, error) { return Exit(nil), Cancel(nil) },
		"panic":   func() (Outcome, error) { panic("no") },
		"nothing": func() (Outcome, error) { return Outcome{}, nil },
	} {
		t.Run(name, func(t *testing.T) {
			r := atStart(t, func(ctx context.Context, s *Strand[sums]) (Outcome, error) {
				s.Decr("x")
				s.Reap(ReapOpts{})
				_, err := Bud(ctx, tree{}, nil)
				if err := errors.Join(err, s.Incr("y", nil), Signal(ctx, otherID, "z", nil), s.RegisterDeadline("other", time.Hour)); err != nil {
					t.Error(err)
				}
				return end()
			}, withInbox(in))
			if len(r.Inserts)+len(r.Signals)+len(r.Used)+len(r.Reaped) > 0 || r.Due != nil {
				t.Errorf("result %+v, want nothing beside its act", r)
			}
		})
	}
}

func TestAwaitWaitsForASignalUntilItsTimeIsOver(t *testing.T) {
	const limit = time.Hour
	mark := func(ago time.Duration) protocol.Semaphore {
		return protocol.Semaphore{ID: 7, Name: waitMark + "paid", SentMS: time.Now().Add(-ago).UnixMilli()}
	}
	var paid *Semaphore
	var left time.Duration
	label := func(_ context.Context, s *Strand[sums]) (Outcome, error) {
		paid, left = s.Await("paid", limit)
		if left > 0 {
			return Nap(left), nil
		}
		return Hop("other"), nil
	}
	t.Run("first", func(t *testing.T) {
		r := atStart(t, label)
		if paid != nil || left != limit || len(r.Signals) != 1 || r.Signals[0].Name != waitMark+"paid" {
			t.Errorf("%v, %v left, result %+v", paid, left, r)
		}
	})
	t.Run("woken for something else", func(t *testing.T) {
		r := atStart(t, label, withInbox(protocol.Inbox{Semaphores: []protocol.Semaphore{mark(20 * time.Minute), {ID: 8, Name: "other"}}}))
		if paid != nil || left > 40*time.Minute || left < 39*time.Minute || len(r.Signals)+len(r.Used) > 0 {
			t.Errorf("%v, %v left, result %+v", paid, left, r)
		}
	})
	t.Run("it came", func(t *testing.T) {
		r := atStart(t, label, withInbox(protocol.Inbox{Semaphores: []protocol.Semaphore{mark(20 * time.Minute), {ID: 8, Name: "paid", Value: []byte("5")}}}))
		if paid == nil || string(paid.Value) != "5" || left != 0 || !slices.Equal(r.Used, []uint64{8, 7}) {
			t.Errorf("%v, %v left, result %+v", paid, left, r)
		}
	})
	t.Run("it did not come", func(t *testing.T) {
		r := atStart(t, label, withInbox(protocol.Inbox{Semaphores: []protocol.Semaphore{mark(limit)}}))
		if paid != nil || left != 0 || !slices.Equal(r.Used, []uint64{7}) {
			t.Errorf("%v, %v left, result %+v", paid, left, r)
		}
	})
	t.Run("the label is left", func(t *testing.T) {
		r := atStart(t, func(_ context.Context, s *Strand[sums]) (Outcome, error) {
			if _, left := s.Await("new", limit); left == 0 {
				t.Error("over at once")
			}
			return Hop("other"), nil
		}, withInbox(protocol.Inbox{Semaphores: []protocol.Semaphore{mark(time.Minute)}}))
		if !slices.Equal(r.Used, []uint64{7}) || len(r.Signals) > 0 {
			t.Errorf("result %+v, want both waits to be over", r)
		}
	})
	t.Run("of no time", func(t *testing.T) {
		r := atStart(t, func(_ context.Context, s *Strand[sums]) (Outcome, error) {
			if got, left := s.Await("new", 0); got != nil || left != 0 {
				t.Errorf("%v, %v left", got, left)
			}
			return Nap(0), nil
		})
		if len(r.Signals) > 0 {
			t.Errorf("result %+v, want no trace of it", r)
		}
	})
	t.Run("of a bad name", func(t *testing.T) {
		r := atStart(t, func(_ context.Context, s *Strand[sums]) (Outcome, error) {
			_, left := s.Await(strings.Repeat("x", 255), limit)
			return Nap(left), nil
		})
		wantFailure(t, r, "", "await \"xxx")
	})
}

func TestBudIsAnInsertOfAChild(t *testing.T) {
	var id, watched string
	r := atStart(t, func(ctx context.Context, s *Strand[sums]) (_ Outcome, err error) {
		if id, err = Bud(ctx, tree{4}, &InsertOpts{Queue: "q"}); err != nil {
			t.Error(err)
		}
		if watched, err = BudWatched(ctx, tree{5}, nil); err != nil {
			t.Error(err)
		}
		if c := s.Children(); c.Left != 4 {
			t.Errorf("%d left, want 4 with the new ones", c.Left)
		}
		return Hibernate(), nil
	}, withInbox(protocol.Inbox{Left: 2}))
	want := []protocol.Insert{{Key: id, Kind: "tree", Args: []byte(`{"height":4}`), Opts: []byte(`{"queue":"q"}`), Child: true},
		{Key: watched, Kind: "tree", Args: []byte(`{"height":5}`), Child: true, Watch: true}}
	if d := cmp.Diff(want, r.Inserts); d != "" {
		t.Errorf("inserts (-want +got):\n%s", d)
	}
	_, err := Bud(t.Context(), tree{}, nil)
	wantError(t, err, "bud: the context is not that of a running handler")
}

// What did not fit into the inbox has woken the strand before. Nobody would wake it again.
func TestNoSleepBeforeAllThatWaitsHasBeenSeen(t *testing.T) {
	for _, c := range []struct {
		name string
		more bool
		take string
		o    Outcome
		want protocol.Result
	}{
		{"all seen", false, "x", Hibernate(), protocol.Result{Act: protocol.ActNap, DelayMS: delay(protocol.MaxDuration), Used: []uint64{1}}},
		{"some taken", true, "x", Hibernate(), protocol.Result{Act: protocol.ActNap, DelayMS: delay(0), Used: []uint64{1}}},
		{"some taken, before a hop", true, "x", Hop("other").After(time.Hour), protocol.Result{Act: protocol.ActHop, Label: "other", DelayMS: delay(0), Used: []uint64{1}}},
		{"nothing taken, so that nothing more would be seen", true, "y", Nap(time.Hour), protocol.Result{Act: protocol.ActNap, DelayMS: delay(time.Hour)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := atStart(t, func(_ context.Context, s *Strand[sums]) (Outcome, error) {
				s.Take(c.take)
				return c.o, nil
			}, withInbox(protocol.Inbox{Semaphores: []protocol.Semaphore{{ID: 1, Name: "x"}}, More: c.more}))
			wantResult(t, c.want, r)
		})
	}
}

func TestReapTakesNoteAndSaysHowToGoOn(t *testing.T) {
	ended := []protocol.Ended{{Strand: "c1", Kind: "tree", State: ChildDone, Value: []byte("1")}, {Strand: "c2", Kind: "tree", State: ChildDead}}
	both := []string{"c1", "c2"}
	for _, c := range []struct {
		name string
		in   protocol.Inbox
		opts ReapOpts
		want protocol.Result // exit = the label went on
	}{
		{"no children", protocol.Inbox{}, ReapOpts{}, protocol.Result{Act: protocol.ActExit}},
		{"all ended", protocol.Inbox{Ended: ended}, ReapOpts{}, protocol.Result{Act: protocol.ActExit, Reaped: both}},
		{"all ended, to hop", protocol.Inbox{Ended: ended}, ReapOpts{Hop: "other", Nap: time.Second, FallThrough: true},
			protocol.Result{Act: protocol.ActHop, Label: "other", Reaped: both}},
		{"some left", protocol.Inbox{Ended: ended, Left: 1}, ReapOpts{Hop: "other"},
			protocol.Result{Act: protocol.ActNap, DelayMS: delay(protocol.MaxDuration), Reaped: both}},
		{"some left, to look again", protocol.Inbox{Left: 1}, ReapOpts{Nap: time.Minute},
			protocol.Result{Act: protocol.ActNap, DelayMS: delay(time.Minute)}},
		{"some left, to fall through", protocol.Inbox{Ended: ended, Left: 1}, ReapOpts{Hop: "other", Nap: time.Minute, FallThrough: true},
			protocol.Result{Act: protocol.ActExit, Reaped: both}},
		{"more than fit", protocol.Inbox{Ended: ended, More: true}, ReapOpts{Hop: "other"},
			protocol.Result{Act: protocol.ActNap, DelayMS: delay(0), Reaped: both}},
		{"more than fit, to fall through", protocol.Inbox{Ended: ended, More: true}, ReapOpts{Hop: "other", FallThrough: true},
			protocol.Result{Act: protocol.ActExit, Reaped: both}},
		{"more semaphores than fit", protocol.Inbox{More: true}, ReapOpts{Hop: "other"}, protocol.Result{Act: protocol.ActHop, Label: "other"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var noted []string
			c.opts.Each = func(child Child) { noted = append(noted, child.ID+child.State+string(child.Value)) }
			r := atStart(t, func(_ context.Context, s *Strand[sums]) (Outcome, error) {
				o, wait := s.Reap(c.opts)
				if !wait {
					o = Exit(nil)
				}
				if left := s.Children(); len(left.Ended) > 0 {
					t.Errorf("after it, children %+v", left)
				}
				return o, nil
			}, withInbox(c.in))
			wantResult(t, c.want, r)
			if len(c.in.Ended) > 0 && !slices.Equal(noted, []string{"c1done1", "c2dead"}) {
				t.Errorf("noted %v", noted)
			}
		})
	}
}

func TestReapWaitsForWhatThisRunHasBudded(t *testing.T) {
	r := atStart(t, func(ctx context.Context, s *Strand[sums]) (Outcome, error) {
		if _, err := Bud(ctx, tree{}, nil); err != nil {
			t.Error(err)
		}
		o, wait := s.Reap(ReapOpts{Hop: "other"})
		if !wait {
			t.Error("it does not wait")
		}
		return o, nil
	})
	if r.Act != protocol.ActNap {
		t.Errorf("result %+v, want a nap", r)
	}
}

func TestDeadlinesTravelWithWhatGoesOn(t *testing.T) {
	due := &protocol.Due{Target: "other", MS: 60_000, MostMS: 3_600_000}
	callers := withStack(`[{},{"kind":"top","label":"x","args":{}}]`)
	for _, c := range []struct {
		name    string
		outcome Outcome
		want    *protocol.Due
		fault   string
	}{
		{"nap", Nap(0), due, ""},
		{"hop", Hop("other"), due, ""},
		{"pop", Pop(nil), nil, ""},
		{"exit", Exit(nil), nil, ""},
		{"push", Push(tree{}), nil, "a run that pushes cannot register a deadline"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := atStart(t, func(_ context.Context, s *Strand[sums]) (Outcome, error) {
				wantError(t, s.RegisterDeadline("ohter", time.Minute), `register a deadline: kind "sum" has no label "ohter"`)
				return c.outcome, errors.Join(s.RegisterDeadline("start", time.Second), s.ExtendDeadline("other", time.Minute, time.Hour))
			}, callers)
			if c.fault != "" {
				wantFailure(t, r, "", c.fault)
			}
			if d := cmp.Diff(c.want, r.Due); d != "" {
				t.Errorf("deadline (-want +got):\n%s", d)
			}
		})
	}
}

func TestBeforeRunComesBeforeEachLabelAndMayLeadElsewhere(t *testing.T) {
	for _, c := range []struct {
		name    string
		outcome Outcome
		err     error
		want    string // act
	}{
		{"it has nothing to say", Outcome{}, nil, protocol.ActExit},
		{"it leads elsewhere", Nap(time.Second), nil, protocol.ActNap},
		{"it fails", Outcome{}, errors.New("no"), protocol.ActFail},
	} {
		t.Run(c.name, func(t *testing.T) {
			mux := NewMux()
			ran := false
			AddProg(mux, Prog[sums]{
				Labels:    map[string]Label[sums]{"start": func(context.Context, *Strand[sums]) (Outcome, error) { ran = true; return Exit(nil), nil }},
				BeforeRun: func(context.Context, *Strand[sums]) (Outcome, error) { return c.outcome, c.err },
			})
			if r := workIn(t, mux); r.Act != c.want || ran != (c.want == protocol.ActExit) {
				t.Errorf("result %+v, the label ran: %v", r, ran)
			}
		})
	}
}

func TestTheSignalDestroyEndsAStrandEarly(t *testing.T) {
	const early, left = `{"msg":"exiting early due to destroy semaphore"}`, `{"msg":"operation is cancelled due to explicitly requested destruction"}`
	obeyed := protocol.Result{Act: protocol.ActHop, Label: "destroy", Used: []uint64{1}, Signals: []protocol.Signal{{Name: "destroying"}}}
	ran := protocol.Result{Act: protocol.ActExit, Value: []byte(`"ran"`)}
	withUsed := func(r protocol.Result, used ...uint64) protocol.Result { r.Used = used; return r }
	for _, c := range []struct {
		name    string
		without bool // there is no label destroy
		ignore  bool
		label   string
		sems    []string
		stack   string
		want    protocol.Result
		hooked  int
	}{
		{name: "leads to its label", sems: []string{"destroy"}, want: obeyed, hooked: 1},
		{name: "several are one", sems: []string{"destroy", "destroy"}, want: withUsed(obeyed, 1, 2), hooked: 1},
		{name: "leads to an exit", without: true, sems: []string{"destroy"}, hooked: 1,
			want: protocol.Result{Act: protocol.ActExit, Value: []byte(early), Used: []uint64{1}}},
		{name: "is not there", sems: []string{"x"}, want: ran},
		{name: "comes again", label: "destroy", sems: []string{"destroying", "destroy"}, want: withUsed(ran, 2)},
		{name: "is ignored", ignore: true, sems: []string{"destroy"}, want: ran},
		{name: "takes frames off first", sems: []string{"destroy"}, stack: `[{},{"kind":"top","label":"x","args":{}}]`,
			want: protocol.Result{Act: protocol.ActHop, Label: "x", NewKind: "top", Stack: []byte(`[{},{"ret":` + left + `}]`)}},
		{name: "leaves frames that its label has pushed", sems: []string{"destroying", "destroy"}, stack: `[{},{"kind":"top","label":"x","args":{}}]`,
			want: withUsed(ran, 2)},
	} {
		t.Run(c.name, func(t *testing.T) {
			hooked := 0
			label := func(context.Context, *Strand[sums]) (Outcome, error) { return Exit("ran"), nil }
			prog := Prog[sums]{Labels: map[string]Label[sums]{"start": label}, IgnoreDestroy: c.ignore,
				BeforeDestroy: func(context.Context, *Strand[sums]) error { hooked++; return nil }}
			if !c.without {
				prog.Labels["destroy"] = label
			}
			mux := NewMux()
			AddProg(mux, prog)
			r := workIn(t, mux, waits(c.sems...), withStack(c.stack), func(s *protocol.Strand) {
				if c.label != "" {
					s.Label = c.label
				}
			})
			wantResult(t, c.want, r)
			if hooked != c.hooked {
				t.Errorf("the hook was called %d times, want %d", hooked, c.hooked)
			}
		})
	}
}

func TestAHopToDestroyMarksTheStrand(t *testing.T) {
	mux := NewMux()
	hop := func(context.Context, *Strand[sums]) (Outcome, error) { return Hop("destroy"), nil }
	AddProg(mux, Prog[sums]{Labels: map[string]Label[sums]{"start": hop, "destroy": hop}})
	marked := protocol.Result{Act: protocol.ActHop, Label: "destroy", Signals: []protocol.Signal{{Name: "destroying"}}}
	wantResult(t, marked, workIn(t, mux))
	wantResult(t, protocol.Result{Act: protocol.ActHop, Label: "destroy"}, workIn(t, mux, waits("destroying")))
	wantResult(t, protocol.Result{Act: protocol.ActHop, Label: "destroy", Frame: 1},
		workIn(t, mux, withStack(`[{},{"kind":"top","label":"x","args":{}}]`)))
}

func TestAFailingBeforeDestroyFailsTheRun(t *testing.T) {
	mux := NewMux()
	AddProg(mux, Prog[sums]{Labels: map[string]Label[sums]{"start": nothing},
		BeforeDestroy: func(context.Context, *Strand[sums]) error { return errors.New("not now") }})
	r := workIn(t, mux, waits("destroy"))
	wantFailure(t, r, "", "before destroy: not now")
}

func TestAHandlersGoroutinesShareItsStrand(t *testing.T) {
	const n = 50
	r := atStart(t, func(ctx context.Context, s *Strand[sums]) (Outcome, error) {
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				_, err := Bud(ctx, tree{}, nil)
				err = errors.Join(err, s.Incr("x", nil), Signal(ctx, otherID, "y", nil), s.RegisterDeadline("other", time.Second))
				s.Take("a")
				s.Decr("b")
				s.Await("c", time.Minute)
				s.Reap(ReapOpts{FallThrough: true})
				if err != nil || !s.Has("x") {
					t.Errorf("error %v", err)
				}
				Logger(ctx).Debug("done")
			})
		}
		wg.Wait()
		return Nap(0), nil
	}, waits("a", "b"))
	own := slices.DeleteFunc(slices.Clone(r.Signals), func(s protocol.Signal) bool { return s.Name != "x" })
	if len(r.Inserts) != n || len(own) != n || len(r.Used) != 2 {
		t.Errorf("%d inserts, %d own signals, used %v", len(r.Inserts), len(own), r.Used)
	}
}

func TestNothingIsAddedToARunThatIsOver(t *testing.T) {
	var late *Strand[sums]
	var kept context.Context
	atStart(t, func(ctx context.Context, s *Strand[sums]) (Outcome, error) {
		late, kept = s, ctx
		return Exit(nil), nil
	}, waits("x"))
	_, err := Bud(kept, tree{}, nil)
	for _, err := range []error{err, late.Incr("x", nil), Signal(kept, otherID, "x", nil), late.RegisterDeadline("other", 1)} {
		wantError(t, err, "the handler has returned already")
	}
	if _, ok := late.Take("x"); ok || late.Decr("x") != 0 || !late.Has("x") {
		t.Error("a semaphore was taken after the end")
	}
}

// So that a label can be called by a test of its own.
func TestAStrandMadeByHandHasNothing(t *testing.T) {
	s := &Strand[sums]{}
	if _, ok := s.Take("x"); ok || s.Has("x") || s.Decr("x") != 0 || s.Children().Left != 0 {
		t.Error("it has something")
	}
	if o, wait := s.Reap(ReapOpts{}); wait {
		t.Errorf("reap waits: %+v", o)
	}
	if v, err := Returned[int](s); v != nil || err != nil {
		t.Errorf("returned %v, %v", v, err)
	}
	if paid, left := s.Await("x", time.Hour); paid != nil || left != time.Hour {
		t.Errorf("await: %v, %v", paid, left)
	}
	wantError(t, s.Incr("x", nil), "not that of a running handler")
	wantError(t, s.RegisterDeadline("x", 1), "not that of a running handler")
}

func TestDecodeOfNothingIsNothing(t *testing.T) {
	if v, err := Decode[*int](nil); v != nil || err != nil {
		t.Errorf("%v, %v", v, err)
	}
	if v, err := Decode[int](json.RawMessage("null")); v != 0 || err != nil {
		t.Errorf("%v, %v", v, err)
	}
}
