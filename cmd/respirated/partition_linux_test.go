package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// member is a broker's partition as the database knows it.
type member struct {
	pid, rank, of int
	lo, hi        int64
}

// members are the brokers of these processes that have a partition, in the order of their ranks.
func (h *host) members(pids ...int) []member {
	h.t.Helper()
	rows, err := h.db.conn.Query(h.t.Context(), `select pid, rank, members, lo, hi from respirate.brokers
		where alive and rank > 0 and pid = any($1) order by rank`, pids)
	if err != nil {
		h.t.Fatal(err)
	}
	var found []member
	for rows.Next() {
		var m member
		if err := rows.Scan(&m.pid, &m.rank, &m.of, &m.lo, &m.hi); err != nil {
			h.t.Fatal(err)
		}
		found = append(found, m)
	}
	if rows.Err() != nil {
		h.t.Fatal(rows.Err())
	}
	return found
}

// shared says whether these processes, and nobody else, share the space of ids.
func (h *host) shared(pids ...int) bool {
	members := h.members(pids...)
	end := int64(0)
	for i, m := range members {
		if m.rank != i+1 || m.of != len(pids) || m.lo != end {
			return false
		}
		end = m.hi
	}
	return len(members) == len(pids) && end == 1<<32
}

// connectedAnew says whether a host has come to the database by a connection that it made after this time of the database's clock.
func (n *namespace) connectedAnew(h *host, since time.Time) bool {
	h.t.Helper()
	return h.count("select count(*) from pg_stat_activity where client_addr = $1::inet and backend_start > $2", n.address, since) > 0
}

// awaitShared waits until these processes share the space of ids. It tells how long that took.
func (h *host) awaitShared(pids ...int) time.Duration {
	h.t.Helper()
	began := time.Now()
	h.eventually(fmt.Sprintf("%d processes share the ids", len(pids)), func() bool { return h.shared(pids...) })
	return time.Since(began)
}

// The middle one of three hosts is cut off from the database, with strands in the hands of its workers.
func TestHostThatIsCutOffIsReplacedAndTakesPartAgain(t *testing.T) {
	t.Parallel()
	if !inOwnNetwork(t) {
		return
	}
	const (
		lease = 5 * time.Second
		dark  = 18 * time.Second
		kept  = 30 * time.Second // the number of a host that says nothing
	)
	network := newLAN(t)
	here, there := network.server()
	hosts, namespaces := make([]*host, 3), make([]*namespace, 3)
	for i := range hosts {
		hosts[i] = newHost(t, here, append(demoWorkers(t, 1), "--partition", "auto", "--lease", lease.String())...)
		namespaces[i] = network.plug()
		hosts[i].url, hosts[i].ledger, hosts[i].under = there, hosts[0].ledger, strings.Fields(namespaces[i].enter())
		hosts[i].start()
	}
	first, lost, last := hosts[0], hosts[1], hosts[2]
	pids := []int{first.daemon.Process.Pid, lost.daemon.Process.Pid, last.daemon.Process.Pid}
	first.awaitShared(pids...)

	ids := first.insertLedger(60, 100*time.Millisecond)
	first.awaitLines(60)
	ids = append(ids, first.insertLedger(60, 2*time.Second)...)
	var held int
	lost.eventually("the host in the middle runs strands", func() bool { held = lost.held(); return held >= 3 })
	doomed := lost.workers(1)

	namespaces[1].cut()
	cut := time.Now()
	ids = append(ids, first.insertLedger(100, time.Millisecond)...)
	covered := first.awaitShared(pids[0], pids[2])
	first.awaitDone(len(ids))
	recovered := time.Since(cut)
	t.Logf("with %d strands in hand a host was cut off: the others shared its ids after %v, and all %d strands were done after %v",
		held, covered, len(ids), recovered)
	if covered >= kept { // 7 s at most, where nothing else runs
		t.Errorf("the ids of the lost host were shared after %v: it was not missed before its time was over", covered)
	}

	time.Sleep(time.Until(cut.Add(dark))) // by itself TCP would now wait for half as long again, and go on with the old connections
	var healed time.Time
	if err := first.db.conn.QueryRow(t.Context(), "select clock_timestamp()").Scan(&healed); err != nil {
		t.Fatal(err)
	}
	namespaces[1].heal()
	again := first.awaitShared(pids...) // 5 s at most, where nothing else runs
	t.Logf("the host was cut off for %v and took part again %v after that", dark, again)
	if !namespaces[1].connectedAnew(first, healed) {
		t.Error("it has waited for its old connections, want it to make new ones")
	}
	more := first.insertLedger(60, 10*time.Millisecond)
	first.awaitDone(len(ids) + len(more))
	ran := first.lines()
	if !slices.ContainsFunc(more, func(id string) bool { return slices.Equal(ran[id], lost.workers(1)) }) {
		t.Error("the healed host has run none of 60 strands")
	}
	for _, id := range slices.Concat(ids, more) {
		// What the lost host's worker ran to its end meanwhile had to be run by another: its report was refused.
		others := slices.DeleteFunc(slices.Clone(ran[id]), func(pid int) bool { return slices.Contains(doomed, pid) })
		if len(ran[id]) == 0 || len(others) > 1 || len(ran[id])-len(others) > 1 {
			t.Errorf("strand %s ran %d times, in %v", id, len(ran[id]), ran[id])
		}
	}
	if n := first.count("select count(distinct id) from respirate.finished where state = 'done'"); n != len(ids)+len(more) {
		t.Errorf("%d strands are done, want %d", n, len(ids)+len(more))
	}
}

// held is how many strands the workers of the daemon hold.
func (h *host) held() (n int) {
	h.t.Helper()
	var workers []workerStatus
	if err := askDaemon(h.t.Context(), h.socket(), "/api/v1/workers", &workers); err != nil {
		h.t.Fatal(err)
	}
	for _, w := range workers {
		n += w.Held
	}
	return n
}
