package layout

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker/postgres"
	"github.com/respirated/respirated/broker/postgres/private"
)

// settings are the server's. Without autovacuum each drain meets the same dead rows; it would come at any time.
var settings = map[string]string{
	"shared_buffers": "1GB", "max_wal_size": "4GB", "checkpoint_timeout": "1h", "autovacuum": "off", "max_connections": "20",
}

// kind is that of all strands; args are theirs, as jobs have them.
const (
	kind = "noop"
	args = `{"n": 1, "text": "sixty bytes or so, as jobs have them"}`
)

// essentials are what the product sets on its connections.
var essentials = map[string]string{
	"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "enable_bitmapscan": "off", "enable_mergejoin": "off",
	"enable_sort": "off", "jit": "off",
}

// world is the server that everything runs on.
type world struct {
	server  *private.Server
	version string
	next    int // number of the next database
}

func newWorld(ctx context.Context) (*world, error) {
	server, err := private.Start(ctx, private.Config{Settings: settings})
	if err != nil {
		return nil, err
	}
	return &world{server: server}, nil
}

func (w *world) close() error { return w.server.Stop() }

// table is the product's hot table in a database of its own, with so many lanes as there are queues.
type table struct {
	db      session
	url     string
	queues  int
	product statements
	ticks   ticks  // counts the server's processor time
	index   string // the columns of the scan's index; "" = there is none, or the product's
}

// newTable makes the product's schema, and a lane for each queue. Their numbers begin with 1.
func (w *world) newTable(ctx context.Context, queues int, p statements) (*table, error) {
	w.next++
	url, err := w.server.Database(ctx, fmt.Sprintf("layout%d", w.next))
	if err != nil {
		return nil, err
	}
	if err := migrate(ctx, url); err != nil {
		return nil, err
	}
	db, err := connect(ctx, url)
	if err != nil {
		return nil, err
	}
	t := &table{db: db, url: url, queues: queues, product: p}
	var backend int
	if err := db.QueryRow(ctx, `select pg_backend_pid(), version()`).Scan(&backend, &w.version); err != nil {
		return nil, err
	}
	if t.ticks, err = serverOf(backend); err != nil {
		return nil, err
	}
	return t, t.exec(ctx,
		fmt.Sprintf(`insert into respirate.queue (tenant, queue, retention) select '', 'q' || n, '0' from generate_series(1, %d) n`, queues),
		fmt.Sprintf(`insert into respirate.lane (tenant, queue, priority, kind)
			select '', 'q' || n, 5, '%s' from generate_series(1, %d) n order by n`, kind, queues),
		`create table respirate.ownership (slice int primary key, epoch bigint not null)`,
		`insert into respirate.ownership values (0, 1)`,
		`vacuum analyze`)
}

func migrate(ctx context.Context, url string) error {
	m, err := postgres.NewMigrator(ctx, postgres.Config{URL: url})
	if err != nil {
		return err
	}
	_, err = m.Up(ctx)
	return errors.Join(err, m.Close())
}

func connect(ctx context.Context, url string) (session, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return session{}, err
	}
	maps.Copy(cfg.RuntimeParams, essentials)
	conn, err := pgx.ConnectConfig(ctx, cfg)
	return session{conn}, err
}

func (t *table) close(ctx context.Context) error { return t.db.Close(ctx) }

// exec runs statements without parameters, one after the other, each in a transaction of its own.
func (t *table) exec(ctx context.Context, statements ...string) error {
	for _, sql := range statements {
		if _, err := t.db.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
			return fmt.Errorf("%w in %s", err, sql)
		}
	}
	return nil
}

// lanes are the numbers from first to the last.
func (t *table) lanes(first int) []int32 {
	var all []int32
	for n := first; n <= t.queues; n++ {
		all = append(all, int32(n))
	}
	return all
}

// laneOf gives the first lane 90 % of the strands, and the others their share of the rest.
func (t *table) laneOf(n int) int32 {
	if t.queues == 1 || n%10 > 0 {
		return 1
	}
	return int32(2 + n/10%(t.queues-1))
}

// backlog fills the table with due strands that look as if they had been inserted by the thousand, and leaves it
// without the index of the scan. Of many lanes the last one holds those that came last, all of them.
func (t *table) backlog(ctx context.Context, rows int) error {
	lane := "1"
	if t.queues > 1 {
		lane = fmt.Sprintf("case when n > %[1]d - greatest(%[1]d / 1000, 2000) then %[2]d when n %% 10 > 0 then 1 else 2 + n / 10 %% %[3]d end",
			rows, t.queues, t.queues-2)
	}
	t.index = ""
	return t.exec(ctx,
		`truncate respirate.strand`,
		`drop index if exists respirate.strand_ready`,
		`alter table respirate.strand drop constraint strand_pkey`,
		fmt.Sprintf(`insert into respirate.strand (id, lane, args, schedule)
			select gen_random_uuid(), %s, '%s', now() - interval '1 day' + n / 1000 * interval '10 ms'
			from generate_series(1, %d) n`, lane, args, rows),
		`alter table respirate.strand add constraint strand_pkey primary key (id)`,
		`vacuum analyze respirate.strand`,
		`checkpoint`)
}

// carry gives the table the index of a design, unless that is there.
func (t *table) carry(ctx context.Context, d design) error {
	if t.index == d.index {
		return nil
	}
	t.index = d.index
	return t.exec(ctx, `drop index if exists respirate.strand_ready`, `create index strand_ready on respirate.strand `+d.index)
}

// indexBytes is how large the index of the scan is for each row.
func (t *table) indexBytes(ctx context.Context, rows int) (perRow float64, err error) {
	var size int64
	err = t.db.QueryRow(ctx, `select pg_relation_size('respirate.strand_ready')`).Scan(&size)
	return float64(size) / float64(rows), err
}
