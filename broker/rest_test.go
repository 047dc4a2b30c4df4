package broker

import (
	"testing"
	"time"
)

func TestRestIsToldOnceAndAgainOnlyAfterWork(t *testing.T) {
	const busy, idle = true, false
	second := func(n float64) int64 { return 1e9 + int64(n*float64(time.Second)) }
	var r rest
	for i, step := range []struct {
		at   float64
		busy bool
		want bool
	}{
		{0, idle, false},
		{0.9, idle, false},
		{1.1, idle, true},
		{2, idle, false},
		{60, idle, false},
		{61, busy, false},
		{62, idle, false}, // it begins anew
		{62.5, busy, false},
		{63.4, idle, false}, // the second from 62 on was no rest
		{64, idle, false},
		{64.5, idle, true},
		{65, idle, false},
	} {
		if got := r.step(second(step.at), step.busy); got != step.want {
			t.Errorf("step %d, at %v s, busy %v: got %v, want %v", i, step.at, step.busy, got, step.want)
		}
	}
}
