package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/schollz/progressbar/v3"
)

// benchReport is what was measured. What is not known, or was not asked for, is null.
type benchReport struct {
	Server  string `json:"server"` // version
	Jobs    int    `json:"jobs"`
	Procs   int    `json:"procs"`
	Slots   int    `json:"slots"`
	Payload int    `json:"payload_bytes"`
	History bool   `json:"history"`

	InsertPerSecond       float64  `json:"insert_per_second"`
	StrandsPerSecond      float64  `json:"strands_per_second"`
	WALPerStrand          float64  `json:"wal_bytes_per_strand"`
	TransactionsPerStrand float64  `json:"transactions_per_strand"`
	StatementsPerStrand   *float64 `json:"statements_per_strand"`
	Connections           int      `json:"connections"`
	BrokerCPU             *float64 `json:"broker_cpu_us_per_strand"`
	WorkerCPU             *float64 `json:"worker_cpu_us_per_strand"`
	BrokerPeakMemory      int64    `json:"broker_peak_memory_bytes"` // 0 = not known
	CommitToStart         *latency `json:"commit_to_start"`
	Warnings              []string `json:"warnings"`
}

// latency are percentiles of a number of samples.
type latency struct {
	Samples int     `json:"samples"`
	P50     float64 `json:"p50_ms"`
	P95     float64 `json:"p95_ms"`
	P99     float64 `json:"p99_ms"`
}

func newLatency(delays []time.Duration) *latency {
	slices.Sort(delays)
	ms := func(p int) float64 { return float64(percentile(delays, p).Microseconds()) / 1000 }
	return &latency{Samples: len(delays), P50: ms(50), P95: ms(95), P99: ms(99)}
}

func (r *benchReport) perStrand(n float64) float64 { return n / float64(r.Jobs) }

func (r *benchReport) ranFor(took time.Duration) {
	r.StrandsPerSecond = float64(r.Jobs) / took.Seconds()
}

// cost is what the processes of the host have used.
func (r *benchReport) cost(after, before hostCPU, peak int64) {
	us := func(after, before *time.Duration) *float64 {
		if after == nil || before == nil {
			return nil
		}
		return new(r.perStrand(float64((*after - *before).Nanoseconds()) / 1000))
	}
	r.BrokerCPU, r.WorkerCPU, r.BrokerPeakMemory = us(after.broker, before.broker), us(after.workers, before.workers), peak
}

// count is what the server has counted.
func (r *benchReport) count(before, after benchCounters) {
	r.WALPerStrand = r.perStrand(float64(after.wal - before.wal))
	r.TransactionsPerStrand = r.perStrand(float64(after.transactions - before.transactions))
	if before.statements >= 0 && after.statements >= 0 {
		r.StatementsPerStrand = new(r.perStrand(float64(after.statements - before.statements)))
	}
}

func (r *benchReport) print(out io.Writer) error {
	kept := "no history"
	if r.History {
		kept = "history"
	}
	_, err := fmt.Fprintf(out, "PostgreSQL %s, %d strands of %d bytes, %d workers of %d slots, %s\n\n", plain(r.Server), r.Jobs, r.Payload, r.Procs, r.Slots, kept)
	if err != nil {
		return err
	}
	t := newTable(out)
	if l := r.CommitToStart; l != nil {
		t.row("commit to start", fmt.Sprintf("p50 %.1f ms, p95 %.1f ms, p99 %.1f ms", l.P50, l.P95, l.P99), fmt.Sprintf("of %d, one at a time", l.Samples))
	}
	if r.Jobs > 0 {
		r.printThroughput(t)
	}
	return t.flush()
}

func (r *benchReport) printThroughput(t *table) {
	t.row("insert", fmt.Sprintf("%.0f strands/s", r.InsertPerSecond), "by COPY, from one connection")
	t.row("run", fmt.Sprintf("%.0f strands/s", r.StrandsPerSecond), "from that backlog")
	t.row("WAL", fmt.Sprintf("%.0f bytes per strand", r.WALPerStrand), "of the whole server")
	t.row("transactions", fmt.Sprintf("%.4f per strand", r.TransactionsPerStrand), "start and stop of the daemon included")
	if r.StatementsPerStrand != nil {
		t.row("statements", fmt.Sprintf("%.4f per strand", *r.StatementsPerStrand), "start and stop of the daemon included")
	} else {
		t.row("statements", "", "the extension pg_stat_statements is not there")
	}
	t.row("connections", fmt.Sprint(r.Connections), "of the daemon; workers have none")
	t.row("broker", perStrandCPU(r.BrokerCPU), memory(r.BrokerPeakMemory))
	t.row("workers", perStrandCPU(r.WorkerCPU), "all of them")
}

func perStrandCPU(us *float64) string {
	if us == nil {
		return ""
	}
	return fmt.Sprintf("%.1f us of CPU per strand", *us)
}

func memory(peak int64) string {
	if peak == 0 {
		return ""
	}
	return fmt.Sprintf("%d MiB of memory at most", peak>>20)
}

// benchProgress shows what is going on, to whoever looks at stderr.
type benchProgress struct {
	out io.Writer // nil = nobody looks
	bar *progressbar.ProgressBar
}

func newBenchProgress(out io.Writer) *benchProgress {
	if !isTerminal(out) {
		return &benchProgress{}
	}
	return &benchProgress{out: out}
}

func (p *benchProgress) shown() bool { return p.out != nil }

// phase begins something that has so many steps; -1 = that is not known.
func (p *benchProgress) phase(what string, steps int) {
	if !p.shown() {
		return
	}
	p.finish()
	p.bar = progressbar.NewOptions(steps,
		progressbar.OptionSetWriter(p.out),
		progressbar.OptionSetDescription(what),
		progressbar.OptionSetWidth(30),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetRenderBlankState(true),
	)
}

// set tells how many steps are done.
func (p *benchProgress) set(n int) {
	if p.bar != nil {
		_ = p.bar.Set(n) // it is only for show
	}
}

// finish takes the bar away. It may be called twice.
func (p *benchProgress) finish() {
	if p.bar != nil {
		_ = p.bar.Finish() // it is only for show
		p.bar = nil
	}
}
