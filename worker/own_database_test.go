package worker

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/postgres"
	"github.com/respirated/respirated/broker/postgres/private/privatetest"
)

// Steps in transactions of the worker's own, with a real database and a real broker: money moves between two accounts, and is
// noted in a second step.

// transfer moves an amount of money.
type transfer struct {
	Amount int `json:"amount"`
}

func (transfer) Kind() string { return "transfer" }

// bank is the application: its tables are in the database of the strands.
type bank struct {
	db   *pgxpool.Pool                                  // for its transactions
	side *pgxpool.Pool                                  // for what is to be seen whatever becomes of them
	held func(ctx context.Context, s *Strand[transfer]) // called before each COMMIT
}

const bankTables = `
	create table account (name text primary key, balance int not null);
	insert into account values ('a', 1000000), ('b', 0);
	create table effect (strand uuid not null, label text not null); -- with no key: what happens twice is to be seen
	create table begun (strand uuid not null, label text not null)`

func (b bank) addTo(mux *Mux) {
	AddProg(mux, Prog[transfer]{Labels: map[string]Label[transfer]{
		"start": b.label(func(ctx context.Context, tx pgx.Tx, s *Strand[transfer]) (Outcome, error) {
			_, err := tx.Exec(ctx, `update account set balance = balance + case name when 'a' then -$1::int else $1::int end`, s.Args.Amount)
			return Hop("note"), err
		}),
		"note": b.label(func(context.Context, pgx.Tx, *Strand[transfer]) (Outcome, error) { return Exit(nil), nil }),
	}})
}

// label is a step in a transaction.
func (b bank) label(work func(context.Context, pgx.Tx, *Strand[transfer]) (Outcome, error)) Label[transfer] {
	return func(ctx context.Context, s *Strand[transfer]) (Outcome, error) {
		if _, err := b.side.Exec(ctx, `insert into begun values ($1, $2)`, s.ID, s.Label); err != nil {
			return Outcome{}, err
		}
		tx, err := b.db.Begin(ctx)
		if err != nil {
			return Outcome{}, err
		}
		defer tx.Rollback(context.WithoutCancel(ctx))
		if _, err := tx.Exec(ctx, `insert into effect values ($1, $2)`, s.ID, s.Label); err != nil {
			return Outcome{}, err
		}
		o, err := work(ctx, tx, s)
		if err != nil {
			return o, err
		}
		if b.held != nil {
			b.held(ctx, s)
		}
		return CommitTx(ctx, tx, o)
	}
}

// beBank makes a worker process of the bank's.
func beBank(mux *Mux) {
	db, err := pgxpool.New(context.Background(), os.Getenv("BANK_URL"))
	if err != nil {
		panic(err)
	}
	side, err := pgxpool.New(context.Background(), os.Getenv("DATABASE_URL"))
	if err != nil {
		panic(err)
	}
	bank{db: db, side: side}.addTo(mux)
}

// house is a database with the bank's tables and the schema, and what the test sees it by.
type house struct {
	t     *testing.T
	url   string
	pool  *pgxpool.Pool
	store *postgres.Store // of the first broker
	socks []string        // of the brokers
}

func newHouse(t *testing.T) *house {
	h := openHouse(t)
	h.run(bankTables)
	return h
}

// openHouse has the schema only.
func openHouse(t *testing.T) *house {
	h := &house{t: t, url: privatetest.Copy(t, "migrated", migrate)}
	h.pool = openPool(t, h.url)
	return h
}

func migrate(ctx context.Context, url string) error {
	m, err := postgres.NewMigrator(ctx, postgres.Config{URL: url})
	if err != nil {
		return err
	}
	defer m.Close()
	_, err = m.Up(ctx)
	return err
}

