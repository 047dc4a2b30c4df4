package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker/postgres/private"
	"github.com/respirated/respirated/client"
	"github.com/respirated/respirated/cmd/internal/demo"
)

// The whole way, with real processes: a daemon, worker processes, a private PostgreSQL with fsync on.
//
//	go test -run '^$' -bench . -benchtime 1x ./cmd/respirated
//	go test -run '^$' -bench CommitToStart -benchtime 1000x ./cmd/respirated
//	BACKLOG=1000000 go test -run '^$' -bench Backlog -benchtime 1x ./cmd/respirated

// benchHost is a host on a PostgreSQL of its own.
func benchHost(b *testing.B, flags ...string) (*host, *pgx.Conn) {
	server, err := private.Start(b.Context(), private.Config{Settings: map[string]string{"shared_buffers": "1GB", "max_wal_size": "4GB"}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = server.Stop() })
	h := newHost(b, server.URL(), append(flags, "--worker", programs(b)+"/demo-worker")...)
	cfg, err := pgx.ParseConfig(server.URL())
	if err != nil {
		b.Fatal(err)
	}
	cfg.RuntimeParams["application_name"] = "benchmark"
	conn, err := pgx.ConnectConfig(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close(b.Context()) })
	return h, conn
}

// BenchmarkBacklog drains a backlog of strands that do nothing, by 4 worker processes.
func BenchmarkBacklog(b *testing.B) {
	n := 100_000
	if given := os.Getenv("BACKLOG"); given != "" {
		if _, err := fmt.Sscan(given, &n); err != nil {
			b.Fatalf("BACKLOG is %q, want a number of strands", given)
		}
	}
	for _, retention := range []string{"0", "7 days"} {
		b.Run("retention="+strings.ReplaceAll(retention, " ", "-"), func(b *testing.B) {
			for range b.N {
				drain(b, n, retention)
			}
		})
	}
}

func drain(b *testing.B, n int, retention string) {
	b.StopTimer()
	h, conn := benchHost(b, "--procs", "4")
	respirate, err := client.New(conn, nil)
	if err != nil {
		b.Fatal(err)
	}
	params := make([]client.InsertManyParams, n)
	for i := range params {
		params[i].Args = demo.Noop{}
	}
	if _, err := respirate.InsertManyFast(b.Context(), params); err != nil {
		b.Fatal(err)
	}
	if _, err := conn.Exec(b.Context(), "update respirate.queue set retention = $1::interval", retention); err != nil {
		b.Fatal(err)
	}
	if _, err := conn.Exec(b.Context(), "checkpoint"); err != nil {
		b.Fatal(err)
	}
	wal := func() (bytes int64) {
		return int64(h.count("select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint"))
	}
	before := wal()
	b.StartTimer()
	began := time.Now()
	h.start()
	h.eventually("the backlog is drained", func() bool { return h.count("select count(*) from (select from respirate.strand limit 1) s") == 0 })
	took := time.Since(began)
	b.StopTimer()
	b.ReportMetric(float64(n)/took.Seconds(), "strands/s")
	b.ReportMetric(float64(wal()-before)/float64(n), "WAL-B/strand")
	b.ReportMetric(float64(peakMemory(b, h.daemon.Process.Pid))/(1<<20), "broker-MiB")
	b.ReportMetric(float64(h.count(`select count(*) from pg_stat_activity where backend_type = 'client backend'
		and application_name <> 'benchmark' and pid <> pg_backend_pid()`)), "connections")
	b.StartTimer()
}

// peakMemory is the most that a process has had resident, in bytes; 0 where there is no /proc.
func peakMemory(b *testing.B, pid int) (bytes int64) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Log(err)
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &bytes); err == nil {
			return bytes << 10
		}
	}
	return 0
}

// BenchmarkCommitToStart measures, on an idle broker, the time from the commit of an insert to the begin of its handler.
func BenchmarkCommitToStart(b *testing.B) {
	h, conn := benchHost(b, "--procs", "4")
	h.start()
	h.workers(4)
	respirate, err := client.New(conn, nil)
	if err != nil {
		b.Fatal(err)
	}
	var delays []time.Duration
	for range b.N {
		inserted, err := respirate.Insert(b.Context(), demo.Ping{}, nil)
		if err != nil {
			b.Fatal(err)
		}
		committed := time.Now()
		row, err := respirate.StrandWait(b.Context(), inserted.ID)
		if err != nil {
			b.Fatal(err)
		}
		var pong demo.Pong
		if err := json.Unmarshal(row.Value, &pong); err != nil {
			b.Fatal(err)
		}
		// A handler may begin before the answer to the insert is here.
		delays = append(delays, max(0, pong.Began.Sub(committed)))
	}
	slices.Sort(delays)
	b.ReportMetric(float64(percentile(delays, 50).Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(percentile(delays, 99).Microseconds())/1000, "p99-ms")
}
