package postgres_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/postgres"
	"github.com/respirated/respirated/broker/postgres/private/privatetest"
	"github.com/respirated/respirated/worker"
)

// These tests run whole brokers over a real Postgres: each has a store, a channel, a socket, and a worker, as a host has.

// crew is several brokers of one database, and what their workers ran.
type crew struct {
	t   *testing.T
	url string
	*subject
	log *syncBuffer // of all brokers

	scanEvery time.Duration // of the brokers that join; 0 = the default

	mu   sync.Mutex // guards what follows
	runs map[string][]*mate
}

// mate is one of a crew.
type mate struct {
	crew   *crew
	name   string
	store  *postgres.Store
	broker *broker.Broker
	dead   atomic.Bool
	began  time.Time
	hire   func(kinds ...string) // starts a worker for these, or for none; the one before ends
	finish func()                // ends what runs for it
}

// stint is a strand of these tests.
type stint struct{}

// Kind is "stint".
func (stint) Kind() string { return "stint" }

// errand is a strand of another kind.
type errand struct{}

// Kind is "errand".
func (errand) Kind() string { return "errand" }

func newCrew(t *testing.T, url string) *crew {
	t.Helper()
	c := &crew{t: t, url: url, subject: newPoolSubject(t, url), log: &syncBuffer{}, runs: map[string][]*mate{}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the brokers' log:\n%s", c.log.tail(20_000))
		}
	})
	return c
}

// syncBuffer is a log of several.
type syncBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) tail(most int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	text := b.buf.String()
	return text[max(0, len(text)-most):]
}

// join starts a broker with a worker for stints. The test's end stops it.
func (c *crew) join(name string, partition broker.Partition) *mate {
	c.t.Helper()
	m := c.joinIdle(name, partition)
	m.hire("stint")
	return m
}

// joinIdle starts a broker without workers.
func (c *crew) joinIdle(name string, partition broker.Partition) *mate {
	c.t.Helper()
	m := &mate{crew: c, name: name}
	log := slog.New(slog.NewTextHandler(c.log, nil)).With("mate", name)
	cfg := postgres.Config{URL: c.url, Logger: log}
	var err error
	if m.store, err = postgres.Open(c.t.Context(), cfg); err != nil {
		c.t.Fatal(err)
	}
	channel, err := postgres.NewChannel(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	m.broker, err = broker.New(m.store, nil, broker.Config{Host: name, Partition: partition, ScanEvery: c.scanEvery, Logger: log})
	if err != nil {
		c.t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "respirate-crew-")
	if err != nil {
		c.t.Fatal(err)
	}
	socket, err := broker.ListenSocket(filepath.Join(dir, "d", "s.sock"))
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	m.began = time.Now()
	running.Go(func() {
		if err := m.broker.Run(ctx, socket); err != nil && !m.dead.Load() {
			c.t.Errorf("broker %s: %v", name, err)
		}
	})
	running.Go(func() {
		if err := m.broker.Listen(ctx, &earshot{channel, &m.dead}); err != nil {
			c.t.Errorf("channel of %s: %v", name, err)
		}
	})
	dismiss := func() {}
	m.hire = func(kinds ...string) {
		dismiss()
		working, stop := context.WithCancel(ctx)
		dismiss = stop
		if len(kinds) > 0 {
			running.Go(func() { m.work(working, socket.Path, kinds) })
		}
	}
	m.finish = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		m.store.Close()
		os.RemoveAll(dir)
	})
	c.t.Cleanup(m.finish)
	return m
}

// earshot is a channel that brings nothing to a broker that is dead.
type earshot struct {
	broker.Channel
	dead *atomic.Bool
}

// Run implements broker.Channel.
func (e *earshot) Run(ctx context.Context, notify func(broker.Hint)) error {
	return e.Channel.Run(ctx, func(h broker.Hint) {
		if !e.dead.Load() {
			notify(h)
		}
	})
}

