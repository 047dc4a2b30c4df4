package postgres_test

import (
	"bytes"
	"crypto/rand"
	"slices"
	"testing"
	"time"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/postgres"
)

// hotStatements are those that each strand, or each second, costs. Their arguments are as a busy broker sends them.
var hotStatements = []struct {
	name   string
	leased bool  // it is about strands that are held
	rows   int64 // it returns or changes; else one for each strand
	args   func(*statementBench) []any
}{
	{name: "insert", args: (*statementBench).insertArgs},
	{name: "scan", rows: benchBatch + 1, args: (*statementBench).scanArgs},
	{name: "lease", args: (*statementBench).leaseArgs},
	{name: "lease_free", args: (*statementBench).leaseArgs},
	{name: "renew", leased: true, args: (*statementBench).leaseArgs},
	{name: "exit", leased: true, args: (*statementBench).exitArgs},
	{name: "exit_few", leased: true, args: (*statementBench).exitArgs},
	{name: "exit_bare", leased: true, args: (*statementBench).exitBareArgs},
	{name: "go_on", leased: true, args: (*statementBench).goOnArgs},
	{name: "fail", leased: true, args: (*statementBench).failArgs},
	{name: "lock", leased: true, args: func(s *statementBench) []any { return []any{s.ids, postgres.UUIDs{}} }},
	{name: "announce", rows: 1, args: (*statementBench).announceArgs},
}

// BenchmarkStatement measures one statement at a time, each over a batch of strands among others. RESPIRATE_BENCH_URL is
// as for the other benchmarks.
func BenchmarkStatement(b *testing.B) {
	s := newStatementBench(b)
	for _, st := range hotStatements {
		b.Run(st.name, func(b *testing.B) {
			want := st.rows
			if want == 0 {
				want = benchBatch
			}
			var wal int64
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				s.prepare(st.name == "insert", st.leased)
				args, before := st.args(s), s.walPosition()
				b.StartTimer()
				got, err := s.Exec(b.Context(), st.name, args...)
				b.StopTimer()
				if err != nil || got != want {
					b.Fatalf("%d rows, want %d: %v", got, want, err)
				}
				wal += s.walPosition() - before
				b.StartTimer()
			}
			b.ReportMetric(float64(wal)/float64(b.N), "WAL-B/op")
			if want >= benchBatch {
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchBatch), "ns/strand")
			}
		})
	}
}

// statementBench is a table with a batch of strands that a statement is about, among others that it is not.
type statementBench struct {
	*bench
	ids    postgres.UUIDs // sorted, as all statements want them
	tokens postgres.UUIDs
	lane   int32
}

// others is how many strands there are besides the batch.
const others = 10_000

func newStatementBench(b *testing.B) *statementBench {
	s := &statementBench{bench: newBench(b, "7 days"), ids: randomUUIDs(benchBatch), tokens: randomUUIDs(benchBatch)}
	slices.SortFunc(s.ids, func(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) })
	s.lane = one[int32](s.subject, `select respirate.lane('', 'default', 5, 'noop')`)
	s.run(`insert into respirate.strand (id, lane, args)
		select gen_random_uuid(), respirate.lane('', 'default', 5, 'other'), '{}' from generate_series(1, $1::int)`, others)
	return s
}

func randomUUIDs(n int) postgres.UUIDs {
	all := make(postgres.UUIDs, n)
	for i := range all {
		rand.Read(all[i][:])
	}
	return all
}

// prepare makes the batch anew, unless it is to be absent.
func (s *statementBench) prepare(absent, leased bool) {
	s.run(`delete from respirate.strand where lane = $1`, s.lane)
	s.run(`truncate respirate.history, respirate.attempt`)
	s.run(`vacuum respirate.strand`)
	if absent {
		return
	}
	s.run(`insert into respirate.strand (id, lane, args, token, lease)
		select r.id, $3, '{"n": 1, "text": "sixty bytes or so, as jobs have them"}', r.token, '-infinity'
		from unnest($1::uuid[], $2::uuid[]) r (id, token)`, s.ids, s.tokens, s.lane)
	if leased {
		if _, err := s.Exec(s.b.Context(), "lease", s.leaseArgs()...); err != nil {
			s.b.Fatal(err)
		}
	}
}

func (s *statementBench) walPosition() int64 {
	return one[int64](s.subject, `select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::int8`)
}

func (s *statementBench) insertArgs() []any {
	opts, parents := make([][]byte, benchBatch), make(postgres.OptionalUUIDs, benchBatch)
	return []any{s.ids, repeat("noop"), repeat([]byte(`{"n": 1, "text": "sixty bytes or so, as jobs have them"}`)), opts, parents}
}

func (s *statementBench) scanArgs() []any {
	req := broker.ScanRequest{Kinds: []string{"noop"}, Limit: benchBatch, Bottom: true}
	if _, err := s.Scan(s.b.Context(), req); err != nil { // the lanes get known
		s.b.Fatal(err)
	}
	s.RewindScan()
	_, args := s.ScanStatement(req)
	return args
}

func (s *statementBench) leaseArgs() []any { return []any{s.ids, s.tokens, time.Minute} }

func (s *statementBench) exitArgs() []any {
	return []any{s.ids, s.tokens, repeat(int32(1)), repeat([]byte(`{"sent":true}`))}
}

func (s *statementBench) exitBareArgs() []any {
	return []any{s.ids, s.tokens, repeat(int32(1)), []int32{s.lane}}
}

// goOnArgs are those of naps.
func (s *statementBench) goOnArgs() []any {
	return []any{s.ids, s.tokens, repeat(int32(1)), repeat(true), repeat(false), repeat(false),
		repeat(time.Minute.Microseconds()), repeat[*string](nil), repeat[*int32](nil), repeat([]byte(`[{"n":1}]`)), false}
}

// failArgs are those of errors that are tried again after the usual back-off.
func (s *statementBench) failArgs() []any {
	text := "why it failed"
	texts := repeat(&text)
	return []any{s.ids, s.tokens, repeat(int32(1)), repeat(false), repeat(true), repeat[*int64](nil), repeat[[]byte](nil),
		texts, texts, texts, texts, texts, texts, "host"}
}

func (s *statementBench) announceArgs() []any {
	return []any{s.ids[0], "host", 4711, "build", int64(0), int64(1) << 32, []string{"noop"}, 4, 40, true, time.Minute}
}

// repeat is a column that has the same value for each strand of the batch.
func repeat[T any](value T) []T { return slices.Repeat([]T{value}, benchBatch) }
