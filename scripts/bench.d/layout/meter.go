package layout

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// usage is what something has cost for each strand.
type usage struct {
	PerSecond float64 `json:"per_second"`
	CPU       float64 `json:"cpu_us"`    // of all processes of the server
	WAL       float64 `json:"wal_bytes"` // full pages after a checkpoint included; there is none during a drain
}

// ticks counts the processor time of a server: that of its first process, of the children that this has waited for, and
// of the live ones.
type ticks struct{ server int }

// serverOf finds the server of a backend.
func serverOf(backend int) (ticks, error) {
	s, err := readStat(backend)
	return ticks{s.parent}, err
}

// stat is what /proc tells of a process.
type stat struct {
	parent           int
	own, ofTheWaited int64 // in hundredths of a second
}

func readStat(pid int) (stat, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return stat{}, err
	}
	// The second field is a name in parentheses, which may hold anything.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	number := func(i int) int64 {
		n, _ := strconv.ParseInt(string(fields[i]), 10, 64)
		return n
	}
	const parent, user, waited = 1, 11, 13
	return stat{int(number(parent)), number(user) + number(user+1), number(waited) + number(waited+1)}, nil
}

// count is the processor time up to now. A process that ends while it is read is missing for a moment.
func (t ticks) count() (time.Duration, error) {
	first, err := readStat(t.server)
	if err != nil {
		return 0, err
	}
	sum := first.own + first.ofTheWaited
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if s, err := readStat(pid); err == nil && s.parent == t.server {
			sum += s.own
		}
	}
	return time.Duration(sum) * time.Second / 100, nil
}

// measure runs something that handles strands, and says how many it were.
func (t *table) measure(ctx context.Context, do func() (strands int, err error)) (usage, error) {
	before, err := t.sample(ctx)
	if err != nil {
		return usage{}, err
	}
	n, err := do()
	if err != nil {
		return usage{}, err
	}
	after, err := t.sample(ctx)
	if err != nil {
		return usage{}, err
	}
	if n == 0 {
		return usage{}, fmt.Errorf("nothing was done in %v", after.at.Sub(before.at))
	}
	return usage{
		PerSecond: float64(n) / after.at.Sub(before.at).Seconds(),
		CPU:       float64((after.cpu - before.cpu).Microseconds()) / float64(n),
		WAL:       float64(after.wal-before.wal) / float64(n),
	}, nil
}

type sample struct {
	at  time.Time
	cpu time.Duration
	wal int64
}

func (t *table) sample(ctx context.Context) (s sample, err error) {
	if err := t.db.QueryRow(ctx, `select (pg_current_wal_insert_lsn() - '0/0')::bigint`).Scan(&s.wal); err != nil {
		return s, err
	}
	s.cpu, err = t.ticks.count()
	s.at = time.Now()
	return s, err
}
