package postgres_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/postgres"
)

// join asks for a number, 0 being any, on behalf of a broker.
func (s *subject) join(id broker.ID, number int, ttl time.Duration) broker.Joined {
	s.t.Helper()
	joined, err := s.Join(s.t.Context(), joinRequest(id, number), ttl)
	if err != nil {
		s.t.Fatal(err)
	}
	return joined
}

func joinRequest(id broker.ID, number int) broker.JoinRequest {
	return broker.JoinRequest{Broker: id, Host: "h", PID: 1, Build: "b", Number: number, Most: 256}
}

// A killed broker leaves its row behind. Its number is free when the row has run out, be it still there or not.
func TestJoinGivesTheNumberOfABrokerThatIsSilent(t *testing.T) {
	s := newSubject(t, migrated(t))
	killed, next := newID(), newID()
	s.join(newID(), 1, hour)
	if got := s.join(killed, 0, -time.Millisecond); got.Number != 2 {
		t.Fatalf("got number %d, want 2", got.Number)
	}
	if got := s.join(next, 0, hour); got.Number != 2 || len(got.Members) != 1 {
		t.Errorf("got %+v, want number 2 and one other member", got)
	}
	if n := one[int](s, `select count(*) from respirate.brokers where partition = 2`); n != 2 {
		t.Errorf("rows with number 2: got %d, want that of the dead, too", n)
	}
	// It was only asleep, and refreshes its row: now two have the number, and whoever asks is told.
	s.announce(broker.Announcement{Broker: killed, Number: 2}, hour)
	got := s.join(newID(), 0, hour)
	var numbers []int
	for _, m := range got.Members {
		numbers = append(numbers, m.Number)
	}
	if got.Number != 3 || !slices.Equal(numbers, []int{1, 2, 2}) {
		t.Errorf("got number %d among %v, want 3 among 1, 2 and 2", got.Number, numbers)
	}
}

