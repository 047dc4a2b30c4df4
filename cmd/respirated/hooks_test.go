package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/respirated/respirated/broker/supervisor"
)

// runHooks runs hooks until the end of the test, or until stop is called, which waits for them.
func runHooks(t *testing.T, limit time.Duration, configs ...hookConfig) (h *hooks, log *pageRoom, stop func()) {
	t.Helper()
	log = &pageRoom{}
	h, err := newHooks(configs, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	h.limit = limit
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- h.Run(ctx); close(over) }()
	stop = func() {
		cancel()
		if err := <-over; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return h, log, stop
}

func sh(command string) []string { return []string{"/bin/sh", "-c", command} }

func TestHookCommandsReadTheirEventsInOrderAlsoThoseOfTheEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h, log, stop := runHooks(t, patience,
		hookConfig{On: []eventName{"exit"}, Command: sh("cat >> " + dir + "/exits")},
		hookConfig{Command: sh("cat >> " + dir + "/all")})
	for i := range 20 {
		h.Event(supervisor.Event{Kind: supervisor.EventSpawn, Pool: "a", Index: i, PID: 7})
		h.Event(supervisor.Event{Kind: supervisor.EventExit, Pool: "a", Index: i, Text: "signal: killed"})
	}
	stop()
	for file, want := range map[string]int{"exits": 20, "all": 40} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
		if err != nil || len(lines) != want {
			t.Fatalf("%s has %d lines (%v), want %d", file, len(lines), err, want)
		}
		for i, line := range lines {
			if index := fmt.Sprintf(`"index":%d,`, i/(want/20)); !strings.Contains(line, index) {
				t.Errorf("line %d of %s is %s, want it with %s", i, file, line, index)
			}
		}
	}
	if said := log.logged(); said != "" {
		t.Errorf("logged\n%s", said)
	}
}

func TestHookCommandThatFailsOrIsTooSlowIsLoggedAndHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	gate := filepath.Join(t.TempDir(), "gate")
	h, log, _ := runHooks(t, patience,
		hookConfig{On: []eventName{"idle"}, Command: sh("until [ -e " + gate + " ]; do sleep 0.05; done")},
		hookConfig{On: []eventName{"halt"}, Command: sh("echo said; exit 4")})
	for range 5 * hookQueue {
		h.Event(supervisor.Event{Kind: supervisor.EventIdle})
	}
	h.Event(supervisor.Event{Kind: supervisor.EventHalt, Pool: "a"})
	log.await(t, "exit status 4; it said: said")
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	log.await(t, "command of the hook is too slow")
}

func TestHookCommandThatHangsIsEndedWithAllThatItHasStarted(t *testing.T) {
	t.Parallel()
	h, log, stop := runHooks(t, 50*time.Millisecond, hookConfig{Command: sh("sleep 1000.75 & sleep 1000.75")})
	h.Event(supervisor.Event{Kind: supervisor.EventIdle})
	log.await(t, "it has taken longer than 50ms")
	stop()
	if pids := processesWith("1000.75"); len(pids) > 0 {
		t.Errorf("left %v", pids)
	}
}

func TestHookWithoutACommandThatCanBeRunIsRefused(t *testing.T) {
	for want, c := range map[string]hookConfig{
		"a hook has no command":         {},
		`command "/no/where" of a hook`: {Command: []string{"/no/where"}},
	} {
		if _, err := newHooks([]hookConfig{c}, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
