package brokertest

import (
	"testing"
	"time"
)

func TestStoreInMemoryKeepsThePromises(t *testing.T) {
	TestStore(t, func(*testing.T) Subject { return NewStore(time.Now) })
}
