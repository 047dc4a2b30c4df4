package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/respirated/respirated/protocol"
)

// sums is what most tests work with.
type sums struct {
	A int `json:"a"`
	B int `json:"b"`
}

func (sums) Kind() string { return "sum" }

// muxOf has one kind, "sum", that f works.
func muxOf(f func(ctx context.Context, s *Strand[sums]) error) *Mux {
	mux := NewMux()
	AddFunc(mux, f)
	return mux
}

// progOf has one kind, "sum", with the labels "start" and "other"; f is "start".
func progOf(f Label[sums]) *Mux {
	mux := NewMux()
	other := func(context.Context, *Strand[sums]) (Outcome, error) { return Exit("other"), nil }
	AddProg(mux, Prog[sums]{Labels: map[string]Label[sums]{"start": f, "other": other}})
	return mux
}

func withArgs(args string) func(*protocol.Strand) {
	return func(s *protocol.Strand) { s.Args = []byte(args) }
}

func TestHandlerGetsTheRowAndTheArgs(t *testing.T) {
	var got Strand[sums]
	mux := muxOf(func(_ context.Context, s *Strand[sums]) error {
		got = *s
		return nil
	})
	var sent protocol.Strand
	result := runOne(t, mux, "sum", withArgs(`{"a":1,"b":2}`), func(s *protocol.Strand) {
		s.Tenant, s.Queue, s.Priority, s.Try, s.MaxTries = "acme", "mail", 2, 3, 7
		s.Tags, s.Metadata, s.CreatedMS = []string{"x"}, []byte(`{"k":1}`), 1_700_000_000_123
		sent = *s
	})
	want := Strand[sums]{Args: sums{1, 2}, Row: Row{
		ID: sent.ID, Kind: "sum", Label: "start", Try: 3, MaxTries: 7, Tenant: "acme", Queue: "mail", Priority: 2,
		Tags: []string{"x"}, Metadata: json.RawMessage(`{"k":1}`), CreatedAt: time.UnixMilli(1_700_000_000_123),
	}}
	if d := cmp.Diff(want, got, cmpopts.IgnoreUnexported(got)); d != "" {
		t.Errorf("strand (-want +got):\n%s", d)
	}
	if result.Act != protocol.ActExit || result.Value != nil || result.Seq != 1 {
		t.Errorf("result %+v, want a bare exit", result)
	}
}

func TestHandlerGetsTheNewestFrameInsteadOfTheArgs(t *testing.T) {
	var got sums
	mux := muxOf(func(_ context.Context, s *Strand[sums]) error {
		got = s.Args
		return nil
	})
	runOne(t, mux, "sum", withArgs(`{"a":1}`), func(s *protocol.Strand) { s.Stack = []byte(`[{"a":5},{"other":"frame"}]`) })
	if want := (sums{A: 5}); got != want {
		t.Errorf("args %+v, want %+v", got, want)
	}
}

func TestUndecodableArgsFailTheirStrandOnly(t *testing.T) {
	for _, c := range []struct{ name, args, stack, want string }{
		{"type", `{"a":"one"}`, "", "decode the args of strand"},
		{"syntax", `{`, "", "unexpected end of JSON input"},
		{"stack", `{}`, `{"not":"an array"}`, "which should be a JSON array"},
	} {
		t.Run(c.name, func(t *testing.T) {
			mux := muxOf(func(context.Context, *Strand[sums]) error { t.Error("the handler ran"); return nil })
			result := runOne(t, mux, "sum", withArgs(c.args), func(s *protocol.Strand) { s.Stack = []byte(c.stack) })
			wantFailure(t, result, "", c.want)
		})
	}
}

