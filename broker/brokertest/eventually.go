package brokertest

import (
	"errors"
	"testing"
	"time"
)

// Until waits until something holds. It looks often, and gives up after a time that no healthy run needs.
func Until(holds func() bool) error {
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			return errors.New("not within 30 s")
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
