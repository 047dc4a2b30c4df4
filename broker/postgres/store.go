package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/respirated/respirated/broker"
)

// Config says where the tables are.
type Config struct {
	URL    string       // postgres://user:password@host:5432/name, or key=value pairs; "" = the PG* variables alone
	Schema string       // "" = [DefaultSchema]
	Logger *slog.Logger // nil = silence
}

const (
	maxConns        = 4 // one each for scans, leases, writes and the rest
	connectTimeout  = 5 * time.Second
	lockTimeout     = 200 * time.Millisecond // somebody's row lock may cost us no more, once
	queryTimeout    = 30 * time.Second       // the server gives up
	callTimeout     = 40 * time.Second       // we give up, since the server does not answer
	mayBeDead       = time.Second            // a connection that rested for longer is asked whether it lives, before it is used
	applicationName = "respirated"
)

// Store keeps strands in Postgres. It implements [broker.Store], survives restarts of the server, and may be used from
// several goroutines. It holds at most four connections.
type Store struct {
	pool  *pgxpool.Pool
	sql   statements
	log   *slog.Logger
	lanes *lanes

	blocked blocked
	broken  broken

	// mu guards what follows.
	mu        sync.Mutex
	announced broker.Announcement // the last one; the zero value before the first
	barrier   int64               // what settle drew after that; 0 = not yet
	paged     time.Time           // when deadlines that have passed were last looked for
	pages     int                 // how many were open then
}

var _ broker.Store = (*Store)(nil)

// Open connects, and checks that the schema is one that this binary can work with. Its errors are one line each and
// say what to do.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	cfg = cfg.withDefaults()
	if err := checkSchema(cfg.Schema); err != nil {
		return nil, err
	}
	poolConfig, err := cfg.pool()
	if err != nil {
		return nil, err
	}
	s := &Store{sql: loadStatements(cfg.Schema), log: cfg.Logger, lanes: newLanes()}
	poolConfig.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		registerUUIDs(conn.TypeMap())
		s.lanes.reset() // after a failover the lanes may have other numbers
		return nil
	}
	if s.pool, err = pgxpool.NewWithConfig(ctx, poolConfig); err != nil {
		return nil, cannotConnect(err)
	}
	if err := fits(ctx, s.pool, cfg.Schema); err != nil {
		s.pool.Close()
		return nil, err
	}
	return s, nil
}

// Close gives the connections back. Calls under way are waited for.
func (s *Store) Close() { s.pool.Close() }

func (cfg Config) withDefaults() Config {
	if cfg.Schema == "" {
		cfg.Schema = DefaultSchema
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg
}

// pool is the configuration of the connections. What the URL itself sets is left as it is, but for what our statements
// cannot do without.
func (cfg Config) pool() (*pgxpool.Config, error) {
	c, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("the database URL is not one, it should look like postgres://user:password@host:5432/name: %s", oneLine(err))
	}
	c.MaxConns = maxConns
	c.MinConns = 0
	c.ShouldPing = func(ctx context.Context, p pgxpool.ShouldPingParams) bool {
		return p.IdleDuration > mayBeDead && ctx.Value(unasked{}) == nil
	}
	prepare(&c.ConnConfig.Config)
	return c, nil
}

// essentials are the settings that our statements cannot do without. The fences rely on READ COMMITTED. The plans must
// not depend on the day's parameters or statistics: one that was made while the table was empty is still in use when it
// has filled up. Without the ways to read a whole table all that is left are nested loops over the indexes (a hash join
// would read one whole, as a table of a single row asks for; that held everybody up until the next ANALYZE); and without
// sorts that can be avoided the scan takes the index that is in its order, not the one whose entries it would read whole.
var essentials = map[string]string{
	"default_transaction_isolation": "read committed",
	"plan_cache_mode":               "force_generic_plan",
	"enable_seqscan":                "off",
	"enable_bitmapscan":             "off",
	"enable_mergejoin":              "off",
	"enable_hashjoin":               "off",
	"enable_sort":                   "off",
	"jit":                           "off",
}

// prepare sets up a connection for our statements.
func prepare(c *pgconn.Config) {
	if c.ConnectTimeout == 0 || c.ConnectTimeout > connectTimeout {
		c.ConnectTimeout = connectTimeout
	}
	dialer := &net.Dialer{Control: giveUpOnSilence, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3,
	}}
	c.DialFunc = dialer.DialContext
	c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite // a standby is of no use
	defaults := map[string]string{
		"application_name":                    applicationName,
		"statement_timeout":                   milliseconds(queryTimeout),
		"lock_timeout":                        milliseconds(lockTimeout),
		"idle_in_transaction_session_timeout": milliseconds(queryTimeout),
	}
	for name, value := range defaults {
		if _, given := c.RuntimeParams[name]; !given {
			c.RuntimeParams[name] = value
		}
	}
	for name, value := range essentials {
		c.RuntimeParams[name] = value
	}
}

func milliseconds(d time.Duration) string { return fmt.Sprint(d.Milliseconds()) }

func cannotConnect(err error) error {
	why := oneLine(err)
	switch {
	case strings.Contains(why, "read only") || strings.Contains(why, "read-only"):
		return fmt.Errorf("cannot use the database: it is a standby or read-only, give the URL of the primary: %s: %w", why, broker.ErrAway)
	case sqlState(err) == "28P01" || sqlState(err) == "28000":
		return fmt.Errorf("cannot connect to the database: check user and password in the URL: %s", why)
	case sqlState(err) == "3D000":
		return fmt.Errorf("cannot connect to the database: create it, or check its name in the URL: %s", why)
	}
	return fmt.Errorf("cannot connect to the database: is it running, and are host and port in the URL right? %s: %w", why, broker.ErrAway)
}

// unasked is the key of a context whose statement does without the question whether its connection lives. That is a round
// trip, which whoever inserts after a second of silence would wait for.
type unasked struct{}

func withoutAsking(ctx context.Context) context.Context {
	return context.WithValue(ctx, unasked{}, true)
}

// call is the time for one statement or transaction: ctx can prevent it, but once it is sent nothing cancels it except
// silence, since a COMMIT that is cut off has an unknown outcome.
func call(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
}

// failed wraps an error of the database with what we were doing. A server that has become read-only is left: new
// connections look for the one that is not.
func (s *Store) failed(err error, doing string, args ...any) error {
	if sqlState(err) == readOnlyTransaction {
		s.pool.Reset()
	}
	return failed(err, doing, args...)
}

// query runs one statement and collects its rows.
func query[T any](ctx context.Context, s *Store, scan pgx.RowToFunc[T], name string, args ...any) ([]T, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ctx, cancel := call(ctx)
	defer cancel()
	rows, err := s.pool.Query(ctx, s.sql.get(name), args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scan)
}

// usualBatch is how many rows to make room for where it is not known how many will come.
const usualBatch = 1000

// each runs one statement and calls take for each of its rows, when that has been scanned into columns. It is query for
// many rows: nothing is made anew for each.
func each(ctx context.Context, s *Store, take func(), columns []any, name string, args ...any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := call(ctx)
	defer cancel()
	rows, err := s.pool.Query(ctx, s.sql.get(name), args...)
	if err != nil {
		return err
	}
	_, err = pgx.ForEachRow(rows, columns, func() error {
		take()
		return nil
	})
	return err
}

// exec runs one statement.
func (s *Store) exec(ctx context.Context, name string, args ...any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := call(ctx)
	defer cancel()
	_, err := s.pool.Exec(ctx, s.sql.get(name), args...)
	return err
}
