package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/respirated/respirated/worker"
)

// Provision sets up a machine: it buds a Part for each thing that it needs, reaps them, waits for the signal "booted", and
// exits. It should be ready within a time, or a page tells people; where the signal does not come it gives up. The
// signal "destroy" takes everything down in order, wherever it is.
type Provision struct {
	Parts  []string `json:"parts,omitempty"`  // default: disk, address and machine, which boots
	For    Duration `json:"for,omitempty"`    // how long a part takes; 0 = 100 ms
	Boot   Duration `json:"boot,omitempty"`   // how long to wait for the signal; 0 = 1 min
	Within Duration `json:"within,omitempty"` // when it should be ready; 0 = 1 min

	Budded []string `json:"budded,omitempty"` // the parts, by id
	Ready  []string `json:"ready,omitempty"`  // what they have said
}

// Kind is "provision".
func (Provision) Kind() string { return "provision" }

func provisionProg() worker.Prog[Provision] {
	return worker.Prog[Provision]{Labels: map[string]worker.Label[Provision]{
		"start":   provisionStart,
		"parts":   provisionParts,
		"boot":    provisionBoot,
		"ready":   provisionReady,
		"destroy": provisionDestroy,
		"gone":    provisionGone,
	}}
}

func provisionStart(ctx context.Context, s *worker.Strand[Provision]) (worker.Outcome, error) {
	p := s.Args
	if len(p.Parts) == 0 {
		p.Parts = []string{"disk", "address", "machine"}
	}
	for _, name := range p.Parts {
		part := Part{Name: name, For: p.For}
		if name == "machine" {
			part.Boots = s.ID
		}
		id, err := worker.Bud(ctx, part, nil)
		if err != nil {
			return worker.Outcome{}, err
		}
		p.Budded = append(p.Budded, id)
	}
	return worker.Hop("parts").With(p), s.RegisterDeadline("ready", p.Within.or(time.Minute))
}

func provisionParts(_ context.Context, s *worker.Strand[Provision]) (worker.Outcome, error) {
	p := s.Args
	var failed error
	// It says in any case how to go on: with a nap, or with the hop.
	o, _ := s.Reap(worker.ReapOpts{Hop: "boot", Each: func(c worker.Child) {
		said, err := worker.Decode[string](c.Value)
		if c.State != worker.ChildDone {
			err = fmt.Errorf("part %s has ended as %s", c.ID, c.State)
		}
		p.Ready, failed = append(p.Ready, said), errors.Join(failed, err)
	}})
	if failed != nil {
		return worker.Outcome{}, worker.Dead(failed)
	}
	return o.With(p), nil
}

func provisionBoot(_ context.Context, s *worker.Strand[Provision]) (worker.Outcome, error) {
	switch booted, left := s.Await("booted", s.Args.Boot.or(time.Minute)); {
	case booted != nil:
		return worker.Hop("ready"), nil
	case left > 0:
		return worker.Nap(left), nil
	}
	return worker.Outcome{}, worker.Dead(errors.New("the machine does not boot"))
}

func provisionReady(_ context.Context, s *worker.Strand[Provision]) (worker.Outcome, error) {
	return worker.Exit(s.Args.Ready), nil
}

// provisionDestroy tells the parts to go. Those that have ended already are passed over.
func provisionDestroy(ctx context.Context, s *worker.Strand[Provision]) (worker.Outcome, error) {
	for _, id := range s.Args.Budded {
		if err := worker.Signal(ctx, id, "destroy", nil); err != nil {
			return worker.Outcome{}, err
		}
	}
	return worker.Hop("gone"), nil
}

func provisionGone(_ context.Context, s *worker.Strand[Provision]) (worker.Outcome, error) {
	if o, wait := s.Reap(worker.ReapOpts{}); wait {
		return o, nil
	}
	return worker.Exit("destroyed"), nil
}

// Part is a child of Provision. It takes its time without taking anything else, and says that it is there. The signal
// "destroy" ends it at once.
type Part struct {
	Name  string   `json:"name"`
	For   Duration `json:"for,omitempty"`   // 0 = 100 ms
	Boots string   `json:"boots,omitempty"` // the strand to be told that the machine has booted
}

// Kind is "part".
func (Part) Kind() string { return "part" }

func partProg() worker.Prog[Part] {
	return worker.Prog[Part]{Labels: map[string]worker.Label[Part]{
		"start": func(_ context.Context, s *worker.Strand[Part]) (worker.Outcome, error) {
			return worker.Hop("there").After(s.Args.For.or(100 * time.Millisecond)), nil
		},
		"there": func(ctx context.Context, s *worker.Strand[Part]) (worker.Outcome, error) {
			if s.Args.Boots != "" {
				if err := worker.Signal(ctx, s.Args.Boots, "booted", s.Args.Name); err != nil {
					return worker.Outcome{}, err
				}
			}
			return worker.Exit(s.Args.Name), nil
		},
	}}
}