func openPool(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func (h *house) run(sql string, args ...any) {
	h.t.Helper()
	if _, err := h.pool.Exec(h.t.Context(), sql, args...); err != nil {
		h.t.Fatalf("%s: %v", sql, err)
	}
}

func (h *house) count(sql string, args ...any) (n int) {
	h.t.Helper()
	if err := h.pool.QueryRow(h.t.Context(), sql, args...).Scan(&n); err != nil {
		h.t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// openBroker runs a broker that looks after all strands.
func (h *house) openBroker() {
	h.t.Helper()
	store, err := postgres.Open(h.t.Context(), postgres.Config{URL: h.url})
	if err != nil {
		h.t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "b")
	if err != nil {
		h.t.Fatal(err)
	}
	b, err := broker.New(store, nil, broker.Config{Host: filepath.Base(dir), ScanEvery: 500 * time.Millisecond, DrainTimeout: 5 * time.Second,
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		h.t.Fatal(err)
	}
	l, err := broker.ListenSocket(filepath.Join(dir, "s"))
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx, l) }()
	h.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			h.t.Errorf("broker: %v", err)
		}
		store.Close()
		_ = os.RemoveAll(dir)
	})
	if h.store == nil {
		h.store = store
	}
	h.socks = append(h.socks, l.Path)
}

// work runs a worker of the bank's in this process, until the test ends.
func (h *house) work(b bank, slots int) {
	mux := NewMux()
	b.addTo(mux)
	h.serve(mux, slots, slog.New(slog.DiscardHandler))
}

// serve runs a worker in this process, until the test ends or stop is called.
func (h *house) serve(mux *Mux, slots int, log *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := Run(ctx, mux, Config{Socket: h.socks[0], Slots: slots, Logger: log}); err != nil {
			h.t.Errorf("worker: %v", err)
		}
	}()
	stop = func() {
		cancel()
		<-ended
	}
	h.t.Cleanup(stop)
	return stop
}

// insert makes n transfers of 1, 2, 3 ... and returns their sum.
func (h *house) insert(n int) (sum int) {
	h.t.Helper()
	h.run(`select respirate.insert('transfer', jsonb_build_object('amount', i), '{"keep":true}') from generate_series(1, $1::int) i`, n)
	return n * (n + 1) / 2
}

