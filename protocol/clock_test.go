package protocol

import (
	"testing"
	"time"
)

func TestBootClockGoesOnAtThePaceOfTime(t *testing.T) {
	wall := time.Now()
	clock := BootNS()
	time.Sleep(20 * time.Millisecond) // time itself is what is tested
	passed := time.Duration(BootNS() - clock)
	if most := time.Since(wall); passed < 20*time.Millisecond || passed > most {
		t.Errorf("%v passed, want 20ms to %v", passed, most)
	}
}
