package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"
)

// Args is what a strand is inserted with: a value that encodes to JSON and knows the kind of strand it is for.
type Args interface {
	// Kind names the program that runs these args. It must not depend on the value.
	Kind() string
}

// Row is what is known of a strand whatever its kind.
type Row struct {
	ID        string // UUID
	Kind      string
	Label     string // the step it is at
	Try       int    // 1 on the first run; rises with each failure, starts anew after a nap or a hop
	MaxTries  int    // at this many failures it is dead
	Tenant    string
	Queue     string
	Priority  int // 1 (first) to 9 (last)
	Tags      []string
	Metadata  json.RawMessage // JSON object; nil = none
	CreatedAt time.Time       // by the database's clock
	Deadline  time.Time       // when the context of this run ends; zero = no limit
}

// Strand is one run's view of a strand: its row and its decoded args.
type Strand[T Args] struct {
	Row
	Args T // of the frame that runs, as a label stored it last with [Outcome.With], else as inserted or pushed

	env *env // of its run; nil = it was made by hand
}

// Worker runs the strands of one kind. One value serves all slots, so Work is called concurrently.
//
// A worker may also have these methods, which [Defaults] shows:
//
//	Timeout(*Strand[T]) time.Duration
//	NextRetry(*Strand[T], error) time.Duration
//	Isolate() bool
type Worker[T Args] interface {
	// Work does the job. Nil means done. An error means try again later, until tries run out; [Cancel], [Dead],
	// [RetryIn] and [Snooze] make errors that say something else. ctx ends at the run's limit, when the strand is
	// cancelled, and when the right to run it is lost; context.Cause tells which.
	Work(ctx context.Context, s *Strand[T]) error
}

// Defaults has the optional methods of a [Worker] as they are when a worker has none. Embed it to have them listed.
type Defaults[T Args] struct{}

// Timeout is how long one run may take: 0 = [Config.Timeout], negative = no limit. It is also asked once with a zero
// Strand, when the worker is added: what it returns then is the kind's limit, which the broker enforces with signals.
// A run never gets more than that.
func (Defaults[T]) Timeout(*Strand[T]) time.Duration { return 0 }

// NextRetry is how long a failed run waits for its next try: 0 = the default, which doubles from a second to a day.
// It is not asked where the handler's error says so itself, see [RetryIn].
func (Defaults[T]) NextRetry(*Strand[T], error) time.Duration { return 0 }

// Isolate says whether each strand of this kind needs a process of its own while it runs: for code that may crash, leak, or
// change what the whole process shares. It is asked once, when the worker is added.
func (Defaults[T]) Isolate() bool { return false }

// workFunc makes a function a Worker.
type workFunc[T Args] func(ctx context.Context, s *Strand[T]) error

func (f workFunc[T]) Work(ctx context.Context, s *Strand[T]) error { return f(ctx, s) }

// read decodes what the broker sent.
func (s *Strand[T]) read(e *env) error {
	p := e.strand
	s.env = e
	s.Row = Row{
		ID:        p.ID,
		Kind:      p.Kind,
		Label:     p.Label,
		Try:       int(p.Try),
		MaxTries:  int(p.MaxTries),
		Tenant:    p.Tenant,
		Queue:     p.Queue,
		Priority:  int(p.Priority),
		Tags:      p.Tags,
		Metadata:  p.Metadata,
		CreatedAt: time.UnixMilli(p.CreatedMS),
	}
	if err := json.Unmarshal(e.stack.args, &s.Args); err != nil {
		return fmt.Errorf("decode the args of strand %s into %T: %w", p.ID, s.Args, err)
	}
	return nil
}

// newArgs is an empty value of an args type; of a pointer type, a pointer to an empty value, so that Kind can be asked.
func newArgs[T Args]() (T, error) {
	var zero T
	t := reflect.TypeFor[T]()
	switch t.Kind() {
	case reflect.Interface:
		return zero, errors.New("args must be a concrete type such as a struct, not an interface")
	case reflect.Pointer:
		return reflect.New(t.Elem()).Interface().(T), nil
	}
	return zero, nil
}
