package postgres_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/postgres"
)

// oldStrands makes n strands that became due some time ago.
func (s *subject) oldStrands(n int, kind, queue string) {
	s.t.Helper()
	s.run(`insert into respirate.strand (id, lane, args, schedule)
		select gen_random_uuid(), respirate.lane('', $2, 5, $3), '{"text": "sixty bytes or so, as jobs have them"}',
			now() - interval '1 hour' + n * interval '1 ms'
		from generate_series(1, $1::int) n`, n, queue, kind)
}

// drain takes all strands of a kind their way.
func (s *subject) drain(kind string) {
	s.t.Helper()
	for got := s.scanned(kind); len(got.Candidates) > 0; got = s.scanned(kind) {
		var ids []broker.ID
		for _, c := range got.Candidates {
			ids = append(ids, c.ID)
		}
		s.commitAll(s.lease(ids...))
	}
}

// plan is a node of EXPLAIN's output, as far as we look at it.
type plan struct {
	NodeType string `json:"Node Type"`
	Relation string `json:"Relation Name"`
	Index    string `json:"Index Name"`
	Hit      int    `json:"Shared Hit Blocks"`
	Read     int    `json:"Shared Read Blocks"`
	Loops    int    `json:"Actual Loops"`
	Plans    []plan
}

// pages counts the pages that the store's next scan reads.
func (s *subject) pages(req broker.ScanRequest) int {
	s.t.Helper()
	p := s.explain(req)
	return p.Hit + p.Read
}

// descents counts how often a plan goes down an index.
func (p plan) descents() int {
	n := 0
	if p.Index != "" {
		n = p.Loops
	}
	for _, below := range p.Plans {
		n += below.descents()
	}
	return n
}

// explain explains the store's next scan by running it.
func (s *subject) explain(req broker.ScanRequest) plan {
	s.t.Helper()
	sql, args := s.ScanStatement(req)
	var doc []byte
	err := s.pool.QueryRow(s.t.Context(), `explain (analyze, buffers, format json) `+sql, args...).Scan(&doc)
	if err != nil {
		s.t.Fatal(err)
	}
	var out []struct{ Plan plan }
	if err := json.Unmarshal(doc, &out); err != nil {
		s.t.Fatal(err)
	}
	return out[0].Plan
}

// Somebody pins the horizon, so that nothing dead can be removed; one strand has run for ten hours; and a queue with
// 100,000 due strands is paused. The ordinary scan does not notice any of them.
func TestScanReadsFewPagesThoughTheHorizonIsPinned(t *testing.T) {
	s := newSubject(t, migrated(t))
	s.run(`alter table respirate.strand set (autovacuum_enabled = off)`)
	s.oldStrands(1, "one", "default")
	long := s.lease(s.scanned("one").Candidates[0].ID)
	pinned := s.begin(pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, `select count(*) from respirate.strand`)
	defer s.commitTx(pinned)
	for renewal := range 10 * 60 * 60 / 40 { // each 40 s for 2 min, in the past
		s.run(`update respirate.strand set schedule = now() - interval '10 h' + $1 * interval '40 s' + interval '2 min'
			where id = $2`, renewal, [16]byte(long[0].ID))
	}
	if kept, err := s.Renew(t.Context(), long, 2*time.Minute); err != nil || len(kept) != 1 {
		t.Fatalf("renew: got %v and error %v", kept, err)
	}
	s.oldStrands(20_000, "one", "default")
	s.drain("one")
	s.oldStrands(100_000, "one", "paused")
	s.Pause("", "paused", true)
	s.run(`analyze respirate.strand`)
	for range 64 {
		s.insert("")
	}

	req := broker.ScanRequest{Kinds: []string{"one"}, Limit: 1000}
	s.ForgetLanes()
	unbounded := s.pages(req)
	s.scanned("one") // learns the floors
	s.RewindScan()
	bounded := s.pages(req)
	t.Logf("pages read: %d, and %d without a floor", bounded, unbounded)
	if bounded >= 100 {
		t.Errorf("pages read: got %d, want fewer than 100", bounded)
	}
	if unbounded < 10*bounded {
		t.Errorf("pages read without a floor: got %d: so little that this test shows nothing", unbounded)
	}
	if got := s.scanned("one"); len(got.Candidates) != 64 {
		t.Errorf("candidates: got %d, want 64", len(got.Candidates))
	}
}