// wantFailure expects a plain failure whose class is as given and whose message contains text; "" = any.
func wantFailure(t *testing.T, r protocol.Result, class, text string) {
	t.Helper()
	if r.Act != protocol.ActFail || r.Failure == nil {
		t.Fatalf("result %+v, want a failure", r)
	}
	if class != "" && r.Failure.Class != class {
		t.Errorf("class %q, want %q", r.Failure.Class, class)
	}
	if !strings.Contains(r.Failure.Message, text) {
		t.Errorf("message %q, want it to contain %q", r.Failure.Message, text)
	}
}

// Another build has put the strand there, or will take it on: that is no failure of the strand.
func TestAStrandAtAnUnknownKindOrLabelIsParked(t *testing.T) {
	for name, change := range map[string]func(*protocol.Strand){
		"kind":  func(s *protocol.Strand) { s.Kind = "product" },
		"label": func(s *protocol.Strand) { s.Label = "strat" },
	} {
		t.Run(name, func(t *testing.T) {
			mux := progOf(func(context.Context, *Strand[sums]) (Outcome, error) { return Exit(nil), nil })
			var log lockedBuffer
			h := &handler{programs: mux.programs, build: "v7", log: slog.New(slog.NewTextHandler(&log, nil))}
			strand := &protocol.Strand{ID: "s", Kind: "sum", Label: StartLabel, Args: []byte("{}")}
			change(strand)
			var got protocol.Result
			h.work(t.Context(), start{strand, 1}, func(r *protocol.Result) { got = *r })
			if d := cmp.Diff(protocol.Result{Act: protocol.ActRelease, DelayMS: delay(ParkTime)}, got); d != "" {
				t.Errorf("result (-want +got):\n%s", d)
			}
			h.work(t.Context(), start{strand, 1}, func(r *protocol.Result) {}) // the log has been told of such
			want := fmt.Sprintf("kind=%s label=%s build=v7 strand=s parked=1 again=30s\n", strand.Kind, strand.Label)
			if !strings.HasSuffix(log.String(), want) || strings.Count(log.String(), "\n") != 1 {
				t.Errorf("log is not one line that ends with %q:\n%s", want, log.String())
			}
		})
	}
}

func TestErrorsOfHandlers(t *testing.T) {
	cause := errors.New("no space")
	ms := func(n uint64) *uint64 { return &n }
	failure := &protocol.Failure{Class: "error", Message: "no space"}
	with := func(prefix string) *protocol.Failure {
		return &protocol.Failure{Class: "error", Message: prefix + "no space"}
	}
	for _, c := range []struct {
		name string
		err  error
		want protocol.Result
	}{
		{"plain", cause, protocol.Result{Act: protocol.ActFail, Failure: failure}},
		{"wrapped", fmt.Errorf("write: %w", cause), protocol.Result{Act: protocol.ActFail, Failure: with("write: ")}},
		{"typed", &fs.PathError{Op: "open", Path: "f", Err: os.ErrNotExist},
			protocol.Result{Act: protocol.ActFail, Failure: &protocol.Failure{Class: "*fs.PathError", Message: "open f: file does not exist"}}},
		{"cancel", Cancel(cause), protocol.Result{Act: protocol.ActCancel, Failure: with("cancelled by its handler: ")}},
		{"cancel without a reason", Cancel(nil), protocol.Result{Act: protocol.ActCancel,
			Failure: &protocol.Failure{Class: "*worker.CancelError", Message: "cancelled by its handler"}}},
		{"dead", fmt.Errorf("pay: %w", Dead(cause)),
			protocol.Result{Act: protocol.ActFail, Final: true, Failure: with("pay: declared dead by its handler: ")}},
		{"retry in", RetryIn(1500*time.Microsecond, cause),
			protocol.Result{Act: protocol.ActFail, DelayMS: ms(2), Failure: with("to be retried in 1.5ms: ")}},
		{"retry at once", RetryIn(0, cause), protocol.Result{Act: protocol.ActFail, DelayMS: ms(0), Failure: with("to be retried in 0s: ")}},
		{"snooze", Snooze(time.Minute), protocol.Result{Act: protocol.ActNap, DelayMS: ms(60_000)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := runOne(t, muxOf(func(context.Context, *Strand[sums]) error { return c.err }), "sum")
			c.want.Strand, c.want.Token, c.want.Seq = got.Strand, got.Token, 1
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("result (-want +got):\n%s", d)
			}
		})
	}
}

