package worker

import (
	"context"
	"time"
)

// StartLabel is the label of a strand that was inserted without one.
const StartLabel = "start"

// Prog is the program of a kind whose strands go through several steps. A strand is at one label at a time, which is
// stored with it: after a crash or a deploy it goes on at that label.
type Prog[T Args] struct {
	// Start is the label where new strands begin; "" = the label called "start".
	Start string
	// Labels are the steps. They run concurrently, for different strands.
	Labels map[string]Label[T]
	// Timeout is how long one run of a label may take: 0 = [Config.Timeout], negative = no limit.
	Timeout time.Duration
}

// Label is one step of a [Prog]. It says how the strand goes on by returning [Hop], [Nap] or [Exit], or an error, which
// means what it means for [Worker]. With an error the outcome does not count.
type Label[T Args] func(ctx context.Context, s *Strand[T]) (Outcome, error)

// Outcome is how a strand goes on after a label. Make one with [Exit], [Nap] or [Hop]; the zero Outcome is an error.
// It takes effect when the broker has stored it, together with every [Insert] of that run, or not at all.
type Outcome struct {
	step  step
	delay time.Duration
	label string // hop
	kind  string // hop to another kind
	value any    // exit
	args  any    // the new frame 0, where framed
	frame bool   // args is set
}

type step uint8

const (
	stepNone step = iota
	stepExit
	stepNap
	stepHop
)

// Exit finishes the strand. value is kept as JSON with it, where its queue keeps history; nil is fine.
func Exit(value any) Outcome { return Outcome{step: stepExit, value: value} }

// Nap lets the strand run the same label again after d. It holds no slot and no process meanwhile.
func Nap(d time.Duration) Outcome { return Outcome{step: stepNap, delay: max(d, 0)} }

// Hop lets the strand go on at another label, at once unless [Outcome.After] says otherwise.
func Hop(label string) Outcome { return Outcome{step: stepHop, label: label} }

// After delays a hop.
func (o Outcome) After(d time.Duration) Outcome {
	o.delay = max(d, 0)
	return o
}

// With stores args for the runs to come: they see them in Strand.Args. Changes that a label makes to Strand.Args itself
// are not stored. It is for [Nap] and [Hop].
func (o Outcome) With(args any) Outcome {
	o.args, o.frame = args, true
	return o
}

// To hops to a label of another kind. The strand keeps its args unless [Outcome.With] replaces them.
func (o Outcome) To(kind string) Outcome {
	o.kind = kind
	return o
}