// A strand that is due below the floor, since it was committed long after its schedule, is found by the next walk.
func TestScanFindsWhatWasCommittedBelowTheFloor(t *testing.T) {
	s := newSubject(t, migrated(t))
	s.run(`select respirate.lane('', 'default', 5, 'one')`)
	late := s.begin(pgx.TxOptions{}, `select respirate.insert('one')`)
	// As if that had been ten seconds ago.
	if _, err := late.Exec(t.Context(), `update respirate.strand set schedule = schedule - interval '10 s'`); err != nil {
		t.Fatal(err)
	}
	s.insert("")
	s.scanned("one")
	s.commitTx(late)
	eventually(t, "it is found", func() bool { return len(s.scanned("one").Candidates) == 2 })
}

func TestScanGoesOnWhereTheLastOneEnded(t *testing.T) {
	s := newSubject(t, migrated(t))
	s.oldStrands(25, "one", "default")
	s.oldStrands(25, "one", "other")
	seen := make(map[broker.ID]bool)
	scan := func(bottom bool) broker.ScanResult {
		got, err := s.Scan(t.Context(), broker.ScanRequest{Kinds: []string{"one"}, Limit: 20, Bottom: bottom})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for i, want := range []int{20, 20, 10, 0} {
		got := scan(i == 0)
		if len(got.Candidates) != want || got.More != (want == 20) {
			t.Fatalf("scan %d: got %d and more %t, want %d", i, len(got.Candidates), got.More, want)
		}
		for _, c := range got.Candidates {
			if seen[c.ID] {
				t.Fatalf("scan %d: %s was there before", i, c.ID)
			}
			seen[c.ID] = true
		}
	}
	if got := scan(true); len(got.Candidates) != 20 {
		t.Errorf("scan from the bottom: got %d, want 20", len(got.Candidates))
	}
}

// With more lanes than one statement asks, the oldest strands still come first, and all of them are found.
func TestScanOfManyLanesFindsTheOldestFirstAndAll(t *testing.T) {
	s := newSubject(t, migrated(t))
	const lanes, rounds, limit = 1000, 2, 50
	s.run(`with l as materialized (select n, respirate.lane('', 'q' || n, 5, 'one') as lane from generate_series(1, $1::int) n)
		insert into respirate.strand (id, lane, args, schedule)
		select gen_random_uuid(), l.lane, '{}', now() - interval '1 hour' + (r * $1 + 7919 * n % $1) * interval '1 ms'
		from l, generate_series(0, $2::int - 1) r`, lanes, rounds)
	oldest := map[broker.ID]bool{}
	for _, id := range one[[][16]byte](s, `select array_agg(id) from (select id from respirate.strand order by schedule limit $1) s`, limit) {
		oldest[id] = true
	}
	seen := map[broker.ID]bool{}
	for scan := 0; ; scan++ {
		got, err := s.Scan(t.Context(), broker.ScanRequest{Kinds: []string{"one"}, Limit: limit, Bottom: scan == 0})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range got.Candidates {
			if seen[c.ID] {
				t.Fatalf("scan %d: %s was there before", scan, c.ID)
			}
			if scan == 0 && !oldest[c.ID] {
				t.Errorf("%s comes in the first scan, but is not among the %d oldest", c.ID, limit)
			}
			seen[c.ID] = true
		}
		if !got.More {
			break
		}
	}
	if len(seen) != lanes*rounds {
		t.Errorf("found %d strands of %d", len(seen), lanes*rounds)
	}
}

func TestScanTellsWhenTheNextStrandIsDue(t *testing.T) {
	s := newSubject(t, migrated(t))
	if got := s.scanned("one"); got.NextDue != 0 {
		t.Errorf("with nothing there: got %v, want 0", got.NextDue)
	}
	s.insert(`{"in":3600}`)
	s.insert(`{"in":600,"queue":"q"}`)
	if got := s.scanned("one"); got.NextDue > 10*time.Minute || got.NextDue < 9*time.Minute {
		t.Errorf("got %v, want ten minutes", got.NextDue)
	}
	s.Pause("", "q", true)
	if got := s.scanned("one"); got.NextDue > time.Hour || got.NextDue < 59*time.Minute {
		t.Errorf("with that queue paused: got %v, want an hour", got.NextDue)
	}
}

func TestScanEstimatesLargePayloads(t *testing.T) {
	s := newSubject(t, migrated(t))
	s.run(`select respirate.insert('one', to_jsonb((select string_agg(md5(n::text), '') from generate_series(1, 1000) n)))`)
	got := s.scanned("one").Candidates
	if len(got) != 1 || got[0].Bytes < 10_000 || got[0].Bytes > 40_000 {
		t.Errorf("got %+v, want about 32,000 bytes", got)
	}
}

// A renewed lease leaves the head of the index; in between, a renewal is as cheap as a lease.
func TestLeasesAreHOTAndRenewalsEverySecondTime(t *testing.T) {
	s := newSubject(t, migrated(t))
	s.oldStrands(1000, "one", "default")
	tx := s.begin(pgx.TxOptions{}, `select`)
	defer tx.Rollback(t.Context())
	ids := txOne[[][16]byte](s, tx, `select array_agg(id order by id) from respirate.strand`)
	tokens := make([][16]byte, len(ids))
	for i := range tokens {
		tokens[i] = newToken()
	}
	updates := func(name string) (all, hot int) {
		t.Helper()
		count := func(which string) int {
			return txOne[int](s, tx, `select pg_stat_get_xact_tuples_`+which+`('respirate.strand'::regclass)`)
		}
		all, hot = count("updated"), count("hot_updated")
		tag, err := tx.Exec(t.Context(), postgres.Statement(name), ids, tokens, 2*time.Minute)
		if err != nil || tag.RowsAffected() != int64(len(ids)) {
			t.Fatalf("%s: got %v and error %v", name, tag, err)
		}
		return count("updated") - all, count("hot_updated") - hot
	}
	if all, hot := updates("lease"); all != 1000 || hot != 1000 {
		t.Errorf("leases: got %d of %d HOT, want all", hot, all)
	}
	if all, hot := updates("renew"); all != 1000 || hot != 0 {
		t.Errorf("first renewals: got %d of %d HOT, want none: they move up the index", hot, all)
	}
	if all, hot := updates("renew"); all != 1000 || hot < 500 {
		t.Errorf("second renewals: got %d of %d HOT, want all that their pages have room for", hot, all)
	}
}

func txOne[T any](s *subject, tx pgx.Tx, sql string, args ...any) T {
	s.t.Helper()
	var v T
	if err := tx.QueryRow(s.t.Context(), sql, args...).Scan(&v); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func TestScanTellsTheSizeOfAPayloadThatCouldBeCompressed(t *testing.T) {
	s := newSubject(t, migrated(t))
	id := s.insert("")
	const size = 1 << 20
	s.run(`update respirate.strand set args = to_jsonb(repeat('a', $1)), stack = jsonb_build_array(repeat('a', $1)) where id = $2`,
		size, [16]byte(id))
	got := s.scanned("one").Candidates
	if len(got) != 1 || got[0].Bytes < 2*size || got[0].Bytes > 2*size+100 {
		t.Errorf("candidates: got %+v, want one of about %d bytes", got, 2*size)
	}
}

// insertAt makes a strand whose id begins with the given byte, and that became due so long ago.
func (s *subject) insertAt(first byte, age time.Duration) broker.ID {
	s.t.Helper()
	id := newID()
	id[0] = first
	s.run(`insert into respirate.strand (id, lane, args, schedule) values ($1, respirate.lane('', 'default', 5, 'one'), '{}', now() - $2::interval)`,
		[16]byte(id), age)
	return id
}

// upper is the second half of the ids.
var upper = broker.Slice{Lo: 0x80000000}

func (s *subject) scanOf(req broker.ScanRequest) []broker.Candidate {
	s.t.Helper()
	req.Kinds = []string{"one"}
	got, err := s.Scan(s.t.Context(), req)
	if err != nil {
		s.t.Fatal(err)
	}
	return got.Candidates
}

// Strands of others take their place in the order: what is ours and was not returned comes with the next scan.
func TestScanForWhatIsOverdueLosesNothingOfOurs(t *testing.T) {
	s := newSubject(t, migrated(t))
	const minute = time.Minute
	var want []broker.ID
	for _, c := range []struct {
		first byte
		age   time.Duration
	}{{0x10, 9 * minute}, {0x90, 8 * minute}, {0x20, 7 * minute}, {0x91, 6 * minute}, {0x92, 5 * minute}} {
		want = append(want, s.insertAt(c.first, c.age))
	}
	s.insertAt(0x30, time.Second) // theirs, and not overdue
	var got []broker.ID
	for scan := range 3 {
		for _, c := range s.scanOf(broker.ScanRequest{Slice: upper, Limit: 3, Bottom: scan == 0, Overdue: minute}) {
			got = append(got, c.ID)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A host is lost, and its leases have run out: they are overdue from then on, not since their strands were due.
func TestScanTellsAgesSinceALeaseRanOut(t *testing.T) {
	s := newSubject(t, migrated(t))
	id := s.insertAt(0x10, time.Hour)
	s.run(`update respirate.strand set lease = now() - interval '10 min', token = gen_random_uuid()`)
	req := broker.ScanRequest{Slice: upper, Limit: 10, Bottom: true, Overdue: 20 * time.Minute}
	if got := s.scanOf(req); len(got) != 0 {
		t.Errorf("more than 20 min overdue: got %+v, want nothing: it is free for 10 min", got)
	}
	req.Overdue = 5 * time.Minute
	got := s.scanOf(req)
	if len(got) != 1 || got[0].ID != id || got[0].Age < 10*time.Minute || got[0].Age > 20*time.Minute {
		t.Errorf("more than 5 min overdue: got %+v, want it with an age of 10 min", got)
	}
}

// Whoever does not ask for what is overdue elsewhere does not pay for it, and whoever does steps over what is its own in
// the index, however much that is.
func TestScanForWhatIsOverdueReadsNoStrandsOfOurs(t *testing.T) {
	s := newSubject(t, migrated(t))
	s.run(`insert into respirate.strand (id, lane, args, schedule)
		select ('8' || substr(gen_random_uuid()::text, 2))::uuid, respirate.lane('', 'q' || n % 10, 5, 'one'), '{}', now() - interval '1 hour'
		from generate_series(1, 20000) n`)
	s.run(`vacuum analyze respirate.strand`)
	const lanes = 10
	req := broker.ScanRequest{Kinds: []string{"one"}, Slice: upper, Limit: 10, Bottom: true}
	if got := s.scanOf(req); len(got) != 10 {
		t.Fatalf("got %d candidates, want 10", len(got))
	}
	plain := s.explain(req)
	if got := plain.descents(); got != lanes {
		t.Errorf("without overdue: %d descents of the index for %d lanes, want one each", got, lanes)
	}
	req.Overdue = time.Minute
	both := s.explain(req)
	if got := both.descents(); got != 2*lanes {
		t.Errorf("with overdue: %d descents of the index for %d lanes, want two each", got, lanes)
	}
	pages := func(p plan) int { return p.Hit + p.Read }
	t.Logf("pages read: %d, and %d with overdue", pages(plain), pages(both))
	if pages(both)-pages(plain) > 1000 {
		t.Errorf("pages read: got %d, and %d with overdue, want few for 20,000 entries of the index", pages(plain), pages(both))
	}
}
