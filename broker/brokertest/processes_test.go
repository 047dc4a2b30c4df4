package brokertest

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"testing/synctest"

	"github.com/respirated/respirated/broker"
)

var _ broker.Processes = (*Processes)(nil)

// watched runs test with processes and the deaths that were told, in a bubble.
func watched(t *testing.T, test func(p *Processes, deaths func() []broker.WorkerExit)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := NewProcesses()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		var told []broker.WorkerExit
		go func() { ended <- p.Run(ctx, func(e broker.WorkerExit) { told = append(told, e) }) }()
		test(p, func() []broker.WorkerExit {
			synctest.Wait()
			return told
		})
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("run: got error %v, want %v", err, context.Canceled)
		}
	})
}

func TestProcessThatDiesIsToldOnce(t *testing.T) {
	watched(t, func(p *Processes, deaths func() []broker.WorkerExit) {
		key := p.Start()
		p.Connected(key)
		p.Connected(key)
		if n := p.Connections(key); n != 2 {
			t.Errorf("connections: got %d, want 2", n)
		}
		p.Die(key, "signal: killed", "oops")
		p.End(key, 0, "too late")
		p.Connected(key)
		want := []broker.WorkerExit{{Key: key, PID: 1, How: "signal: killed", Stderr: "oops"}}
		if got := deaths(); !reflect.DeepEqual(got, want) {
			t.Errorf("deaths: got %+v, want %+v", got, want)
		}
	})
}

func TestProcessThatIsAskedEndsOnce(t *testing.T) {
	watched(t, func(p *Processes, deaths func() []broker.WorkerExit) {
		first, second := p.Start(), p.Start()
		p.End(second, 0, "drain")
		p.End(second, 0, "drain again")
		want := []broker.WorkerExit{{Key: second, PID: 2, How: "signal: terminated", Asked: true}}
		if got := deaths(); !reflect.DeepEqual(got, want) {
			t.Errorf("deaths: got %+v, want %+v", got, want)
		}
		if why := p.AskedToEnd(first); why != "" {
			t.Errorf("first was asked to end: got %q, want it left alone", why)
		}
	})
}

func TestStubbornProcessLivesOnWhenAsked(t *testing.T) {
	watched(t, func(p *Processes, deaths func() []broker.WorkerExit) {
		key := p.StartStubborn()
		p.End(key, 0, "silent")
		if got := deaths(); got != nil {
			t.Errorf("deaths: got %+v, want none", got)
		}
		if why := p.AskedToEnd(key); why != "silent" {
			t.Errorf("asked to end: got %q, want silent", why)
		}
		p.Die(key, "signal: killed", "")
		want := []broker.WorkerExit{{Key: key, PID: 1, How: "signal: killed", Asked: true}}
		if got := deaths(); !reflect.DeepEqual(got, want) {
			t.Errorf("deaths: got %+v, want %+v", got, want)
		}
	})
}
