package supervisor

import "time"

// Hook gets to know what happens to the workers of this host.
type Hook interface {
	// Event is called for one event after the other, in the order in which they happened. Nothing waits for it but the
	// next call and the end of Run. Of one that takes so long that more than 4096 wait, the newest are dropped, and
	// the log says so.
	Event(Event)
}

// Event is something that happened to a worker, to a pool, or to all workers of this host.
type Event struct {
	At    time.Time `json:"at"`
	Kind  EventKind `json:"event"`
	Pool  string    `json:"pool,omitempty"` // "" = it concerns all pools
	Index int       `json:"index"`          // of the seat in its pool
	PID   int       `json:"pid,omitempty"`  // 0 = it concerns no single process
	Text  string    `json:"text,omitempty"` // for people: how it ended, why it is recycled
}

// EventKind says what has happened.
type EventKind string

// The kinds of events.
const (
	EventSpawn   EventKind = "spawn"      // a process was started
	EventConnect EventKind = "connect"    // a process has said hello for the first time
	EventExit    EventKind = "exit"       // a process has ended; Text says how
	EventAdopt   EventKind = "adopt"      // a process of a former daemon is ours now
	EventRecycle EventKind = "recycle"    // a process is replaced by another one of its pool; Text says why
	EventRoll    EventKind = "roll"       // a pool goes over to another build, has done so, or has given up; Text says which
	EventHalt    EventKind = "halt"       // a pool starts nothing more; Text says why
	EventLoop    EventKind = "crash-loop" // the processes of a pool die again and again, or one lives again; Text says which
	EventIdle    EventKind = "idle"       // for a second no worker has held a strand, and none was at hand; told once until one was
)

// EventKinds are all there are.
func EventKinds() []EventKind {
	return []EventKind{EventSpawn, EventConnect, EventExit, EventAdopt, EventRecycle, EventRoll, EventHalt, EventLoop, EventIdle}
}

// mostEvents may wait for a hook.
const mostEvents = 4096

// tell tells the hook. It never blocks.
func (s *Supervisor) tell(ev Event) {
	if s.cfg.Hook == nil {
		return
	}
	if ev.At.IsZero() {
		ev.At = time.Now()
	}
	if waiting := s.news.putUpTo(ev, mostEvents); !waiting && s.lost.CompareAndSwap(false, true) {
		s.cfg.Log.Error("events are dropped: the hook does not keep up", "waiting", mostEvents)
	}
}

// Idle tells that all workers of this host are idle. It never blocks.
func (s *Supervisor) Idle() { s.tell(Event{Kind: EventIdle}) }

// tellHook calls the hook from a goroutine of its own, so that it may be slow.
func (s *Supervisor) tellHook() {
	for open := true; open; {
		_, open = <-s.news.wake
		for _, ev := range s.news.take() {
			s.cfg.Hook.Event(ev)
		}
		s.lost.Store(false)
	}
}
