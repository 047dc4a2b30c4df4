package postgres

import (
	"fmt"
	"slices"
	"testing"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/postgres/private/privatetest"
)

// standing is a row, as far as anything about it can decide about a report of token 1 and seq 3.
type standing struct {
	lockedRow
	expired  bool // the lease is held, but has run out
	children int
}

// allStandings is every combination.
func allStandings() (all []standing) {
	flags := []bool{false, true}
	for _, token := range []broker.Token{{}, {1}, {2}} {
		for _, lease := range []string{"free", "leased", "expired"} {
			for seq := range uint64(5) {
				for _, cancelled := range flags {
					for _, lastTry := range flags {
						for crashes := range 3 {
							for _, parent := range flags {
								for children := range 2 {
									s := standing{expired: lease == "expired", children: children}
									s.token, s.held, s.seq, s.cancelled = token, lease != "free", seq, cancelled
									s.maxTries, s.crashes = 5, crashes
									if lastTry {
										s.try = 4
									}
									if parent {
										s.parent = broker.ID{0xff}
									}
									all = append(all, s)
								}
							}
						}
					}
				}
			}
		}
	}
	return all
}

// put makes the standings rows of a lane, with ids 1, 2, 3 ...
func put(t *testing.T, s *Store, standings []standing) []broker.ID {
	t.Helper()
	ids := make([]broker.ID, len(standings))
	for i := range standings {
		ids[i] = broker.ID{0, 0, byte(i >> 8), byte(i)}
	}
	lease := func(st standing) string {
		switch {
		case !st.held:
			return "-infinity"
		case st.expired:
			return "2001-01-01"
		}
		return "infinity"
	}
	if _, err := s.pool.Exec(t.Context(), `delete from respirate.strand`); err != nil {
		t.Fatal(err)
	}
	_, err := s.pool.Exec(t.Context(), `
		insert into respirate.strand (id, lane, args, token, lease, seq, cancel_at, try, max_tries, crashes, parent, children_left)
		select id, respirate.lane('', 'default', 5, 'plain'), '{}', nullif(token, '00000000-0000-0000-0000-000000000000'), lease, seq,
			case when cancelled then now() end, try, 5, crashes, nullif(parent, '00000000-0000-0000-0000-000000000000'), children
		from unnest($1::uuid[], $2::uuid[], $3::text[]::timestamptz[], $4::int[], $5::boolean[], $6::int[], $7::int[], $8::uuid[], $9::int[])
			as r (id, token, lease, seq, cancelled, try, crashes, parent, children)`,
		uuidsOf(ids),
		cells(standings, func(st standing) [16]byte { return [16]byte(st.token) }),
		cells(standings, func(st standing) string { return lease(st) }),
		cells(standings, func(st standing) int32 { return int32(st.seq) }),
		cells(standings, func(st standing) bool { return st.cancelled }),
		cells(standings, func(st standing) int32 { return int32(st.try) }),
		cells(standings, func(st standing) int32 { return int32(st.crashes) }),
		cells(standings, func(st standing) [16]byte { return [16]byte(st.parent) }),
		cells(standings, func(st standing) int32 { return int32(st.children) }))
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func cells[T any](standings []standing, get func(standing) T) []T {
	values := make([]T, len(standings))
	for i, st := range standings {
		values[i] = get(st)
	}
	return values
}

// The statements for plain reports accept exactly those that judge accepts and that touch no other row. So it does not
// matter which way a report goes.
func TestPlainStatementsAcceptWhatJudgeAccepts(t *testing.T) {
	cfg := Config{URL: privatetest.URL(t)}
	m, err := NewMigrator(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, err := m.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	standings := allStandings()
	for _, way := range []struct {
		retention string
		lanes     int
	}{{"7 days", 1}, {"0", 1}, {"7 days", 40}} {
		retention := way.retention
		if _, err := s.pool.Exec(t.Context(), `select respirate.lane('', 'more', 5, 'plain ' || n) from generate_series(2, $1::int) n`, way.lanes); err != nil {
			t.Fatal(err)
		}
		if _, err := s.pool.Exec(t.Context(), `insert into respirate.queue (tenant, queue, retention) values ('', 'default', $1::text::interval)
			on conflict (tenant, queue) do update set retention = excluded.retention`, retention); err != nil {
			t.Fatal(err)
		}
		for _, r := range []broker.Report{
			{Act: broker.Exit}, {Act: broker.Nap}, {Act: broker.Hop, Label: "x"}, {Act: broker.Release}, {Act: broker.Save, Stack: []byte(`[]`)},
			{Act: broker.Yield}, {Act: broker.Fail}, {Act: broker.Crash}, {Act: broker.Crash, Guilty: true},
		} {
			t.Run(fmt.Sprintf("History=%s/Lanes=%d/Act=%d/Guilty=%t", retention, way.lanes, r.Act, r.Guilty), func(t *testing.T) {
				r.Token, r.Seq = broker.Token{1}, 3
				accepted := comparePlain(t, s, standings, r)
				if r.Act == broker.Exit && retention != "0" {
					compareHistory(t, s, accepted)
				}
			})
		}
	}
}

// compareHistory compares the strands in history, and what their lane adds to them there, with those that were accepted.
func compareHistory(t *testing.T, s *Store, accepted []broker.ID) {
	var kept uuids
	err := s.pool.QueryRow(t.Context(), `with kept as (
			delete from respirate.history where (tenant, queue, priority, kind, state) = ('', 'default', 5, 'plain', 'done') returning id
		) select array_agg(id order by id) from kept`).Scan(&kept)
	if err != nil {
		t.Fatal(err)
	}
	if want := uuidsOf(accepted); !slices.Equal(kept, want) {
		t.Errorf("history: got %d strands, want the %d that were accepted", len(kept), len(want))
	}
}

// comparePlain returns the strands whose reports were accepted.
func comparePlain(t *testing.T, s *Store, standings []standing, r broker.Report) (accepted []broker.ID) {
	ids := put(t, s, standings)
	kinds := []string{"plain"}
	for n := range 40 {
		kinds = append(kinds, fmt.Sprint("plain ", n))
	}
	if err := s.loadLanes(t.Context(), kinds); err != nil { // so that it is known whether history is kept
		t.Fatal(err)
	}
	entries := make([]*entry, len(ids))
	for i, id := range ids {
		report := r
		report.ID = id
		entries[i] = &entry{place: i, report: &report}
	}
	// In two halves, so that not only whole tables are seen to be right.
	for half := range slices.Chunk(entries, len(entries)/2+1) {
		if err := s.commitPlain(t.Context(), half); err != nil {
			t.Fatal(err)
		}
	}
	for i, e := range entries {
		st := standings[i]
		f := judge(st.lockedRow, e.report)
		want := f.verdict == broker.Applied && f.end == ""
		if r.Act == broker.Exit {
			want = f.verdict == broker.Applied && !st.cancelled && st.parent == (broker.ID{}) && st.children == 0
		}
		if got := !e.open(); got != want {
			t.Errorf("%+v: got it accepted %t, want %t", st, got, want)
		}
		if want {
			accepted = append(accepted, e.report.ID)
		}
	}
	if len(accepted) == 0 || len(accepted) == len(entries) {
		t.Errorf("accepted: got %d of %d, so that nothing is shown", len(accepted), len(entries))
	}
	return accepted
}