// work runs a worker that notes each run.
func (m *mate) work(ctx context.Context, socket string, kinds []string) {
	mux := worker.NewMux()
	if slices.Contains(kinds, "stint") {
		worker.AddFunc(mux, func(_ context.Context, s *worker.Strand[stint]) error { return m.note(s.ID) })
	}
	if slices.Contains(kinds, "errand") {
		worker.AddFunc(mux, func(_ context.Context, s *worker.Strand[errand]) error { return m.note(s.ID) })
	}
	err := worker.Run(ctx, mux, worker.Config{Socket: socket, Slots: 10, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		m.crew.t.Errorf("worker of %s: %v", m.name, err)
	}
}

// note notes a run.
func (m *mate) note(id string) error {
	m.crew.mu.Lock()
	defer m.crew.mu.Unlock()
	m.crew.runs[id] = append(m.crew.runs[id], m)
	return nil
}

// crash has broker and database hear nothing more of each other, without a goodbye.
func (m *mate) crash() {
	m.dead.Store(true)
	m.store.Close()
}

// partition is what a broker knows of its partition.
func (m *mate) partition() broker.PartitionSnapshot {
	m.crew.t.Helper()
	snap, err := m.broker.Snapshot(m.crew.t.Context())
	if err != nil {
		m.crew.t.Fatal(err)
	}
	return *snap.Partition
}

// shared says whether these brokers share the ids among them.
func shared(mates ...*mate) bool {
	parts := make([]broker.PartitionSnapshot, len(mates))
	for i, m := range mates {
		parts[i] = m.partition()
	}
	slices.SortFunc(parts, func(a, b broker.PartitionSnapshot) int { return a.Rank - b.Rank })
	for i, p := range parts {
		n := uint64(len(mates))
		want := broker.Slice{Lo: uint64(i) << 32 / n, Hi: uint64(i+1) << 32 / n}
		if !p.Ready || p.Of != len(mates) || p.Range != want.String() {
			return false
		}
	}
	return true
}

// awaitShared waits until these brokers share the ids among them, and tells how long that took since began.
func awaitShared(t *testing.T, began time.Time, mates ...*mate) time.Duration {
	t.Helper()
	eventually(t, fmt.Sprintf("%d brokers share the ids", len(mates)), func() bool { return shared(mates...) })
	return time.Since(began)
}

// eventually polls until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// insert inserts n stints and gives their ids.
func (c *crew) insert(n int) []string {
	c.t.Helper()
	rows, err := c.pool.Query(c.t.Context(), `select respirate.insert('stint')::text from generate_series(1, $1)`, n)
	if err != nil {
		c.t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		c.t.Fatal(err)
	}
	return ids
}

// ran is who ran a strand, each time.
func (c *crew) ran(id string) []*mate {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.runs[id])
}

// awaitRuns waits until all these strands have run.
func (c *crew) awaitRuns(ids []string) {
	c.t.Helper()
	eventually(c.t, fmt.Sprintf("%d strands have run", len(ids)), func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return !slices.ContainsFunc(ids, func(id string) bool { return len(c.runs[id]) == 0 })
	})
}

// exactlyOnce waits until all these strands are done, and checks that each has run once.
func (c *crew) exactlyOnce(ids []string) {
	c.t.Helper()
	c.awaitRuns(ids)
	eventually(c.t, "all results are there, those of inserts of which nothing was heard included", func() bool {
		return one[int](c.subject, `select count(*) from respirate.strands`) == 0
	})
	if n := one[int](c.subject, `select count(*) from respirate.finished where state = 'done'`); n < len(ids) {
		c.t.Errorf("%d strands are done, want %d at least", n, len(ids))
	}
	for _, id := range ids {
		if runs := c.ran(id); len(runs) != 1 {
			c.t.Errorf("strand %s ran %d times, want once", id, len(runs))
		}
	}
}

var auto = broker.Partition{Number: broker.Auto}

