package worker

import (
	"errors"
	"fmt"
	"time"

	"github.com/respirated/respirated/protocol"
)

// RegisterDeadline says that the frame which runs should have reached a label of its kind after d. It is stored with the
// outcome of this run, a nap or a hop; the last call counts. A nap ends by then, so that the label can act. When it has
// passed, a page is opened for people, once; it is resolved when the frame reaches the label, returns, gets a deadline for
// another label, or the strand ends. Brokers look every 15 s for deadlines that have passed; what is late by less has a page that is
// opened and resolved at once.
//
// Of two deadlines for one label the earlier counts; see [Strand.ExtendDeadline]. One for another label replaces what there was.
func (s *Strand[T]) RegisterDeadline(label string, d time.Duration) error {
	return s.env.register(label, d, 0)
}

// ExtendDeadline is [Strand.RegisterDeadline], but may put off a deadline for the same label that is there already: to d
// from now, and no further than most after it was first registered. One that has passed by a few seconds, and has no page yet, is
// put off as well.
func (s *Strand[T]) ExtendDeadline(label string, d, most time.Duration) error {
	return s.env.register(label, d, most)
}

func (e *env) register(label string, d, most time.Duration) error {
	err := e.do(func() error {
		if !e.program.has(label) {
			return e.program.noLabel(label)
		}
		e.due = &protocol.Due{Target: label, MS: milliseconds(d), MostMS: milliseconds(most)}
		return nil
	})
	if err != nil {
		return fmt.Errorf("register a deadline: %w", err)
	}
	return nil
}

// setDue adds the deadline to a result. It is the frame's that ran, so one that returns has none.
func (e *env) setDue(r *protocol.Result, step step) error {
	switch {
	case e.due == nil || step == stepPop:
		return nil
	case step == stepPush:
		return errors.New("a run that pushes cannot register a deadline, as that would be one of the new frame; register it there, or a run earlier")
	}
	r.Due = e.due
	return nil
}
