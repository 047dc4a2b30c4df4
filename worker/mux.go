package worker

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/respirated/respirated/protocol"
)

// Mux knows the program of each kind that a worker process serves. The zero value is empty and ready. Fill it before
// [Run]; it must not change afterwards.
type Mux struct {
	programs map[string]*program // by kind
}

// NewMux makes an empty Mux.
func NewMux() *Mux { return &Mux{} }

// Add registers w for the kind of T. It panics if that kind is taken or its name is invalid, as these are mistakes in
// the program; see [AddSafely].
func Add[T Args](mux *Mux, w Worker[T]) { must(AddSafely(mux, w)) }

// AddSafely is [Add] with an error instead of a panic.
func AddSafely[T Args](mux *Mux, w Worker[T]) error {
	work := func(ctx context.Context, s *Strand[T]) (Outcome, error) {
		if err := w.Work(ctx, s); err != nil {
			return Outcome{}, err
		}
		return Pop(nil), nil
	}
	h := hooks[T]{labels: map[string]Label[T]{StartLabel: work}, start: StartLabel, ignoreDestroy: true}
	value := reflect.ValueOf(w)
	var err error
	if h.timeout, err = method[func(*Strand[T]) time.Duration](value.MethodByName("Timeout"), "Timeout"); err != nil {
		return fmt.Errorf("add %T: %w", w, err)
	}
	if h.retry, err = method[func(*Strand[T], error) time.Duration](value.MethodByName("NextRetry"), "NextRetry"); err != nil {
		return fmt.Errorf("add %T: %w", w, err)
	}
	isolate, err := method[func() bool](value.MethodByName("Isolate"), "Isolate")
	if err != nil {
		return fmt.Errorf("add %T: %w", w, err)
	}
	h.isolate = isolate != nil && isolate()
	return mux.add(newProgram(h))
}

// AddFunc registers a function for the kind of T, as [Add] does for a [Worker].
func AddFunc[T Args](mux *Mux, work func(ctx context.Context, s *Strand[T]) error) {
	Add(mux, Worker[T](workFunc[T](work)))
}

// AddProg registers a program of several labels for the kind of T. It panics where [Add] does, and if the program has
// no label to start at; see [AddProgSafely].
func AddProg[T Args](mux *Mux, prog Prog[T]) { must(AddProgSafely(mux, prog)) }

// AddProgSafely is [AddProg] with an error instead of a panic.
func AddProgSafely[T Args](mux *Mux, prog Prog[T]) error {
	h := hooks[T]{labels: maps.Clone(prog.Labels), start: prog.Start, beforeRun: prog.BeforeRun,
		beforeDestroy: prog.BeforeDestroy, ignoreDestroy: prog.IgnoreDestroy, isolate: prog.Isolate}
	if h.start == "" {
		h.start = StartLabel
	}
	if prog.Timeout != 0 {
		h.timeout = func(*Strand[T]) time.Duration { return prog.Timeout }
	}
	return mux.add(newProgram(h))
}

// Kinds lists the registered kinds in alphabetical order.
func (m *Mux) Kinds() []string { return slices.Sorted(maps.Keys(m.programs)) }

func (m *Mux) add(p *program, err error) error {
	if err != nil {
		return err
	}
	if m.programs[p.kind] != nil {
		return fmt.Errorf("add kind %q: it is registered already", p.kind)
	}
	if m.programs == nil {
		m.programs = make(map[string]*program)
	}
	m.programs[p.kind] = p
	return nil
}

// program is what a Mux keeps of a kind, its args type forgotten.
type program struct {
	kind     string
	labels   []string      // sorted
	limit    time.Duration // of any run: 0 = Config.Timeout, negative = none
	isolate  bool          // its strands need a process of their own
	destroys bool          // it obeys the signal destroy
	// prepare decodes a strand and picks its label, which the program has.
	prepare func(e *env) (job, error)
}

// job is one run, ready to go.
type job interface {
	row() *Row
	run(ctx context.Context) (Outcome, error)
	timeout() time.Duration        // as Defaults.Timeout
	retry(err error) time.Duration // as Defaults.NextRetry
}

// runOf is a job with the type of its args.
type runOf[T Args] struct {
	hooks  *hooks[T]
	label  Label[T]
	strand Strand[T]
}

func (r *runOf[T]) row() *Row                     { return &r.strand.Row }
func (r *runOf[T]) timeout() time.Duration        { return r.hooks.timeout(&r.strand) }
func (r *runOf[T]) retry(err error) time.Duration { return r.hooks.retry(&r.strand, err) }

// run does what comes before the label, and the label unless that leads elsewhere.
func (r *runOf[T]) run(ctx context.Context) (Outcome, error) {
	if o, err := r.destroy(ctx, &r.strand); err != nil || o.step != stepNone {
		return o, err
	}
	if before := r.hooks.beforeRun; before != nil {
		if o, err := before(ctx, &r.strand); err != nil || o.step != stepNone {
			return o, err
		}
	}
	return r.label(ctx, &r.strand)
}

