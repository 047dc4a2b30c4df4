package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/respirated/respirated/broker/supervisor"
)

// started counts the processes that the daemons have started for a pool.
func (h *host) started(pool string) int {
	h.t.Helper()
	return strings.Count(h.said(), `msg="worker started" pool=`+pool+" ")
}

func TestWhatADaemonHasLearntOfItsPoolsOutlivesItUnlessItStopsInOrder(t *testing.T) {
	t.Parallel()
	h := newHost(t, migrated(t))
	good := filepath.Join(programs(t), "demo-worker")
	halts, loops, holds := h.script("halts", "exit 78"), h.script("loops", "exit 1"), h.script("holds", "exec "+good)
	config := func(sized int) string {
		return fmt.Sprintf(`pools:
- {name: sized, worker: %s, procs: %d}
- {name: halts, worker: %s, procs: 1}
- {name: loops, worker: %s, procs: 4}
- {name: holds, worker: %s, procs: 1}
`, good, sized, halts, loops, holds)
	}
	file := writeConfig(t, config(1))
	h.flags = []string{"--config", file}
	h.start()
	h.cli("pool", "set", "sized", "--procs", "3", "--queues", "default,mail")
	h.awaitPool("runs", "holds", has("running", 1))
	replaceFile(t, holds, "#!/bin/sh\nexit 1\n", 0o755)
	learnt := func(daemon string) {
		t.Helper()
		h.awaitPool("is as it was set: "+daemon, "sized", func(p supervisor.PoolInfo) bool {
			return has("running", 3)(p) && slices.Equal(p.Queues, []string{"default", "mail"})
		})
		h.awaitPool("is halted: "+daemon, "halts", has("halted", 0))
		h.awaitPool("is crash-looping: "+daemon, "loops", has("crash-looping", 0))
		h.awaitPool("holds its new build back: "+daemon, "holds", has("old build", 1))
	}
	learnt("at first")
	began, before := time.Now(), map[string]int{}
	for _, pool := range []string{"sized", "halts", "loops", "holds"} {
		before[pool] = h.started(pool)
	}
	same := func(daemon string) {
		t.Helper()
		for pool, n := range before {
			most := 0
			if pool == "loops" { // one process is tried each 30 s; a daemon that knows nothing starts all 4
				most = 1 + int(time.Since(began)/(30*time.Second))
			}
			if more := h.started(pool) - n; more > most {
				t.Errorf("pool %s was started %d times more %s, want %d at most", pool, more, daemon, most)
			}
		}
	}

	h.upgrade("")
	learnt("after an upgrade")
	same("after an upgrade")
	old, _ := h.pidsOf("holds", func(workerStatus) bool { return true })
	if len(old) != 1 {
		t.Fatalf("pool holds has the workers %v", old)
	}
	if err := syscall.Kill(old[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	h.eventually("another one of the old build has come, a script that has no path any more", func() bool {
		now, all := h.pidsOf("holds", func(workerStatus) bool { return true })
		return all && now[0] != old[0] && has("old build", 1)(h.pools()["holds"])
	})
	before["holds"]++

	h.kill()
	h.start()
	learnt("after a kill")
	same("after a kill")
	h.upgrade("")
	learnt("after both")
	same("after both")

	h.kill()
	replaceFile(t, file, config(2), 0o600)
	h.start()
	h.awaitPool("is as it is configured now", "sized", func(p supervisor.PoolInfo) bool { return has("running", 2)(p) && len(p.Queues) == 0 })
	h.awaitPool("is halted", "halts", has("halted", 0))
	if n := h.started("halts"); n != before["halts"] {
		t.Errorf("pool halts was started %d times, want %d", n, before["halts"])
	}

	h.stop(h.daemon)
	h.start()
	h.eventually("pool halts is started once more", func() bool { return h.started("halts") == before["halts"]+1 })
	h.awaitPool("is halted", "halts", has("halted", 0))
	h.cli("pool", "roll", "halts")
	h.eventually("pool halts is started as an operator asks", func() bool { return h.started("halts") == before["halts"]+2 })
}
