package brokertest

import (
	"testing"
)

func walkRandomly(t *testing.T, s Subject) {}
