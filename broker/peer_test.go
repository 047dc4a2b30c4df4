package broker

import (
	"errors"
	"os"
	"testing"

	"github.com/respirated/respirated/protocol"
)

// housed are processes of which one key is known.
type housed struct{ Processes }

func (housed) Admit(key string, _ int, kinds []string) ([]string, bool) { return kinds, key == "ours" }

// A process that a worker of another user has started could otherwise take what the pool of that may not.
func TestAnotherUsersProcessIsAdmittedOnlyAsAWorkerThatWeHaveStarted(t *testing.T) {
	b := &Broker{procs: housed{}}
	stranger := os.Getuid() + 1
	for _, c := range []struct {
		key  string
		from peer
		want bool
	}{
		{"ours", peer{known: true, uid: stranger}, true},
		{"", peer{known: true, uid: stranger}, false},
		{"made up", peer{known: true, uid: stranger}, false},
		{"", peer{known: true, uid: os.Getuid()}, true}, // one that was started by hand
		{"made up", peer{known: true, uid: 0}, true},
		{"", peer{}, true},
	} {
		err := b.admit(&protocol.Hello{Key: c.key, Kinds: []protocol.Kind{{Name: "k"}}}, c.from)
		var refused *protocol.Err
		if (err == nil) != c.want || err != nil && (!errors.As(err, &refused) || refused.Code != protocol.CodeDenied) {
			t.Errorf("key %q of user %d: got %v, want it admitted: %v", c.key, c.from.uid, err, c.want)
		}
	}
}