func TestWhatAHandlerReturnsAfterTheEndOfItsContext(t *testing.T) {
	for _, c := range []struct {
		name  string
		cause error
		err   error
		act   string
	}{
		{"a success counts though the lease may be over", ErrLeaseLost, nil, protocol.ActExit},
		{"a success counts though the worker stops", ErrStopping, nil, protocol.ActExit},
		{"an error gives the strand back when the lease may be over", ErrLeaseLost, context.Canceled, protocol.ActRelease},
		{"an error gives the strand back when the worker stops", ErrStopping, errors.New("interrupted"), protocol.ActRelease},
		{"a snooze is meant", ErrLeaseLost, Snooze(time.Second), protocol.ActNap},
		{"giving up is meant", ErrLeaseLost, Cancel(nil), protocol.ActCancel},
		{"an error cancels a strand that was cancelled", ErrCancelled, context.Canceled, protocol.ActCancel},
		{"an error after the time limit is a failure", ErrTimeout, context.Canceled, protocol.ActFail},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, end := context.WithCancelCause(t.Context())
			mux := muxOf(func(context.Context, *Strand[sums]) error {
				end(c.cause)
				return c.err
			})
			h := &handler{programs: mux.programs, log: slog.New(slog.DiscardHandler)}
			var got protocol.Result
			h.work(ctx, start{&protocol.Strand{Kind: "sum", Label: StartLabel, Args: []byte("{}")}, 1}, func(r *protocol.Result) { got = *r })
			if got.Act != c.act {
				t.Errorf("result %+v, want %s", got, c.act)
			}
		})
	}
}

func TestErrorTextIsMadeFitForTheWire(t *testing.T) {
	long := strings.Repeat("é", 4000) + "\x00\xff"
	r := runOne(t, muxOf(func(context.Context, *Strand[sums]) error { return errors.New("\x00" + long) }), "sum")
	if n := len(r.Failure.Message); n > protocol.MaxMessage || !strings.HasPrefix(r.Failure.Message, "\uFFFD") {
		t.Errorf("message of %d bytes starts with %.3q", n, r.Failure.Message)
	}
}

func TestPanicBecomesAFailureWithItsStack(t *testing.T) {
	r := runOne(t, muxOf(func(context.Context, *Strand[sums]) error { panic("at the disco") }), "sum")
	wantFailure(t, r, "panic", "at the disco")
	if !strings.Contains(r.Failure.Trace, "TestPanicBecomesAFailureWithItsStack") {
		t.Errorf("trace does not name the handler:\n%s", r.Failure.Trace)
	}
}

func TestPanicTraceIsCut(t *testing.T) {
	var deep func(n int)
	deep = func(n int) {
		if n == 0 {
			panic("deep")
		}
		deep(n - 1)
	}
	r := runOne(t, muxOf(func(context.Context, *Strand[sums]) error { deep(5000); return nil }), "sum")
	if n := len(r.Failure.Trace); n == 0 || n > protocol.MaxTrace {
		t.Errorf("trace of %d bytes, want 1 to %d", n, protocol.MaxTrace)
	}
}

// badError panics when asked for its text.
type badError struct{}

func (badError) Error() string { panic("no words") }

// badValue panics when it is encoded.
type badValue struct{}

func (badValue) MarshalJSON() ([]byte, error) { panic("no JSON") }

func TestPanicInWhatAHandlerReturnsIsCaughtToo(t *testing.T) {
	wantFailure(t, runOne(t, muxOf(func(context.Context, *Strand[sums]) error { return badError{} }), "sum"), "panic", "no words")
	mux := progOf(func(context.Context, *Strand[sums]) (Outcome, error) { return Exit(badValue{}), nil })
	wantFailure(t, runOne(t, mux, "sum"), "panic", "no JSON")
}

