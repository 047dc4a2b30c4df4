package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/respirated/respirated/protocol"
)

// StartLabel is the label of a strand that was inserted without one.
const StartLabel = "start"

// DestroyLabel is the label that the signal "destroy" leads to, see [Prog].
const DestroyLabel = "destroy"

// Prog is the program of a kind whose strands go through several steps. A strand is at one label at a time, which is
// stored with it: after a crash or a deploy it goes on at that label. Where a worker gets a strand at a label that its
// program does not have, as while two builds run side by side, it gives it back for [ParkTime] without a try used up.
//
// The signal "destroy" ends a strand early and in order. When one waits at the begin of a run, it is taken, and the strand
// hops to the label "destroy" instead; from then on the semaphore "destroying" waits, and another "destroy" is ignored.
// A program without that label exits instead. Frames that were pushed return to their callers first.
type Prog[T Args] struct {
	// Start is the label where new strands begin; "" = the label called "start".
	Start string
	// Labels are the steps. They run concurrently, for different strands.
	Labels map[string]Label[T]
	// Timeout is how long one run of a label may take: 0 = [Config.Timeout], negative = no limit.
	Timeout time.Duration
	// Isolate gives each strand of the kind a process of its own while it runs.
	Isolate bool
	// BeforeRun is called before each label. If it returns an outcome, that counts and the label does not run; with the
	// zero Outcome the label runs; nil = none.
	BeforeRun Label[T]
	// BeforeDestroy is called in the run that obeys the signal "destroy", in the last frame; nil = none.
	BeforeDestroy func(ctx context.Context, s *Strand[T]) error
	// IgnoreDestroy makes "destroy" a signal like any other.
	IgnoreDestroy bool
}

// Label is one step of a [Prog]. It says how the strand goes on by returning [Hop], [Nap], [Hibernate], [Push], [Pop] or
// [Exit], or an error, which means what it means for [Worker]. With an error the outcome does not count, and nothing is kept of
// what the run has inserted, signalled, taken or reaped.
type Label[T Args] func(ctx context.Context, s *Strand[T]) (Outcome, error)

// Outcome is how a strand goes on after a label; the zero Outcome is an error. It takes effect when the broker has stored
// it, together with every [Insert], [Bud] and [Signal] of that run and all that it has taken and reaped, or not at all.
//
// After a [Hop], [Push] or [Pop], or a [Nap] of 0, the next label runs at once in the same worker and under the same
// lease, for a quarter of the lease at most; before it does, the outcome is in the database.
type Outcome struct {
	step  step
	delay time.Duration
	label string // hop
	kind  string // hop to another kind
	value any    // exit, pop
	args  any    // the new args of the frame, where framed
	frame bool   // args is set
	push  Args   // push: of the new frame
	at    string // push: where it starts; "" = StartLabel
	then  string // push: where the caller goes on; "" = where it is
}

type step uint8

const (
	stepNone step = iota
	stepExit
	stepNap
	stepHop
	stepPush
	stepPop
)

// Exit finishes the strand, from whatever frame. value is kept as JSON with it, where its queue keeps history or a parent
// waits for it; nil is fine.
func Exit(value any) Outcome { return Outcome{step: stepExit, value: value} }

// Nap lets the strand run the same label again after d. It holds no slot and no process meanwhile.
func Nap(d time.Duration) Outcome { return Outcome{step: stepNap, delay: max(d, 0)} }

// Hibernate lets the strand run the same label again when something wakes it: a signal, the end of its last child, an
// operator, or its deadline. It wakes, too, for what came while this run was going on.
func Hibernate() Outcome { return Nap(protocol.MaxDuration) }

// Hop lets the strand go on at another label, at once unless [Outcome.After] says otherwise.
func Hop(label string) Outcome { return Outcome{step: stepHop, label: label} }

// Push runs a program of another kind, or of the same, as part of this strand: a frame with these args is put on top of its
// stack, at the label "start" unless [Outcome.At] names another. When it returns with [Pop], or as a [Worker] that is done,
// the strand goes on in the frame that pushed, at the same label, or the one of [Outcome.Then]; there [Returned] has the
// value. There may be 64 frames.
func Push(args Args) Outcome { return Outcome{step: stepPush, push: args} }

// Pop returns from a frame to the one that pushed it, with a value that is encoded as JSON. In the last frame it is [Exit].
func Pop(value any) Outcome { return Outcome{step: stepPop, value: value} }

// At is the label where a pushed frame starts.
func (o Outcome) At(label string) Outcome {
	o.at = label
	return o
}

// Then is the label at which the frame that pushes goes on when the other has returned.
func (o Outcome) Then(label string) Outcome {
	o.then = label
	return o
}

// After delays a hop or a push.
func (o Outcome) After(d time.Duration) Outcome {
	o.delay = max(d, 0)
	return o
}

// With stores args for the runs to come of this frame: they see them in Strand.Args. Changes that a label makes to
// Strand.Args itself are not stored. It is for [Nap], [Hop] and [Push].
func (o Outcome) With(args any) Outcome {
	o.args, o.frame = args, true
	return o
}

// To hops to a label of another kind. The strand keeps its args unless [Outcome.With] replaces them.
func (o Outcome) To(kind string) Outcome {
	o.kind = kind
	return o
}

// check refuses what does not go together.
func (o Outcome) check() error {
	switch {
	case o.step == stepNone:
		return errors.New("the label returned neither an outcome nor an error; return Exit, Nap or Hop, for instance")
	case (o.at != "" || o.then != "") && o.step != stepPush:
		return errors.New("At and Then go with Push only")
	case o.kind != "" && o.step == stepNap:
		return errors.New("Nap takes no To, as the strand stays where it is; use Hop")
	case o.kind != "" && o.step == stepPush:
		return errors.New("Push takes no To, as its args name the kind")
	case (o.kind != "" || o.frame || o.delay > 0) && o.step == stepExit:
		return errors.New("Exit takes no After, With or To, as nothing runs after it")
	case (o.kind != "" || o.frame || o.delay > 0) && o.step == stepPop:
		return errors.New("Pop takes no After, With or To, as the frame is over")
	}
	return nil
}

// Returned is the value that the frame above has returned with [Pop]; nil = none has. Only the run that follows the return
// sees it, as often as it is tried.
func Returned[V any, T Args](s *Strand[T]) (*V, error) {
	if s.env == nil || s.env.stack.ret == nil {
		return nil, nil
	}
	v, err := Decode[V](s.env.stack.ret)
	if err != nil {
		return nil, fmt.Errorf("what the frame above returned: %w", err)
	}
	return &v, nil
}
