package supervisor

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// hookTo hands events to a test.
type hookTo chan Event

func (h hookTo) Event(ev Event) { h <- ev }

// stuckHook takes in nothing until it is closed.
type stuckHook chan struct{}

func (h stuckHook) Event(Event) { <-h }

// short is an event as a test names it.
func short(ev Event) string {
	return strings.TrimSpace(fmt.Sprintf("%s %s/%d %s", ev.Kind, ev.Pool, ev.Index, ev.Text))
}

// expectEvents takes as many events as are wanted and compares them in order.
func (h *host) expectEvents(from hookTo, want ...string) (got []Event) {
	h.t.Helper()
	for i, w := range want {
		ev := receive(h.t, "event "+w, from)
		if short(ev) != w || ev.At.IsZero() {
			h.t.Errorf("event %d is %q at %v, want %q", i, short(ev), ev.At, w)
		}
		got = append(got, ev)
	}
	return got
}

func TestHookIsToldOfEachWorkersLifeInOrder(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "dying", "x", "15"))
	events := make(hookTo, 100)
	h.cfg.Hook = events
	h.run()
	first := h.hello()
	got := h.expectEvents(events, "spawn a/0", "connect a/0")
	if got[0].PID != first.PID || got[1].PID != first.PID {
		t.Errorf("events are of pids %d and %d, want %d", got[0].PID, got[1].PID, first.PID)
	}
	h.hangUp(first)
	if ev := h.expectEvents(events, "exit a/0 signal: terminated")[0]; ev.PID != first.PID {
		t.Errorf("the exit is of pid %d, want %d", ev.PID, first.PID)
	}
	h.expectEvents(events, "spawn a/0", "connect a/0")
	h.sup.Idle()
	h.expectEvents(events, "idle /0")
}

func TestHookIsToldOfAHaltOnce(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "exit", "78"))
	events := make(hookTo, 100)
	h.cfg.Hook = events
	h.run()
	h.expectEvents(events, "spawn a/0", "exit a/0 exit status 78", "halt a/0 a worker says by exit status 78 that its configuration is wrong")
	h.end()
	if len(events) > 0 {
		t.Errorf("got %q, too", short(<-events))
	}
}

func TestHookThatNeverReturnsHoldsUpNobodyAndWhatIsLostIsLogged(t *testing.T) {
	h := newHost(t, "", poolAs("a", 2, "steady"))
	stuck := make(stuckHook)
	h.cfg.Hook = stuck
	h.run()
	t.Cleanup(func() { close(stuck) }) // before the end of the supervisor, which waits for the hook
	victim := h.hello()
	h.hello()
	for range 2 * mostEvents {
		h.sup.Idle()
	}
	if err := syscall.Kill(victim.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if e := h.exit(); e.PID != victim.PID {
		t.Errorf("got the death of %d, want of %d", e.PID, victim.PID)
	}
	h.hello() // its successor
	if waiting := len(h.sup.news.take()); waiting > mostEvents {
		t.Errorf("%d events wait, at most %d may", waiting, mostEvents)
	}
	if !h.sup.lost.Load() {
		t.Error("nobody says that events were dropped")
	}
}

func TestHookIsToldOfAdoptionAndOfTheReturn(t *testing.T) {
	h := newHost(t, "", poolAs("a", 1, "steady"))
	before := h.formerDaemon()
	events := make(hookTo, 100)
	h.cfg.Hook = events
	h.run()
	if got := h.expectEvents(events, "adopt a/0", "connect a/0"); got[0].PID != before[0].PID {
		t.Errorf("process %d is adopted, want %d", got[0].PID, before[0].PID)
	}
}

func TestHookIsToldOfACrashLoop(t *testing.T) {
	h := newHost(t, "", poolAs("a", 3, "exit", "3"))
	events := make(hookTo, 1000)
	h.cfg.Hook = events
	h.run()
	for deaths := 0; ; {
		switch ev := receive(t, "event", events); ev.Kind {
		case EventExit:
			deaths++
		case EventLoop:
			if deaths != enough || ev.Pool != "a" || !strings.Contains(ev.Text, "one is tried each 30s") {
				t.Errorf("got %q after %d deaths", short(ev), deaths)
			}
			return
		}
	}
}