// In virtual time TestPartitions of the broker judges milliseconds. Here the fastest of several times is judged by what it would
// take without the words of who comes and who leaves, as this machine may be busy with something else.
func TestPartitionOfANewcomerAndOfOneThatLeavesIsHandedOverInMilliseconds(t *testing.T) {
	const soon = time.Second // the next word would come after 2 s, and a silence be noticed after 4 s
	c := newCrew(t, migrated(t))
	first := c.join("first", auto)
	awaitShared(t, time.Now(), first)
	var came, left []time.Duration
	for i := range 5 {
		second := c.join(fmt.Sprintf("second %d", i), auto)
		came = append(came, awaitShared(t, second.began, first, second))
		began := time.Now()
		var leaving sync.WaitGroup
		leaving.Go(second.finish)
		left = append(left, awaitShared(t, began, first))
		leaving.Wait()
	}
	t.Logf("a newcomer had its part after %v, another had the part of one that left after %v", came, left)
	if slices.Min(came) > soon || slices.Min(left) > soon {
		t.Errorf("want %v at most", soon)
	}
}

func TestPartitionOfACrashedBrokerIsServedByTheOthersSoon(t *testing.T) {
	const (
		noticed = 7 * time.Second
		scan    = 5 * time.Second
		slack   = 10 * time.Second // this machine may be busy with something else; virtual time has none
	)
	for _, gaps := range []broker.Gaps{broker.GapsRank, broker.GapsOverdue} {
		for victim, place := range []string{"lowest", "middle", "highest"} {
			t.Run(fmt.Sprintf("%v, the %s", gaps, place), func(t *testing.T) {
				t.Parallel()
				c := newCrew(t, migrated(t))
				var mates []*mate
				for i := range 3 {
					mates = append(mates, c.join(fmt.Sprint("number ", i+1), broker.Partition{Number: i + 1, Gaps: gaps}))
				}
				awaitShared(t, time.Now(), mates...)
				c.exactlyOnce(c.insert(30))

				mates[victim].crash()
				began := time.Now()
				ids := c.insert(60)
				left := slices.Delete(slices.Clone(mates), victim, victim+1)
				most := noticed + scan
				if gaps == broker.GapsRank || place == "highest" {
					took := awaitShared(t, began, left...)
					t.Logf("the others shared the ids after %v", took)
					if took > noticed+slack {
						t.Errorf("want %v at most", noticed)
					}
				}
				c.awaitRuns(ids)
				took := time.Since(began)
				t.Logf("all that was due had started after %v", took)
				if took > most+slack {
					t.Errorf("want %v at most", most)
				}
			})
		}
	}
}

// steady inserts strands all the time until stop is called, which gives their ids.
func (c *crew) steady() (stop func() []string) {
	ctx, cancel := context.WithCancel(c.t.Context())
	var ids []string
	var inserting sync.WaitGroup
	inserting.Go(func() {
		for ctx.Err() == nil {
			var id string
			err := c.pool.QueryRow(c.t.Context(), `select respirate.insert('stint')::text`).Scan(&id)
			if err == nil {
				ids = append(ids, id)
			}
			time.Sleep(5 * time.Millisecond) // a rate, no wait for anything
		}
	})
	return func() []string {
		cancel()
		inserting.Wait()
		return ids
	}
}

// whole checks that the brokers share the ids again soon after something has ended, and that nothing is lost or ran twice.
func (c *crew) whole(ids []string, mates ...*mate) {
	c.t.Helper()
	took := awaitShared(c.t, time.Now(), mates...)
	c.t.Logf("%d brokers shared the ids %v after it was over", len(mates), took)
	if most := 20 * time.Second; took > most { // it is busy with something else, too
		c.t.Errorf("the brokers shared the ids after %v, want %v at most", took, most)
	}
	more := c.insert(30)
	c.exactlyOnce(slices.Concat(ids, more))
}

// long says whether there is time for a fault to last as long as it may in earnest.
func long() bool { return os.Getenv("RESPIRATE_LONG") != "" }

