package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/respirated/respirated/protocol"
)

// handler runs strands, each on the goroutine that asks for it.
type handler struct {
	programs map[string]*program
	timeout  time.Duration // of kinds that name none; 0 = no limit
	build    string        // of this program
	schema   string        // in which the SQL functions are
	log      *slog.Logger

	mu     sync.Mutex            // guards parked
	parked map[[2]string]parking // by kind and label
}

// parking is what became of strands at one label that this worker does not have.
type parking struct {
	told time.Time // when the log was told
	more int       // how many were parked since
}

// ParkTime is for how long a strand is given back whose kind or label this worker does not know.
const ParkTime = 30 * time.Second

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
	room := mostLabelBytes
	for _, name := range mux.Kinds() {
		p := h.programs[name]
		kinds = append(kinds, protocol.Kind{Name: name, RunMS: milliseconds(h.limit(p)), Labels: p.told(&room), Isolate: p.isolate})
	}
	return kinds
}

// work runs one strand and hands its result to done, exactly once and whatever the handler does: return, panic, or end
// its goroutine with runtime.Goexit, as t.FailNow does.
func (h *handler) work(ctx context.Context, run start, done func(*protocol.Result)) {
	strand := run.Strand
	result := new(protocol.Result)
	returned := false
	defer func() {
		if v := recover(); v != nil {
			*result = failed(&panicError{v}, string(debug.Stack()))
		} else if !returned {
			*result = failed(errGoexit, "")
		}
		h.note(strand, result)
		done(result)
	}()
	*result = h.result(ctx, run)
	returned = true
}

// result runs one strand. Everything of the user's that may panic is called from here.
func (h *handler) result(ctx context.Context, run start) protocol.Result {
	strand := run.Strand
	program := h.programs[strand.Kind]
	if program == nil || !program.has(strand.Label) {
		return h.park(strand)
	}
	env, err := newEnv(ctx, strand, program, h.log)
	if err != nil {
		return failed(err, "")
	}
	env.handler, env.seq = h, run.seq
	job, err := program.prepare(env)
	if err != nil {
		return failed(err, "")
	}
	ctx = env
	if d := h.runLimit(program, job, strand); d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d, ErrTimeout)
		defer cancel()
		job.row().Deadline, _ = ctx.Deadline()
	}
	outcome, err := job.run(ctx)
	mistake := env.close()
	if env.own != nil {
		if err != nil {
			env.logs().Warn("an error after CommitTx does not count", "error", err)
		}
		return *env.own
	}
	if err == nil {
		err = mistake
	}
	var snooze *SnoozeError
	switch {
	case errors.As(err, &snooze):
		outcome = Nap(snooze.After)
	case err != nil:
		return onError(job, err, context.Cause(ctx))
	}
	result, err := h.encode(env, outcome)
	if err != nil {
		return failed(fmt.Errorf("label %q of kind %q: %w", strand.Label, strand.Kind, err), "")
	}
	return result
}

// park gives a strand back that is at a place which this worker does not know. It was put there by another build, or is
// waiting for one: no try of it is used up.
func (h *handler) park(strand *protocol.Strand) protocol.Result {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := [2]string{strand.Kind, strand.Label}
	p := h.parked[at]
	p.more++
	if now := time.Now(); now.Sub(p.told) >= ParkTime { // there may be very many
		h.log.Warn("strands parked, this worker does not have their label", "kind", strand.Kind, "label", strand.Label, "build", h.build,
			"strand", strand.ID, "parked", p.more, "again", ParkTime)
		p = parking{told: now}
	}
	if h.parked == nil {
		h.parked = make(map[[2]string]parking)
	}
	h.parked[at] = p
	return protocol.Result{Act: protocol.ActRelease, DelayMS: delay(ParkTime)}
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
func onError(job job, err, cause error) protocol.Result {
	var (
		cancel    *CancelError
		dead      *DeadError
		retry     *RetryError
		contended *contendedError
	)
	switch {
	case errors.As(err, &cancel), errors.Is(cause, ErrCancelled):
		result := failed(err, "")
		result.Act = protocol.ActCancel
		return result
	case errors.Is(cause, ErrStopping), errors.Is(cause, ErrLeaseLost), errors.Is(err, ErrLeaseLost):
		return protocol.Result{Act: protocol.ActRelease}
	case errors.As(err, &contended):
		return protocol.Result{Act: protocol.ActRelease, DelayMS: delay(contendedWait)}
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

// classOf names the kind of an error: the type of the innermost one that has one of its own, or what this package knows better.
func classOf(err error) string {
	var panicked *panicError
	switch {
	case errors.As(err, &panicked):
		return "panic"
	case errors.Is(err, ErrTimeout):
		return "timeout"
	}
	class := "error"
	for ; err != nil; err = errors.Unwrap(err) {
		switch name := fmt.Sprintf("%T", err); name {
		case "*errors.errorString", "*errors.joinError", "*fmt.wrapError", "*fmt.wrapErrors": // a text is all that it is
		case "*worker.CancelError", "*worker.DeadError", "*worker.RetryError": // what becomes of the strand, not why
			if errors.Unwrap(err) == nil {
				class = name
			}
		default:
			class = name
		}
	}
	return class
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
