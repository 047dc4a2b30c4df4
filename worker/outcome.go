package worker

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/respirated/respirated/protocol"
)

// encode is the result of a handler that returned an outcome, with all that its run has collected.
func (h *handler) encode(e *env, o Outcome) (result protocol.Result, err error) {
	if err := o.check(); err != nil {
		return result, err
	}
	if o.step == stepExit || o.step == stepPop && len(e.stack.callers) == 0 {
		result.Act = protocol.ActExit
		result.Value, err = exitValue(o.value)
	} else {
		result, err = h.goOn(e, o)
	}
	if err != nil {
		return result, err
	}
	return result, e.store(&result)
}

// goOn is the result of an outcome after which something runs.
func (h *handler) goOn(e *env, o Outcome) (r protocol.Result, err error) {
	s := e.stack
	if err := s.renew(o); err != nil {
		return r, err
	}
	r.Act = protocol.ActHop
	switch o.step {
	case stepNap:
		r.Act = protocol.ActNap
	case stepHop:
		r.Label, r.NewKind, err = h.hop(e, o)
	case stepPush:
		r.Label, r.NewKind, err = h.push(e, &s, o)
	case stepPop:
		r.Label, r.NewKind, err = pop(&s, o)
	}
	if err != nil {
		return r, err
	}
	if o.delay > 0 || o.step == stepNap {
		r.DelayMS = delay(o.delay)
	}
	if r.NewKind == e.strand.Kind {
		r.NewKind = ""
	}
	r.Frame = uint64(len(s.callers))
	if s.changed {
		if r.Stack, err = s.encode(); err != nil {
			return r, err
		}
	}
	return r, e.setDue(&r, o.step)
}

// hop is where a strand goes on that hops.
func (h *handler) hop(e *env, o Outcome) (label, kind string, err error) {
	target := e.program
	if o.kind != "" {
		target = h.programs[o.kind]
	}
	return o.label, o.kind, h.checkHop("hop", target, o.kind, o.label)
}

// push is where a frame starts that is put on the stack.
func (h *handler) push(e *env, s *stack, o Outcome) (label, kind string, err error) {
	if o.push == nil {
		return "", "", errors.New("push: args is nil")
	}
	label, kind = cmp.Or(o.at, StartLabel), o.push.Kind()
	if err := checkName("kind", kind); err != nil {
		return "", "", fmt.Errorf("push: %w", err)
	}
	if err := h.checkHop("push", h.programs[kind], kind, label); err != nil {
		return "", "", err
	}
	then := cmp.Or(o.then, e.strand.Label)
	if !e.program.has(then) {
		return "", "", fmt.Errorf("push: the label to go on at: %w", e.program.noLabel(then))
	}
	args, err := json.Marshal(o.push)
	if err != nil {
		return "", "", fmt.Errorf("push: encode args %T: %w", o.push, err)
	}
	if err := s.push(args, e.strand.Kind, then); err != nil {
		return "", "", fmt.Errorf("push %q: %w", kind, err)
	}
	return label, kind, nil
}

// pop is where a strand goes on when its top frame returns. The target is not checked: it was when the frame was pushed,
// and if this worker does not have it any more, another may.
func pop(s *stack, o Outcome) (label, kind string, err error) {
	value, err := exitValue(o.value)
	if err != nil {
		return "", "", err
	}
	if value == nil {
		value = []byte("null")
	}
	to, err := s.pop(value)
	return to.Label, to.Kind, err
}

// checkHop refuses a target that nobody could run, as far as this process knows: p is nil where another may serve its kind.
func (h *handler) checkHop(what string, p *program, kind, label string) error {
	err := checkName("label", label)
	if kind != "" {
		err = errors.Join(err, checkName("kind", kind))
	}
	if err == nil && p != nil && !p.has(label) {
		err = p.noLabel(label)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
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