func TestGoexitKeepsTheSlot(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.cfg.Slots = 1
		b.mux = muxOf(func(context.Context, *Strand[sums]) error {
			runtime.Goexit()
			return nil
		})
		b.start()
		p, _ := b.greet()
		for range 3 {
			p.give("sum")
			wantFailure(t, p.result(), "", "runtime.Goexit")
		}
		if err := b.end(); err != nil {
			t.Error(err)
		}
		p.cut()
	})
}

func TestOutcomesOfLabels(t *testing.T) {
	ms := func(n uint64) *uint64 { return &n }
	for _, c := range []struct {
		name    string
		outcome Outcome
		want    protocol.Result
	}{
		{"exit", Exit(map[string]int{"n": 1}), protocol.Result{Act: protocol.ActExit, Value: []byte(`{"n":1}`)}},
		{"exit without a value", Exit(nil), protocol.Result{Act: protocol.ActExit}},
		{"nap", Nap(time.Second), protocol.Result{Act: protocol.ActNap, DelayMS: ms(1000)}},
		{"nap of nothing", Nap(-1), protocol.Result{Act: protocol.ActNap, DelayMS: ms(0)}},
		{"nap with args", Nap(time.Second).With(sums{7, 8}),
			protocol.Result{Act: protocol.ActNap, DelayMS: ms(1000), Stack: []byte(`[{"a":7,"b":8}]`)}},
		{"hop", Hop("other"), protocol.Result{Act: protocol.ActHop, Label: "other"}},
		{"hop to where it is", Hop("start"), protocol.Result{Act: protocol.ActHop, Label: "start"}},
		{"hop later", Hop("other").After(2 * time.Second), protocol.Result{Act: protocol.ActHop, Label: "other", DelayMS: ms(2000)}},
		{"hop with args", Hop("other").With(sums{7, 8}),
			protocol.Result{Act: protocol.ActHop, Label: "other", Stack: []byte(`[{"a":7,"b":8}]`)}},
		{"hop to a kind of another worker", Hop("anywhere").To("elsewhere"),
			protocol.Result{Act: protocol.ActHop, Label: "anywhere", NewKind: "elsewhere"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := runOne(t, progOf(func(context.Context, *Strand[sums]) (Outcome, error) { return c.outcome, nil }), "sum")
			c.want.Strand, c.want.Token, c.want.Seq = got.Strand, got.Token, 1
			if d := cmp.Diff(c.want, got, cmpopts.IgnoreFields(got, "Chain")); d != "" {
				t.Errorf("result (-want +got):\n%s", d)
			}
		})
	}
}

func TestWithReplacesFrameZeroAndKeepsTheRest(t *testing.T) {
	mux := progOf(func(context.Context, *Strand[sums]) (Outcome, error) { return Nap(0).With(sums{A: 9}), nil })
	r := runOne(t, mux, "sum", func(s *protocol.Strand) { s.Stack = []byte(`[{"a":1}, {"deep":true}]`) })
	if got, want := string(r.Stack), `[{"a":9,"b":0},{"deep":true}]`; got != want {
		t.Errorf("stack %s, want %s", got, want)
	}
}

