package meter

import (
	"context"
	"time"
)

// Reading is how far the meters stood at one moment.
type Reading struct {
	postgres, broker, workers time.Duration
	wal, statements, notifies int64
}

// Cost is what one strand has cost between two readings.
type Cost struct {
	PostgresCPU float64 `json:"postgres_cpu_us"` // microseconds
	BrokerCPU   float64 `json:"broker_cpu_us"`   // of ours; peers have none
	WorkerCPU   float64 `json:"worker_cpu_us"`
	WAL         float64 `json:"wal_bytes"`
	Statements  float64 `json:"statements"`
	Notifies    float64 `json:"notifies"`
}

// Clients is what all processes but the server's have cost, in microseconds.
func (c Cost) Clients() float64 { return c.BrokerCPU + c.WorkerCPU }

// Meter reads the meters of one database and of the processes that work on it.
type Meter struct {
	Server   *Server
	Database string
	Brokers  []int
	Workers  []int
}

// Begin reads all meters. What the reading itself costs comes before it.
func (m Meter) Begin(ctx context.Context) (r Reading, err error) {
	if err := m.count(ctx, &r); err != nil {
		return r, err
	}
	return r, m.clock(&r)
}

// End reads all meters again. What the reading itself costs comes after it.
func (m Meter) End(ctx context.Context) (r Reading, err error) {
	if err := m.clock(&r); err != nil {
		return r, err
	}
	return r, m.count(ctx, &r)
}

func (m Meter) clock(r *Reading) (err error) {
	if r.postgres, err = ServerCPU(m.Server.postmaster); err != nil {
		return err
	}
	if r.broker, err = CPU(m.Brokers); err != nil {
		return err
	}
	r.workers, err = CPU(m.Workers)
	return err
}

func (m Meter) count(ctx context.Context, r *Reading) (err error) {
	if r.wal, err = m.Server.WAL(ctx); err != nil {
		return err
	}
	if r.statements, err = m.Server.Statements(ctx, m.Database); err != nil {
		return err
	}
	r.notifies, err = m.Server.Notifies(ctx, m.Database)
	return err
}

// Since is the cost of each of n strands since an earlier reading.
func (r Reading) Since(earlier Reading, n int) Cost {
	each := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) / float64(n) }
	per := func(count int64) float64 { return float64(count) / float64(n) }
	return Cost{
		PostgresCPU: each(r.postgres - earlier.postgres),
		BrokerCPU:   each(r.broker - earlier.broker),
		WorkerCPU:   each(r.workers - earlier.workers),
		WAL:         per(r.wal - earlier.wal),
		Statements:  per(r.statements - earlier.statements),
		Notifies:    per(r.notifies - earlier.notifies),
	}
}