func TestPartitionsStandForeignNotifications(t *testing.T) {
	t.Parallel()
	c := newCrew(t, migrated(t))
	mates := []*mate{c.join("first", auto), c.join("second", auto)}
	awaitShared(t, time.Now(), mates...)
	const somebody = "00000000-0000-4000-8000-000000000001"
	huge := strings.Repeat("7", 7900)
	payloads := []string{
		"", " ", "left", "1", "1 ", "0 " + somebody, "-1 " + somebody, "257 " + somebody, "1.5 " + somebody, "1e1 " + somebody,
		"99999999999999999999 " + somebody, "+1 " + somebody, "１ " + somebody, "1 " + somebody + " gone", "1 " + somebody + " left more",
		"1 not-a-uuid", "1 " + somebody[1:], somebody, huge, "1 " + huge, huge + " " + somebody, "\x01\x02\x1b[2J\r\n", "\U0010ffff",
		"due", "due ", "due zz", "due 7", "due " + huge, "cancel " + huge, "3 " + somebody, "256 " + somebody, "2 " + somebody + " left",
	}
	stop := c.steady()
	began := time.Now()
	for end := began.Add(3 * time.Second); time.Now().Before(end); {
		for _, payload := range payloads {
			c.run(`select pg_notify('respirate_partition', $1), pg_notify('respirate_wake', $1)`, payload)
		}
		for _, m := range mates {
			if p := m.partition(); p.Rank < 1 || p.Rank > p.Of || p.Of > 256 {
				t.Fatalf("%s has partition %+v", m.name, p)
			}
		}
	}
	c.whole(stop(), mates...)
	n := strings.Count(c.log.tail(1<<30), "a notification of partitions is ignored")
	if most := len(mates) * (1 + int(time.Since(began)/(10*time.Second))); n < 1 || n > most {
		t.Errorf("the brokers warned %d times of thousands of notifications, want each to do so once in 10 s, which is %d times", n, most)
	}
}

func TestPartitionsStandThatTheirListeningIsEndedEachSecond(t *testing.T) {
	t.Parallel()
	c := newCrew(t, migrated(t))
	mates := []*mate{c.join("first", auto), c.join("second", auto), c.join("third", auto)}
	awaitShared(t, time.Now(), mates...)
	stop := c.steady()
	const listeners = ` from pg_stat_activity where datname = current_database() and (query like 'listen %' or query like '-- are you there%')`
	for range 10 {
		eventually(t, "all listen", func() bool { return one[int](c.subject, `select count(*)`+listeners) == len(mates) })
		c.run(`select pg_terminate_backend(pid, 60000)` + listeners)
		time.Sleep(time.Second) // the fault's own period
	}
	c.whole(stop(), mates...)
}

func TestPartitionsStandAnAbsenceOfPostgres(t *testing.T) {
	t.Parallel()
	absent := 6 * time.Second
	if long() {
		absent = 30 * time.Second
	} else {
		t.Logf("Postgres is away for %v; set RESPIRATE_LONG=1 for 30 s", absent)
	}
	server := privatetest.Server(t)
	url, err := server.Database(t.Context(), "crew")
	if err != nil {
		t.Fatal(err)
	}
	migrateUp(t, postgres.Config{URL: url})
	c := newCrew(t, url)
	mates := []*mate{c.join("first", auto), c.join("second", auto), c.join("third", auto)}
	awaitShared(t, time.Now(), mates...)
	stop := c.steady()
	time.Sleep(500 * time.Millisecond) // there is work under way
	server.Kill()
	time.Sleep(absent)
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	eventually(t, "the database answers", func() bool { return c.pool.Ping(t.Context()) == nil })
	c.awaitRuns(c.insert(30))
	t.Logf("strands ran %v after Postgres was back", time.Since(back))
	c.whole(stop(), mates...)
}