func TestImpossibleOutcomesFailAndNameTheLabel(t *testing.T) {
	for _, c := range []struct {
		name    string
		outcome Outcome
		want    string
	}{
		{"none", Outcome{}, "returned neither an outcome nor an error"},
		{"none but decorated", Outcome{}.After(time.Second), "returned neither an outcome nor an error"},
		{"hop to a missing label", Hop("ohter"), `hop: kind "sum" has no label "ohter" in this worker; it has other, start`},
		{"hop to nothing", Hop(""), "hop: the name of a label is empty"},
		{"hop to a bad name", Hop("a\x00b"), "has a control character"},
		{"hop to a bad kind", Hop("start").To("a\nb"), "has a control character"},
		{"hop to a missing label of another kind", Hop("x").To("plain"), `hop: kind "plain" has no label "x"`},
		{"exit after", Exit(nil).After(time.Second), "Exit takes no After, With or To"},
		{"exit with", Exit(nil).With(1), "Exit takes no After, With or To"},
		{"nap to", Nap(0).To("plain"), "Nap takes no To"},
		{"a value that is not JSON", Exit(make(chan int)), "encode the exit value"},
		{"args that are not JSON", Nap(0).With(make(chan int)), "encode the new args"},
	} {
		t.Run(c.name, func(t *testing.T) {
			mux := progOf(func(context.Context, *Strand[sums]) (Outcome, error) { return c.outcome, nil })
			AddFunc(mux, func(context.Context, *Strand[plain]) error { return nil })
			r := runOne(t, mux, "sum")
			wantFailure(t, r, "", c.want)
			wantFailure(t, r, "", `label "start" of kind "sum"`)
		})
	}
}

// plain is a second kind.
type plain struct{}

func (plain) Kind() string { return "plain" }

func TestStartLabelIsWhereTheProgramSays(t *testing.T) {
	mux := NewMux()
	AddProg(mux, Prog[sums]{Start: "three", Labels: map[string]Label[sums]{
		"three": func(_ context.Context, s *Strand[sums]) (Outcome, error) { return Exit(s.Label), nil },
	}})
	if got := string(runOne(t, mux, "sum").Value); got != `"start"` {
		t.Errorf("exit value %s, want \"start\"", got)
	}
}

func TestTimeoutEndsTheContextWithItsCause(t *testing.T) {
	wait := func(ctx context.Context, s *Strand[sums]) error {
		if s.Deadline.IsZero() {
			return errors.New("no deadline in the row")
		}
		<-ctx.Done()
		return fmt.Errorf("waiting: %w", ctx.Err())
	}
	for name, mux := range map[string]*Mux{
		"of the worker":  addTo(&slowWorker{wait: wait, timeout: 3 * time.Second}),
		"of the program": timedProg(wait, 3*time.Second),
	} {
		t.Run(name, func(t *testing.T) {
			r := runOne(t, mux, "sum")
			wantFailure(t, r, "timeout", "the run's time limit has passed: waiting: context deadline exceeded")
		})
	}
}

func addTo(w Worker[sums]) *Mux {
	mux := NewMux()
	Add(mux, w)
	return mux
}

func timedProg(wait func(context.Context, *Strand[sums]) error, limit time.Duration) *Mux {
	mux := NewMux()
	AddProg(mux, Prog[sums]{Timeout: limit, Labels: map[string]Label[sums]{
		"start": func(ctx context.Context, s *Strand[sums]) (Outcome, error) { return Exit(nil), wait(ctx, s) },
	}})
	return mux
}

// slowWorker has every optional method.
type slowWorker struct {
	Defaults[sums]
	wait    func(context.Context, *Strand[sums]) error
	timeout time.Duration
	retry   time.Duration
}

func (w *slowWorker) Work(ctx context.Context, s *Strand[sums]) error { return w.wait(ctx, s) }

func (w *slowWorker) Timeout(*Strand[sums]) time.Duration { return w.timeout }

func (w *slowWorker) NextRetry(s *Strand[sums], err error) time.Duration { return w.retry }