func TestTwoWhoJoinAtOnceNeverGetOneNumber(t *testing.T) {
	url := migrated(t)
	stores := []*subject{newSubject(t, url), newSubject(t, url)}
	for round := range 50 {
		numbers := make([]int, len(stores))
		ids := make([]broker.ID, len(stores))
		var joining sync.WaitGroup
		begin := make(chan struct{})
		for i, s := range stores {
			ids[i] = newID()
			joining.Go(func() {
				<-begin
				joined, err := s.Join(t.Context(), joinRequest(ids[i], 0), hour)
				if err != nil {
					t.Error(err)
				}
				numbers[i] = joined.Number
			})
		}
		close(begin)
		joining.Wait()
		slices.Sort(numbers)
		if !slices.Equal(numbers, []int{1, 2}) {
			t.Fatalf("round %d: got the numbers %v, want 1 and 2", round, numbers)
		}
		for i, s := range stores {
			if err := s.Leave(t.Context(), ids[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Somebody has taken a number and not committed yet. That may take longer than we wait for other locks.
func TestJoinWaitsForWhoIsJoining(t *testing.T) {
	s := newSubject(t, migrated(t))
	other := s.begin(pgx.TxOptions{}, `select respirate.join_partition(gen_random_uuid(), 'h', 1, 'b', 0, 256, '1 hour')`)
	got := make(chan broker.Joined)
	go func() {
		joined, err := s.Join(t.Context(), joinRequest(newID(), 0), hour)
		if err != nil {
			t.Error(err)
		}
		got <- joined
	}()
	for !one[bool](s, `select exists (select from pg_stat_activity where datname = current_database()
		and wait_event = 'advisory' and clock_timestamp() - query_start > '0.3 s')`) {
		select {
		case joined := <-got:
			t.Fatalf("got %+v while another one was joining", joined)
		default:
		}
	}
	s.commitTx(other)
	if joined := <-got; joined.Number != 2 || len(joined.Members) != 1 {
		t.Errorf("got %+v, want number 2 beside one member", joined)
	}
}

func TestBrokersShowTheirPartition(t *testing.T) {
	s := newSubject(t, migrated(t))
	id := newID()
	shown := func() string {
		return one[string](s, `select concat_ws(' ', coalesce(partition, 0), coalesce(rank, 0), coalesce(members, 0), host, pid, build,
			lo, hi, kinds, alive) from respirate.brokers`)
	}
	check := func(when, want string) {
		t.Helper()
		if got := shown(); got != want {
			t.Errorf("%s: got %q, want %q", when, got, want)
		}
	}
	s.join(id, 7, hour)
	check("joined", "7 0 0 h 1 b 0 0 {} t")
	s.announce(broker.Announcement{Broker: id, Host: "h", PID: 1, Build: "b", Slice: broker.Slice{Lo: 0x80000000},
		Kinds: []string{"mail"}, Number: 7, Rank: 2, Members: 2}, hour)
	check("announced", "7 2 2 h 1 b 2147483648 4294967296 {mail} t")
	s.join(id, 0, hour)
	check("joined anew", "1 0 0 h 1 b 2147483648 4294967296 {mail} t")
	s.announce(broker.Announcement{Broker: id, Host: "h", PID: 1, Build: "b"}, hour)
	check("draining", "0 0 0 h 1 b 0 4294967296 {} t")
}

// Who has joined looks after nothing until it has announced what.
func TestJoinedBrokerIsToldOfNothingBeforeItsAnnouncement(t *testing.T) {
	url := migrated(t)
	s := newSubject(t, url)
	s.run(`select respirate.lane('', 'default', 5, 'mail')`)
	e := newEar(s, url)
	id := newID()
	s.join(id, 0, hour)
	insert := func() { s.run(`select respirate.insert('mail')`) }
	e.hears("an insert when it has joined", []string{}, insert)
	s.announce(broker.Announcement{Broker: id, Number: 1, Rank: 1, Members: 1}, hour)
	e.hears("an insert when it has announced itself", []string{"due ?"}, insert)
}

func TestPresenceIsHeardByAllAndByWhoTellsIt(t *testing.T) {
	url := migrated(t)
	s, other := newSubject(t, url), newSubject(t, url)
	first, second := listening(t, url), listening(t, url)
	nextHint(t, first, broker.Hint{Connected: true})
	nextHint(t, second, broker.Hint{Connected: true})
	for _, p := range []broker.Presence{
		{Broker: newID(), Number: 1}, {Broker: newID(), Number: 256}, {Broker: newID(), Number: 4096, Left: true},
		{Broker: newID(), Number: 2, Kinds: []uint32{}}, {Broker: newID(), Number: 2, Kinds: []uint32{0, 1, 0x0a1b2c3d, 0xffffffff}},
		{Broker: newID(), Number: 2, Kinds: manyKinds(900)},
	} {
		for _, from := range []*subject{s, other} {
			if err := from.Tell(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			nextHint(t, first, broker.Hint{Presence: &p})
			nextHint(t, second, broker.Hint{Presence: &p})
		}
	}
}

// manyKinds are the hashes of so many kinds.
func manyKinds(n int) []uint32 {
	kinds := make([]uint32, n)
	for i := range kinds {
		kinds[i] = uint32(i+1) * 4_000_000
	}
	return kinds
}

// FuzzPresence reads whatever comes on the channel as what a broker would have said, or as nothing.
func FuzzPresence(f *testing.F) {
	const id = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
	for _, text := range []string{"3 " + id, "3 " + id + " left", "3 " + id + " kinds:", "3 " + id + " kinds:0a1b2c3d99999999", "3 " + id + " kinds:00000001"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, ok := postgres.ParsePresence(text)
		switch {
		case !ok:
		case postgres.PresenceText(p) != text:
			t.Errorf("%q is read as %+v, which is told by %q", text, p, postgres.PresenceText(p))
		case p.Number < 1 || p.Left && p.Kinds != nil || !slices.IsSorted(p.Kinds):
			t.Errorf("%q is read as %+v", text, p)
		}
	})
}

// Anybody may send anything to a channel.
func TestForeignPresencesAreBadAndNothingElse(t *testing.T) {
	url := migrated(t)
	s := newSubject(t, url)
	hints := listening(t, url)
	nextHint(t, hints, broker.Hint{Connected: true})
	id := newID()
	upper := strings.ToUpper(broker.ID{0xab}.String())
	for _, text := range []string{
		"", " ", "1", "foo", "-1", "0", "1.5", "257", strings.Repeat("9", 7900), strings.Repeat("\x01\x7f\u0080", 1000), "due 7f",
		id.String(), "1 ", "1 " + id.String() + " ", " 1 " + id.String(), "1  " + id.String(), "1\t" + id.String(), "1 " + id.String() + "\n",
		"-1 " + id.String(), "0 " + id.String(), "4097 " + id.String(), "1.5 " + id.String(), "+1 " + id.String(), "01 " + id.String(),
		"1e1 " + id.String(), "0x1 " + id.String(), "99999999999999999999 " + id.String(), "١ " + id.String(),
		"1 " + upper, "1 {" + id.String() + "}", "1 urn:uuid:" + id.String(), "1 " + strings.ReplaceAll(id.String(), "-", ""),
		"1 " + id.String()[:35], "1 " + id.String()[:35] + "g", "1 " + id.String() + " gone", "1 " + id.String() + " left left",
		"1 " + id.String() + " Left", "1 " + id.String() + " left " + strings.Repeat("x", 7000),
		"1 " + id.String() + " kinds", "1 " + id.String() + " kinds: ", "1 " + id.String() + " Kinds:", "1 " + id.String() + " kinds:0",
		"1 " + id.String() + " kinds:0000000", "1 " + id.String() + " kinds:000000000", "1 " + id.String() + " kinds:0000000g",
		"1 " + id.String() + " kinds:0000000A", "1 " + id.String() + " kinds:0000000100000001", "1 " + id.String() + " kinds:0000000200000001",
		"1 " + id.String() + " kinds:00000001 left", "1 " + id.String() + " left kinds:00000001", "1 " + id.String() + " kinds:00000001,00000002",
		"1 " + id.String() + " kinds:0x000001", "1 " + id.String() + " kinds:" + strings.Repeat("00000001", 900), "1 kinds:00000001 " + id.String(),
	} {
		s.run(`select pg_notify('respirate_partition', $1)`, text)
		got := <-hints
		if got.Bad == "" || len(got.Bad) > 300 || strings.ContainsAny(got.Bad, "\n\x01") || !reflect.DeepEqual(got, broker.Hint{Bad: got.Bad}) {
			t.Errorf("%.60q: got %+v, want it bad, with a short text for the log", text, got)
		}
	}
	s.run(`select pg_notify('respirate_partition', $1)`, "257 "+id.String()) // the broker judges how many there may be
	nextHint(t, hints, broker.Hint{Presence: &broker.Presence{Broker: id, Number: 257}})
}

func TestForeignWakesSayThatAnythingMayBeDue(t *testing.T) {
	url := migrated(t)
	s := newSubject(t, url)
	hints := listening(t, url)
	nextHint(t, hints, broker.Hint{Connected: true})
	for _, text := range []string{
		"", "nonsense", strings.Repeat("x", 7900), "\x01", "due", "due ", "due  7f", "due 7f ", "due 7", "due 7fa3", "due 7 fa3", "due zz", "due -1",
		"due 7f,a3", "Due 7f", "1 " + newID().String(),
	} {
		s.run(`select pg_notify('respirate_wake', $1)`, text)
		nextHint(t, hints, broker.Hint{})
	}
}

func TestWakesNameTheFirstBytesOfTheIdsIfTheyAreFew(t *testing.T) {
	url := migrated(t)
	s := newSubject(t, url)
	s.run(`select respirate.lane('', 'default', 5, 'mail')`)
	s.announce(broker.Announcement{Broker: newID()}, hour)
	hints := listening(t, url)
	nextHint(t, hints, broker.Hint{Connected: true})
	insert := func(firsts ...byte) {
		var inserts []broker.Insert
		for _, first := range firsts {
			id := newID()
			id[0] = first
			inserts = append(inserts, broker.Insert{ID: id, Kind: "mail", Args: []byte(`{}`)})
		}
		if _, err := s.Insert(t.Context(), inserts); err != nil {
			t.Fatal(err)
		}
	}
	insert(0x7f)
	nextHint(t, hints, broker.Hint{Due: []byte{0x7f}})
	insert(0xff, 0, 0x0a, 0xff, 0)
	nextHint(t, hints, broker.Hint{Due: []byte{0, 0x0a, 0xff}})
	insert(slices.Repeat([]byte{0xab}, 100)...)
	nextHint(t, hints, broker.Hint{Due: []byte{0xab}})
	insert(8, 7, 6, 5, 4, 3, 2, 1)
	nextHint(t, hints, broker.Hint{Due: []byte{1, 2, 3, 4, 5, 6, 7, 8}})
	insert(9, 8, 7, 6, 5, 4, 3, 2, 1)
	nextHint(t, hints, broker.Hint{})
}

// Of two brokers one is idle and one is busy. A transaction that told the idle one has not told the other.
func TestTransactionThatHasToldOneBrokerLooksAnewForAnother(t *testing.T) {
	url := migrated(t)
	s := newSubject(t, url)
	s.run(`select respirate.lane('', 'default', 5, 'mail')`)
	e := newEar(s, url)
	s.announce(broker.Announcement{Broker: newID(), Slice: broker.Slice{Hi: 0x80000000}}, hour)
	busy := broker.Announcement{Broker: newID(), Slice: broker.Slice{Lo: 0x80000000}, Busy: true}
	s.announce(busy, hour)
	insert := func(tx pgx.Tx, first string) {
		t.Helper()
		_, err := tx.Exec(t.Context(), `select respirate.insert('mail', '{}', jsonb_build_object('id', $1 || substr(gen_random_uuid()::text, 3)))`, first)
		if err != nil {
			t.Fatal(err)
		}
	}
	e.hears("an id of the idle one, one of the busy one", []string{"due ?"}, func() {
		tx := s.begin(pgx.TxOptions{}, `select`)
		insert(tx, "00")
		insert(tx, "80")
		s.commitTx(tx)
	})
	e.hears("and one more after that is busy no longer", []string{"due ?", ""}, func() {
		tx := s.begin(pgx.TxOptions{}, `select`)
		insert(tx, "00")
		insert(tx, "80")
		busy.Busy = false
		s.announce(busy, hour)
		insert(tx, "80")
		insert(tx, "00")
		s.commitTx(tx)
	})
}

// A host that is drained and upgraded meets a schema that another host has brought up to date.
func TestStatementsOfTheVersionBeforeStillWork(t *testing.T) {
	s := newSubject(t, migrated(t))
	id := newID()
	s.join(id, 3, hour)
	old := [16]byte(newID())
	for range 2 {
		s.run(`insert into respirate.broker (broker, host, pid, build, lo, hi, kinds, workers, slots, busy, alive_until)
			values ($1::uuid, $2, $3, $4, $5, $6, $7, $8, $9, $10, now() + $11::interval)
			on conflict (broker) do update set
				host = excluded.host, pid = excluded.pid, build = excluded.build, lo = excluded.lo, hi = excluded.hi,
				kinds = excluded.kinds, workers = excluded.workers, slots = excluded.slots, busy = excluded.busy,
				alive_until = excluded.alive_until`,
			old, "old", 1, "", int64(0), int64(1)<<32, []string{"mail"}, 1, 1, false, hour)
	}
	if got := s.join(newID(), 0, hour); got.Number != 1 || len(got.Members) != 1 {
		t.Errorf("beside one who knows of no numbers: got %+v, want number 1 and one other member", got)
	}
	if n := one[int](s, `select count(*) from (select b.broker, b.host, b.pid, b.build, b.lo, b.hi, b.kinds, b.workers, b.slots,
		b.busy, b.alive, b.alive_until, b.started_at from respirate.brokers b) b`); n != 3 {
		t.Errorf("brokers: got %d, want 3", n)
	}
}

// What a step takes back is as it was before.
func TestStepsDownLeaveWhatTheEarlierStepsMade(t *testing.T) {
	url := migrated(t)
	s := newPoolSubject(t, url)
	lines := func(schema string) []string {
		return one[[]string](s, `select array_agg(line) from (`+postgres.Statement("fingerprint")+`) l (line)`, schema)
	}
	m := newMigrator(t, postgres.Config{URL: url})
	for version := postgres.LatestVersion() - 1; version > 0; version-- {
		if _, err := m.DownTo(t.Context(), version); err != nil {
			t.Fatal(err)
		}
		made := fmt.Sprintf("made_%d", version)
		s.run(`create schema ` + made + `;` + postgres.StepsSQL(made, version))
		got, want := lines("respirate"), lines(made)
		for _, line := range got {
			if !slices.Contains(want, line) {
				t.Errorf("version %d: after the step down there is: %s", version, line)
			}
		}
		for _, line := range want {
			if !slices.Contains(got, line) {
				t.Errorf("version %d: after the step down there is no: %s", version, line)
			}
		}
	}
}

func TestClientRoleStillSeesBrokersAfterAStepDownAndUp(t *testing.T) {
	url := migrated(t)
	s, conn := clientOf(t, url)
	m := newMigrator(t, postgres.Config{URL: url})
	see := func(when string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), `select * from respirate.brokers`); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	if _, err := m.DownTo(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	see("down")
	if _, err := m.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	see("up")
	if n := one[int](s, `select count(*) from pg_proc p cross join aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
		where p.pronamespace = 'respirate'::regnamespace and a.grantee = 0`); n != 0 {
		t.Errorf("functions that anybody may call: got %d, want none", n)
	}
}
