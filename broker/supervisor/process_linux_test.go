package supervisor

import (
	"fmt"
	"strings"
	"testing"
)

func TestStatIsReadBehindAnyName(t *testing.T) {
	tail := strings.Repeat(" 0", 18) + " 4711 0 0"
	for _, c := range []struct {
		name, state string
		alive       bool
	}{{"sh", "S", true}, {"a) Z (b", "R", true}, {"gone", "Z", false}, {"gone", "X", false}} {
		start, alive := parseStat(fmt.Appendf(nil, "12 (%s) %s%s", c.name, c.state, tail))
		if start != "4711" || alive != c.alive {
			t.Errorf("%q in state %s: got start %q, alive %v", c.name, c.state, start, alive)
		}
	}
	if _, alive := parseStat([]byte("12 (x) S 1")); alive {
		t.Error("got life in a line that is cut off")
	}
}
