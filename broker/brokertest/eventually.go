package brokertest

import (
	"errors"
	"testing"
	"time"
)

// Until waits until something holds. It looks often, and gives up after a time that no healthy run needs, however little of its
// machine it gets; a lease of the default length, which heals what else would be noticed, lasts for longer.
func Until(holds func() bool) error {
	for deadline := time.Now().Add(90 * time.Second); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			return errors.New("not within 90 s")
		}
	}
	return nil
}

// Eventually is Until, and ends the test where what is said does not come to hold.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	if err := Until(holds); err != nil {
		t.Fatalf("%v: %s", err, what)
	}
}
