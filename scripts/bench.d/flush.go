package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/respirated/respirated/scripts/bench.d/stat"
)

const (
	flushPage = 8 << 10  // what one commit writes
	flushFile = 16 << 20 // as a segment of the log
)

// flushes writes and flushes a page so many times, about gap apart, as commits do. All systems wait for this disk, so none
// has a better p99 than it for long.
func (l *lab) flushes(ctx context.Context, run, n int, gap time.Duration) (f Flush, err error) {
	file, err := os.Create(filepath.Join(l.work, "flushed"))
	if err != nil {
		return f, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if _, err := file.Write(make([]byte, flushFile)); err != nil {
		return f, err
	}
	if err := file.Sync(); err != nil {
		return f, err
	}
	page, took := make([]byte, flushPage), make([]time.Duration, n)
	for i := range took {
		if err := pause(ctx, gap); err != nil {
			return f, err
		}
		began := time.Now()
		if _, err := file.WriteAt(page, int64(i*flushPage%flushFile)); err != nil {
			return f, err
		}
		if err := unix.Fdatasync(int(file.Fd())); err != nil {
			return f, fmt.Errorf("flush %s: %w", file.Name(), err)
		}
		took[i] = time.Since(began)
	}
	ms := func(p float64) float64 { return float64(stat.Percentile(took, p)) / float64(time.Millisecond) }
	return Flush{Run: run, Samples: n, P50: ms(50), P95: ms(95), P99: ms(99)}, nil
}
