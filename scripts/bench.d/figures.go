package main

import "github.com/respirated/respirated/scripts/bench.d/meter"

// Insert is how a backlog came in.
type Insert struct {
	Rate float64    `json:"jobs_per_second"`
	Cost meter.Cost `json:"cost_per_job"`
}

// Drain is how a backlog was worked off.
type Drain struct {
	System       string     `json:"system"`
	Processes    int        `json:"processes"`
	Run          int        `json:"run"`
	Jobs         int        `json:"jobs"`
	Rate         float64    `json:"jobs_per_second"` // from the first handler's begin until all is persisted as finished
	Cost         meter.Cost `json:"cost_per_job"`
	Connections  int64      `json:"connections"`
	Transactions float64    `json:"transactions_per_job"` // the stop of the processes included
	Insert       Insert     `json:"insert"`
	Idle         float64    `json:"idle_statements_per_second,omitempty"` // of all brokers, afterwards
}

// Latency is from the return of a commit to the begin of the handler.
type Latency struct {
	System    string  `json:"system"`
	Processes int     `json:"processes"`
	Run       int     `json:"run"`
	Load      int     `json:"offered_jobs_per_second"` // 0 = idle, one at a time
	Samples   int     `json:"samples"`
	P50       float64 `json:"p50_ms"`
	P95       float64 `json:"p95_ms"`
	P99       float64 `json:"p99_ms"`
}

// Flush is what it takes to bring a page to the disk.
type Flush struct {
	Run     int     `json:"run"`
	Samples int     `json:"samples"`
	P50     float64 `json:"p50_ms"`
	P95     float64 `json:"p95_ms"`
	P99     float64 `json:"p99_ms"`
}

// Idle is what a system does when there is nothing to do.
type Idle struct {
	System      string  `json:"system"`
	Processes   int     `json:"processes"`
	Seconds     float64 `json:"seconds"`
	Statements  float64 `json:"statements_per_second"`
	Connections int64   `json:"connections"`
}

// Limit is the raw loop over our own tables.
type Limit struct {
	Run  int        `json:"run"`
	Rate float64    `json:"jobs_per_second"`
	Cost meter.Cost `json:"cost_per_job"`
}
