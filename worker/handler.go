package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/respirated/respirated/protocol"
)

// handler runs strands, each on the goroutine that asks for it.
type handler struct {
	programs map[string]*program
	timeout  time.Duration // of kinds that name none; 0 = no limit
	log      *slog.Logger
}

// limit is the longest run of a kind; 0 = no limit.
func (h *handler) limit(p *program) time.Duration {
	if p.limit == 0 {
		return max(h.timeout, 0)
	}
	return max(p.limit, 0)
}

// kinds is what the worker announces.
func (h *handler) kinds(mux *Mux) []protocol.Kind {
	kinds := make([]protocol.Kind, 0, len(h.programs))
	for _, name := range mux.Kinds() {
		kinds = append(kinds, protocol.Kind{Name: name, RunMS: milliseconds(h.limit(h.programs[name]))})
	}
	return kinds
}

// work runs one strand and hands its result to done, exactly once and whatever the handler does: return, panic, or end
// its goroutine with runtime.Goexit, as t.FailNow does.
func (h *handler) work(ctx context.Context, strand *protocol.Strand, done func(protocol.Result)) {
	var result protocol.Result
	returned := false
	defer func() {
		if v := recover(); v != nil {
			result = failed(&panicError{v}, string(debug.Stack()))
		} else if !returned {
			result = failed(errGoexit, "")
		}
		h.note(strand, &result)
		done(result)
	}()
	result = h.result(ctx, strand)
	returned = true
}

// result runs one strand. Everything of the user's that may panic is called from here.
func (h *handler) result(ctx context.Context, strand *protocol.Strand) protocol.Result {
	program := h.programs[strand.Kind]
	if program == nil {
		return failed(fmt.Errorf("this worker does not serve kind %q", strand.Kind), "")
	}
	job, err := program.prepare(strand)
	if err != nil {
		return failed(err, "")
	}
	env := &env{Context: ctx, strand: strand, log: h.log}
	ctx = env
	if d := h.runLimit(program, job, strand); d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d, ErrTimeout)
		defer cancel()
		job.row().Deadline, _ = ctx.Deadline()
	}
	outcome, err := job.run(ctx)
	inserts := env.take()
	if err != nil {
		return onError(job, err, context.Cause(ctx), inserts)
	}
	result, err := h.encode(program, strand, outcome)
	if err != nil {
		return failed(fmt.Errorf("label %q of kind %q: %w", strand.Label, strand.Kind, err), "")
	}
	result.Inserts = inserts
	return result
}

// runLimit is how long this run may take: what its worker says, but no more than its kind's limit and the broker's.
func (h *handler) runLimit(p *program, job job, strand *protocol.Strand) time.Duration {
	var limit time.Duration
	for _, d := range []time.Duration{job.timeout(), h.limit(p), time.Duration(strand.RunMS) * time.Millisecond} {
		if d > 0 && (limit == 0 || d < limit) {
			limit = d
		}
	}
	return limit
}

// onError is the result of a handler that returned an error. cause is why its context has ended, if it has.
func onError(job job, err, cause error, inserts []protocol.Insert) protocol.Result {
	var (
		snooze *SnoozeError
		cancel *CancelError
		dead   *DeadError
		retry  *RetryError
	)
	switch {
	case errors.As(err, &snooze):
		return protocol.Result{Act: protocol.ActNap, DelayMS: delay(snooze.After), Inserts: inserts}
	case errors.As(err, &cancel), errors.Is(cause, ErrCancelled):
		result := failed(err, "")
		result.Act = protocol.ActCancel
		return result
	case errors.Is(cause, ErrStopping), errors.Is(cause, ErrLeaseLost):
		return protocol.Result{Act: protocol.ActRelease}
	case errors.Is(cause, ErrTimeout) && aboutContext(err):
		err = fmt.Errorf("%w: %w", ErrTimeout, err)
	}
	result := failed(err, "")
	switch {
	case errors.As(err, &dead):
		result.Final = true
	case errors.As(err, &retry):
		result.DelayMS = delay(retry.After)
	default:
		if d := job.retry(err); d > 0 {
			result.DelayMS = delay(d)
		}
	}
	return result
}

