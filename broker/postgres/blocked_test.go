package postgres

import (
	"testing"
	"time"
)

func TestWarinessEndsAndIsOfOneSort(t *testing.T) {
	var b blocked
	now := time.Now()
	if b.wary(leases, now) {
		t.Error("wary before anything has waited")
	}
	b.waited(leases, now)
	for _, test := range []struct {
		which sort
		after time.Duration
		want  bool
	}{
		{leases, 0, true},
		{leases, waryFor - 1, true},
		{leases, waryFor, false},
		{commits, 0, false},
	} {
		if got := b.wary(test.which, now.Add(test.after)); got != test.want {
			t.Errorf("%v later, sort %d: wary %t, want %t", test.after, test.which, got, test.want)
		}
	}
}
