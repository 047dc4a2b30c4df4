package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/respirated/respirated/broker/postgres/private"
)

// What `respirated bench` measures, on a private PostgreSQL with fsync on.
//
//	go test -run '^$' -bench . -benchtime 1x ./cmd/respirated
//	go test -run '^$' -bench CommitToStart -benchtime 1000x ./cmd/respirated
//	BACKLOG=1000000 go test -run '^$' -bench Backlog -benchtime 1x ./cmd/respirated
//	PROFILE=/tmp/profiles go test -run '^$' -bench . -benchtime 1x ./cmd/respirated

// benchmark measures once.
func benchmark(b *testing.B, c benchConfig) *benchReport {
	server, err := private.Start(b.Context(), private.Config{Settings: map[string]string{"shared_buffers": "1GB", "max_wal_size": "4GB"}})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = server.Stop() }()
	c.url, c.program, c.procs, c.slots = server.URL(), filepath.Join(programs(b), "respirated"), 4, 10
	if c.profile = os.Getenv("PROFILE"); c.profile != "" {
		if err := c.makeProfile(); err != nil {
			b.Fatal(err)
		}
	}
	report, err := newBenchRun(c, os.Stderr).run(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return report
}

// BenchmarkBacklog drains a backlog of strands that do nothing, by 4 worker processes.
func BenchmarkBacklog(b *testing.B) {
	c := benchConfig{jobs: 100_000}
	if given := os.Getenv("BACKLOG"); given != "" {
		if _, err := fmt.Sscan(given, &c.jobs); err != nil {
			b.Fatalf("BACKLOG is %q, want a number of strands", given)
		}
	}
	for _, c.history = range []bool{false, true} {
		b.Run(fmt.Sprintf("history=%t", c.history), func(b *testing.B) {
			for range b.N {
				r := benchmark(b, c)
				b.ReportMetric(r.InsertPerSecond, "inserts/s")
				b.ReportMetric(r.StrandsPerSecond, "strands/s")
				b.ReportMetric(r.WALPerStrand, "WAL-B/strand")
				b.ReportMetric(float64(r.BrokerPeakMemory)/(1<<20), "broker-MiB")
				b.ReportMetric(float64(r.Connections), "connections")
			}
		})
	}
}

// BenchmarkCommitToStart measures, on an idle broker, the time from the commit of an insert to the begin of its handler.
func BenchmarkCommitToStart(b *testing.B) {
	l := benchmark(b, benchConfig{latency: b.N}).CommitToStart
	b.ReportMetric(l.P50, "p50-ms")
	b.ReportMetric(l.P99, "p99-ms")
}
