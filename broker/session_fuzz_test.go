package broker

import (
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/respirated/respirated/protocol"
)

// FuzzSession lets anything at all be said on a connection. Whatever it is, the session ends by itself when the peer
// is done, and nothing panics.
func FuzzSession(f *testing.F) {
	seeds := [][]protocol.Message{
		{},
		{&protocol.Hello{ID: 1, Versions: []uint64{1, 1}, Lib: "l/1", Worker: strandID(9).String(), Kinds: []protocol.Kind{{Name: "k"}}}},
		{
			&protocol.Hello{ID: 1, Versions: []uint64{1, 1}, Lib: "l/1", Worker: strandID(9).String(), Kinds: []protocol.Kind{{Name: "k"}},
				Hold: []protocol.Hold{{Strand: strandID(1).String(), Token: Token{1}.String(), Kind: "k", State: protocol.HoldRun}}},
			&protocol.Want{N: 3},
			&protocol.Results{ID: 2, Results: []protocol.Result{{Strand: strandID(1).String(), Token: Token{1}.String(), Seq: 1, Act: protocol.ActExit}}},
			&protocol.Save{ID: 3, Strand: strandID(1).String(), Token: Token{1}.String(), Seq: 2, Stack: []byte("[1]")},
			&protocol.Call{ID: 4, Method: protocol.MethodInsert, Inserts: []protocol.Insert{{Key: strandID(3).String(), Kind: "k", Args: []byte("{}")}}},
			&protocol.Ping{N: 1},
			&protocol.Bye{Why: "done"},
		},
	}
	for _, messages := range seeds {
		var raw []byte
		for _, m := range messages {
			var err error
			if raw, err = protocol.Append(raw, m); err != nil {
				f.Fatal(err)
			}
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := New(nil, nil, Config{Host: "h", Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := net.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() { b.serve(1, ours) })
		wg.Go(func() { // the loop's part: every event is taken in by a real schedule
			for {
				select {
				case ev := <-b.events:
					b.schedule.step(t0, ev)
				case <-b.over:
					return
				}
			}
		})
		wg.Go(func() { // the peer reads whatever it is told
			buf := make([]byte, 4096)
			for {
				if _, err := theirs.Read(buf); err != nil {
					return
				}
			}
		})
		_ = theirs.SetWriteDeadline(time.Now().Add(5 * time.Second))
		_, _ = theirs.Write(raw)
		theirs.Close()
		for b.door.get(1) != nil {
			time.Sleep(50 * time.Microsecond)
		}
		close(b.over)
		wg.Wait()
	})
}