func TestPartitionsStandThatTwoHaveOneNumber(t *testing.T) {
	t.Parallel()
	c := newCrew(t, migrated(t))
	first, twin := c.join("first", broker.Partition{Number: 1}), c.join("twin", broker.Partition{Number: 1})
	second := c.join("second", broker.Partition{Number: 2})
	eventually(t, "all know each other", func() bool {
		return first.partition().Of == 2 && twin.partition().Of == 2 && second.partition().Of == 2
	})
	stop := c.steady()
	var ids []string
	for range 20 {
		ids = append(ids, c.insert(50)...)
	}
	twin.finish()
	c.whole(slices.Concat(ids, stop()), first, second)
}

// startsSoon inserts strands all over the ids, one after the other, and checks that they start sooner than scans would find them,
// with one of these. It takes milliseconds, but this machine may be busy with something else, and a scan may have to find one that
// comes while it is told anew who looks after its kind.
func (c *crew) startsSoon(kind string, where ...*mate) {
	c.t.Helper()
	var took []time.Duration
	for first := 0; first < 256; first += 16 {
		began := time.Now()
		id := one[string](c.subject, `select respirate.insert($1, '{}', jsonb_build_object('id', lpad(to_hex($2::int), 2, '0') || substr(gen_random_uuid()::text, 3)))::text`, kind, first)
		c.awaitRuns([]string{id})
		took = append(took, time.Since(began))
		if who := c.ran(id)[0]; !slices.Contains(where, who) {
			c.t.Errorf("%s %s ran at %s", kind, id, who.name)
		}
	}
	slices.Sort(took)
	if typical := took[len(took)/2]; typical > c.scanEvery/4 {
		c.t.Errorf("strands of kind %s started after %v; scans would find them after %v", kind, took, c.scanEvery/2)
	}
}

// ranges are those of two kinds at some brokers.
func ranges(mates ...*mate) string {
	var all []string
	for _, m := range mates {
		p := m.partition()
		for _, kind := range []string{"stint", "errand"} {
			r, other := p.Otherwise[kind]
			if !other {
				r = p.Range
			}
			all = append(all, r)
		}
	}
	return strings.Join(all, " ")
}

func TestPartitionsOfKindsThatNotAllServeAreDividedAmongThoseWhoDo(t *testing.T) {
	t.Parallel()
	const low, high, all = "00000000-7fffffff", "80000000-ffffffff", "00000000-ffffffff"
	c := newCrew(t, migrated(t))
	c.scanEvery = 20 * time.Second
	both, stints, idle := c.joinIdle("both", auto), c.joinIdle("stints", auto), c.joinIdle("idle", auto)
	both.hire("stint", "errand")
	stints.hire("stint")
	await := func(what, want string) {
		t.Helper()
		eventually(t, what, func() bool { return ranges(both, stints, idle) == want })
	}
	sorted := func() (string, string) { // who has the lower number has the lower part
		if both.partition().Number < stints.partition().Number {
			return low, high
		}
		return high, low
	}
	eventually(t, "all have a number", func() bool { return both.partition().Ready && stints.partition().Ready && idle.partition().Ready })
	mine, theirs := sorted()
	await("the kinds are divided", mine+" "+all+" "+theirs+" "+theirs+" none none")
	c.startsSoon("stint", both, stints)
	c.startsSoon("errand", both)

	both.hire("stint")
	await("nobody serves errands", mine+" "+mine+" "+theirs+" "+theirs+" none none")
	idle.hire("errand")
	eventually(t, "errands have one who serves them", func() bool { return idle.partition().Otherwise["errand"] == all })
	c.startsSoon("errand", idle)
	c.startsSoon("stint", both, stints)

	stints.hire()
	eventually(t, "a broker without workers gives its part up", func() bool {
		return stints.partition().Range == "none" && both.partition().Otherwise["stint"] == all
	})
	c.startsSoon("stint", both)
	if n := one[int](c.subject, `select count(*) from respirate.brokers where alive and lo = hi`); n != 1 {
		t.Errorf("%d brokers have announced that they have no part, want one", n)
	}
}