func TestTheShortestOfAllLimitsHolds(t *testing.T) {
	second := time.Second
	for _, c := range []struct {
		name                  string
		config, worker, frame time.Duration
		want                  time.Duration // 0 = no limit
	}{
		{"none", 0, 0, 0, 0},
		{"configured", 5 * second, 0, 0, 5 * second},
		{"the worker's counts for more than the configured one", 5 * second, 9 * second, 0, 9 * second},
		{"the worker wants none", 5 * second, -1, 0, 0},
		{"the broker's is shorter", 5 * second, 0, second, second},
		{"the broker's is longer", 0, second, 5 * second, second},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := &handler{timeout: c.config}
			p, err := newProgram(hooks[sums]{
				labels:  map[string]Label[sums]{"start": nothing},
				start:   "start",
				timeout: func(*Strand[sums]) time.Duration { return c.worker },
			})
			if err != nil {
				t.Fatal(err)
			}
			strand := &protocol.Strand{Label: "start", RunMS: milliseconds(c.frame)}
			e, err := newEnv(t.Context(), strand, p, slog.Default())
			if err != nil {
				t.Fatal(err)
			}
			job, err := p.prepare(e)
			if err != nil {
				t.Fatal(err)
			}
			if got := h.runLimit(p, job, strand); got != c.want {
				t.Errorf("limit %v, want %v", got, c.want)
			}
		})
	}
}

func nothing(context.Context, *Strand[sums]) (Outcome, error) { return Exit(nil), nil }

func TestAnErrorOfItsOwnAfterTheTimeoutKeepsItsClass(t *testing.T) {
	w := &slowWorker{timeout: time.Second, wait: func(ctx context.Context, _ *Strand[sums]) error {
		<-ctx.Done()
		return &fs.PathError{Op: "read", Path: "f", Err: badCode(5)}
	}}
	wantFailure(t, runOne(t, addTo(w), "sum"), "worker.badCode", "read f: code 5")
}

type badCode int

func (c badCode) Error() string { return fmt.Sprintf("code %d", int(c)) }

func TestNextRetryDecidesTheDelayOfAPlainError(t *testing.T) {
	w := &slowWorker{retry: 7 * time.Second, wait: func(context.Context, *Strand[sums]) error { return errors.New("no") }}
	r := runOne(t, addTo(w), "sum")
	if r.DelayMS == nil || *r.DelayMS != 7000 {
		t.Errorf("delay %v, want 7000 ms", r.DelayMS)
	}
	w.wait = func(context.Context, *Strand[sums]) error { return RetryIn(time.Second, errors.New("no")) }
	if r := runOne(t, addTo(w), "sum"); *r.DelayMS != 1000 {
		t.Errorf("delay %d, want the handler's own 1000 ms", *r.DelayMS)
	}
}

func TestLoggerCarriesTheStrand(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		var log lockedBuffer
		b.cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		b.mux = muxOf(func(ctx context.Context, _ *Strand[sums]) error {
			Logger(ctx).Info("adding")
			return nil
		})
		b.start()
		p, _ := b.greet()
		strand := p.give("sum")
		p.result()
		if want := "msg=adding strand=" + strand.ID + " kind=sum label=start"; !strings.Contains(log.String(), want) {
			t.Errorf("log does not have %q:\n%s", want, log.String())
		}
		if err := b.end(); err != nil {
			t.Error(err)
		}
		p.cut()
	})
}

func TestRunsAreLoggedAtDebugAndFailuresAboveIt(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, `level=DEBUG msg="strand ran" strand=s kind=sum label=start try=2 act=exit`},
		{errors.New("no luck"), `level=INFO msg="strand ran" strand=s kind=sum label=start try=2 act=fail class=error error="no luck"`},
	} {
		var log lockedBuffer
		mux := muxOf(func(context.Context, *Strand[sums]) error { return c.err })
		h := &handler{programs: mux.programs, log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
		h.work(t.Context(), start{&protocol.Strand{ID: "s", Kind: "sum", Label: StartLabel, Try: 2, Args: []byte("{}")}, 1}, func(*protocol.Result) {})
		if !strings.HasSuffix(log.String(), c.want+"\n") || strings.Count(log.String(), "\n") != 1 {
			t.Errorf("log is not one line that ends with %q:\n%s", c.want, log.String())
		}
	}
}

func TestLoggerOutsideOfAHandlerIsTheDefaultOne(t *testing.T) {
	if Logger(t.Context()) != slog.Default() {
		t.Error("another logger")
	}
}