// ended waits until no strand is left, for as long as there are ever fewer: how fast they end is this machine's affair.
func (h *house) ended() {
	h.t.Helper()
	const patience = time.Minute
	least, end := 0, time.Now()
	for {
		left := h.count(`select count(*) from respirate.strand`)
		switch {
		case left == 0:
			return
		case least == 0 || left < least:
			least, end = left, time.Now().Add(patience)
		case time.Now().After(end):
			var why string
			_ = h.pool.QueryRow(h.t.Context(), `select message from respirate.attempt order by at desc limit 1`).Scan(&why)
			h.t.Fatalf("%d strands are left, and none has ended for %v; the last failure: %s", left, patience, why)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// isExact compares the accounts with what was to be moved, and counts what happened other than once.
func (h *house) isExact(strands, sum int) {
	h.t.Helper()
	if a, b := h.count(`select balance from account where name = 'a'`), h.count(`select balance from account where name = 'b'`); a != 1000000-sum || b != sum {
		h.t.Errorf("balances %d and %d, want %d and %d", a, b, 1000000-sum, sum)
	}
	for _, label := range []string{"start", "note"} {
		if n := h.count(`select count(*) from effect where label = $1`, label); n != strands {
			h.t.Errorf("label %s had its effect %d times, want %d", label, n, strands)
		}
	}
	if n := h.count(`select count(*) from (select from effect group by strand, label having count(*) > 1) twice`); n > 0 {
		h.t.Errorf("%d effects happened more than once", n)
	}
}

// attempts counts the failures of a class that were recorded; "" = all.
func (h *house) attempts(class string) int {
	h.t.Helper()
	return h.count(`select count(*) from respirate.attempt where $1 in ('', class)`, class)
}

// What becomes of a COMMIT on its way.
const (
	pass       = iota
	loseAnswer // it is carried out, and the connection ends before the answer
	loseCommit // it does not arrive
)

// toll is a proxy before the database through which COMMITs have to pass.
type toll struct {
	t      *testing.T
	target string // its socket
	fate   func() int
	lost   [3]atomic.Int64 // how many had which fate
	wg     sync.WaitGroup
}

// newToll starts one, and returns the URL by which it leads to the database.
func (h *house) newToll(fate func() int) (*toll, string) {
	h.t.Helper()
	cfg, err := pgx.ParseConfig(h.url)
	if err != nil {
		h.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	x := &toll{t: h.t, target: filepath.Join(cfg.Host, fmt.Sprintf(".s.PGSQL.%d", cfg.Port)), fate: fate}
	x.wg.Go(func() {
		for {
			front, err := l.Accept()
			if err != nil {
				return
			}
			x.wg.Go(func() { x.serve(front) })
		}
	})
	h.t.Cleanup(func() {
		_ = l.Close()
		x.wg.Wait()
	})
	return x, fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", cfg.User, l.Addr(), cfg.Database)
}

// serve forwards a connection, message by message in the direction of the server.
func (x *toll) serve(front net.Conn) {
	defer front.Close()
	back, err := net.Dial("unix", x.target)
	if err != nil {
		x.t.Error(err)
		return
	}
	defer back.Close()
	answered := make(chan struct{}, 1) // the server has said something
	var deaf atomic.Bool               // it is not passed on
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer front.Close()
		buf := make([]byte, 32<<10)
		for {
			n, err := back.Read(buf)
			if err != nil {
				return
			}
			if deaf.Load() {
				answered <- struct{}{}
				return
			}
			if _, err := front.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	defer func() {
		_ = back.Close()
		<-ended
	}()
	for first := true; ; first = false {
		m, err := readMessage(front, first)
		if err != nil {
			return
		}
		if !first && m[0] == 'Q' && strings.EqualFold(string(m[5:len(m)-1]), "commit") {
			fate := x.fate()
			x.lost[fate].Add(1)
			if fate == loseCommit {
				return
			}
			if deaf.Store(fate == loseAnswer); fate == loseAnswer {
				if _, err := back.Write(m); err == nil {
					select {
					case <-answered:
					case <-ended:
					}
				}
				return
			}
		}
		if _, err := back.Write(m); err != nil {
			return
		}
	}
}

// readMessage reads a message of a client; the first has no type.
func readMessage(r io.Reader, first bool) ([]byte, error) {
	head := make([]byte, 5)
	if first {
		head = head[1:]
	}
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint32(head[len(head)-4:])) - 4
	m := append(head, make([]byte, size)...)
	_, err := io.ReadFull(r, m[len(head):])
	return m, err
}

func TestNothingIsRedoneWhereTheAnswerOfACommitIsLost(t *testing.T) {
	const strands = 100
	h := newHouse(t)
	x, url := h.newToll(func() int { return loseAnswer })
	h.openBroker()
	sum := h.insert(strands)
	h.work(bank{db: openPool(t, url), side: h.pool}, 4)
	h.ended()
	h.isExact(strands, sum)
	if n := h.count(`select count(*) from begun`); n != 2*strands || h.attempts("") > 0 {
		t.Errorf("%d labels were begun, want %d; %d failures", n, 2*strands, h.attempts(""))
	}
	if n := x.lost[loseAnswer].Load(); n != 2*strands {
		t.Errorf("%d answers were lost, want %d", n, 2*strands)
	}
}

func TestWhatIsNotCommittedIsDoneAgain(t *testing.T) {
	const strands = 40
	h := newHouse(t)
	var n atomic.Int64
	x, url := h.newToll(func() int {
		if n.Add(1)%4 == 0 {
			return loseCommit
		}
		return pass
	})
	h.openBroker()
	sum := h.insert(strands)
	h.work(bank{db: openPool(t, url), side: h.pool}, 4)
	h.ended()
	h.isExact(strands, sum)
	lost := int(x.lost[loseCommit].Load())
	if got := h.attempts("not_committed"); got != lost || lost == 0 || h.attempts("") != lost {
		t.Errorf("%d failures of %d are for a lost COMMIT, want all, and as many as were lost: %d", got, h.attempts(""), lost)
	}
	if n := h.count(`select count(*) from begun`); n != 2*strands+lost {
		t.Errorf("%d labels were begun, want %d", n, 2*strands+lost)
	}
	if n := h.count(`select count(*) from respirate.attempt where message like '%did not commit: commit: %'`); n != lost {
		t.Errorf("%d failures say why, want %d", n, lost)
	}
}

// The lease passes on while the transaction is open: what it has done is undone, and the next one's step counts.
func TestLeaseThatPassesOnTakesTheTransactionWithIt(t *testing.T) {
	h := newHouse(t)
	h.openBroker()
	held, passedOn := make(chan string), make(chan struct{})
	h.work(bank{db: h.pool, side: h.pool, held: func(ctx context.Context, s *Strand[transfer]) {
		select {
		case held <- s.ID:
			<-passedOn
		case <-ctx.Done():
		}
	}}, 1)
	pass := sync.OnceFunc(func() { close(passedOn) })
	t.Cleanup(pass)
	h.insert(1)
	id, err := broker.ParseID(<-held)
	if err != nil {
		t.Fatal(err)
	}
	h.run(`update respirate.strand set lease = clock_timestamp() - interval '1 s'`)
	next := broker.Pair{ID: id, Token: broker.Token{1}}
	if got, err := h.store.Lease(t.Context(), []broker.Pair{next}, time.Hour); err != nil || len(got) != 1 {
		t.Fatalf("lease: got %+v and error %v", got, err)
	}
	h.run(`select respirate.step($1, $2, 1, '{"act":"exit"}')`, [16]byte(next.ID), [16]byte(next.Token))
	pass()
	h.ended()
	for end := time.Now().Add(30 * time.Second); h.pool.Stat().AcquiredConns() > 0; time.Sleep(time.Millisecond) { // its rollback
		if time.Now().After(end) {
			t.Fatal("the transaction is still open")
		}
	}
	if a, n := h.count(`select balance from account where name = 'a'`), h.count(`select count(*) from effect`); a != 1000000 || n != 0 || h.attempts("") > 0 {
		t.Errorf("balance %d, %d effects and %d failures, want none of it to have happened", a, n, h.attempts(""))
	}
}

// Hundreds of transfers, with RESPIRATE_LONG=1 a thousand, while workers are killed, COMMITs and their answers are lost, and leases
// pass on. A strand that was held at three deaths is dead, with what it has done up to there done once; it is tried again, as
// its operator would do.
func TestMoneyMovesExactlyOnceThroughItAll(t *testing.T) {
	const workers = 4
	strands, kills := 300, 4
	switch {
	case os.Getenv("RESPIRATE_LONG") != "":
		strands, kills = 1000, 12
	case testing.Short():
		strands, kills = 100, 2
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	h := newHouse(t)
	var mu sync.Mutex // guards dice
	dice := rand.New(rand.NewPCG(seed, 1))
	roll := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return dice.IntN(n)
	}
	x, url := h.newToll(func() int {
		switch roll(10) {
		case 0:
			return loseAnswer
		case 1:
			return loseCommit
		}
		return pass
	})
	h.openBroker()
	h.openBroker()
	sum := h.insert(strands)
	procs := make([]*exec.Cmd, workers)
	begin := func(i int) {
		procs[i] = exec.Command(os.Args[0], "-as-worker=bank")
		procs[i].Env = append(os.Environ(), "RESPIRATE_SOCKET="+h.socks[i%len(h.socks)], "RESPIRATE_SLOTS=4", "BANK_URL="+url, "DATABASE_URL="+h.url)
		if err := procs[i].Start(); err != nil {
			t.Fatal(err)
		}
	}
	kill := func(i int) {
		_ = procs[i].Process.Kill()
		_ = procs[i].Wait()
	}
	for i := range procs {
		begin(i)
	}
	t.Cleanup(func() {
		for i := range procs {
			kill(i)
		}
	})
	const left = `select (select count(*) from respirate.strand) + (select count(*) from respirate.history where state = 'dead' and crashes = 3)`
	killed, stolen, retried, seen := 0, 0, 0, -1
	for end := time.Now().Add(time.Minute); h.count(left) > 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d strands are left, and nothing has happened for a minute", h.count(left))
		}
		retried += h.count(`select count(respirate.retry(id)) from respirate.history where state = 'dead' and crashes = 3`)
		done := h.count(`select count(*) from effect`)
		if done > seen { // one for what has happened, or a machine on which a step takes long would lose each to the next one
			seen, end = done, time.Now().Add(time.Minute)
			stolen += h.count(`with lost as (
				update respirate.strand set lease = clock_timestamp() - interval '1 s' where id in (
					select id from respirate.strand where lease > clock_timestamp() order by random() limit 1 for update skip locked)
				returning id) select count(*) from lost`)
		}
		if killed < kills && done > (killed+1)*2*strands/(kills+2) {
			i := roll(workers)
			kill(i)
			begin(i)
			killed++
		}
	}
	if n := h.count(`select count(*) from respirate.history where state <> 'done'`); n > 0 {
		t.Errorf("%d strands are not done", n)
	}
	h.isExact(strands, sum)
	t.Logf("%d killed, %d leases passed on, %d dead retried, %d COMMITs and %d answers were lost; %d labels begun for %d, failures: %d not committed, %d crashed",
		killed, stolen, retried, x.lost[loseCommit].Load(), x.lost[loseAnswer].Load(), h.count(`select count(*) from begun`), 2*strands, h.attempts("not_committed"),
		h.count(`select count(*) from respirate.attempt where outcome = 'crashed'`))
	if killed < kills/2 || stolen == 0 || x.lost[loseCommit].Load() == 0 || x.lost[loseAnswer].Load() == 0 {
		t.Error("the test did not disturb what it should")
	}
}

// database/sql, and what a connection to the wrong place is told.
func TestCommitSQLTxWorksAndSaysWhatIsWrong(t *testing.T) {
	h := newHouse(t)
	h.openBroker()
	elsewhere := privatetest.URL(t)
	errs := make(chan error, 10)
	mux := NewMux()
	AddFunc(mux, func(ctx context.Context, s *Strand[transfer]) error {
		url := h.url
		if s.Args.Amount == 1 {
			url = elsewhere
		}
		db, err := sql.Open("pgx", url)
		if err != nil {
			return err
		}
		defer db.Close()
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if s.Args.Amount == 2 {
			_, _ = tx.ExecContext(ctx, `select 1 / 0`)
		}
		if s.Args.Amount > 2 {
			if _, err := tx.ExecContext(ctx, `insert into effect values ($1, $2)`, s.ID, s.Label); err != nil {
				return err
			}
		}
		_, err = CommitSQLTx(ctx, tx, Exit(s.Args.Amount))
		errs <- err
		return err
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, mux, Config{Socket: h.socks[0], Slots: 1, Logger: slog.New(slog.DiscardHandler)})
	}()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("worker: %v", err)
		}
	}()
	for n, want := range []string{1: "has to be in the database of the strands", 2: "a statement of the transaction has failed before", 3: ""} {
		if n == 0 {
			continue
		}
		h.run(`select respirate.insert('transfer', jsonb_build_object('amount', $1::int), '{"keep":true,"max_tries":1}')`, n)
		err := <-errs
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%d: error %v, want one that says %q", n, err, want)
		}
	}
	h.ended()
	if n := h.count(`select count(*) from respirate.history h join effect e on e.strand = h.id where h.state = 'done' and h.value = '3'`); n != 1 {
		t.Errorf("%d strands are done with their effect, want 1", n)
	}
}
