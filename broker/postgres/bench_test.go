package postgres_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/respirated/respirated/broker"
)

// The benchmarks count strands; PERFORMANCE.md says what to compare them with. RESPIRATE_BENCH_URL names a database that
// is migrated already and may be emptied; without it they run on a private server that does not fsync.

// benchBatch is how many strands go in one statement, as in a busy broker.
const benchBatch = 1000

// bench is a store with n strands of one kind, and what counts its WAL.
type bench struct {
	*subject
	b *testing.B
}

func newBench(b *testing.B, retention string) *bench {
	url := os.Getenv("RESPIRATE_BENCH_URL")
	if url == "" {
		url = migrated(b)
	}
	s := &bench{subject: newSubject(b, url), b: b}
	s.run(`truncate respirate.strand, respirate.lane, respirate.queue, respirate.history, respirate.attempt`)
	s.run(`insert into respirate.queue (tenant, queue, retention) values ('', 'default', $1::text::interval)`, retention)
	return s
}

func (s *bench) fill() {
	s.run(`insert into respirate.strand (id, lane, args)
		select gen_random_uuid(), respirate.lane('', 'default', 5, 'noop'), '{"n": 1, "text": "sixty bytes or so, as jobs have them"}'
		from generate_series(1, $1::int)`, s.b.N)
	s.run(`vacuum analyze respirate.strand`)
}

func (s *bench) scan(bottom bool) []broker.Pair {
	got, err := s.Scan(s.b.Context(), broker.ScanRequest{Kinds: []string{"noop"}, Limit: benchBatch, Bottom: bottom})
	if err != nil {
		s.b.Fatal(err)
	}
	pairs := make([]broker.Pair, len(got.Candidates))
	for i, c := range got.Candidates {
		pairs[i].ID = c.ID
		rand.Read(pairs[i].Token[:])
	}
	return pairs
}

func (s *bench) lease(pairs []broker.Pair) {
	got, err := s.Lease(s.b.Context(), pairs, time.Minute)
	if err != nil || len(got) != len(pairs) {
		s.b.Fatalf("leased %d of %d: %v", len(got), len(pairs), err)
	}
}

func (s *bench) exit(pairs []broker.Pair) {
	reports := make([]broker.Report, len(pairs))
	for i, p := range pairs {
		reports[i] = broker.Report{Pair: p, Seq: 1, Act: broker.Exit}
	}
	verdicts, err := s.Commit(s.b.Context(), reports)
	if err != nil {
		s.b.Fatal(err)
	}
	for _, v := range verdicts {
		if v.State != broker.Applied {
			s.b.Fatalf("verdict %+v", v)
		}
	}
}

// measure reports the WAL of what run does.
func (s *bench) measure(run func()) {
	before := one[int64](s.subject, `select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::int8`)
	s.b.ResetTimer()
	run()
	s.b.StopTimer()
	after := one[int64](s.subject, `select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::int8`)
	s.b.ReportMetric(float64(after-before)/float64(s.b.N), "WAL-B/op")
	s.b.ReportMetric(float64(s.b.N)/s.b.Elapsed().Seconds(), "strands/s")
}

// BenchmarkDrain takes strands all their way, one step after the other on one connection each.
func BenchmarkDrain(b *testing.B) {
	for _, retention := range []string{"0", "7 days"} {
		b.Run("history="+retention, func(b *testing.B) {
			s := newBench(b, retention)
			s.fill()
			s.measure(func() {
				for pairs := s.scan(true); len(pairs) > 0; pairs = s.scan(false) {
					s.lease(pairs)
					s.exit(pairs)
				}
			})
		})
	}
}

// BenchmarkDrainOverlapped commits one batch while the next is scanned and leased.
func BenchmarkDrainOverlapped(b *testing.B) {
	for _, retention := range []string{"0", "7 days"} {
		b.Run("history="+retention, func(b *testing.B) {
			s := newBench(b, retention)
			s.fill()
			s.measure(func() {
				batches := make(chan []broker.Pair)
				go func() {
					defer close(batches)
					for pairs := s.scan(true); len(pairs) > 0; pairs = s.scan(false) {
						s.lease(pairs)
						batches <- pairs
					}
				}()
				for pairs := range batches {
					s.exit(pairs)
				}
			})
		})
	}
}

func BenchmarkScan(b *testing.B) {
	s := newBench(b, "0")
	s.fill()
	s.measure(func() {
		for pairs := s.scan(true); len(pairs) > 0; pairs = s.scan(false) {
		}
	})
}

func BenchmarkInsert(b *testing.B) {
	for _, size := range []int{1, 1000} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			s := newBench(b, "0")
			s.measure(func() {
				for done := 0; done < b.N; done += size {
					inserts := make([]broker.Insert, min(size, b.N-done))
					for i := range inserts {
						inserts[i] = broker.Insert{Kind: "noop", Args: []byte(`{"n": 1, "text": "sixty bytes or so, as jobs have them"}`)}
					}
					if _, err := s.Insert(b.Context(), inserts); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
