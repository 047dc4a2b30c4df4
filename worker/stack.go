package worker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/respirated/respirated/protocol"
)

// stack has the frames of a strand as section 7 of PROTOCOL.md lays them out. The zero stack is that of a strand which
// has no args and no callers.
type stack struct {
	args    json.RawMessage   // of the frame that runs
	ret     json.RawMessage   // what the frame above it has returned, in the run that follows; nil = none has
	callers []json.RawMessage // each a caller, the last one first
	changed bool              // it is not as it is stored
}

// caller is where to go on when a frame returns.
type caller struct {
	Kind  string          `json:"kind"`
	Label string          `json:"label"`
	Args  json.RawMessage `json:"args"`
}

// returnedValue is the element of a stack that has the value of the frame above.
type returnedValue struct {
	Ret json.RawMessage `json:"ret"`
}

// readStack takes a strand's stack apart. One that has none stored yet runs its first frame, with its args.
func readStack(p *protocol.Strand) (stack, error) {
	if len(p.Stack) == 0 {
		return firstFrame(p), nil
	}
	var frames []json.RawMessage
	if err := json.Unmarshal(p.Stack, &frames); err != nil {
		return stack{}, fmt.Errorf("decode the stack of strand %s, which should be a JSON array: %w", p.ID, err)
	}
	if len(frames) == 0 {
		return firstFrame(p), nil
	}
	s := stack{args: frames[0], callers: frames[1:]}
	if len(s.callers) == 0 {
		return s, nil
	}
	var second map[string]json.RawMessage
	if json.Unmarshal(s.callers[0], &second) != nil { // a caller that cannot be read is a fault once it is returned to
		return s, nil
	}
	if ret, ok := second["ret"]; ok && len(second) == 1 {
		s.ret, s.callers = ret, s.callers[1:]
	}
	return s, nil
}

// firstFrame is the stack of a strand that none has been stored of.
func firstFrame(p *protocol.Strand) stack {
	if len(bytes.TrimSpace(p.Args)) == 0 {
		return stack{args: json.RawMessage("{}")}
	}
	return stack{args: p.Args}
}

// encode is the stack as it is stored.
func (s *stack) encode() ([]byte, error) {
	frames := make([]json.RawMessage, 1, 2+len(s.callers))
	frames[0] = s.args
	if s.ret != nil {
		ret, err := json.Marshal(returnedValue{s.ret})
		if err != nil {
			return nil, fmt.Errorf("encode the returned value: %w", err)
		}
		frames = append(frames, ret)
	}
	return json.Marshal(append(frames, s.callers...))
}

// renew makes the stack that of the runs to come: with new args, if the outcome has some, and without what was there for
// this run.
func (s *stack) renew(o Outcome) error {
	s.changed = o.frame || s.ret != nil
	s.ret = nil
	if !o.frame {
		return nil
	}
	args, err := json.Marshal(o.args)
	if err != nil {
		return fmt.Errorf("encode the new args: %w", err)
	}
	s.args = args
	return nil
}

// push puts a new frame on top, below which the present one waits at a label of its kind.
func (s *stack) push(args json.RawMessage, kind, label string) error {
	if 1+len(s.callers) >= protocol.MaxFrames {
		return fmt.Errorf("the stack has %d frames already, the most there may be, of %s: do they push each other without an end?",
			1+len(s.callers), s.kinds(kind))
	}
	below, err := json.Marshal(caller{kind, label, s.args})
	if err != nil {
		return fmt.Errorf("encode the frame that pushes: %w", err)
	}
	*s = stack{args: args, callers: append([]json.RawMessage{below}, s.callers...), changed: true}
	return nil
}

// kinds names the kinds of all frames, each once.
func (s *stack) kinds(top string) string {
	names := []string{fmt.Sprintf("%q", top)}
	for _, raw := range s.callers {
		var c caller
		if json.Unmarshal(raw, &c) != nil {
			continue
		}
		if name := fmt.Sprintf("%q", c.Kind); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return "the kinds " + strings.Join(names, ", ")
}

// pop takes the top frame off, which returns ret, and tells where the one below goes on.
func (s *stack) pop(ret json.RawMessage) (caller, error) {
	var c caller
	if err := json.Unmarshal(s.callers[0], &c); err != nil {
		return c, fmt.Errorf("decode the frame to return to: %w", err)
	}
	if err := errors.Join(checkName("kind", c.Kind), checkName("label", c.Label)); err != nil {
		return c, fmt.Errorf("the frame to return to: %w", err)
	}
	if c.Args == nil {
		c.Args = json.RawMessage("{}")
	}
	*s = stack{args: c.Args, ret: ret, callers: s.callers[1:], changed: true}
	return c, nil
}
