package client_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/respirated/respirated/client"
)

// order is an args type whose JSON takes about 60 bytes.
type order struct {
	N    int    `json:"n"`
	Note string `json:"note"`
}

func (order) Kind() string { return "order" }

// BenchmarkInsertManyFast stores 5,000 strands in each call. Its time is that of client and server together; client-us
// is processor time of this process, for each strand.
func BenchmarkInsertManyFast(b *testing.B) {
	const note = "sixty bytes are a usual size of args"
	for _, ways := range []struct {
		name   string
		params func(n int) client.InsertManyParams
	}{
		{"typed", func(n int) client.InsertManyParams { return client.InsertManyParams{Args: order{n, note}} }},
		{"raw", func(n int) client.InsertManyParams {
			return client.InsertManyParams{Args: raw("order", fmt.Sprintf(`{"n":%d,"note":%q}`, n, note))}
		}},
		{"options", func(n int) client.InsertManyParams {
			opts := &client.InsertOpts{Queue: "slow", Priority: 1 + n%9, Tags: []string{"eu"}}
			return client.InsertManyParams{Args: order{n, note}, InsertOpts: opts}
		}},
	} {
		b.Run(ways.name, func(b *testing.B) { benchmarkInsert(b, ways.params) })
	}
}

func benchmarkInsert(b *testing.B, make1 func(n int) client.InsertManyParams) {
	f := newFixture(b)
	params := make([]client.InsertManyParams, 5000)
	for i := range params {
		params[i] = make1(i)
	}
	var used time.Duration
	b.ReportAllocs()
	for b.Loop() {
		before := processorTime(b)
		must(f.client.InsertManyFast(b.Context(), params))(b)
		used += processorTime(b) - before

		b.StopTimer()
		f.exec("truncate respirate.strand") // so that each call finds the same
		b.StartTimer()
	}
	strands := float64(b.N * len(params))
	b.ReportMetric(strands/b.Elapsed().Seconds(), "strands/s")
	b.ReportMetric(float64(used.Microseconds())/strands, "client-us/strand")
}

// processorTime is what this process has used so far; the server is another one.
func processorTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	check(b, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