// aboutContext tells whether an error only repeats that the context has ended.
func aboutContext(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// encode is the result of a handler that returned an outcome.
func (h *handler) encode(p *program, strand *protocol.Strand, o Outcome) (result protocol.Result, err error) {
	if o.frame {
		if result.Stack, err = newStack(strand, o.args); err != nil {
			return result, err
		}
	}
	switch o.step {
	case stepExit:
		if o.frame || o.kind != "" || o.delay > 0 {
			return result, errors.New("Exit takes no After, With or To, as nothing runs after it")
		}
		result.Act = protocol.ActExit
		result.Value, err = exitValue(o.value)
	case stepNap:
		if o.kind != "" {
			return result, errors.New("Nap takes no To, as the strand stays where it is; use Hop")
		}
		result.Act, result.DelayMS = protocol.ActNap, delay(o.delay)
	case stepHop:
		err = h.checkHop(p, o)
		result.Act, result.Label, result.NewKind = protocol.ActHop, o.label, o.kind
		if o.delay > 0 {
			result.DelayMS = delay(o.delay)
		}
	default:
		err = errors.New("the label returned neither an outcome nor an error; return Exit, Nap or Hop")
	}
	return result, err
}

// checkHop refuses a target that nobody could run, as far as this process knows.
func (h *handler) checkHop(p *program, o Outcome) error {
	if err := checkName("label", o.label); err != nil {
		return fmt.Errorf("hop: %w", err)
	}
	if o.kind != "" {
		if err := checkName("kind", o.kind); err != nil {
			return fmt.Errorf("hop: %w", err)
		}
		p = h.programs[o.kind] // another worker may serve it
	}
	if p != nil && !p.has(o.label) {
		return fmt.Errorf("hop: %w", p.noLabel(o.label))
	}
	return nil
}

func exitValue(v any) ([]byte, error) {
	if v == nil {
		return nil, nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode the exit value: %w", err)
	}
	return b, nil
}

// newStack is the strand's stack with args as its frame 0.
func newStack(strand *protocol.Strand, args any) ([]byte, error) {
	frames, err := stackFrames(strand)
	if err != nil {
		return nil, err
	}
	top, err := json.Marshal(args)
	if err != nil {
		return nil, fmt.Errorf("encode the new args: %w", err)
	}
	if len(frames) == 0 {
		frames = make([]json.RawMessage, 1)
	}
	frames[0] = top
	return json.Marshal(frames)
}

// note logs how a run ended.
func (h *handler) note(strand *protocol.Strand, r *protocol.Result) {
	level := slog.LevelDebug
	if r.Failure != nil {
		level = slog.LevelInfo
	}
	if !h.log.Enabled(context.Background(), level) {
		return
	}
	attrs := []any{"strand", strand.ID, "kind", strand.Kind, "label", strand.Label, "try", strand.Try, "act", r.Act}
	if r.Failure != nil {
		attrs = append(attrs, "class", r.Failure.Class, "error", r.Failure.Message)
	}
	h.log.Log(context.Background(), level, "strand ran", attrs...)
}

// errGoexit is the failure of a handler that ended its goroutine.
var errGoexit = errors.New("the handler called runtime.Goexit")

// panicError is the failure of a handler that panicked.
type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprint(e.value) }

// failed is the result of a run that failed.
func failed(err error, trace string) protocol.Result {
	return protocol.Result{Act: protocol.ActFail, Failure: &protocol.Failure{
		Class:   protocol.Clip(classOf(err), protocol.MaxName),
		Message: protocol.Clip(err.Error(), protocol.MaxMessage),
		Trace:   protocol.Clip(trace, protocol.MaxTrace),
	}}
}

// classOf names the kind of an error: the type of the innermost one, or what this package knows better.
func classOf(err error) string {
	var panicked *panicError
	switch {
	case errors.As(err, &panicked):
		return "panic"
	case errors.Is(err, ErrTimeout):
		return "timeout"
	}
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return fmt.Sprintf("%T", err)
		}
		err = inner
	}
}

// delay is d on the wire, rounded up so that nothing runs early.
func delay(d time.Duration) *uint64 {
	ms := milliseconds(d)
	return &ms
}

func milliseconds(d time.Duration) uint64 {
	d = min(max(d, 0), protocol.MaxDuration)
	return uint64((d + time.Millisecond - 1) / time.Millisecond)
}
