package broker

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/respirated/respirated/protocol"
)

// Config sets up a Broker. The zero value of each field is its default.
type Config struct {
	Host  string // stable name of this host; default: os.Hostname
	Build string // version of the daemon, for listings

	Partition Partition // the part of the ids to scan for; default: all
	Former    *Former   // the broker to go on as; nil = a new one

	// Stranger is called by the loop, each time that a worker says hello which has no spawn key, before it is answered. nil =
	// nobody wants to know.
	Stranger func()

	// Admits says whether processes of another user than ours and root may connect, such as [Socket.Admits]. nil = none may.
	Admits func(uid int) bool

	Lease        time.Duration // how long a lease lasts; default 120 s, renewed after a third of it
	Heartbeat    time.Duration // default 5 s
	Dead         time.Duration // silence after which a worker is given up; default 15 s
	ScanEvery    time.Duration // longest time between two scans; default 5 s
	Grace        time.Duration // from asking a handler to stop to draining its worker, and again to ending it; default 10 s
	DrainTimeout time.Duration // how long Run waits for workers once it is told to stop; default 30 s

	MaxSessions int // connections at once; default 4096
	MaxHold     int // strands that one worker may hold; default and most protocol.DefaultMaxN
	MaxBytes    int // payload held by one worker after which it gets no more; default 16 MiB
	MaxBatch    int // rows in one statement; default 1000
	MaxFrame    int // bytes; default 4 MiB, most protocol.HardMaxFrame

	Idle func() // called by the loop when all workers have been idle for a second, once until one was not; must not block; nil = nobody

	Logger *slog.Logger // default: slog.Default
}

func (c Config) withDefaults() (Config, error) {
	if c.Host == "" {
		host, err := os.Hostname()
		if err != nil {
			return c, fmt.Errorf("find this host's name (set Host): %w", err)
		}
		c.Host = host
	}
	for _, d := range []struct {
		name  string
		value *time.Duration
		or    time.Duration
	}{
		{"Lease", &c.Lease, 120 * time.Second},
		{"Heartbeat", &c.Heartbeat, 5 * time.Second},
		{"Dead", &c.Dead, 15 * time.Second},
		{"ScanEvery", &c.ScanEvery, 5 * time.Second},
		{"Grace", &c.Grace, 10 * time.Second},
		{"DrainTimeout", &c.DrainTimeout, 30 * time.Second},
	} {
		if *d.value == 0 {
			*d.value = d.or
		}
		if *d.value < 0 {
			return c, fmt.Errorf("%s is %v; it must be above 0", d.name, *d.value)
		}
	}
	for _, n := range []struct {
		name     string
		value    *int
		or, most int
	}{
		{"MaxSessions", &c.MaxSessions, 4096, 1 << 20},
		{"MaxHold", &c.MaxHold, protocol.DefaultMaxN, protocol.DefaultMaxN},
		{"MaxBytes", &c.MaxBytes, 16 << 20, 1 << 40},
		{"MaxBatch", &c.MaxBatch, 1000, 10_000},
		{"MaxFrame", &c.MaxFrame, 4 << 20, protocol.HardMaxFrame},
	} {
		if *n.value == 0 {
			*n.value = n.or
		}
		if *n.value < 1 || *n.value > n.most {
			return c, fmt.Errorf("%s is %d; it must be 1 to %d", n.name, *n.value, n.most)
		}
	}
	var err error
	if c.Partition, err = c.Partition.withDefaults(); err != nil {
		return c, err
	}
	if c.Dead < 2*c.Heartbeat {
		return c, fmt.Errorf("the time to give a worker up (Dead) is %v; it must be at least twice the Heartbeat of %v", c.Dead, c.Heartbeat)
	}
	if c.Idle == nil {
		c.Idle = func() {}
	}
	if c.Stranger == nil {
		c.Stranger = func() {}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

func (c Config) limits() limits {
	return limits{
		partition: c.Partition, lease: c.Lease, heartbeat: c.Heartbeat, dead: c.Dead, scanEvery: c.ScanEvery, grace: c.Grace,
		maxHold: c.MaxHold, maxBytes: c.MaxBytes, maxBatch: c.MaxBatch, mostTaken: mostTaken, maxFrame: c.MaxFrame,
	}
}
