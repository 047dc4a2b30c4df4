package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/respirated/respirated/broker/supervisor"
)

// hookConfig is a command that is run for some events of workers, with the event as JSON on its standard input.
type hookConfig struct {
	On      []eventName `yaml:"on"` // none = all
	Command []string    `yaml:"command"`
}

// eventName is a kind of event in a configuration file.
type eventName supervisor.EventKind

// UnmarshalYAML takes the name of an event that there is.
func (e *eventName) UnmarshalYAML(node ast.Node) error {
	kinds := supervisor.EventKinds()
	if kind := supervisor.EventKind(scalar(node)); slices.Contains(kinds, kind) {
		*e = eventName(kind)
		return nil
	}
	names := make([]string, len(kinds))
	for i, kind := range kinds {
		names[i] = string(kind)
	}
	return misplaced(node, "an event: "+strings.Join(names, ", "))
}

func (h hookConfig) check() error {
	if len(h.Command) == 0 || h.Command[0] == "" {
		return errors.New("a hook has no command: give one, such as [/usr/local/bin/tell]")
	}
	if _, err := exec.LookPath(h.Command[0]); err != nil {
		return fmt.Errorf("command %q of a hook cannot be run: %w", h.Command[0], err)
	}
	return nil
}

const (
	hookTime  = 30 * time.Second // for one run of a command
	hookQueue = 100              // events that wait for one command
)

// hooks run the commands of a configuration. Each command runs once at a time, so that it sees events in order; those of
// different hooks run beside each other. Events for which a command is too slow are dropped, and the log says how many.
type hooks struct {
	log   *slog.Logger
	limit time.Duration // hookTime but in tests
	all   []*hook
}

type hook struct {
	hookConfig
	events chan supervisor.Event

	mu      sync.Mutex // guards dropped
	dropped int        // since the command was last run
}

func newHooks(configs []hookConfig, log *slog.Logger) (*hooks, error) {
	h := &hooks{log: log, limit: hookTime}
	for _, c := range configs {
		if err := c.check(); err != nil {
			return nil, err
		}
		h.all = append(h.all, &hook{hookConfig: c, events: make(chan supervisor.Event, hookQueue)})
	}
	return h, nil
}

// Event hands an event to the commands that want it. It never blocks.
func (h *hooks) Event(ev supervisor.Event) {
	for _, one := range h.all {
		if len(one.On) > 0 && !slices.Contains(one.On, eventName(ev.Kind)) {
			continue
		}
		select {
		case one.events <- ev:
		default:
			one.mu.Lock()
			one.dropped++
			one.mu.Unlock()
		}
	}
}

// Run runs commands until ctx ends. What has happened by then is told, too, as far as the time of one run suffices.
func (h *hooks) Run(ctx context.Context) error {
	commands, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(h.limit, cancel) })()
	var all sync.WaitGroup
	for _, one := range h.all {
		all.Go(func() { h.serve(ctx, commands, one) })
	}
	all.Wait()
	return nil
}

func (h *hooks) serve(ctx, commands context.Context, one *hook) {
	for ctx.Err() == nil {
		select {
		case ev := <-one.events:
			h.execute(commands, one, ev)
		case <-ctx.Done():
		}
	}
	for {
		select {
		case ev := <-one.events:
			h.execute(commands, one, ev)
		default:
			return
		}
	}
}

func (h *hooks) execute(ctx context.Context, one *hook, ev supervisor.Event) {
	log := h.log.With("event", ev.Kind, "command", one.Command[0])
	one.mu.Lock()
	if one.dropped > 0 {
		log.Warn("events were not told: the command of the hook is too slow", "dropped", one.dropped)
		one.dropped = 0
	}
	one.mu.Unlock()
	text, err := json.Marshal(ev)
	if err != nil {
		panic("bug: an event that is no JSON: " + err.Error())
	}
	said, err := runCommandOn(ctx, one.Command, append(text, '\n'), h.limit)
	switch {
	case err != nil:
		log.Warn("hook failed", "pool", ev.Pool, "index", ev.Index, "error", err)
	case said != "":
		log.Info("hook has run", "pool", ev.Pool, "index", ev.Index, "said", said)
	default:
		log.Debug("hook has run", "pool", ev.Pool, "index", ev.Index)
	}
}