// destroy obeys the signal of that name, see Prog.
func (r *runOf[T]) destroy(ctx context.Context, s *Strand[T]) (Outcome, error) {
	if r.hooks.ignoreDestroy || !s.Has(destroySignal) {
		return Outcome{}, nil
	}
	if s.Has(destroyingMark) {
		s.Decr(destroySignal)
		return Outcome{}, nil
	}
	if len(s.env.stack.callers) > 0 {
		return Pop(message{"operation is cancelled due to explicitly requested destruction"}), nil
	}
	if hook := r.hooks.beforeDestroy; hook != nil {
		if err := hook(ctx, s); err != nil {
			return Outcome{}, fmt.Errorf("before destroy: %w", err)
		}
	}
	s.Decr(destroySignal)
	if r.hooks.labels[DestroyLabel] == nil {
		return Exit(message{"exiting early due to destroy semaphore"}), nil
	}
	return Hop(DestroyLabel), nil
}

// Names of semaphores of a strand that is to end early.
const (
	destroySignal  = "destroy"
	destroyingMark = "destroying" // it obeys, or has hopped to DestroyLabel by itself
)

// message is a value for people.
type message struct {
	Text string `json:"msg"`
}

// hooks is what a program is made from.
type hooks[T Args] struct {
	labels  map[string]Label[T]
	start   string // where a strand at StartLabel begins, unless there is a label of that name
	timeout func(*Strand[T]) time.Duration
	retry   func(*Strand[T], error) time.Duration

	beforeRun     Label[T]                                // nil = none
	beforeDestroy func(context.Context, *Strand[T]) error // nil = none
	ignoreDestroy bool
	isolate       bool
}

func newProgram[T Args](h hooks[T]) (*program, error) {
	args, err := newArgs[T]()
	if err != nil {
		return nil, fmt.Errorf("add %v: %w", reflect.TypeFor[T](), err)
	}
	p := &program{kind: args.Kind(), labels: slices.Sorted(maps.Keys(h.labels))}
	if err := checkName("kind", p.kind); err != nil {
		return nil, fmt.Errorf("add %T: %w", args, err)
	}
	if err := h.checkLabels(); err != nil {
		return nil, fmt.Errorf("add kind %q: %w", p.kind, err)
	}
	if h.timeout == nil {
		h.timeout = Defaults[T]{}.Timeout
	}
	if h.retry == nil {
		h.retry = Defaults[T]{}.NextRetry
	}
	if p.limit, err = limitOf(h.timeout, args); err != nil {
		return nil, fmt.Errorf("add kind %q: %w", p.kind, err)
	}
	p.prepare = func(e *env) (job, error) { return prepare(&h, e) }
	p.destroys, p.isolate = !h.ignoreDestroy, h.isolate
	return p, nil
}

func (h hooks[T]) checkLabels() error {
	for name, label := range h.labels {
		if err := checkName("label", name); err != nil {
			return err
		}
		if label == nil {
			return fmt.Errorf("label %q has no function", name)
		}
	}
	if h.labels[h.start] == nil {
		return fmt.Errorf("there is no label %q to start at", h.start)
	}
	return nil
}

// limitOf asks a worker for the limit of its kind.
func limitOf[T Args](timeout func(*Strand[T]) time.Duration, args T) (d time.Duration, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("method Timeout panics when asked for the limit of the kind, with a zero Strand: %v", v)
		}
	}()
	return timeout(&Strand[T]{Args: args}), nil
}

func prepare[T Args](h *hooks[T], e *env) (job, error) {
	label := h.labels[e.strand.Label]
	if label == nil {
		label = h.labels[h.start] // it is at StartLabel
	}
	r := &runOf[T]{hooks: h, label: label}
	if err := r.strand.read(e); err != nil {
		return nil, err
	}
	return r, nil
}

// has tells whether a strand can be at that label.
func (p *program) has(label string) bool {
	return label == StartLabel || slices.Contains(p.labels, label)
}

func (p *program) noLabel(label string) error {
	return fmt.Errorf("kind %q has no label %q in this worker; it has %s", p.kind, label, strings.Join(p.labels, ", "))
}

// method is a worker's optional method m as a function, or nil where there is none. One of that name and another
// signature would be ignored in silence, so it is refused.
func method[F any](m reflect.Value, name string) (F, error) {
	var f F
	if !m.IsValid() {
		return f, nil
	}
	f, ok := m.Interface().(F)
	if !ok {
		return f, fmt.Errorf("method %s is a %v, but has to be a %v", name, m.Type(), reflect.TypeFor[F]())
	}
	return f, nil
}

// checkName tells what is wrong with the name of a kind or a label.
func checkName(what, name string) error {
	if err := protocol.CheckName(name); err != nil {
		return fmt.Errorf("the name of a %s %w", what, err)
	}
	return nil
}

func must(err error) {
	if err != nil {
		panic("worker: " + err.Error())
	}
}
