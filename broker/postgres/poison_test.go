package postgres_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/postgres"
)

// These tests store what is harmless to write and fatal to read.

// huge is 81 KB that Postgres prints as 1.2 GB, which is more than any text may have.
var huge = []byte("[" + strings.Repeat("1e131071,", 8999) + "1e131071]")

func TestReportThatNobodyCouldReadIsInvalid(t *testing.T) {
	s := newSubject(t, migrated(t))
	for name, r := range map[string]broker.Report{
		"HugeStackOfANap":   {Act: broker.Nap, Stack: huge},
		"HugeStackOfASave":  {Act: broker.Save, Stack: huge},
		"HugeStackOfAFail":  {Act: broker.Fail, Stack: huge},
		"HugeStackOfAHop":   {Act: broker.Hop, Label: "a", Stack: huge},
		"HugeValue":         {Act: broker.Exit, Value: huge},
		"LongStack":         {Act: broker.Nap, Stack: []byte(`["` + strings.Repeat("x", 1<<20) + `"]`)},
		"LongValue":         {Act: broker.Exit, Value: []byte(`"` + strings.Repeat("x", 1<<20) + `"`)},
		"ValueLongByCommas": {Act: broker.Exit, Value: []byte("[" + strings.Repeat("1,", 400_000) + "1]")},
	} {
		t.Run(name, func(t *testing.T) {
			pairs := s.lease(s.insert(""), s.insert(""))
			r.Pair, r.Seq = pairs[0], 1
			verdicts, err := s.Commit(t.Context(), []broker.Report{r, exitOf(pairs[1])})
			if err != nil || verdicts[0].State != broker.Invalid || verdicts[1].State != broker.Applied {
				t.Fatalf("commit: got %+v and error %v, want invalid and applied", verdicts, err)
			}
			if why := verdicts[0].Why; !strings.Contains(why, "in the spelling of jsonb, at most 1048576 are allowed") {
				t.Errorf("why: got %q", why)
			}
			s.apply(exitOf(pairs[0]))
		})
	}
}

func TestReportOfJustTheLengthAllowedIsApplied(t *testing.T) {
	s := newSubject(t, migrated(t))
	pair := s.lease(s.insert(""))[0]
	longest := []byte(`["` + strings.Repeat("x", 1<<20-len(`[""]`)) + `"]`)
	s.apply(broker.Report{Pair: pair, Seq: 1, Act: broker.Save, Stack: longest})
	s.apply(broker.Report{Pair: pair, Seq: 2, Act: broker.Exit, Value: longest})
}

func TestRowThatCannotBeReadIsLeftOutOfItsBatchAndLoggedOnce(t *testing.T) {
	url := migrated(t)
	var log bytes.Buffer
	store, err := postgres.Open(t.Context(), postgres.Config{URL: url, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	s := &subject{Store: store, t: t, pool: openPool(t, url)}
	var pairs []broker.Pair
	for range 5 { // each halving of a batch prints the bad one once more, which takes long
		pairs = append(pairs, broker.Pair{ID: s.insert(""), Token: newToken()})
	}
	bad := pairs[1].ID
	s.run(`update respirate.strand set stack = $1::text::jsonb where id = $2`, string(huge), [16]byte(bad))
	for range 2 {
		got, err := s.Lease(t.Context(), pairs, hour)
		if err != nil || len(got) != len(pairs)-1 {
			t.Fatalf("lease: got %d of %d and error %v, want all but one", len(got), len(pairs), err)
		}
	}
	if n := strings.Count(log.String(), "strand="+bad.String()); n != 1 {
		t.Errorf("lines about it: got %d, want 1: %s", n, log.String())
	}
	if row := one[bool](s, `select lease > '-infinity' from respirate.strand where id = $1`, [16]byte(bad)); row {
		t.Error("it is leased, though nobody has it")
	}
}

func TestClientRoleCannotCopyWhatCouldNotBeRead(t *testing.T) {
	s, conn := client(t)
	lane := one[int32](s, `select respirate.lane('', 'default', 5, 'one')`)
	for column, values := range map[string][]string{
		"created_at": {`'infinity'`, `now()`},
		"schedule":   {`'infinity'`, `'-infinity'`},
		"tags": {`'{NULL}'`, `'{a,NULL}'`, `'{{a},{b}}'`, `array_fill('a'::text, array[101])`,
			`array[repeat('x', 30000)]`},
		"label": {`''`, `repeat('x', 256)`, `e'a\nb'`, `e'a\u0085b'`, `e'\x7f'`},
		"lane":  {`0`, `-1`},
	} {
		for _, value := range values {
			row := map[string]string{"id": "gen_random_uuid()", "lane": fmt.Sprint(lane), "args": "'{}'"}
			row[column] = value
			names := slices.Sorted(maps.Keys(row))
			cells := make([]string, len(names))
			for i, name := range names {
				cells[i] = row[name]
			}
			sql := fmt.Sprintf(`insert into respirate.strand (%s) values (%s)`, strings.Join(names, ", "), strings.Join(cells, ", "))
			if _, err := conn.Exec(t.Context(), sql); err == nil {
				t.Errorf("%s %s: was taken, want it refused", column, value)
			}
		}
	}
	if n := one[int](s, `select count(*) from respirate.strand`); n != 0 {
		t.Errorf("rows: got %d, want none", n)
	}
	if _, err := conn.Exec(t.Context(), `insert into respirate.strand (id, lane, args, label, tags) values
		(gen_random_uuid(), $1, '{}', 'two words', '{a,b}'), (gen_random_uuid(), $1, '{}', 'start', '{}')`, lane); err != nil {
		t.Errorf("good rows: %v", err)
	}
}
